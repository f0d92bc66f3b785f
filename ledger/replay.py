"""Replay: build the account rows anew from the log alone, compare them with the live ones, and swap them in.

Nothing that was decided is decided again, no event is written, nothing is sent. The service goes on meanwhile:
the rows are built beside the live ones in short transactions, and at the end the two tables change names.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from ledger import directory
from ledger.beside import AT_ONCE, FORMER, NEXT, Beside, FoldScan, Standing
from ledger.errors import LedgerFault, LedgerUnusable
from ledger.fault import Fault
from ledger.fold import Fact, Fold
from ledger.log import EVERYBODY, Range
from ledger.parallel import Progress, cores, over_ranges, silent
from ledger.projection import COLUMNS, PROJECTION, Difference
from ledger.replay_range import fold_and_compare, fold_and_write, head_faults
from ledger.seal_file import Stored
from ledger.sealed_root import Leaves, Proof, last_seal, prove, seal_at
from ledger.sqlite import UNREADABLE, Turnstile

# So many accounts a process holds at a time; each range is a reading of the whole table.
_ACCOUNTS_IN_RANGE: Final = 150_000
# A build that was cut short goes on from the ranges that are done.
_LEAST_STEPS: Final = 4


class Rebuilt(msgspec.Struct, frozen=True):
    """What the log comes to against what is stored.

    `faults` are events that cannot be followed; their accounts are in no difference. `proof` is None where
    nothing was ever sealed, or where there are faults. `projection` is the fold that the live rows were of:
    if that is another than this release's, they are not compared. `resumed` is how many events had been
    folded by a replay that was cut short, and `swapped` whether the new rows are live now.
    """

    events: int
    accounts: int
    differences: list[Difference]
    faults: list[Fault]
    proof: Proof | None
    projection: int
    resumed: int = 0
    swapped: bool = False


class CannotUndo(LedgerFault):
    """There are no former account rows that this release could bring back."""


class _Unfollowed(Exception):
    """Events appended during a replay that do not follow from those before them."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults


def replay(path: Path, progress: Progress = silent) -> Rebuilt:
    """Fold the log at `path` in memory, range by range, prove it and compare. Writes nothing.

    Raises LedgerUnusable where SQLite cannot read the file: what is wrong with it, an audit says.
    """
    with _reading(path), FoldScan(path) as scan:
        sealed = last_seal(path)
        end, live = scan.last_position(), scan.projection()
        cut = None if sealed is None else min(sealed.position, end)
        work = partial(fold_and_compare, path, cut, end, live == PROJECTION)
        parts = over_ranges(work, _ranges(scan, cores()), end, progress)
        faults = [fault for part in parts for fault in part.faults]
        faults += _gaps(scan, end, sum(part.counted for part in parts))
    proof = None
    if sealed is not None and not faults:
        leaves = Leaves()
        for part in parts:
            leaves.join(part.leaves or Leaves())
        proof = prove(sealed, leaves)
    differences = [difference for part in parts for difference in part.differences]
    events, accounts = sum(part.events for part in parts), sum(part.accounts for part in parts)
    return Rebuilt(events, accounts, differences, faults, proof, live)


def replay_and_write(path: Path, progress: Progress = silent) -> Rebuilt:
    """Build the account rows beside the live ones, prove and compare them, and swap them in.

    Writers wait for a few milliseconds now and then. One that was killed is gone on with. Nothing is swapped
    where the log has a fault or does not come to the root of the last seal: a projection of a damaged log
    would only hide the damage. Raises LedgerUnusable also where another replay is at work.
    """
    run = secrets.token_hex(8)
    with _reading(path), _alone(path), closing(Beside(path, run)) as beside, FoldScan(path) as scan:
        standing, resumed = _begun(beside, scan, last_seal(path))
        try:
            proof = _build(path, run, beside, scan, standing, progress)
            if proof is None or proof.holds:
                return _compare_and_swap(beside, scan, proof, resumed)
            faults = []
        except _Unfollowed as unfollowed:
            proof, faults = None, unfollowed.faults
        beside.remove()
    found = replay(path, progress)
    return msgspec.structs.replace(found, proof=proof, faults=found.faults or faults)


def undo(path: Path) -> int:
    """Bring the rows that were live before the last swap up to date, and swap them back; a second undo undoes
    the first. Returns the position of the last event in them.

    Raises CannotUndo where there are none, where they are of another release's fold, and where an event
    does not follow from them: then they were damaged.
    """
    with _reading(path), _alone(path), closing(Beside(path, secrets.token_hex(8))) as beside:
        standing = beside.standing()
        if standing is None or standing.state != "former":
            raise CannotUndo("there is nothing to undo: no account rows are kept that were swapped out")
        if standing.projection != PROJECTION:
            raise CannotUndo(
                f"the former account rows are of projection {standing.projection}, this release works with "
                f"{PROJECTION}: undo with the release that they are of"
            )
        beside.take_over()
        with FoldScan(path) as scan:
            try:
                return _catch_up_and_swap(beside, scan, FORMER)
            except _Unfollowed as unfollowed:
                (fault, *_) = unfollowed.faults
                raise CannotUndo(
                    f"the former account row of {fault.openid} does not lead to event {fault.version}, "
                    f"recorded since ({fault.detail}): the rows of today stay"
                ) from None


# -- the steps of a replay ---------------------------------------------------------------------------------


