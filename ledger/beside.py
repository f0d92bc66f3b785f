"""The account rows that replay has beside the live ones, and how the two change places.

While it builds, they are the table `account_next`; after the swap the rows that were live are `account_former`.
The row of the table `replay` says which of the two is there. Nobody else reads or writes these tables.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from ledger.account import GENESIS, Account
from ledger.chain import event_hash
from ledger.errors import LedgerUnusable
from ledger.fold import Fact
from ledger.log import ACCOUNT, AFTER_ALL, PLACES, LogScan, Range, within_range
from ledger.projection import COLUMNS, PROJECTION, Row, from_row
from ledger.schema import BESIDE, account_table, open_ledger
from ledger.sqlite import Connection, Turnstile, WritableFile, turnstile_path

NEXT, FORMER = BESIDE
# The rows of a transaction: others who want to write wait for one of them, some milliseconds.
AT_ONCE: Final = 500
_DUE_INDEXES: Final = ("account_due", "account_due_other")
_FACT_ROWS: Final = 1000


class Standing(msgspec.Struct, frozen=True):
    """How far replay got: `state` is building (ranges are missing), built (all are there), former (swapped),
    or going (what is there is being removed).

    The rows beside are of the fold `projection` and have in them all events up to `position`; `seal` is the
    number of the one that covers exactly these in a build, None where there was none.
    """

    state: str
    projection: int
    position: int
    seal: int | None


class FoldScan(LogScan):
    """The ledger file, opened by replay for reading whole, whichever fold its account rows are of."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, any_projection=True)

    def projection(self) -> int:
        """The fold that the live account rows are of."""
        row = self._connection.execute("SELECT projection FROM ledger").fetchone()
        if row is None or type(row[0]) is not int:
            raise LedgerUnusable("the ledger does not say which fold its account rows are of: it is damaged")
        return row[0]

    def registrations(self) -> int:
        """About how many accounts there are: good for nothing but to divide the work."""
        (count,) = self._connection.execute("SELECT count(*) FROM event WHERE version = 1").fetchone()
        return int(count)

    def facts(self, after: int, within: Range, until: int = AFTER_ALL) -> list[Fact]:
        """As `chunk`, with the columns that a fold needs."""
        where, bounds = within_range(within)
        facts = self._connection.execute(
            "SELECT position, CAST(openid AS BLOB), version, CAST(type AS BLOB), CAST(data AS BLOB),"
            " credit, recorded_at, hash FROM event NOT INDEXED"
            f" WHERE position > :after AND position <= :until{where} ORDER BY position LIMIT {_FACT_ROWS}",
            {"after": after, "until": until, **bounds},
        ).fetchall()
        if facts and facts[-1][0] <= after:
            # In a damaged file, reading on from the last position can lead in a circle.
            raise LedgerUnusable("the events are not in the order of their positions: see credit-ledger audit")
        return list(facts)

    def head_is_wrong(self, openid: bytes) -> bool:
        """Whether the last event has another hash than its columns and the hash before it make."""
        rows = self._connection.execute(
            "SELECT hash, version, CAST(type AS BLOB), CAST(data AS BLOB), credit, CAST(key AS BLOB),"
            " fingerprint, recorded_at FROM event WHERE openid = CAST(? AS TEXT) ORDER BY version DESC LIMIT 2",
            (openid,),
        ).fetchall()
        if not rows:
            return False
        digest, *columns = rows[0]
        before = rows[1][0] if len(rows) == 2 else GENESIS
        try:
            return bool(digest != event_hash(before, openid, *columns))
        # Where pages were damaged, a column can be anything.
        except (TypeError, AttributeError, OverflowError, struct.error):
            return True

    def first_position(self) -> int:
        (position,) = self._connection.execute("SELECT coalesce(min(position), 1) FROM event").fetchone()
        return int(position)

    def gap(self, until: int) -> tuple[int, int] | None:
        """The first positions up to `until` at which no event is, the first and the last of them."""
        row = self._connection.execute(
            "SELECT before + 1, position - 1 FROM (SELECT position, lag(position, 1, 0)"
            " OVER (ORDER BY position) AS before FROM event NOT INDEXED WHERE position <= ?)"
            " WHERE position <> before + 1 LIMIT 1",
            (until,),
        ).fetchone()
        return None if row is None else (row[0], row[1])

    def account_rows(self, table: str, within: Range) -> Iterator[tuple[bytes, Row]]:
        """The account rows of a range as they are stored, with the openid's stored bytes before each."""
        where, bounds = within_range(within)
        for openid, *row in self._connection.execute(
            f"SELECT CAST(openid AS BLOB), {ACCOUNT} FROM {table} WHERE true{where}", bounds
        ):
            yield openid, tuple(row)

    def row(self, table: str, openid: bytes) -> Row | None:
        return _row(self._connection, table, openid)

    def account(self, table: str, openid: bytes) -> Account | None:
        return _account(self._connection, table, openid)

    def count_accounts(self) -> int:
        (count,) = self._connection.execute("SELECT count(*) FROM account").fetchone()
        return int(count)

    def is_sound(self, table: str) -> bool:
        """Whether every row keeps the table's own rules; one that does not was never written by a release."""
        return self._connection.execute(f"PRAGMA quick_check({table})").fetchall() == [("ok",)]

    def differing(self, table: str, columns: Sequence[str]) -> Iterator[bytes]:
        """The openids whose row there has other values in `columns` than the live one."""
        for (openid,) in self._connection.execute(
            f"SELECT CAST(openid AS BLOB) FROM account LEFT JOIN {table} AS other USING (openid)"
            f" WHERE ({_of('account', columns)}) IS NOT ({_of('other', columns)})"
            f" UNION ALL SELECT CAST(openid AS BLOB) FROM {table} AS other"
            " WHERE NOT EXISTS (SELECT 1 FROM account WHERE openid = other.openid)"
        ):
            yield openid


