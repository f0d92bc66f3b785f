"""Sealing: from one snapshot of the ledger the sum tree as it is now, and a signed seal over its root.

The ledger is only read. What is written goes into seals.db, so no writer of credit ever waits for a seal.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from ledger import merkle
from ledger.account import GENESIS
from ledger.log import AFTER_ALL, LogScan
from ledger.note import Checkpoint, InvalidNote, Signer, Verifier, checkpoint_of
from ledger.seal import NotSealed, Seal, seal_of
from ledger.seal_file import RESTORE, SealFile, Stored
from ledger.sealed_leaf import (
    LEAF_BYTES,
    Change,
    Leaf,
    group_of,
    node_of,
    pack_leaf,
    part_of,
    place_of,
    root_of_part,
    unpack_leaf,
)
from ledger.sqlite import Turnstile, turnstile_path
from ledger.sums import NOTHING, Node, account_key

_AUDIT: Final = "see credit-ledger audit"
_DAMAGED: Final = "in seals.db is not the one that was signed: run credit-ledger audit, then seal --rebuild"
_CHANGED: Final = f"in seals.db is not what was signed: {RESTORE}"


class _Cut(NamedTuple):
    """What the ledger comes to up to an event: its position and hash, and the tree over all accounts."""

    events: int
    accounts: int
    root: Node
    position: int
    hash: bytes


def make_seal(
    ledger: Path, seals: Path, signer: Signer, now_us: int, *, accept_loss: bool = False, rebuild: bool = False
) -> Stored | None:
    """Seal what changed since the last seal; None where nothing did. One process at a time, others wait.

    Raises NotSealed where the ledger lacks or contradicts what was sealed before, where an account row is not
    what its events say, and where the tree in seals.db is not the one that was signed. With `accept_loss` a
    ledger that lacks sealed events is sealed as it is, and the seal says for ever how many were lost. With
    `rebuild` the tree of the last seal is made anew from the events that it covers, whatever it was.
    """
    with _opened(ledger, seals) as (scan, file):
        if file.vkey() != signer.verifier.vkey:
            raise NotSealed("signing.key is not the key that seals.db was begun with: restore that one")
        last = file.last()
        if file.log_size() > (number := 0 if last is None else last.seal.number):
            raise NotSealed(f"seals behind seal {number} were made, and are not in seals.db: {RESTORE}")
        lost = 0 if last is None else _lost(scan, file, last)
        if last is not None and lost and not accept_loss:
            raise NotSealed(
                f"the ledger does not hold event {last.position}, the last one that seal {last.seal.number} "
                "covers: credit-ledger audit says what is missing"
            )
        if last is not None:
            if rebuild:
                _rebuild_log(file, last.seal.number)
            _check_log(file, last, signer, _CHANGED if rebuild else _DAMAGED)
            if rebuild and not lost:
                _rebuild_tree(scan, file, last)
        if not lost and scan.last_position() == (0 if last is None else last.position):
            return None
        cut = _grow(scan, file, None if lost else last)
        seal = Seal(
            1 if last is None else last.seal.number + 1,
            now_us if last is None else max(now_us, last.seal.sealed_at_us),
            cut.events,
            cut.accounts,
            cut.root.sum,
            cut.root.hash,
            lost,
        )
        entry = seal.entry()
        subtrees, checkpoint = _appended(file, entry, seal.number, signer.name)
        stored = Stored(seal, entry, signer.sign(checkpoint.text()), cut.position, cut.hash)
        file.append(stored, subtrees)
        return stored


def adopt_seal(ledger: Path, seals: Path, entry: str, note: str) -> Stored:
    """Append a seal that was made before, of the ledger as it is now: how an import ends with the same seals.

    Raises NotSealed where the ledger does not come to what `entry` says, or `note` is not its checkpoint.
    """
    with _opened(ledger, seals) as (scan, file):
        last = file.last()
        seal = seal_of(entry)
        if seal.number != (1 if last is None else last.seal.number + 1):
            raise NotSealed(f"seal {seal.number} does not follow")
        if last is not None and seal.sealed_at_us < last.seal.sealed_at_us:
            raise NotSealed(f"seal {seal.number} is older than the one before it")
        if seal.lost:
            raise NotSealed(f"seal {seal.number} owns up to a loss, and all that was sealed before it is here")
        cut = _grow(scan, file, last)
        if (seal.events, seal.accounts, seal.outstanding, seal.root) != (
            cut.events,
            cut.accounts,
            cut.root.sum,
            cut.root.hash,
        ):
            raise NotSealed(f"the ledger comes to another root than seal {seal.number} says")
        verifier = Verifier.of(file.vkey())
        subtrees, checkpoint = _appended(file, entry, seal.number, verifier.name)
        if checkpoint_of(verifier.open(note)) != checkpoint:
            raise NotSealed(f"the note of seal {seal.number} is of another log")
        stored = Stored(seal, entry, note, cut.position, cut.hash)
        file.append(stored, subtrees)
        return stored


def _lost(scan: LogScan, file: SealFile, last: Stored) -> int:
    """How many sealed events are no longer there: those behind the newest seal whose end still is."""
    if _holds(scan, last):
        return 0
    before = file.seals(last.seal.number, last.seal.number)
    return last.seal.events - next((older.seal.events for older in before if _holds(scan, older)), 0)


def _holds(scan: LogScan, stored: Stored) -> bool:
    return stored.position == 0 or scan.hash_at(stored.position) == stored.hash


def _check_log(file: SealFile, last: Stored, signer: Signer, what_to_do: str) -> None:
    """What goes on from a damaged log of seals would be a fork of it, signed by ourselves; what goes on from a
    wrong last seal would take its counts over, or leave out the events up to a wrong end."""
    number = last.seal.number
    try:
        signed = checkpoint_of(signer.verifier.open(last.note))
    except InvalidNote:
        signed = None
    if signed is None or (signed.origin, signed.size) != (signer.name, number):
        raise NotSealed(f"the note of seal {number} {_CHANGED}")
    if merkle.root(number, file.subtree) != signed.root:
        raise NotSealed(f"the log of seals {what_to_do}")
    # Positions go up by one, so the end of a seal is the number of events that its entry says.
    if (
        merkle.leaf_hash(last.entry.encode()) != file.subtree(0, number - 1)
        or last.position != last.seal.events
    ):
        raise NotSealed(f"seal {number} {_CHANGED}")


def _rebuild_log(file: SealFile, size: int) -> None:
    """Make the subtrees of the log anew from the entries."""
    file.clear_log()
    for number in range(1, size + 1):
        stored = file.at(number)
        if stored is None:
            raise NotSealed(f"seal {number} is missing in seals.db: {RESTORE}")
        leaf = merkle.leaf_hash(stored.entry.encode())
        file.put_subtrees(list(merkle.appended(number - 1, leaf, file.subtree)))


def _rebuild_tree(scan: LogScan, file: SealFile, last: Stored) -> None:
    """Make the tree of the seal `last` anew from the events that it covers. Made of the ledger as it is now, it
    would cover up what was rewritten."""
    file.clear_tree()
    _take(file, (change._replace(held=change.more_held) for change, _ in _changes(scan, 0, last.position)))
    if file.root() != Node(last.seal.root, last.seal.outstanding):
        raise NotSealed(f"the ledger does not come to seal {last.seal.number}: credit-ledger audit says why")


@contextmanager
def _opened(ledger: Path, seals: Path) -> Iterator[tuple[LogScan, SealFile]]:
    """The ledger in one snapshot, and seals.db in a transaction, nobody else sealing."""
    turnstile = Turnstile(turnstile_path(seals))
    try:
        with turnstile, LogScan(ledger) as scan, closing(SealFile(seals, read_only=False)) as file:
            file.begin()
            try:
                with closing(Turnstile(turnstile_path(ledger))) as writers, writers:
                    # What was recorded before now is committed, so every later seal can be held to it.
                    scan.begin_snapshot()
                yield scan, file
                file.commit()
            finally:
                file.rollback()  # where it was not committed
    finally:
        turnstile.close()


def _grow(scan: LogScan, file: SealFile, last: Stored | None) -> _Cut:
    """Bring the tree from the seal `last`, or from nothing, to the ledger as it is now."""
    if last is None:
        file.clear_tree()
    elif file.root() != Node(last.seal.root, last.seal.outstanding):
        raise NotSealed(f"the tree {_DAMAGED}")
    events, accounts = (0, 0) if last is None else (last.seal.events, last.seal.accounts)
    more_events, more_accounts = _take(file, _agreeing(_changes(scan, 0 if last is None else last.position)))
    events, accounts = events + more_events, accounts + more_accounts
    position = scan.last_position()
    if events != position:
        raise NotSealed(
            f"the ledger holds {events} events, and the last of them is number {position}: {_AUDIT}"
        )
    return _Cut(events, accounts, file.root(), position, scan.hash_at(position) or bytes(32))


def _take(file: SealFile, changed: Iterator[Change]) -> tuple[int, int]:
    """Bring the changed accounts, which are in order of their keys, into the tree; how many events and accounts
    more there are in it then."""
    events = accounts = 0
    groups: dict[int, bytes] = {}
    group = None
    for number, changes in groupby(changed, lambda change: part_of(change.key)):
        if group != group_of(number):
            if group is not None:
                file.put_group(group, groups)
            group = group_of(number)
            groups = file.group(group)
        part = file.part(number)
        if root_of_part(part) != groups.get(number, NOTHING):
            raise NotSealed(f"part {number} of the tree {_DAMAGED}")
        for change in changes:
            at, found = place_of(change.key, part)
            before = unpack_leaf(part[at : at + LEAF_BYTES]) if found else None
            if before is not None and before.node != node_of(before):  # the root has in it the node alone
                raise NotSealed(f"a leaf in part {number} of the tree {_DAMAGED}")
            sealed = 0 if before is None else before.version
            _check_follows(before, change)
            events += change.version - sealed
            accounts += before is None
            part = part[:at] + pack_leaf(change) + part[at + LEAF_BYTES * found :]
        groups[number] = file.put_part(number, part)
    if group is not None:
        file.put_group(group, groups)
    return events, accounts


def _changes(scan: LogScan, after: int, until: int = AFTER_ALL) -> Iterator[tuple[Change, bool]]:
    """The accounts with events behind `after` and up to `until`, in order of their keys, and whether the
    account row is as the last of these events says; what it holds is that row's."""
    for *change, agrees in scan.changed(account_key, after, until):
        yield Change(*change), bool(agrees)


