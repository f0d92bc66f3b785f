"""What only an audit asks of the ledger file: rows that nobody may have, and whether its indexes are true."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from ledger.log import ACCOUNT, EVERYBODY, RAW, LogScan, Range, RawEvent, within_range
from ledger.projection import Row
from ledger.schema import schema_problems
from ledger.sums import account_key

# Only so many of what can be as many as there are events.
_SHOWN: Final = 1000


class Extent(NamedTuple):
    """How much there is: rows with a position from 1 to `last`, the accounts that begin among them."""

    events: int
    accounts: int
    last: int


class Gap(NamedTuple):
    """No row from position `first` to before `next`, where event `version` of `openid` is."""

    first: int
    next: int
    openid: bytes
    version: int


class AuditScan(LogScan):
    """The ledger file, opened to be doubted."""

    def extent(self) -> Extent:
        """Counted in the table itself."""
        counted = self._connection.execute(
            "SELECT count(*), coalesce(sum(version = 1), 0), coalesce(max(position), 0) FROM event NOT INDEXED"
            " WHERE position >= 1"
        ).fetchone()
        return Extent(*counted)

    def strays(self) -> list[RawEvent]:
        """Rows with positions that the ledger never gives."""
        rows = self._connection.execute(
            f"SELECT {RAW} FROM event NOT INDEXED WHERE position < 1 ORDER BY position LIMIT ?", (_SHOWN,)
        ).fetchall()
        return [RawEvent._make(row) for row in rows]

    def gaps(self) -> list[Gap]:
        rows = self._connection.execute(
            "SELECT before + 1, position, CAST(openid AS BLOB), version FROM (SELECT position, openid, version,"
            " lag(position, 1, 0) OVER (ORDER BY position) AS before FROM event NOT INDEXED"
            " WHERE position >= 1)"
            " WHERE position <> before + 1 LIMIT ?",
            (_SHOWN,),
        ).fetchall()
        return [Gap(*row) for row in rows]

    def event(self, openid: bytes, version: int) -> RawEvent | None:
        """One event. An index says where it is, and every column is read from the table there: whoever asks
        compares openid and version."""
        row = self._connection.execute(
            f"SELECT {RAW} FROM event NOT INDEXED WHERE position ="
            " (SELECT position FROM event WHERE openid = CAST(? AS TEXT) AND version = ?)",
            (openid, version),
        ).fetchone()
        return None if row is None else RawEvent._make(row)

    def events_of(self, openid: bytes) -> Iterator[RawEvent]:
        """All events of one account, oldest first, found by the index."""
        for row in self._connection.execute(
            f"SELECT {RAW} FROM event WHERE openid = CAST(? AS TEXT) ORDER BY version", (openid,)
        ):
            yield RawEvent._make(row)

    def account_rows(self, within: Range = EVERYBODY) -> Iterator[tuple[bytes, Row]]:
        """The projected rows of a range, as `accounts` has them."""
        where, bounds = within_range(within)
        for openid, *row in self._connection.execute(
            f"SELECT CAST(openid AS BLOB), {ACCOUNT} FROM account NOT INDEXED WHERE true{where}", bounds
        ):
            yield openid, tuple(row)

    def account_row(self, openid: bytes) -> Row | None:
        row = self._connection.execute(
            f"SELECT {ACCOUNT} FROM account WHERE openid = CAST(? AS TEXT)", (openid,)
        ).fetchone()
        return None if row is None else tuple(row)

    def version_index(self, within: Range) -> Iterator[tuple[bytes, int, int]]:
        """The entries of the index of versions in that range: openid, version, position."""
        where, bounds = within_range(within)
        return iter(
            self._connection.execute(
                "SELECT CAST(openid AS BLOB), version, position FROM event INDEXED BY sqlite_autoindex_event_1"
                f" WHERE true{where}",
                bounds,
            )
        )

    def key_index(self, within: Range) -> Iterator[tuple[bytes, bytes, int]]:
        """The entries of the index of idempotency keys in that range: openid, key, position."""
        where, bounds = within_range(within)
        return iter(
            self._connection.execute(
                "SELECT CAST(openid AS BLOB), CAST(key AS BLOB), position FROM event INDEXED BY event_key"
                f" WHERE key IS NOT NULL{where}",
                bounds,
            )
        )

    def correction_index(self, within: Range) -> Iterator[tuple[bytes, int, int]]:
        """The entries of the index of corrections in that range: openid, the event corrected, position."""
        where, bounds = within_range(within)
        return iter(
            self._connection.execute(
                "SELECT CAST(openid AS BLOB), coalesce(data ->> 'spend', data ->> 'grant'), position"
                " FROM event INDEXED BY event_correction"
                f" WHERE type IN ('SpendReversed', 'GrantRevoked'){where}",
                bounds,
            )
        )

    def indexes(self) -> set[str]:
        """The names of the indexes that the table of events has."""
        return {
            name
            for (name,) in self._connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'event'"
            )
        }

    def openids(self) -> Iterator[bytes]:
        """Every openid that has an account row or a first event."""
        for (openid,) in self._connection.execute(
            "SELECT CAST(openid AS BLOB) FROM account"
            " UNION SELECT CAST(openid AS BLOB) FROM event NOT INDEXED WHERE version = 1"
        ):
            yield openid

    def behind(self, position: int) -> Iterator[RawEvent]:
        """All events behind that position, in its order."""
        for row in self._connection.execute(
            f"SELECT {RAW} FROM event NOT INDEXED WHERE position > ? ORDER BY position", (position,)
        ):
            yield RawEvent._make(row)

    def schema_problems(self) -> list[str]:
        """In which tables, triggers and indexes the file differs from what this release makes."""
        return schema_problems(self._connection)

    def ledger_rows(self) -> list[object]:
        """The appids in the table that has one row and one appid."""
        return [appid for (appid,) in self._connection.execute("SELECT appid FROM ledger")]

    def structure_problems(self) -> list[str]:
        """What SQLite finds wrong with pages, rows and the small indexes; the large ones are compared as they
        are read."""
        found = self._connection.execute("PRAGMA quick_check").fetchall()
        for table in ("account", "ledger"):
            found += self._connection.execute(f"PRAGMA integrity_check({table})").fetchall()
        return sorted({text for (text,) in found if text != "ok"})


def openids_of(keys: set[bytes], scan: AuditScan) -> dict[bytes, bytes]:
    """The openids with those keys, SHA-256 of each, of all that the file has a trace of."""
    names = {}
    if keys:
        for openid in scan.openids():
            key = account_key(openid)
            if key in keys:
                names[key] = openid
    return names
