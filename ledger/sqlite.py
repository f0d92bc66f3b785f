"""How a SQLite file is opened and taken turns on, the same for every file of this product.

Each line of `PRAGMAS` was bought with a failure: see docs/sqlite.md. The SQLite used is the one that
sqlite-utils chose (pysqlite3 where it has wheels); a second SQLite library in the same process would drop
this one's locks, so nothing imports another.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]

from ledger.errors import LedgerUnusable, NotCommitted, OutcomeUnknown

SqliteError = sqlite3.Error
OperationalError = sqlite3.OperationalError
IntegrityError = sqlite3.IntegrityError
Connection = sqlite3.Connection

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

# One host only: WAL keeps its index in shared memory, and these do not lock as a local disk does.
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "afs", "ceph", "glusterfs", "lustre", "ocfs2"}
)


def connect(
    path: Path, *, must_exist: bool = True, read_only: bool = False, secure_delete: bool = False
) -> Connection:
    """A connection in autocommit mode, with every pragma set; belongs to the thread that opened it.

    With `secure_delete` what is deleted is overwritten in the file as well. Open no connection before a
    fork: a child that inherits one corrupts the file.
    """
    mode = "rw" if must_exist else "rwc"
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
    except OperationalError as error:
        raise LedgerUnusable(f"cannot open {path}: {error}") from None
    try:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        (journal_mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if journal_mode != "wal":
            raise LedgerUnusable(f"{path} cannot use a write-ahead log here (journal mode {journal_mode!r})")
        for pragma in PRAGMAS:
            connection.execute(pragma)
        if secure_delete:
            connection.execute("PRAGMA secure_delete=ON")
        if read_only:
            connection.execute("PRAGMA query_only=ON")
    except SqliteError as error:
        connection.close()
        raise LedgerUnusable(f"cannot use {path}: {error}") from None
    except LedgerUnusable:
        connection.close()
        raise
    return connection


def check_identity(connection: Connection, path: Path, application_id: int, schema_version: int) -> None:
    """Raise LedgerUnusable unless the file says that it is this kind of database in this schema."""
    (found_id,) = connection.execute("PRAGMA application_id").fetchone()
    if found_id != application_id:
        raise LedgerUnusable(f"{path} is not a database of this service (application_id {found_id:#x})")
    (found_version,) = connection.execute("PRAGMA user_version").fetchone()
    if found_version != schema_version:
        raise LedgerUnusable(
            f"{path} has schema version {found_version}, this release knows {schema_version}: "
            "run the release that wrote it"
        )


def create_file(path: Path, schema: str, application_id: int, schema_version: int) -> None:
    """Create the database at `path` in one transaction, unless another process was faster."""
    connection = connect(path, must_exist=False)
    try:
        path.chmod(0o600)
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            database = Database(connection, execute_plugins=False, recursive_triggers=False)
            for statement in _statements(schema):
                database.execute(statement)
            connection.execute(f"PRAGMA application_id={application_id}")
            connection.execute(f"PRAGMA user_version={schema_version}")
        connection.execute("COMMIT")
    finally:
        connection.close()


def is_disk_failure(error: SqliteError) -> bool:
    """Whether the disk refused to read, write or sync, after which nothing written can be relied on."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == _SQLITE_IOERR


def refuse_network_file_system(directory: Path) -> None:
    """Raise LedgerUnusable when `directory` lies on a file system shared by hosts, or on fuse."""
    kind = file_system_of(directory, Path("/proc/self/mountinfo").read_text())
    if kind in _NETWORK_FILE_SYSTEMS or kind.startswith("fuse"):
        raise LedgerUnusable(
            f"{directory} is on {kind}: SQLite's write-ahead log needs a local disk; set CREDIT_DATA to one"
        )


def file_system_of(directory: Path, mountinfo: str) -> str:
    """The type of the file system that holds `directory`, read from /proc/self/mountinfo (see proc(5))."""
    resolved = directory.resolve()
    best, kind = -1, "unknown"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        mount_point = Path(before.split()[4].encode().decode("unicode_escape"))
        depth = len(mount_point.parts)
        # >= because a later mount on the same point covers the earlier one.
        if resolved.is_relative_to(mount_point) and depth >= best:
            best, kind = depth, after.split()[0]
    return kind


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
