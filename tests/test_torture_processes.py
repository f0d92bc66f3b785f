"""A short round of what kills, stops and replaces processes."""

from pathlib import Path

from tests.torture.processes import processes
from tests.torture.round import Round


def test_no_credit_is_lost_when_processes_are_killed_and_stopped(tmp_path: Path) -> None:
    least = {"acknowledged": 150, "refused": 20, "workers killed": 1, "workers stopped for a while": 1}
    part = Round("processes 17", tmp_path, 4, least)
    processes(part)
    assert part.broken == []
    assert part.tally["acknowledged"] > 50
    assert part.tally["refused"] > 10
    assert part.tally["receipts held against the seals"] > 20
    faults = ("workers killed", "workers stopped for a while", "rolling restarts", "masters killed")
    assert sum(part.tally[fault] for fault in faults) >= 2, part.tally
