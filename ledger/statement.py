"""What a person is shown: current credit, and the statement of an account, newest event first.

Whatever has lapsed by the time of a read is in its answer, whether or not it has been recorded by then.
"""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from ledger.account import Account, apply
from ledger.chain import advance
from ledger.events import Event, Recorded, decode
from ledger.lapse import settle
from ledger.log import EVENT, FIND_ACCOUNT
from ledger.projection import from_row
from ledger.schema import IDENTITY, open_ledger
from ledger.sqlite import check_identity

MAX_PAGE: Final = 100
# A page that is filtered looks at this many events and no more, however few of them it wants.
MAX_LOOK: Final = 1000
BEFORE_ALL_DUE: Final = (-1, "")
_FOLD_ROWS: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Standing(msgspec.Struct, frozen=True):
    """What the account can spend after its event `version`."""

    version: int
    credit: int


class Page(msgspec.Struct, frozen=True):
    """Events, newest first; `next_before` asks for those before them and is None where there are none."""

    events: list[Recorded]
    next_before: int | None


class Reader:
    """Point reads of the ledger by one thread: each a look-up or two, none leaves a cursor open."""

    def __init__(self, path: Path, *, appid: str | None = None) -> None:
        self._path = path
        self._connection = open_ledger(path, appid=appid, read_only=True)
        self._lookups = self._connection.cursor()

    def close(self) -> None:
        self._connection.close()

    def check_schema(self) -> None:
        """Raise LedgerUnusable where the file is no longer of the schema that this code knows."""
        check_identity(self._connection, self._path, IDENTITY)

    def standing(self, openid: str, now_us: int) -> Standing | None:
        """Version and credit of an account; None where nobody registered."""
        row = self._lookups.execute(
            "SELECT version, credit, due_at FROM account WHERE openid = ?", (openid,)
        ).fetchone()
        if row is None:
            return None
        version, credit, due_at_us = row
        if due_at_us is not None and due_at_us <= now_us:
            account = self.account(openid, now_us)
            return None if account is None else Standing(account.version, account.balance.credit)
        return Standing(version, credit)

    def account(self, openid: str, now_us: int) -> Account | None:
        """The account as it is at `now_us`, not before its last event; None where nobody registered."""
        found = self._settled(openid, now_us)
        return None if found is None else found[1]

    def account_as_of(self, openid: str, at_us: int) -> Account | None:
        """The account as a read at `at_us` found it; None where nobody was registered then.

        Folds the events up to then, some 100,000 a second: run it in a thread or process of its own.
        """
        account = Account(openid)
        for row in self._events(openid, at_us):
            balance = apply(account.balance, row.version, decode(row.type, row.data))
            account = advance(account, row.version, row.hash, row.recorded_at_us, balance)
        return settle(account, at_us)[1] if account.version else None

    def page(
        self,
        openid: str,
        now_us: int,
        *,
        before: int | None = None,
        limit: int = 20,
        types: frozenset[str] = frozenset(),
        since_us: int | None = None,
        until_us: int | None = None,
    ) -> Page:
        """Up to `limit` (1 to MAX_PAGE) events with a version below `before`, newest first.

        With `types` only those; `since_us` and `until_us` bound the time they were recorded, the first
        included. One range of one index, so a page costs the same wherever in the account it lies. A page
        looks at MAX_LOOK events at most: with `types` it can hold few, or none, and another still follow.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"limit must be 1 to {MAX_PAGE}")
        found = self._settled(openid, now_us)
        if found is None:
            return Page([], None)
        pending, account = found

        def recorded_at_us(version: int) -> int:
            newer = version - account.version + len(pending)
            return pending[newer - 1].recorded_at_us if newer > 0 else self._recorded_at_us(openid, version)

        # Time never runs backwards within an account, so a moment is found by halving.
        versions = range(1, account.version + 1)
        top = account.version + 1 if before is None else min(before, account.version + 1)
        if until_us is not None:
            top = min(top, bisect_left(versions, until_us, key=recorded_at_us) + 1)
        least = 1 if since_us is None else bisect_left(versions, since_us, key=recorded_at_us) + 1

        events: list[Recorded] = []
        version = top
        for row in self._newest_first(openid, pending, least, top, MAX_LOOK if types else limit):
            version = row.version
            if not types or row.type in types:
                events.append(row)
            if len(events) == limit:
                break
        return Page(events, version if least < version < top else None)

    def event(self, openid: str, version: int) -> Event | None:
        """One recorded event of an account, None where there is none."""
        row = self._connection.execute(
            "SELECT type, CAST(data AS BLOB) FROM event WHERE openid = ? AND version = ?", (openid, version)
        ).fetchone()
        return None if row is None else decode(*row)

    def is_recorded_by(self, openid: str, version: int, position: int) -> bool:
        """Whether that event stands in the log up to a position, where a seal ends."""
        row = self._connection.execute(
            "SELECT position <= ? FROM event WHERE openid = ? AND version = ?", (position, openid, version)
        ).fetchone()
        return row is not None and bool(row[0])

    def corrected(self, openid: str, version: int, before: int) -> int:
        """How much of event `version` the events of its account before `before` reversed or revoked."""
        (amount,) = self._connection.execute(
            "SELECT coalesce(sum(data ->> 'amount'), 0) FROM event"
            " WHERE type IN ('SpendReversed', 'GrantRevoked') AND openid = ?"
            " AND coalesce(data ->> 'spend', data ->> 'grant') = ? AND version < ?",
            (openid, version, before),
        ).fetchone()
        return int(amount)

    def chain(self, openid: str, after: int, until: int, limit: int) -> list[Recorded]:
        """Up to `limit` recorded events behind version `after` and up to version `until`, oldest first."""
        rows = self._connection.execute(
            f"SELECT {EVENT} FROM event WHERE openid = ? AND version > ? AND version <= ?"
            " ORDER BY version LIMIT ?",
            (openid, after, until, limit),
        ).fetchall()
        return [Recorded(*row) for row in rows]

    def due(self, now_us: int, after: tuple[int, str], limit: int) -> list[tuple[int, str]]:
        """Up to `limit` accounts with something lapsed that is not recorded, the longest due first.

        Each as (when it was due, openid); the last one is `after` for the next call, BEFORE_ALL_DUE the first.
        """
        return list(
            self._connection.execute(
                "SELECT due_at, openid FROM account WHERE due_at <= ? AND (due_at, openid) > (?, ?)"
                " ORDER BY due_at, openid LIMIT ?",
                (now_us, *after, limit),
            ).fetchall()
        )

    def _settled(self, openid: str, now_us: int) -> tuple[list[Recorded], Account] | None:
        """What has lapsed and is not recorded yet, and the account with that done."""
        row = self._lookups.execute(FIND_ACCOUNT, (openid,)).fetchone()
        return None if row is None else settle(from_row(openid, row), now_us)

    def _recorded_at_us(self, openid: str, version: int) -> int:
        (recorded_at_us,) = self._connection.execute(
            "SELECT recorded_at FROM event WHERE openid = ? AND version = ?", (openid, version)
        ).fetchone()
        return int(recorded_at_us)

    def _newest_first(
        self, openid: str, pending: list[Recorded], least: int, top: int, limit: int
    ) -> list[Recorded]:
        """Up to `limit` events with a version from `least` to below `top`."""
        newest = [row for row in reversed(pending) if least <= row.version < top][:limit]
        rows = self._connection.execute(
            f"SELECT {EVENT} FROM event WHERE openid = ? AND version >= ? AND version < ?"
            " ORDER BY version DESC LIMIT ?",
            (openid, least, pending[0].version if pending and newest else top, limit - len(newest)),
        ).fetchall()
        return newest + [Recorded(*row) for row in rows]

    def _events(self, openid: str, at_us: int) -> Iterator[Recorded]:
        """The events of an account that were recorded by `at_us`, in order."""
        version = 0
        while True:
            rows = self._connection.execute(
                f"SELECT {EVENT} FROM event WHERE openid = ? AND version > ? ORDER BY version LIMIT ?",
                (openid, version, _FOLD_ROWS),
            ).fetchall()
            for row in rows:
                event = Recorded(*row)
                if event.recorded_at_us > at_us:
                    return
                version = event.version
                yield event
            if len(rows) < _FOLD_ROWS:
                return


def rfc3339(moment_us: int) -> str:
    """Microseconds since 1970 as `2026-11-22T18:00:00.123456Z`."""
    moment = _EPOCH + timedelta(microseconds=moment_us)
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"
