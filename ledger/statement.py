"""What a person is shown: current credit, and the statement of an account, newest event first."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from ledger.schema import IDENTITY, open_ledger
from ledger.sqlite import check_identity

MAX_PAGE: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Standing(msgspec.Struct, frozen=True):
    """What the account can spend after its event `version`."""

    version: int
    credit: int


class Entry(msgspec.Struct, frozen=True):
    """One line of a statement; `data` is the event's stored JSON, `credit` what could be spent after it."""

    version: int
    type: str
    data: msgspec.Raw
    credit: int
    recorded_at_us: int


class Reader:
    """Point reads of the ledger by one thread: each a look-up or two, none leaves a cursor open."""

    def __init__(self, path: Path, *, appid: str | None = None) -> None:
        self._path = path
        self._connection = open_ledger(path, appid=appid, read_only=True)

    def close(self) -> None:
        self._connection.close()

    def check_schema(self) -> None:
        """Raise LedgerUnusable where the file is no longer of the schema that this code knows."""
        check_identity(self._connection, self._path, IDENTITY)

    def standing(self, openid: str) -> Standing | None:
        """Version and credit of an account as of the last commit; None where nobody registered."""
        row = self._connection.execute(
            "SELECT version, credit FROM account WHERE openid = ?", (openid,)
        ).fetchone()
        return None if row is None else Standing(*row)

    def page(self, openid: str, *, before: int | None = None, limit: int = 20) -> list[Entry]:
        """Up to `limit` (1 to MAX_PAGE) events with a version below `before`, newest first.

        One range of one index, so a page costs the same wherever in the account it lies. The next page's
        `before` is the last entry's version; there is none when that is 1.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"limit must be 1 to {MAX_PAGE}")
        rows = self._connection.execute(
            "SELECT version, type, CAST(data AS BLOB), credit, recorded_at FROM event"
            " WHERE openid = ? AND version < ? ORDER BY version DESC LIMIT ?",
            (openid, 2**63 - 1 if before is None else before, limit),
        ).fetchall()
        return [Entry(version, kind, msgspec.Raw(data), credit, at) for version, kind, data, credit, at in rows]


def rfc3339(recorded_at_us: int) -> str:
    """Microseconds since 1970 as `2026-11-22T18:00:00.123456Z`."""
    moment = _EPOCH + timedelta(microseconds=recorded_at_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
