"""How a SQLite file is opened and taken turns on, the same for every file of this product.

Each line of `PRAGMAS` was bought with a failure: see docs/sqlite.md. The SQLite used is the one that
sqlite-utils chose (pysqlite3 where it has wheels); a second SQLite library in the same process would drop
this one's locks, so nothing imports another.
"""

import fcntl
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]

from ledger.errors import LedgerUnusable, NotCommitted, OutcomeUnknown

# For a value whose type has no adapter the library looks for two methods that nothing has, each time that it
# binds one: a microsecond for every hash and every NULL.
for _kind in (bytes, type(None)):
    sqlite3.register_adapter(_kind, lambda value: value)

SqliteError = sqlite3.Error
OperationalError = sqlite3.OperationalError
IntegrityError = sqlite3.IntegrityError
Connection = sqlite3.Connection
# One is kept for what is asked often and read to its end, such as a row by its key: making one takes as long.
Cursor = sqlite3.Cursor
# What reading a damaged file raises: SQLite's message can quote bytes of the file, and then it is not UTF-8.
UNREADABLE: Final = (sqlite3.Error, UnicodeDecodeError)

BUSY_TIMEOUT_MS: Final = 5000
_WAL_SIZE_LIMIT_BYTES: Final = 64 * 2**20

PRAGMAS: Final = (
    "PRAGMA synchronous=FULL",  # not stored in the file: NORMAL loses acknowledged commits in a power cut
    "PRAGMA foreign_keys=ON",
    "PRAGMA recursive_triggers=ON",  # or INSERT OR REPLACE gets past a BEFORE DELETE trigger
    "PRAGMA trusted_schema=OFF",
    "PRAGMA cell_size_check=ON",
    "PRAGMA mmap_size=0",
    f"PRAGMA journal_size_limit={_WAL_SIZE_LIMIT_BYTES}",
)

# SQLITE_IOERR and its extended codes: the low byte is 10.
_SQLITE_IOERR: Final = 10


class Identity(msgspec.Struct, frozen=True):
    """What a file says of itself in its head: which program's database it is, and in which schema."""

    application_id: int
    schema_version: int


def connect(
    path: Path, identity: Identity | None = None, *, read_only: bool = False, secure_delete: bool = False
) -> Connection:
    """A connection to an existing file in autocommit mode, with every pragma set.

    It belongs to the thread that opened it; open none before a fork: a child that inherits one corrupts the
    file. With `secure_delete` what is deleted is overwritten in the file as well. Raises LedgerUnusable,
    before anything is changed, where the file is not of `identity`.
    """
    connection = _open(path, "rw")
    try:
        if identity is not None:
            check_identity(connection, path, identity)
        (journal_mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if journal_mode != "wal":
            raise LedgerUnusable(f"{path} cannot use a write-ahead log here (journal mode {journal_mode!r})")
        for pragma in PRAGMAS:
            connection.execute(pragma)
        if secure_delete:
            connection.execute("PRAGMA secure_delete=ON")
        if read_only:
            connection.execute("PRAGMA query_only=ON")
    except UNREADABLE as error:
        connection.close()
        raise LedgerUnusable(f"cannot use {path}: {error}") from None
    except LedgerUnusable:
        connection.close()
        raise
    return connection


def check_identity(connection: Connection, path: Path, identity: Identity) -> None:
    """Raise LedgerUnusable unless the file says that it is this kind of database in this schema."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != identity.application_id:
        raise LedgerUnusable(f"{path} is not a database of this service (application_id {application_id:#x})")
    (schema_version,) = connection.execute("PRAGMA user_version").fetchone()
    if schema_version != identity.schema_version:
        raise LedgerUnusable(
            f"{path} has schema version {schema_version}, this release knows {identity.schema_version}: "
            "run the release that wrote it"
        )


def create_file(
    path: Path, identity: Identity, schema: str, first_row: str, values: tuple[object, ...]
) -> None:
    """Create the database at `path` with its first row, in one transaction; one that exists is left alone.

    Raises LedgerUnusable where a file of another program or schema is, and where the disk fails or is full.
    """
    turnstile = Turnstile(turnstile_path(path))
    try:
        with turnstile:  # SQLite does not wait for another process that switches the file to WAL as well
            if not _is_empty(path):
                connect(path, identity).close()
                return
            path.touch(mode=0o600)
            connection = connect(path)
            try:
                connection.execute("BEGIN IMMEDIATE")
                database = Database(connection, execute_plugins=False, recursive_triggers=False)
                for statement in _statements(schema):
                    database.execute(statement)
                connection.execute(first_row, values)
                connection.execute(f"PRAGMA application_id={identity.application_id}")
                connection.execute(f"PRAGMA user_version={identity.schema_version}")
                connection.execute("COMMIT")
            except SqliteError as error:
                raise LedgerUnusable(f"cannot create {path}: {error}") from None
            finally:
                connection.close()
    finally:
        turnstile.close()


def in_memory(schema: str) -> Connection:
    """A database that is nowhere on disk, as that schema makes it."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in _statements(schema):
        connection.execute(statement)
    return connection


def turnstile_path(path: Path) -> Path:
    """The lock file at which all writers of the database at `path` queue."""
    return path.with_suffix(".lock")


def _open(path: Path, mode: str) -> Connection:
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
    except OperationalError as error:
        raise LedgerUnusable(f"cannot open {path}: {error}") from None
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    return connection


def _is_empty(path: Path) -> bool:
    """Whether nothing is there, or only what a process left that died while it created the file."""
    if not path.exists():
        return True
    # Not read-only, which cannot undo what a journal says was half done: a power cut at creation leaves one.
    connection = _open(path, "rw")
    try:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    except UNREADABLE as error:
        raise LedgerUnusable(f"cannot use {path}: {error}") from None
    finally:
        connection.close()
    return bool(tables == 0 and application_id == 0)


def copy_file(path: Path, identity: Identity, target: Path, progress: Callable[[int, int], None]) -> None:
    """Copy a database as it is at one moment, whoever writes meanwhile; told how many pages of how many.

    Raises LedgerUnusable where it is not of `identity`.
    """
    target.touch(mode=0o600)
    with closing(connect(path, identity, read_only=True)) as source, closing(_open(target, "rw")) as copy:
        source.execute("BEGIN")  # without one snapshot it would begin anew with every commit of another process
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(copy, pages=4096, progress=lambda _, left, total: progress(total - left, total))
        source.execute("COMMIT")


def file_problems(connection: Connection) -> list[str]:
    """What SQLite itself finds wrong with the file: pages, and indexes that do not match their table."""
    return [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]


def rewrite(connection: Connection) -> bool:
    """Write the file anew without any trace of what was deleted, under the turnstile: pages keep copies of rows
    that moved, also with secure_delete. False where a reader keeps the old write-ahead log alive for long."""
    connection.execute("VACUUM")
    return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)


