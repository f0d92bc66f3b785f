"""The account row: how an account is laid out in columns, and read back from them."""

from typing import Any, Final

import msgspec

from ledger.account import Account, Balance, Hold, Lot
from ledger.errors import CorruptEvent

# The version of the fold. One that comes to other rows from the same events, or to other columns, has another
# number: a ledger with rows of another is refused until `credit-ledger replay --write` has built them anew.
PROJECTION: Final = 1

# Of the table `account`, behind its key. Lots and holds are JSON, and null where there are none.
COLUMNS: Final = (
    "version", "head", "registered_at", "recorded_at", "credit", "held", "granted", "spent", "expired",
    "revoked", "frozen", "checkin_day", "streak", "lots", "holds", "due_at",
)  # fmt: skip

# The columns' values in this order, as SQLite hands them out: JSON as bytes.
Row = tuple[Any, ...]

_encoder = msgspec.json.Encoder(order="sorted")
_lots = msgspec.json.Decoder(tuple[Lot, ...])
_holds = msgspec.json.Decoder(tuple[Hold, ...])


def to_row(account: Account) -> Row:
    balance = account.balance
    return (
        account.version,
        account.head,
        account.registered_at_us,
        account.recorded_at_us,
        balance.credit,
        balance.held,
        balance.granted,
        balance.spent,
        balance.expired,
        balance.revoked,
        int(balance.frozen),
        balance.checkin_day,
        balance.streak,
        _encoder.encode(balance.lots) if balance.lots else None,
        _encoder.encode(balance.holds) if balance.holds else None,
        balance.due_at_us,
    )


def from_row(openid: str, row: Row) -> Account:
    """The account in a row that `to_row` made; raises CorruptEvent where its JSON is no such thing."""
    version, head, registered_at, recorded_at = row[:4]
    credit, held, granted, spent, expired, revoked, frozen, checkin_day, streak, lots, holds = row[4:-1]
    try:
        balance = Balance(
            credit,
            held,
            granted,
            spent,
            expired,
            revoked,
            bool(frozen),
            checkin_day,
            streak,
            () if lots is None else _lots.decode(lots),
            () if holds is None else _holds.decode(holds),
        )
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptEvent(
            f"the account row of {openid} is damaged, see credit-ledger replay: {error}"
        ) from None
    return Account(openid, version, head, registered_at, recorded_at, balance)


class Difference(msgspec.Struct, frozen=True):
    """An account whose stored row is not what its events come to; None where there is no row, or no event."""

    openid: bytes
    stored: Row | None
    folded: Row | None

    def sentence(self) -> str:
        """The columns that differ, in words."""
        if self.stored is None:
            return "its events are there, its account row is missing"
        if self.folded is None:
            return "an account row without any event"
        return "; ".join(
            f"{name} is {_plain(name, stored)}, its events come to {_plain(name, folded)}"
            for name, stored, folded in zip(COLUMNS, self.stored, self.folded, strict=True)
            if stored != folded
        )


def _plain(name: str, value: object) -> object:
    if isinstance(value, bytes):
        return value.hex() if name == "head" else value.decode(errors="backslashreplace")
    return "nothing" if value is None else value
