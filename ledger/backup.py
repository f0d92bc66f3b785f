"""Backup: copies of the databases of a data directory, made while others write, and audited."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec

from ledger.directory import drafting, sync
from ledger.errors import LedgerFault, LedgerUnusable
from ledger.parallel import Progress
from ledger.seal_file import SealFile, Stored
from ledger.sqlite import UNREADABLE, Identity, connect, copy_file, file_problems
from ledger.verify import audit, seal_faults

MANIFEST: Final = "backup.json"

# Shows the progress of one part of the work, which it is told the name of.
Phase = Callable[[str], AbstractContextManager[Progress]]


class Files(NamedTuple):
    """The databases of a data directory, in the order in which they are copied.

    The seals come first, so that the copy of the ledger holds all that they cover.
    """

    seals: Path
    ledger: Path
    access: Path

    def inside(self, directory: Path) -> "Files":
        """The same files in another directory."""
        return Files(*(directory / path.name for path in self))


class Identities(NamedTuple):
    """What each of the databases must say that it is."""

    seals: Identity
    ledger: Identity
    access: Identity


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds; `seal` is the number of its last seal and `note` that seal's, where it has one."""

    made_at_us: Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999_999)]  # to the end of the year 9999
    events: int
    accounts: int
    outstanding: int
    seal: int | None
    note: str | None


class Unsound(LedgerFault):
    """A copy that must not be relied on; says what is wrong with it."""


def make_backup(files: Files, identities: Identities, target: Path, now_us: int, phase: Phase) -> Manifest:
    """Copy what is there into the new directory `target`, while others write, and audit the copy.

    It has its name only once it is whole, on disk and found good. No key is copied. Raises LedgerUnusable where
    something has that name, or another backup of that name is being made, or a file is another program's.
    """
    with drafting(target) as draft:
        copies = files.inside(draft)
        for path, identity, copy in zip(files, identities, copies, strict=True):
            if path.exists() or path == files.ledger:
                with phase(f"Copying {path.name}") as progress:
                    copy_file(path, identity, copy, progress)
                sync(copy)
        manifest = check(copies, now_us, phase)
        text = json.dumps(msgspec.to_builtins(manifest), ensure_ascii=False, indent=2)
        (draft / MANIFEST).touch(mode=0o600)
        (draft / MANIFEST).write_text(f"{text}\n", encoding="utf-8")
        sync(draft / MANIFEST)
    return manifest


def check(copies: Files, made_at_us: int, phase: Phase) -> Manifest:
    """Audit closed copies; raises Unsound with the first thing that is wrong."""
    with phase("Auditing the copy") as progress:
        report = audit(copies.ledger, progress, copies.seals)
    if report.faults:
        fault = report.faults[0]
        where = f"{fault.openid} version {fault.version}" if fault.openid else copies.ledger.name
        raise Unsound(f"{where}: {fault.what}: {fault.detail}; {len(report.faults)} wrong in all")
    for path in (copies.seals, copies.access):
        if path.exists():
            with closing(connect(path, read_only=True)) as connection:
                for problem in file_problems(connection):
                    raise Unsound(f"{path.name}: {problem}")
    last = last_seal(copies.seals)
    return Manifest(
        made_at_us,
        report.events,
        report.accounts,
        report.outstanding,
        None if last is None else last.seal.number,
        None if last is None else last.note,
    )


def last_seal(seals: Path) -> Stored | None:
    """The last seal in a file; None where it has none, or is not there."""
    if not seals.exists():
        return None
    with closing(SealFile(seals)) as file:
        return file.last()


def seals_problem(seals: Path) -> str | None:
    """Why the seals in a file cannot be gone on from, whatever ledger is beside them; None where they can."""
    try:
        for fault in seal_faults(seals):
            return fault.detail
        with closing(SealFile(seals)) as file:
            for problem in file_problems(file.connection):
                return problem
            # What is in the tree can be made anew, but its tables must be there.
            file.root()
            for _ in file.parts():
                pass
    except (LedgerUnusable, *UNREADABLE) as error:
        return str(error)
    return None