def is_disk_failure(error: SqliteError) -> bool:
    """Whether the disk refused to read, write or sync, after which nothing written can be relied on."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == _SQLITE_IOERR


def is_of_the_file(error: SqliteError) -> bool:
    """Whether it says something of the file, such as that it is damaged, and not of how it was used."""
    return type(error) in (sqlite3.DatabaseError, OperationalError)


class WritableFile:
    """A connection that writes, and its transactions. Belongs to one thread."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        self._name = name

    def begin(self) -> None:
        """Take the write lock; raises NotCommitted when somebody outside the turnstile keeps it for 5 s."""
        try:
            # Not a deferred transaction: one that reads first cannot then write if anybody else wrote.
            self.connection.execute("BEGIN IMMEDIATE")
        except SqliteError as error:
            raise NotCommitted(f"{self._name} cannot be written now: {error}") from error

    def commit(self) -> None:
        """Make it durable. Any error leaves the outcome unknown; the connection must then be closed."""
        try:
            self.connection.execute("COMMIT")
        except SqliteError as error:
            raise OutcomeUnknown(
                f"COMMIT of {self._name} answered {error}: try again with the same key",
                disk_failed=is_disk_failure(error),
            ) from error

    def rewrite_head(self) -> None:
        """Write the schema version that is there once more: a page to commit, and no change."""
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        self.connection.execute(f"PRAGMA user_version={version}")

    def rollback(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def close(self) -> None:
        self.connection.close()


class Turnstile:
    """A lock between processes: whoever holds it may write and checkpoint.

    SQLite's own wait polls and sleeps, which costs the 99th percentile a factor of ten; this one is woken by
    the kernel. A process that dies lets go by itself. Each instance is a lock of its own, among threads too.
    """

    def __init__(self, path: Path) -> None:
        # Not the database itself: closing any descriptor of that would drop this process's SQLite locks.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def take_if_free(self) -> bool:
        """Take it, unless somebody else has it; whether it is this one's now. Closing lets go of it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self._descriptor)


def _statements(script: str) -> list[str]:
    """The statements of a schema, so that they run inside the caller's transaction.

    `executescript` commits first, and a half-made schema would be what a crash leaves.
    """
    statements, buffer = [], ""
    for line in script.splitlines(keepends=True):
        buffer += line
        if sqlite3.complete_statement(buffer):
            statements.append(buffer)
            buffer = ""
    return statements