def _begun(beside: Beside, scan: FoldScan, sealed: Stored | None) -> tuple[Standing, int]:
    """The build that is to be done or gone on with, and how many events of it are folded already."""
    standing = beside.standing()
    beside.take_over()
    if standing is not None:
        if standing.state in ("building", "built") and standing.projection == PROJECTION:
            return standing, standing.position if standing.state == "built" else beside.events()
        beside.remove()
    # Up to the last seal, so that what is built can be proved before it is brought up to date.
    position, seal = scan.last_position(), None
    if sealed is not None:
        position, seal = min(sealed.position, position), sealed.seal.number
    beside.begin_build(position, seal, _ranges(scan, _LEAST_STEPS))
    return Standing("building", PROJECTION, position, seal), 0


def _build(
    path: Path, run: str, beside: Beside, scan: FoldScan, standing: Standing, progress: Progress
) -> Proof | None:
    """Fold and write what is missing, and prove it. Raises _Unfollowed where the log has a fault."""
    sealed = None if standing.seal is None else seal_at(path, standing.seal)
    if standing.state == "built":
        return None if sealed is None else Proof(sealed.seal.number, holds=True)
    work = partial(fold_and_write, path, run, standing.position)
    left = standing.position - beside.events()
    parts = over_ranges(work, beside.missing(), left, progress, gives_way=False)
    faults = [fault for part in parts for fault in part.faults]
    if not faults:
        faults = _gaps(scan, standing.position, beside.events())
    if faults:
        raise _Unfollowed(faults)
    proof = None
    if sealed is not None:
        leaves = Leaves()
        for openid, row in scan.account_rows(NEXT, EVERYBODY):
            leaves.add(openid, row)
        proof = prove(sealed, leaves)
    if proof is None or proof.holds:
        beside.finish_build()
    return proof


def _compare_and_swap(beside: Beside, scan: FoldScan, proof: Proof | None, resumed: int) -> Rebuilt:
    live = scan.projection()
    position = _catch_up(beside, scan, NEXT)
    if live == PROJECTION:
        differences = _differences(scan, position)
        replaced = [each.openid for each in differences]
    else:
        differences, replaced = [], list(scan.differing(NEXT, ("version", "head")))
    if faults := head_faults(scan, replaced):
        raise _Unfollowed(faults)
    # Damage that the table's own rules refuse must not come back, nor stay in the file.
    keep = (live == PROJECTION and not differences) or scan.is_sound("account")
    position = _catch_up_and_swap(beside, scan, NEXT)
    if not keep:
        beside.remove()
    return Rebuilt(position, scan.count_accounts(), differences, [], proof, live, resumed, swapped=True)


def _differences(scan: FoldScan, position: int) -> list[Difference]:
    """How the rows that were built, which are up to date to `position`, differ from the live ones."""
    scan.begin_snapshot()
    fold = Fold(partial(scan.account, NEXT))
    while facts := scan.facts(position, EVERYBODY):
        position = facts[-1][0]
        fold.take(facts)
    appended = fold.rows()
    differences = []
    for openid in sorted({*scan.differing(NEXT, COLUMNS), *appended}):
        live, folded = scan.row("account", openid), appended.get(openid) or scan.row(NEXT, openid)
        if live != folded:
            differences.append(Difference(openid, live, folded))
    scan.end_snapshot()
    return differences


def _catch_up_and_swap(beside: Beside, scan: FoldScan, table: str) -> int:
    """Bring `table` up to the last event there is, under the lock, and let it be live from then on."""
    position = _catch_up(beside, scan, table)
    with beside.transaction():
        while facts := scan.facts(position, EVERYBODY):
            position = _fold_on(beside, scan, table, facts, position)
        beside.swap()
    return position


def _catch_up(beside: Beside, scan: FoldScan, table: str) -> int:
    """Fold what was appended, until few events are left; the last position that is in the rows then."""
    standing = beside.standing()
    position = 0 if standing is None else standing.position
    while len(facts := scan.facts(position, EVERYBODY)) > AT_ONCE:
        for first in range(0, len(facts), AT_ONCE):
            with beside.transaction():
                position = _fold_on(beside, scan, table, facts[first : first + AT_ONCE], position)
    return position


def _fold_on(beside: Beside, scan: FoldScan, table: str, facts: list[Fact], position: int) -> int:
    fold = Fold(partial(beside.account, table))
    fold.take(facts)
    rows = fold.rows()
    faults = list(fold.faults.values())
    last = int(facts[-1][0])
    if last - position != len(facts):
        faults += _gaps(scan, last, 0)
    if faults:
        raise _Unfollowed(faults)
    beside.put_rows(table, rows.items())
    beside.move_on(last)
    return last


# -- what the steps stand on ---------------------------------------------------------------------------------


def _ranges(scan: FoldScan, least: int) -> list[Range]:
    return scan.ranges(max(least, -(-scan.registrations() // _ACCOUNTS_IN_RANGE)))


def _gaps(scan: FoldScan, until: int, counted: int) -> list[Fault]:
    """What is wrong with the positions where `counted` events are not those from 1 to `until`."""
    if (first := scan.first_position()) < 1:
        return [Fault("", 0, first, "added", "a position before the first")]
    if counted == until:
        return []
    first, last = scan.gap(until) or (counted + 1, until)
    return [Fault("", 0, first, "removed", f"no event at positions {first} to {last}")]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise LedgerUnusable(f"{path} cannot be read: {error}") from None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Only one replay writes at a time, and none while the files are being exchanged for others."""
    shared = directory.share(path.parent)
    try:
        with closing(Turnstile(path.with_name("replay.lock"))) as lock:
            if not lock.take_if_free():
                raise LedgerUnusable(f"another replay is at work on {path}: wait until it is done")
            yield
    finally:
        os.close(shared)
