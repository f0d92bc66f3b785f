"""The torture suite itself: chance from a seed, what is kept of a failure, and that no guard goes unmissed."""

import re
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.conftest import ROOT
from tests.torture import __main__ as suite
from tests.torture.__main__ import run
from tests.torture.guards import Change, Guard, guards, removed, without_each
from tests.torture.parts import PARTS
from tests.torture.report import Report
from tests.torture.round import HISTORY, CannotRun, Part, Round


@pytest.fixture
def have_part(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Part], None]:
    """Adds a part to the suite, or puts another in the place of one."""
    return lambda name, part: monkeypatch.setitem(PARTS, name, part)


def test_a_round_has_the_same_chance_again(have_part: Callable[[str, Part], None], tmp_path: Path) -> None:
    drawn: list[float] = []

    def draw(part: Round) -> None:
        drawn.append(part.random.random())
        part.expect(len(drawn) < 3, "there are fewer than three")

    have_part("draw", draw)
    assert run("seed", 60, ("draw",), None, tmp_path, stop=True) == 1
    assert len(set(drawn)) == 3
    first = drawn[:]
    drawn.clear()
    assert run("seed", 0, ("draw",), 3, tmp_path) == 0
    assert drawn == first[2:]
    drawn.clear()
    run("another", 0, ("draw",), None, tmp_path)
    assert drawn != first[:1]


def test_a_round_whose_time_is_up_goes_on_until_it_has_the_least_that_was_asked_for(tmp_path: Path) -> None:
    part = Round("s", tmp_path, 0, {"acknowledged": 2})
    assert not part.over
    part.tally["acknowledged"] += 2
    assert part.over


