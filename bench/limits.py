"""What the machine allows: syncs of the disk, bare inserts of the same rows, bare readings of the files."""

import os
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

from ledger.events import Recorded
from ledger.projection import COLUMNS, Row
from ledger.sqlite import WritableFile, connect

# The tables of the ledger with their keys and unique indexes, without its checks and triggers.
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS event (position INTEGER PRIMARY KEY, openid TEXT NOT NULL,"
    " version INTEGER NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL, credit INTEGER NOT NULL, key TEXT,"
    " fingerprint BLOB, recorded_at INTEGER NOT NULL, hash BLOB NOT NULL, UNIQUE (openid, version)) STRICT",
    "CREATE UNIQUE INDEX IF NOT EXISTS event_key ON event (openid, key) WHERE key IS NOT NULL",
    f"CREATE TABLE IF NOT EXISTS account ({', '.join(COLUMNS)}, openid TEXT PRIMARY KEY) WITHOUT ROWID",
)
_INSERT: Final = (
    "INSERT INTO event (openid, version, type, data, credit, key, fingerprint, recorded_at, hash)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PLACES: Final = ", ".join("?" * (len(COLUMNS) + 1))
_REPLACE: Final = f"INSERT OR REPLACE INTO account ({', '.join(COLUMNS)}, openid) VALUES ({_PLACES})"
# The look-ups of one row by its key that a read of credit, and any request with an API key, cannot do without.
FIND_SESSION: Final = "SELECT openid FROM session WHERE token_hash = ?"
FIND_CREDIT: Final = "SELECT credit FROM account WHERE openid = ?"
FIND_KEY: Final = "SELECT scopes FROM api_key WHERE key_hash = ?"
# The columns that a replay reads.
_SCAN: Final = "SELECT position, openid, version, type, data, credit, recorded_at, hash FROM event NOT INDEXED"
_AT_ONCE: Final = 10_000

# The columns of an event or an account, and both rows of a grant.
Values = tuple[object, ...]
Rows = tuple[Values, Values]


class BareTables(WritableFile):
    """The rows of the ledger and no more: what a durable batch of them costs at the least.

    In a new file without the ledger's checks and triggers, in a ledger with them.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        super().__init__(connect(path), path.name)
        self._rows: list[Rows] = []
        for statement in _TABLES:
            self.connection.execute(statement)

    def add(self, rows: Rows) -> None:
        """Have them written by the next commit."""
        self._rows.append(rows)

    def commit(self) -> None:
        events, accounts = zip(*self._rows, strict=True)
        self._rows.clear()
        self.connection.executemany(_INSERT, events)
        self.connection.executemany(_REPLACE, accounts)
        super().commit()


def event_values(row: Recorded, openid: str, version: int, key: str) -> Values:
    """The columns of `row`, as another event of another account."""
    return (
        openid, version, row.type, row.data.decode(), row.credit, key, row.fingerprint, row.recorded_at_us,
        os.urandom(32),
    )  # fmt: skip


def account_values(row: Row, openid: str, version: int) -> Values:
    return (version, os.urandom(32), *row[2:], openid)


def syncs_per_second(directory: Path, seconds: float) -> float:
    """How often 4 KiB more can be written and fdatasync called."""
    count, begun = 0, time.perf_counter()
    path = directory / "syncs"
    with path.open("wb", buffering=0) as file:
        while (elapsed := time.perf_counter() - begun) < seconds:
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            count += 1
    path.unlink()
    return count / elapsed


def scan(path: Path) -> int:
    """Read every event in the order of the table, in pieces as a replay does, and do nothing with it."""
    events = 0
    with closing(connect(path, read_only=True)) as connection:
        cursor = connection.execute(_SCAN)
        while rows := cursor.fetchmany(_AT_ONCE):
            events += len(rows)
    return events


def rewrite_parts(seals: Path, parts: Iterable[int]) -> int:
    """Read these parts of the tree in seals.db and write each back as it is, in one transaction; how many."""
    count = 0
    with closing(connect(seals)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for part in parts:
            (leaves,) = connection.execute("SELECT leaves FROM part WHERE part = ?", (part,)).fetchone()
            connection.execute("INSERT OR REPLACE INTO part (part, leaves) VALUES (?, ?)", (part, leaves))
            count += 1
        connection.execute("COMMIT")
    return count
