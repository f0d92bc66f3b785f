"""The log in SQLite: the statements of the write path, and the scans that audit and replay read it with."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from msgspec.structs import astuple

from ledger.account import Account
from ledger.errors import LedgerUnusable, NotCommitted
from ledger.events import Recorded, Subject, decode
from ledger.projection import COLUMNS, from_row, to_row
from ledger.schema import open_ledger, other_projection
from ledger.sqlite import SqliteError, WritableFile

EVENT: Final = "openid, version, type, CAST(data AS BLOB), credit, key, fingerprint, recorded_at, hash"
RAW: Final = (
    "position, CAST(openid AS BLOB), version, CAST(type AS BLOB), CAST(data AS BLOB), credit,"
    " CAST(key AS BLOB), fingerprint, recorded_at, hash"
)
# JSON goes in and out as bytes: damaged text need not be UTF-8.
_JSON: Final = ("lots", "holds")
ACCOUNT: Final = ", ".join(f"CAST({name} AS BLOB)" if name in _JSON else name for name in COLUMNS)
PLACES: Final = ["CAST(? AS TEXT)" if name in _JSON else "?" for name in COLUMNS]
_SET: Final = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS)
_PUT_ACCOUNT: Final = (
    f"INSERT INTO account ({', '.join(COLUMNS)}, openid) VALUES ({', '.join(PLACES)}, ?)"
    f" ON CONFLICT (openid) DO UPDATE SET {_SET}"
)
_PUT_EVENT: Final = (
    "INSERT INTO event (openid, version, type, data, credit, key, fingerprint, recorded_at, hash)"
    " VALUES (?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?)"
)
FIND_ACCOUNT: Final = f"SELECT {ACCOUNT} FROM account WHERE openid = ?"
_FIND_KEY: Final = f"SELECT {EVENT} FROM event WHERE openid = ? AND key = ?"
_SCAN_ROWS: Final = 1000
# Below every position, also those that only damage or an intruder leaves.
BEFORE_ALL: Final = -(2**63)
AFTER_ALL: Final = 2**63 - 1
_RANGE_SAMPLES: Final = 1000


class Range(NamedTuple):
    """The accounts whose openid's bytes are `low` or behind it, and before `high` where that is not None."""

    low: bytes
    high: bytes | None


EVERYBODY: Final = Range(b"", None)


def within_range(within: Range) -> tuple[str, dict[str, bytes]]:
    """A condition on `openid`, to follow others, and the values that it names."""
    # Without a bound is not below an upper bound: a damaged openid can be a blob, which is above all text.
    where, bounds = "", {}
    if within.low:
        where, bounds = " AND openid >= CAST(:low AS TEXT)", {"low": within.low}
    if within.high is not None:
        where += " AND openid < CAST(:high AS TEXT)"
        bounds["high"] = within.high
    return where, bounds


# The columns of a stored row as `RawEvent` names them.
EventRow = tuple[int, bytes, int, bytes, bytes, int, bytes | None, bytes | None, int, bytes]


class RawEvent(NamedTuple):
    """A stored row as it is, before anybody trusts it: text as bytes, and whatever else was found there."""

    position: int
    openid: bytes
    version: int
    type: bytes
    data: bytes
    credit: int
    key: bytes | None
    fingerprint: bytes | None
    recorded_at_us: int
    hash: bytes


