"""Sealing: from one snapshot of the ledger the sum tree as it is now, and a signed seal over its root.

The ledger is only read. What is written goes into seals.db, so no writer of credit ever waits for a seal.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ledger import merkle
from ledger.account import GENESIS
from ledger.log import LogScan
from ledger.note import Checkpoint, Signer, Verifier, checkpoint_of
from ledger.seal import NotSealed, Seal, seal_of
from ledger.seal_file import (
    LEAF_BYTES,
    Change,
    SealFile,
    Stored,
    group_of,
    pack_leaf,
    part_of,
    place_of,
    unpack_leaf,
)
from ledger.sqlite import Turnstile, turnstile_path
from ledger.sums import Node, account_key


class _Cut(NamedTuple):
    """What the ledger comes to up to an event: its position and hash, and the tree over all accounts."""

    events: int
    accounts: int
    root: Node
    position: int
    hash: bytes


def make_seal(
    ledger: Path, seals: Path, signer: Signer, now_us: int, *, accept_loss: bool = False
) -> Stored | None:
    """Seal what changed since the last seal; None where nothing did. One process at a time, others wait.

    Raises NotSealed where the ledger lacks or contradicts what was sealed before, or an account row is not
    what its last event says. With `accept_loss` a ledger that lacks sealed events is sealed as it is, and the
    seal says for ever how many were lost.
    """
    with _opened(ledger, seals) as (scan, file):
        if file.vkey() != signer.verifier.vkey:
            raise NotSealed("signing.key is not the key that seals.db was begun with: restore that one")
        last = file.last()
        lost = last is not None and scan.hash_at(last.position) != last.hash
        if last is not None and lost and not accept_loss:
            raise NotSealed(
                f"the ledger does not hold event {last.position}, the last one that seal {last.seal.number} "
                "covers: credit-ledger audit says what is missing"
            )
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
            max(last.seal.events - cut.events, 1) if last is not None and lost else 0,
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


@contextmanager
def _opened(ledger: Path, seals: Path) -> Iterator[tuple[LogScan, SealFile]]:
    """The ledger in one snapshot, and seals.db in a transaction, nobody else sealing."""
    turnstile = Turnstile(turnstile_path(seals))
    try:
        with turnstile, LogScan(ledger) as scan, closing(SealFile(seals, read_only=False)) as file:
            file.begin()
            try:
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
    events, accounts = (0, 0) if last is None else (last.seal.events, last.seal.accounts)
    file.collect(_changes(scan, 0 if last is None else last.position))
    groups: dict[int, bytes] = {}
    group = None
    for number, changes in groupby(file.collected(), lambda change: part_of(change.key)):
        if group != group_of(number):
            if group is not None:
                file.put_group(group, groups)
            group = group_of(number)
            groups = file.group(group)
        part = file.part(number)
        for change in changes:
            at, found = place_of(change.key, part)
            before = unpack_leaf(part[at : at + LEAF_BYTES]) if found else None
            sealed, head = (0, GENESIS) if before is None else (before.version, before.head)
            _check_follows(sealed, head, change)
            events += change.version - sealed
            accounts += before is None
            part = part[:at] + pack_leaf(change) + part[at + LEAF_BYTES * found :]
        groups[number] = file.put_part(number, part)
    if group is not None:
        file.put_group(group, groups)
    position = scan.last_position()
    return _Cut(events, accounts, file.root(), position, scan.hash_at(position) or bytes(32))


def _changes(scan: LogScan, after: int) -> Iterator[Change]:
    for openid, version, head, credit, held, first, follows, agrees in scan.changed(after):
        if not agrees:
            raise NotSealed(
                f"the account row of {_text(openid)} is not what its last event says: see credit-ledger audit"
            )
        yield Change(account_key(openid), openid, version, head, credit, held, first, follows or GENESIS)


def _check_follows(version: int, head: bytes, change: Change) -> None:
    """What was sealed of an account must still be there, or a seal would cover up that it was rewritten."""
    if (change.first, change.follows) != (version + 1, head):
        raise NotSealed(
            f"{_text(change.openid)} no longer has the event {version} that was sealed: see credit-ledger audit"
        )


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
