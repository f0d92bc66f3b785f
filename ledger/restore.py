"""Restore: go back to a backup, having said exactly what that loses against what is there and was published."""

import shutil
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from ledger.backup import MANIFEST, Files, Identities, Manifest, Phase, check, last_seal, seals_problem
from ledger.directory import alone, exchange, make_directory, staging
from ledger.errors import LedgerUnusable
from ledger.log import LogScan
from ledger.note import Verifier, checkpoint_of, log_checkpoint
from ledger.parallel import Progress
from ledger.seal_file import SealFile, Stored
from ledger.sqlite import UNREADABLE, Turnstile, check_identity, connect, turnstile_path


class Lost(msgspec.Struct, frozen=True):
    """Events of an account that the backup lacks, or has others in the place of: versions first to last."""

    openid: str
    first: int
    last: int


class Loss(msgspec.Struct, frozen=True):
    """What is gone after a restore.

    `events` counts what is known to be gone: `accounts` names it where the present ledger can be read, else
    the seals know how many it is at least. `seals` were published and are neither in the backup nor here.
    `unknown` says what cannot be compared.
    """

    events: int
    accounts: list[Lost]
    seals: int
    unknown: list[str]

    def __bool__(self) -> bool:
        return bool(self.events or self.accounts or self.seals or self.unknown)


class Restored(msgspec.Struct, frozen=True):
    """`replaced` is the directory that the former files are in now, or None: there were none, or nothing was
    restored, because `loss` was not accepted."""

    done: bool
    backup: Manifest
    loss: Loss
    replaced: Path | None
    kept_seals: bool


def restore(
    source: Path,
    files: Files,
    identities: Identities,
    published: str | None,
    *,
    accept_loss: bool,
    now_us: int,
    phase: Phase,
) -> Restored:
    """Put the backup in the directory `source` in the place of `files`, which no service may be using.

    The backup is copied and audited before anything is touched. What it lacks is found by comparing it with
    what is there now, and with `published`, the last published note; without `accept_loss` that is all that is
    done where anything is lost. Seals are never taken back: where those that are there go on from those of the
    backup, they stay. Raises Unsound, or LedgerUnusable where the seals or the note are of another log, or a
    file of the backup is of another program or schema.
    """
    data = files.ledger.parent
    make_directory(data)
    with alone(data), staging(data) as staged, ExitStack() as stack:
        copies = files.inside(staged)
        _fetch(source, files, identities, staged)
        manifest = check(copies, _made_at_us(source), phase)
        for path in files:  # from the comparison on nobody writes, also at the command line
            stack.enter_context(stack.enter_context(closing(Turnstile(turnstile_path(path)))))
        ours, unknown = _present_seal(files.seals)
        theirs = last_seal(copies.seals)
        if ours is None and theirs is not None and published is None and not unknown:
            unknown = [
                f"no seals are here and no --note was given: whether any were published behind seal "
                f"{theirs.seal.number} is not known, and another one of the same number would be a fork"
            ]
        kept = _keeps_seals(files.seals, copies.seals, ours)
        seals = files.seals if kept else copies.seals
        with phase("Comparing") as progress:
            loss = _loss(files, copies.ledger, seals, _unreachable(seals, published), unknown, progress)
        if loss and not accept_loss:
            return Restored(False, manifest, loss, None, kept)
        if kept:
            copies.seals.unlink(missing_ok=True)
        replaced = exchange(data, staged, now_us)
        return Restored(True, manifest, loss, replaced if replaced.exists() else None, kept)


def _fetch(source: Path, files: Files, identities: Identities, staged: Path) -> None:
    """Copy the files of a backup, with a write-ahead log where somebody opened one and left it, and refuse what
    is no such file."""
    if not (source / files.ledger.name).exists():
        raise LedgerUnusable(f"{source} is no backup: it has no {files.ledger.name}")
    for path, identity in zip(files, identities, strict=True):
        for name in (path.name, f"{path.name}-wal"):
            if (source / name).exists():
                (staged / name).touch(mode=0o600)
                shutil.copyfile(source / name, staged / name)
        if (staged / path.name).exists():
            with closing(connect(staged / path.name)) as connection:
                check_identity(connection, source / path.name, identity)


