"""Reading on all cores: the processes take no time from whoever serves."""

import os

import pytest

from ledger import parallel
from ledger.log import EVERYBODY, Range
from ledger.parallel import Tick, over_ranges


def niceness(within: Range, tick: Tick) -> int:
    return os.nice(0)


@pytest.mark.parametrize(("gives_way", "more"), [(True, 10), (False, 0)])
def test_processes_give_way_unless_others_wait_for_them(
    monkeypatch: pytest.MonkeyPatch, gives_way: bool, more: int
) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    found = over_ranges(niceness, [EVERYBODY, EVERYBODY], 10**6, gives_way=gives_way)
    assert found == [min(19, os.nice(0) + more)] * 2
