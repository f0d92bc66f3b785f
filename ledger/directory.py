"""Who uses the data, how its files are exchanged for others, and how what is new gets its name.

What has a name is on disk, whole, and so is the name, before anything goes on that relies on it.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from glob import escape
from pathlib import Path
from typing import BinaryIO, Final

from ledger.errors import LedgerUnusable

_LOCK: Final = "service.lock"
_STAGED: Final = ".staged"
_INCOMING: Final = ".incoming-"
_DRAFT_LOCK: Final = "draft.lock"


def share(data: Path) -> int:
    """A descriptor that says, until it is closed, that a service uses the directory.

    Raises LedgerUnusable while its files are being exchanged.
    """
    return _lock(data, fcntl.LOCK_SH, "its files are being imported or restored: wait until that is done")


@contextmanager
def alone(data: Path) -> Iterator[None]:
    """Keep every service away from the directory; raises LedgerUnusable where one uses it.

    An exchange that broke off is finished first.
    """
    descriptor = _lock(
        data, fcntl.LOCK_EX, "a service runs on it, or another import or restore: stop that first"
    )
    try:
        _finish(data)
        yield
    finally:
        os.close(descriptor)


def settle(data: Path) -> None:
    """Finish an exchange of files that broke off, and remove what one that was killed before had staged: nobody
    would look for persons there who were to be erased."""
    if any(data.glob(f"{_INCOMING}*")):
        with alone(data):
            pass
    if (data / _STAGED).exists():
        try:
            descriptor = share(data)
        except LedgerUnusable:
            return  # whoever stages is still at work
        try:
            shutil.rmtree(data / _STAGED, ignore_errors=True)
        finally:
            os.close(descriptor)


@contextmanager
def staging(data: Path) -> Iterator[Path]:
    """An empty directory beside the files that are to be replaced; what is left in it in the end is removed."""
    staged = data / _STAGED
    shutil.rmtree(staged, ignore_errors=True)  # of one that was killed
    staged.mkdir(mode=0o700)
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def make_directory(path: Path) -> None:
    """Make it, for its owner alone, with those above it that are missing, unless it is there."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for made in reversed(missing):
        sync(made.parent)


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """A file for its owner alone, which gets the name `target` when all in it is on disk and no error came.

    Else it is removed, and by the next one where this process is killed. Raises FileExistsError where something
    has that name by then.
    """
    draft, descriptor = _locked_file(target)
    with open(descriptor, "wb") as file:
        try:
            yield file
            file.flush()
            os.fsync(descriptor)
            os.link(draft, target)  # which, other than a renaming, never takes the place of another file
        finally:
            draft.unlink(missing_ok=True)
        sync(target.parent)


def _locked_file(target: Path) -> tuple[Path, int]:
    """A new file beside `target`, locked for as long as it is open: what has no lock, a killed process left."""
    for left in target.parent.glob(f".{escape(target.name)}.*.partial"):
        with suppress(OSError):  # it was in use, or is gone, or is not ours
            descriptor = os.open(left, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
            finally:
                os.close(descriptor)
    while True:
        descriptor, name = tempfile.mkstemp(".partial", f".{target.name}.", target.parent)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, Path(name)):
            return Path(name), descriptor
        os.close(descriptor)  # taken for one that was left, before it had its lock


@contextmanager
def drafting(target: Path) -> Iterator[Path]:
    """An empty directory beside `target`, which gets that name when all in it is on disk and no error came.

    Else it is removed. Raises LedgerUnusable where something has that name, or another process is making it.
    """
    draft = target.with_name(f".{target.name}.partial")
    descriptor = _locked_draft(draft, target)
    try:
        _empty(draft)  # of one that was killed
        yield draft
        sync(draft)
        try:
            draft.rename(target)
        except OSError as error:  # a name that was taken meanwhile, or on another machine
            raise LedgerUnusable(
                f"cannot give {draft} the name {target}: {error.strerror}; give another"
            ) from None
        (target / _DRAFT_LOCK).unlink()
        sync(target)
        sync(target.parent)
    finally:
        if _is_at(descriptor, draft / _DRAFT_LOCK):
            _empty(draft)
            shutil.rmtree(draft, ignore_errors=True)
        os.close(descriptor)


def _locked_draft(draft: Path, target: Path) -> int:
    """The lock in the draft, held: whoever has it may do with the draft as he likes, and nobody else."""
    while True:
        if target.exists():
            raise LedgerUnusable(f"{target} is there already: give the name of a new directory")
        try:
            draft.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(draft / _DRAFT_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            if draft.parent.is_dir():
                continue  # another one removed its draft just now
            raise LedgerUnusable(f"cannot make {draft}: {error.strerror}") from None
        except OSError as error:
            raise LedgerUnusable(f"cannot make {draft}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise LedgerUnusable(
                f"{target} is being made by another process: wait until that is done, or give another name"
            ) from None
        if _is_at(descriptor, draft / _DRAFT_LOCK):
            return descriptor
        os.close(descriptor)  # that of a draft which has its name, or is gone, since it was opened


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _empty(draft: Path) -> None:
    """Remove all but the lock, which keeps others away meanwhile."""
    for path in draft.iterdir():
        if path.name != _DRAFT_LOCK:
            path.unlink()


def exchange(data: Path, staged: Path, now_us: int) -> Path:
    """Put the closed databases in `staged` in the place of those of the same names, while `alone`.

    Returns the directory that the replaced ones, if any, were moved to. A process that dies on the way has
    either changed nothing, or the next start of the service, or import, or restore, finishes it.
    """
    for path in staged.iterdir():
        if path.name.endswith("-wal") and path.stat().st_size:
            raise LedgerUnusable(f"{path} is not settled: another program has {staged} open")
        if path.suffix == ".db":
            sync(path)
        else:
            path.unlink()
    sync(staged)
    moment = datetime.fromtimestamp(now_us // 1_000_000, UTC)
    name = f"{moment:%Y%m%dT%H%M%S}.{now_us % 1_000_000:06}Z"
    staged.rename(data / f"{_INCOMING}{name}")
    _finish(data)
    return data / f"replaced-{name}"


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on disk. Never of a database that this process has
    open: closing any descriptor of that drops its locks."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(data: Path, how: int, refusal: str) -> int:
    try:
        descriptor = os.open(data / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerUnusable(f"cannot use {data}: {error.strerror}; set CREDIT_DATA") from None
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LedgerUnusable(f"{data} is in use: {refusal}") from None
    return descriptor


def _finish(data: Path) -> None:
    """Roll every begun exchange forward: a file is done when it is no longer in the incoming directory."""
    for incoming in sorted(data.glob(f"{_INCOMING}*")):
        replaced = data / f"replaced-{incoming.name.removeprefix(_INCOMING)}"
        replaced.mkdir(mode=0o700, exist_ok=True)
        sync(data)  # the names of both: a directory that a power cut takes would take what was moved there, too
        for path in sorted(incoming.iterdir()):
            # A write-ahead log belongs to the file beside it, and would be played into the new one.
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                if (data / name).exists():
                    (data / name).rename(replaced / name)
            sync(replaced)
            sync(data)  # no log is left beside the new file, whatever of its name gets to the disk first
            path.rename(data / path.name)
        sync(data)
        incoming.rmdir()
        if not any(replaced.iterdir()):
            replaced.rmdir()
        sync(data)
