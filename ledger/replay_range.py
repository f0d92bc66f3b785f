"""Replay's work on one range of the accounts: what a process of its own does, and reports."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import msgspec

from ledger.beside import AT_ONCE, NEXT, Beside, FoldScan
from ledger.fault import Fault, text_of
from ledger.fold import Fold
from ledger.log import AFTER_ALL, BEFORE_ALL, Range
from ledger.parallel import Tick, without_collection
from ledger.projection import Difference
from ledger.sealed_root import Leaves


class Part(msgspec.Struct, frozen=True):
    """What one range came to; `counted` of its events lie before the end that was given."""

    events: int
    counted: int
    accounts: int
    differences: list[Difference]
    faults: list[Fault]
    leaves: Leaves | None = None


def fold_and_compare(path: Path, cut: int | None, end: int, compared: bool, within: Range, tick: Tick) -> Part:
    """Fold up to the sealed position `cut`, keep the leaves, go on to `end`, and compare as of some moment."""
    with FoldScan(path) as scan, without_collection():
        fold, leaves = Fold(), None
        if cut is not None:
            _take_all(scan, fold, within, BEFORE_ALL, cut, tick)
            leaves = Leaves()
            for openid, row in fold.rows().items():
                leaves.add(openid, row)
        _take_all(scan, fold, within, BEFORE_ALL if cut is None else cut, end, tick)
        counted = fold.events
        differences, accounts = _compare(scan, fold, within, end, compared=compared)
    return Part(fold.events, counted, accounts, differences, list(fold.faults.values()), leaves)


def fold_and_write(path: Path, run: str, end: int, within: Range, tick: Tick) -> Part:
    """Fold up to `end` and write the rows; the last transaction says that the range is done."""
    with FoldScan(path) as scan, closing(Beside(path, run)) as beside, without_collection():
        fold = Fold()
        _take_all(scan, fold, within, BEFORE_ALL, end, tick)
        # In order of the key, or every transaction rewrites half of the pages.
        rows = sorted(fold.rows().items())
        faults = list(fold.faults.values())
        for first in range(0, len(rows), AT_ONCE) if not faults else ():
            with beside.transaction():
                beside.put_rows(NEXT, rows[first : first + AT_ONCE])
        if not faults:
            with beside.transaction():
                beside.finish_range(within, fold.events)
    return Part(fold.events, fold.events, len(rows), [], faults)


def _compare(
    scan: FoldScan, fold: Fold, within: Range, after: int, *, compared: bool
) -> tuple[list[Difference], int]:
    """Fold what was appended behind `after`; how that differs from the live rows of that very moment, where
    these can be compared, and how many accounts there are."""
    scan.begin_snapshot()
    _take_all(scan, fold, within, after, AFTER_ALL)
    rows = fold.rows()
    unseen, differences = dict(rows), []
    for openid, live in scan.account_rows("account", within) if compared else ():
        folded = unseen.pop(openid, None)
        if folded != live and openid not in fold.faults:
            differences.append(Difference(openid, live, folded))
    if compared:
        differences += [Difference(openid, None, folded) for openid, folded in unseen.items()]
    for fault in head_faults(scan, [each.openid for each in differences]):
        fold.faults[fault.openid.encode()] = fault
    scan.end_snapshot()
    return [each for each in differences if each.openid not in fold.faults], len(rows)


def head_faults(scan: FoldScan, openids: Iterable[bytes]) -> list[Fault]:
    """Of accounts whose rows are to be replaced, those whose last event does not have the hash that it should.

    A fold takes hashes as they are, and a wrong one must not become the head of a chain.
    """
    return [
        Fault(text_of(openid), 0, 0, "changed", "its last event has not the hash of its columns")
        for openid in openids
        if scan.head_is_wrong(openid)
    ]


def _take_all(
    scan: FoldScan, fold: Fold, within: Range, after: int, until: int, tick: Tick | None = None
) -> None:
    while facts := scan.facts(after, within, until):
        after = facts[-1][0]
        fold.take(facts)
        if tick is not None:
            tick(len(facts))