class Log(WritableFile):
    """The ledger file, opened for writing by one thread. Everything happens between begin and commit.

    What a transaction appends waits in memory and is written in one go, an account's row once however often it
    changed. Whatever is read meanwhile is as if it were written.
    """

    def __init__(self, path: Path, *, appid: str | None = None) -> None:
        super().__init__(open_ledger(path, appid=appid), path.name)
        self._lookups = self.connection.cursor()
        self._rows: list[Recorded] = []
        self._by_key: dict[tuple[str, str], Recorded] = {}
        self._changed: dict[str, Account] = {}

    def begin(self) -> None:
        """As for any file; also raises NotCommitted where replay swapped in rows of another release's fold."""
        super().begin()
        try:
            if (other := other_projection(self.connection)) is not None:
                raise NotCommitted(f"{self._name} cannot be written: {other}")
        except (NotCommitted, SqliteError):
            self.rollback()
            raise

    def commit(self) -> None:
        """As for any file; an error of a row that cannot be written comes before COMMIT, and is not unknown."""
        self._write()
        super().commit()

    def rollback(self) -> None:
        self._forget()
        super().rollback()

    def event_by_key(self, openid: str, key: str) -> Recorded | None:
        if (waiting := self._by_key.get((openid, key))) is not None:
            return waiting
        row = self._lookups.execute(_FIND_KEY, (openid, key)).fetchone()
        return None if row is None else Recorded(*row)

    def account(self, openid: str) -> Account | None:
        if (changed := self._changed.get(openid)) is not None:
            return changed
        row = self._lookups.execute(FIND_ACCOUNT, (openid,)).fetchone()
        return None if row is None else from_row(openid, row)

    def subject(self, openid: str, version: int) -> Subject | None:
        """The event `version` of an account, and how much of it later events reversed or revoked."""
        self._write()
        row = self.connection.execute(
            "SELECT type, CAST(data AS BLOB) FROM event WHERE openid = ? AND version = ?", (openid, version)
        ).fetchone()
        if row is None:
            return None
        (corrected,) = self.connection.execute(
            "SELECT coalesce(sum(data ->> 'amount'), 0) FROM event"
            " WHERE type IN ('SpendReversed', 'GrantRevoked') AND openid = ?"
            " AND coalesce(data ->> 'spend', data ->> 'grant') = ?",
            (openid, version),
        ).fetchone()
        return Subject(decode(*row), corrected)

    def event(self, openid: bytes, version: int) -> RawEvent | None:
        """One event as it is stored."""
        self._write()
        row = self.connection.execute(
            f"SELECT {RAW} FROM event WHERE openid = CAST(? AS TEXT) AND version = ?", (openid, version)
        ).fetchone()
        return None if row is None else RawEvent(*row)

    def append(self, rows: list[Recorded], account: Account) -> None:
        """Take the next events of one account, and the account after them."""
        self._rows += rows
        for row in rows:
            if row.key is not None:
                self._by_key[row.openid, row.key] = row
        self._changed[account.openid] = account

    def _write(self) -> None:
        if self._changed:
            self.connection.executemany(_PUT_EVENT, map(astuple, self._rows))
            rows = [(*to_row(account), openid) for openid, account in self._changed.items()]
            self.connection.executemany(_PUT_ACCOUNT, rows)
            self._forget()

    def _forget(self) -> None:
        self._rows.clear()
        self._by_key.clear()
        self._changed.clear()


