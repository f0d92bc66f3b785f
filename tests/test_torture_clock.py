"""A short round of a clock that jumps."""

from pathlib import Path

import pytest

from tests.torture.clock import clock
from tests.torture.round import CannotRun, Round


def test_nothing_is_lost_and_time_never_runs_back_when_the_clock_jumps(tmp_path: Path) -> None:
    part = Round("clock", tmp_path, 0, {"acknowledged": 150})
    try:
        clock(part)
    except CannotRun as why:
        pytest.skip(str(why))
    assert part.broken == []
    assert part.tally["jumps a year forward"] == part.tally["jumps an hour back"] == 1
    assert part.tally["seals made right after a jump"] >= 1
    assert part.tally["acknowledged"] > 50
    assert part.tally["receipts held against the seals"] > 20