def _made_at_us(source: Path) -> int:
    try:
        return msgspec.json.decode((source / MANIFEST).read_bytes(), type=Manifest).made_at_us
    except (OSError, msgspec.DecodeError) as error:
        raise LedgerUnusable(f"{source} is no whole backup: {MANIFEST}: {error}") from None


def _keeps_seals(present: Path, backup: Path, ours: Stored | None) -> bool:
    """Whether the present seals, of which `ours` is the last, go on from those of the backup."""
    theirs = last_seal(backup)
    if ours is None or theirs is None:
        return ours is not None
    size = min(ours.seal.number, theirs.seal.number)
    if _root(present, size) != _root(backup, size):
        raise LedgerUnusable(
            f"the seals of the backup and those in {present} are of different logs: move all that is in "
            f"{present.parent} away first if that is meant"
        )
    return ours.seal.number >= theirs.seal.number


def _present_seal(seals: Path) -> tuple[Stored | None, list[str]]:
    """The last seal that is there now, and what cannot be said of it. Damaged seals are not gone on from: the
    service would not start with them, or not seal."""
    problem = seals_problem(seals) if seals.exists() else None
    if problem is not None:
        return None, [f"{seals} cannot be read ({problem}): seals made since the backup are not known"]
    return last_seal(seals), []


def _root(seals: Path, size: int) -> bytes | None:
    """The root of the log of seals at that size, as its note has it. Audited seals are what their notes say;
    the subtrees beside them may be damaged, and can be made anew."""
    with closing(SealFile(seals)) as file:
        stored = file.at(size)
        return None if stored is None else checkpoint_of(Verifier.of(file.vkey()).open(stored.note)).root


def _unreachable(seals: Path, published: str | None) -> int:
    """How many seals a published note counts beyond those in `seals`; checks that it is of the same log."""
    if published is None:
        return 0
    last = last_seal(seals)
    if last is None:
        raise LedgerUnusable("neither the backup nor the present files have a seal to compare the note with")
    with closing(SealFile(seals)) as file:
        vkey = file.vkey()
    try:
        checkpoint = log_checkpoint(published, Verifier.of(vkey))
    except ValueError as error:
        raise LedgerUnusable(f"the note is none of this ledger: {error}") from None
    size = last.seal.number
    if checkpoint.size > size:
        return checkpoint.size - size
    if _root(seals, checkpoint.size) != checkpoint.root:
        raise LedgerUnusable("the note is of another log of seals than the backup and what is here")
    return 0


def _loss(
    files: Files, backup: Path, seals: Path, unreachable: int, unknown: list[str], progress: Progress
) -> Loss:
    accounts: list[Lost] = []
    if files.ledger.exists():
        try:
            accounts = list(_lost(files.ledger, backup, progress))
        except (LedgerUnusable, *UNREADABLE) as error:
            unknown = [*unknown, f"{files.ledger} cannot be read ({error}): what is only in it is not known"]
    events = sum(lost.last - lost.first + 1 for lost in accounts)
    last = last_seal(seals)
    if last is not None:
        with LogScan(backup) as scan:
            if not _holds(scan, last):
                events = max(events, last.seal.events - scan.last_position(), 1)
    return Loss(events, accounts, unreachable, unknown)


def _holds(scan: LogScan, stored: Stored) -> bool:
    """Whether the ledger has the last event that the seal covers where it was, and so all before it."""
    return stored.position == 0 or scan.hash_at(stored.position) == stored.hash


def _lost(present: Path, backup: Path, progress: Progress) -> Iterator[Lost]:
    """Of each account the events from the first one on that the backup does not have as they are."""
    with LogScan(present) as here, LogScan(backup) as there:
        total, done = here.last_position(), 0
        for openid, version, head in here.heads():
            done += version
            progress(min(done, total), total)
            if there.hash_of(openid, version) == head:
                continue

            def differs(number: int, openid: bytes = openid) -> bool:
                return there.hash_of(openid, number) != here.hash_of(openid, number)

            # Each hash covers the one before it, so from the first difference on all differ.
            first = bisect_left(range(1, version + 1), True, key=differs) + 1
            yield Lost(openid.decode(errors="backslashreplace"), min(first, version), version)