class LogScan:
    """The ledger file, opened for reading whole by one thread.

    It reads the table itself in the order of its rows, never an index in its place: an index can be right
    where the table was changed.
    """

    def __init__(self, path: Path, *, any_projection: bool = False) -> None:
        self._connection = open_ledger(path, read_only=True, any_projection=any_projection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def last_position(self) -> int:
        (position,) = self._connection.execute("SELECT coalesce(max(position), 0) FROM event").fetchone()
        return int(position)

    def ranges(self, count: int) -> list[Range]:
        """All accounts in up to `count` ranges, with about as many events in each.

        Where they are cut is a matter of a sample, and of how fast a reading goes; every openid, also a
        damaged one, lies in exactly one of them.
        """
        step = max(1, self.last_position() // _RANGE_SAMPLES)
        sample = self._connection.execute(
            "WITH RECURSIVE place(position) AS"
            " (SELECT 1 UNION ALL SELECT position + :step FROM place LIMIT :most)"
            " SELECT CAST(openid AS BLOB) FROM event WHERE position IN (SELECT position FROM place)",
            {"step": step, "most": _RANGE_SAMPLES},
        ).fetchall()
        openids = sorted(openid for (openid,) in sample)
        cuts = {openids[len(openids) * number // count] for number in range(1, count)} if openids else set()
        lows = [b"", *sorted(cuts - {b""})]
        return [Range(low, high) for low, high in zip(lows, [*lows[1:], None], strict=True)]

    def chunk(self, after: int, within: Range = EVERYBODY, until: int = AFTER_ALL) -> list[RawEvent]:
        """Up to 1,000 rows of `within` behind position `after` and up to `until`, in order.

        No read transaction outlives the call.
        """
        return [RawEvent._make(row) for row in self.event_rows(after, within, until)]

    def event_rows(self, after: int, within: Range, until: int = AFTER_ALL) -> list[EventRow]:
        """As `chunk`, without names: naming them takes longer than reading them."""
        where, bounds = within_range(within)
        rows: list[EventRow] = self._connection.execute(
            f"SELECT {RAW} FROM event NOT INDEXED"
            f" WHERE position > :after AND position <= :until{where} ORDER BY position LIMIT :rows",
            {"after": after, "until": until, "rows": _SCAN_ROWS, **bounds},
        ).fetchall()
        return rows

    def begin_snapshot(self) -> None:
        """From here on every read sees the same state. Keep it short: the write-ahead log cannot be reset."""
        self._connection.execute("BEGIN")
        self._connection.execute("SELECT 1 FROM ledger").fetchone()

    def end_snapshot(self) -> None:
        self._connection.execute("COMMIT")

    def changed(
        self, key_of: Callable[[bytes], bytes], after: int, until: int = AFTER_ALL
    ) -> Iterator[tuple[Any, ...]]:
        """The accounts with events behind position `after` and up to `until`, in order of the key that `key_of`
        gives an openid: key, openid; version, hash and credit of the last event; what the account row holds;
        the version of the first of these events, and the hash of the event before that; what these events hold
        more; whether the row is what the last event says.

        A position is an order of commits: one writer at a time numbers its events, so none comes late.
        """
        self._connection.create_function("key_of", 1, key_of, deterministic=True)
        # What is new lies at the end of the table. An index would be read whole for it, which only the first
        # seal is better off with.
        event = "event NOT INDEXED" if after else "event"
        returned = "(SELECT coalesce(sum(value ->> 'amount'), 0) FROM json_each(data, '$.returned'))"
        return iter(
            self._connection.execute(
                "SELECT key_of(CAST(who AS BLOB)) AS its_key, CAST(who AS BLOB), last, l.hash, l.credit,"
                " coalesce(a.held, 0), first, coalesce(p.hash, zeroblob(32)), coalesce(more, 0),"
                " (a.version, a.head, a.credit) IS (last, l.hash, l.credit)"
                f" FROM (SELECT openid AS who, min(version) AS first, max(version) AS last FROM {event}"
                " WHERE position > :after AND position <= :until GROUP BY openid)"
                " JOIN event l ON l.openid = who AND l.version = last"
                " LEFT JOIN event p ON p.openid = who AND p.version = first - 1"
                " LEFT JOIN account a ON a.openid = who"
                " LEFT JOIN (SELECT openid AS whose, sum(CASE type WHEN 'CreditHeld' THEN data ->> 'amount'"
                f" ELSE -(data ->> 'amount') - iif(type = 'HoldCaptured', {returned}"
                " + coalesce(data ->> 'expired', 0), 0) END) AS more"
                f" FROM {event} WHERE position > :after AND position <= :until"
                " AND type IN ('CreditHeld', 'HoldCaptured', 'HoldReleased') GROUP BY openid) ON whose = who"
                " ORDER BY its_key",
                {"after": after, "until": until},
            )
        )

    def hash_of(self, openid: bytes, version: int) -> bytes | None:
        """The hash of one event; None where it is not there."""
        row = self._connection.execute(
            "SELECT hash FROM event WHERE openid = CAST(? AS TEXT) AND version = ?", (openid, version)
        ).fetchone()
        return None if row is None else row[0]

    def hash_at(self, position: int) -> bytes | None:
        """The hash of the event at a position; None where there is none."""
        row = self._connection.execute("SELECT hash FROM event WHERE position = ?", (position,)).fetchone()
        return None if row is None else row[0]

    def appid(self) -> str:
        """The mini-program whose ledger it is."""
        row = self._connection.execute("SELECT appid FROM ledger").fetchone()
        if row is None:
            raise LedgerUnusable("the ledger does not say which appid it is of: it is damaged")
        return str(row[0])

    def heads(self) -> Iterator[tuple[bytes, int, bytes]]:
        """Every account in the log with the version and the hash of its last event."""
        return iter(
            self._connection.execute(
                "SELECT CAST(openid AS BLOB), max(version), hash FROM event GROUP BY openid"
            )
        )