class Beside(WritableFile):
    """The ledger file, opened for the rows beside the live ones; `run` names the replay that writes them."""

    def __init__(self, path: Path, run: str) -> None:
        super().__init__(open_ledger(path, any_projection=True), path.name)
        self._turnstile = Turnstile(turnstile_path(path))
        self._run = run

    def close(self) -> None:
        with self._turnstile:  # closing the last connection checkpoints
            super().close()
        self._turnstile.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction at the turnstile. Refused once another replay has taken over: this process is a
        child of one that was killed."""
        with self._turnstile:
            self.begin()
            try:
                row = self.connection.execute("SELECT run FROM replay").fetchone()
                if row is not None and row[0] != self._run:
                    raise LedgerUnusable("another replay has taken over from this one")
                yield
                self.commit()
            finally:
                self.rollback()  # where it was not committed

    def standing(self) -> Standing | None:
        """None where nothing is beside the live rows."""
        row = self.connection.execute("SELECT state, projection, position, seal FROM replay").fetchone()
        return None if row is None else Standing(*row)

    def take_over(self) -> None:
        """From here on nobody but this run writes what is beside."""
        with self._turnstile:
            self.begin()
            self.connection.execute("UPDATE replay SET run = ?", (self._run,))
            self.commit()

    def account(self, table: str, openid: bytes) -> Account | None:
        return _account(self.connection, table, openid)

    def begin_build(self, position: int, seal: int | None, ranges: list[Range]) -> None:
        """An empty `account_next`, to be filled up to `position`; needs that nothing is beside."""
        with self.transaction():
            taken = self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall()
            index = next(name for name in _DUE_INDEXES if (name,) not in taken)
            for statement in account_table(NEXT, index).split(";\n"):
                self.connection.execute(statement)
            self.connection.execute(
                "INSERT INTO replay (only, state, projection, position, seal, run)"
                " VALUES (1, 'building', ?, ?, ?, ?)",
                (PROJECTION, position, seal, self._run),
            )
            self.connection.executemany("INSERT INTO replay_range (low, high) VALUES (?, ?)", ranges)

    def missing(self) -> list[Range]:
        """The ranges that are still to be folded."""
        rows = self.connection.execute("SELECT low, high FROM replay_range WHERE events IS NULL ORDER BY low")
        return [Range(low, high) for low, high in rows.fetchall()]

    def events(self) -> int:
        """How many were folded in the ranges that are done."""
        (events,) = self.connection.execute("SELECT coalesce(sum(events), 0) FROM replay_range").fetchone()
        return int(events)

    def put_rows(self, table: str, rows: Iterable[tuple[bytes, Row]]) -> None:
        self.connection.executemany(
            f"INSERT OR REPLACE INTO {table} ({', '.join(COLUMNS)}, openid)"
            f" VALUES ({', '.join(PLACES)}, CAST(? AS TEXT))",
            [(*row, openid) for openid, row in rows],
        )

    def finish_range(self, within: Range, events: int) -> None:
        self.connection.execute("UPDATE replay_range SET events = ? WHERE low = ?", (events, within.low))

    def finish_build(self) -> None:
        with self.transaction():
            self.connection.execute("UPDATE replay SET state = 'built'")

    def move_on(self, position: int) -> None:
        self.connection.execute("UPDATE replay SET position = ?", (position,))

    def swap(self) -> None:
        """Let what is beside and what is live change places. Within a transaction, with both up to date."""
        (live,) = self.connection.execute("SELECT projection FROM ledger").fetchone()
        self.connection.execute("UPDATE ledger SET projection = (SELECT projection FROM replay)")
        self.connection.execute("DELETE FROM replay_range")
        standing = self.standing()
        if standing is not None and standing.state == "former":
            self.connection.execute(f"ALTER TABLE {FORMER} RENAME TO {NEXT}")
        self.connection.execute(f"ALTER TABLE account RENAME TO {FORMER}")
        self.connection.execute(f"ALTER TABLE {NEXT} RENAME TO account")
        self.connection.execute("UPDATE replay SET state = 'former', seal = NULL, projection = ?", (live,))

    def remove(self) -> None:
        """Remove whatever is beside, a few rows at a time. Once begun it cannot be used any more."""
        with self.transaction():
            self.connection.execute("UPDATE replay SET state = 'going'")
        names = self.connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN (?, ?)", (NEXT, FORMER)
        ).fetchall()
        for (table,) in names:
            left = True
            while left:
                with self.transaction():
                    left = self._remove_some(table)
        with self.transaction():
            for (table,) in names:
                self.connection.execute(f"DROP TABLE {table}")
            self.connection.execute("DELETE FROM replay_range")
            self.connection.execute("DELETE FROM replay")

    def _remove_some(self, table: str) -> bool:
        gone = self.connection.execute(
            f"DELETE FROM {table} WHERE openid IN (SELECT openid FROM {table} LIMIT ?)", (10 * AT_ONCE,)
        )
        return bool(gone.rowcount)


def _of(table: str, columns: Sequence[str]) -> str:
    return ", ".join(f"{table}.{name}" for name in columns)


def _row(connection: Connection, table: str, openid: bytes) -> Row | None:
    row = connection.execute(
        f"SELECT {ACCOUNT} FROM {table} WHERE openid = CAST(? AS TEXT)", (openid,)
    ).fetchone()
    return None if row is None else tuple(row)


def _account(connection: Connection, table: str, openid: bytes) -> Account | None:
    row = _row(connection, table, openid)
    return None if row is None else from_row(openid.decode(), row)
