"""What is said to grow in a long run, and what is not."""

from pathlib import Path

import pytest

from tests.torture.round import Round
from tests.torture.soak import Sample, grown, soak

FLAT = [Sample(100_000, 40, 4096)] * 20


def test_some_seconds_of_load_break_no_promise(tmp_path: Path) -> None:
    part = Round("soak", tmp_path, 4, {"acknowledged": 11, "samples of memory and files": 6})
    soak(part)
    assert part.broken == []
    assert part.tally["acknowledged"] > 10
    assert part.tally["samples of memory and files"] > 5


def test_what_goes_up_and_down_does_not_grow() -> None:
    waves = [Sample(100_000 + 9_000 * (number % 3), 40 + number % 5, 60 * 2**20) for number in range(40)]
    assert grown(FLAT) == grown(waves) == []


def test_warming_up_is_not_growing() -> None:
    assert grown([Sample(10_000, 4, 0)] * 6 + FLAT) == []


@pytest.mark.parametrize(
    ("late", "sentence"),
    [
        (Sample(120_000, 40, 4096), "memory_kib grew from 100000 to 120000"),
        (Sample(100_000, 60, 4096), "files grew from 40 to 60"),
        (Sample(100_000, 40, 80 * 2**20), "a write-ahead log grew to 83886080 bytes"),
    ],
)
def test_what_grows_is_named(late: Sample, sentence: str) -> None:
    assert grown(FLAT + [late] * 10) == [sentence]