def _agreeing(changes: Iterator[tuple[Change, bool]]) -> Iterator[Change]:
    for change, agrees in changes:
        if not agrees:
            raise NotSealed(
                f"the account row of {_text(change.openid)} is not what its last event says: {_AUDIT}"
            )
        yield change


def _check_follows(before: Leaf | None, change: Change) -> None:
    """What was sealed of an account must still be there, or a seal would cover up that it was rewritten."""
    version, head, held = (0, GENESIS, 0) if before is None else (before.version, before.head, before.held)
    if (change.first, change.follows) != (version + 1, head):
        raise NotSealed(f"{_text(change.openid)} no longer has the event {version} that was sealed: {_AUDIT}")
    if change.held != held + change.more_held:
        raise NotSealed(f"the account row of {_text(change.openid)} does not hold what its events do: {_AUDIT}")


def _text(openid: bytes) -> str:
    return openid.decode("utf-8", "backslashreplace")


def _appended(
    file: SealFile, entry: str, number: int, origin: str
) -> tuple[list[tuple[int, int, bytes]], Checkpoint]:
    """What the log of seals gains by `entry`, its `number`-th, and its checkpoint then."""
    subtrees = list(merkle.appended(number - 1, merkle.leaf_hash(entry.encode()), file.subtree))
    known = {(level, place): digest for level, place, digest in subtrees}

    def node(level: int, place: int) -> bytes:
        return known.get((level, place)) or file.subtree(level, place)

    return subtrees, Checkpoint(origin, number, merkle.root(number, node))