def test_a_broken_promise_is_told_and_its_round_kept(
    have_part: Callable[[str, Part], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose(part: Round) -> None:
        part.tally["acknowledged"] += 2
        part.record(told="acknowledged", key="k1")
        part.expect(holds=True, promise="k2 is in the log")
        part.expect(holds=False, promise="k1 is in the log")

    have_part("lose", lose)
    have_part("keep", lambda part: part.expect(holds=True, promise="nothing is lost"))
    assert run("s1", 60, ("keep", "lose"), None, tmp_path, stop=True) == 1
    printed = capsys.readouterr().out
    assert "seed s1\n" in printed
    assert "BROKEN: k1 is in the log" in printed
    assert "k2" not in printed
    again = re.search(r"Again: scripts/torture --seed s1 --part lose --round 1\. Kept: (.+)", printed)
    assert again is not None
    assert (Path(again[1]) / HISTORY).read_text() == '{"told":"acknowledged","key":"k1"}\n'
    assert [Path(again[1])] == list(tmp_path.iterdir()), "of a round that held nothing is kept"
    assert run("s1", 0, ("keep", "lose"), None, tmp_path) == 1
    printed = capsys.readouterr().out
    assert "2 acknowledged" in printed
    assert "1 promises were broken." in printed


def test_a_part_that_cannot_run_is_named_and_the_others_run(
    have_part: Callable[[str, Part], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lack(part: Round) -> None:
        raise CannotRun("strace is missing: apt-get install strace")

    have_part("lack", lack)
    have_part("keep", lambda part: None)
    assert run("s1", 0, ("lack", "keep"), None, tmp_path) == 0
    printed = capsys.readouterr().out
    assert "lack was NOT run: strace is missing: apt-get install strace" in printed
    assert re.search(r"keep\n +1 rounds", printed)
    assert list(tmp_path.iterdir()) == []
    assert run("s1", inf, ("lack",), None, tmp_path) == 0, "it waits for a part that cannot run"


def test_the_options_say_what_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []
    monkeypatch.setattr("signal.signal", lambda *_: None)  # this process goes on with its own
    monkeypatch.setattr(suite, "run", lambda *given, **how: asked.append((given, how)) or 1)
    monkeypatch.setattr(suite, "remove_guards", lambda *given: asked.append(given) or 0)
    call = CliRunner().invoke
    assert call(suite.main, ["--seed", "s", "--scratch", str(tmp_path)]).exit_code == 1
    assert asked.pop() == (("s", 300, tuple(PARTS), None, tmp_path), {"round_s": 15, "stop": False})
    options = [
        "--seed",
        "s",
        "--part",
        "soak",
        "--minutes",
        "60",
        "--round-s",
        "3600",
        "--round",
        "2",
        "--stop",
    ]
    call(suite.main, [*options, "--scratch", str(tmp_path)])
    assert asked.pop() == (("s", 3600, ("soak",), 2, tmp_path), {"round_s": 3600, "stop": True})
    assert call(suite.main, ["--guards", "--part", "clock", "--scratch", str(tmp_path)]).exit_code == 0
    assert asked == [(("clock",), tmp_path)]


def test_an_error_is_the_verdict_of_its_round_and_the_other_parts_go_on(
    have_part: Callable[[str, Part], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fall(part: Round) -> None:
        part.tally["acknowledged"] += 3
        part.record(told="acknowledged", key="k1")
        raise ZeroDivisionError("by nothing")

    have_part("fall", fall)
    have_part("keep", lambda part: None)
    assert run("s1", 0, ("fall", "keep"), None, tmp_path) == 2
    printed = capsys.readouterr().out
    assert "ERROR in fall 1: Traceback" in printed
    assert "ZeroDivisionError: by nothing\n" in printed
    again = re.search(r"Again: scripts/torture --seed s1 --part fall --round 1\. Kept: (.+)", printed)
    assert again is not None
    assert (Path(again[1]) / HISTORY).exists()
    assert [Path(again[1])] == list(tmp_path.iterdir()), "of a round that held nothing is kept"
    assert re.search(r"fall\n +1 rounds\n +3 acknowledged\n\nkeep\n +1 rounds", printed)
    assert "No promise was broken.\n1 rounds were ended by an error" in printed


def test_what_was_walked_through_is_reported_with_its_gaps(
    have_part: Callable[[str, Part], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    have_part("walk", lambda part: part.walked["number"].update((part.number, part.number + 3, 9)))
    assert run("s1", 0, ("walk",), 4, tmp_path) == 0
    assert "\n  number 4, 7, 9\n" in capsys.readouterr().out
    report = Report("s1")
    for number in (1, 2):
        part = Round("", tmp_path, 0, number=number)
        PARTS["walk"](part)
        report.add("walk", part, None, 0)
    report.show()
    assert "\n  number 1-2, 4-5, 9\n" in capsys.readouterr().out


def test_what_was_broken_before_an_error_counts(
    have_part: Callable[[str, Part], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose_and_fall(part: Round) -> None:
        part.expect(holds=False, promise="k1 is in the log")
        raise ZeroDivisionError

    have_part("lose", lose_and_fall)
    assert run("s1", 60, ("lose",), None, tmp_path, stop=True) == 1
    printed = capsys.readouterr().out
    assert "BROKEN: k1 is in the log" in printed
    assert "ERROR in lose 1" in printed
    assert "1 promises were broken.\n1 rounds were ended by an error" in printed


@pytest.mark.parametrize("guard", guards(), ids=lambda guard: guard.name)
def test_a_guard_is_where_the_list_says_and_its_loss_is_documented(guard: Guard) -> None:
    for change in guard.changes:
        text = (ROOT / change.file).read_text()
        assert removed(text, change) != text
    assert guard.part in PARTS
    assert f"| {guard.name} | `{guard.part}` |" in (ROOT / "docs" / "reliability.md").read_text()


def test_a_guard_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="file has no 'gone'"):
        removed("text", Change("file", "gone", ""))


def test_a_suite_that_only_crashes_has_not_missed_the_guard(tmp_path: Path) -> None:
    torn = Guard("torn", "power-cut", [Change("ledger/sqlite.py", '"PRAGMA synchronous=FULL"', "(")])
    ((_, said),) = without_each([torn], tmp_path)
    assert said is None
    assert list(tmp_path.iterdir()) == []
