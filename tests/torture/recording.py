"""SQLite on a file system that remembers every write and sync, in the place of the library that is served with.

`take_the_place_of_sqlite` must run before anything of this product is imported, in a process of its own: two
SQLite libraries that open the same file drop each other's locks.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Final

import apsw

from tests.torture.disk import Created, Deleted, DirectorySynced, Operation, Synced, Truncated, Written

Recorder = Callable[[Operation], None]

# As SQLite does on Unix: the first sync of a new one of these syncs its directory too.
_SYNCS_DIRECTORY: Final = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
_DURABLE: Final = apsw.SQLITE_OPEN_MAIN_DB | _SYNCS_DIRECTORY
NAME: Final = "recording"


class RecordingVFS(apsw.VFS):
    """Does what the file system `beneath` does, and tells `record` of all that a power cut could undo."""

    def __init__(self, record: Recorder, beneath: str) -> None:
        super().__init__(NAME, beneath, makedefault=True)
        self._record = record
        self._beneath = beneath
        self._known: set[str] = set()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        if name is None or not flags[0] & _DURABLE:
            return apsw.VFSFile(self._beneath, name, flags)
        short = Path(name if isinstance(name, str) else name.filename()).name
        file = _RecordedFile(self._beneath, name, flags, short, self._record)
        if short not in self._known:
            self._known.add(short)
            self._record(Created(short))
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self._known.discard(Path(filename).name)
        self._record(Deleted(Path(filename).name))
        if syncdir:
            self._record(DirectorySynced())


class _RecordedFile(apsw.VFSFile):
    def __init__(
        self,
        beneath: str,
        name: str | apsw.URIFilename,
        flags: list[int],
        short: str,
        record: Recorder,
    ) -> None:
        super().__init__(beneath, name, flags)
        self._name = short
        self._record = record
        self._new = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _SYNCS_DIRECTORY)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self._record(Written(self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._record(Truncated(self._name, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._record(Synced(self._name))
        if self._new:
            self._new = False
            self._record(DirectorySynced())


class _Cursor(apsw.Cursor):
    def fetchone(self) -> Any:
        """The row of a look-up; as with pysqlite3, reading it ends the statement, where it has one row."""
        row = super().fetchone()
        super().fetchone()
        return row

    @property
    def rowcount(self) -> int:
        return self.connection.changes()


def take_the_place_of_sqlite(record: Recorder, chance: Random, beneath: str) -> None:
    """From here on what imports pysqlite3, as sqlite-utils does, has this SQLite and this file system.

    Each connection makes a checkpoint after another number of pages, most of them small.
    """
    vfs = RecordingVFS(record, beneath)

    class Connection(apsw.Connection):
        _vfs = vfs  # it is unregistered when nobody holds it

        def __init__(self, filename: str, *, isolation_level: None, uri: bool = False) -> None:
            flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
            super().__init__(filename, flags)
            self.cursor_factory = _Cursor
            self.execute(f"PRAGMA wal_autocheckpoint={chance.choice((5, 20, 80, 1000))}")

        def create_function(
            self, name: str, narg: int, func: Callable[..., Any], *, deterministic: bool
        ) -> None:
            self.create_scalar_function(name, func, narg, deterministic=deterministic)

    library: Any = ModuleType("pysqlite3")
    library.connect = library.Connection = Connection
    library.Cursor = _Cursor
    library.Error = apsw.Error
    library.OperationalError = apsw.CantOpenError
    library.IntegrityError = apsw.ConstraintError
    library.complete_statement = apsw.complete
    library.register_adapter = lambda *_: None  # it binds bytes and None without any
    library.dbapi2 = library
    sys.modules["pysqlite3"] = sys.modules["pysqlite3.dbapi2"] = library
