"""What goes out at `/v1`: the structs that shape answers, and from which /openapi.json is made."""

from base64 import b64encode
from typing import Annotated

import msgspec

from api.incoming import Credits, Version
from api.receipts import Receipted
from ledger.account import Account
from ledger.events import MAX_CREDIT, Recorded
from ledger.seal import SignedReceipt
from ledger.statement import Page, rfc3339

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_CREDIT)]
Spendable = Annotated[Count, msgspec.Meta(description="what can be spent")]
Held = Annotated[Count, msgspec.Meta(description="what open holds reserve")]
Frozen = Annotated[bool, msgspec.Meta(description="whether all but reversals and operators are refused")]
# RFC 3339 in UTC; a string already, because making a datetime first would cost more than all the rest.
Time = Annotated[str, msgspec.Meta(description="RFC 3339, UTC", extra_json_schema={"format": "date-time"})]
Latest = Annotated[Version, msgspec.Meta(description="the account's latest event")]
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$", description="links the account's chain")]


class EventView(msgspec.Struct):
    """One event; `data` is what is stored and hashed, and what is in it depends on `type`."""

    version: Annotated[Version, msgspec.Meta(description="its number in the account: 1, 2, 3 without a gap")]
    type: Annotated[str, msgspec.Meta(description="what happened; the schema of that name says what `data` is")]
    data: msgspec.Raw
    credit: Annotated[Count, msgspec.Meta(description="what could be spent right after it")]
    recorded_at: Time
    hash: Annotated[Hash | None, msgspec.Meta(description="null after a dry run")]


class ReceiptView(msgspec.Struct):
    """A signed promise that every seal made a minute later or more has this event.

    The six lines of docs/proofs.md made of the first five fields are entry `place` of a tree whose root is in
    `note`; `path` proves it.
    """

    openid_hash: Annotated[Hash, msgspec.Meta(description="SHA-256 of the openid")]
    version: Version
    hash: Annotated[Hash, msgspec.Meta(description="the event's")]
    credit: Count
    recorded_at_us: Count
    place: Count
    path: Annotated[str, msgspec.Meta(description="hashes, one behind another, as base64")]
    note: Annotated[str, msgspec.Meta(description="the signed checkpoint of the receipts made together")]


class SessionView(msgspec.Struct, omit_defaults=True):
    """A session's token: 30 days unused, or 180 days in all, end it. The first login opens the account, and has
    a receipt of the last event of that."""

    token: str
    receipt: ReceiptView | None = None


class EventPage(msgspec.Struct):
    """Events, newest first; `next_before` is the `before` of the next page, null on the last."""

    events: list[EventView]
    next_before: Annotated[Version, msgspec.Meta(description="send it as `before`")] | None


class Written(msgspec.Struct, omit_defaults=True):
    """The event that a request led to, and the credit after it; after a dry run it was not recorded."""

    event: EventView
    credit: Annotated[Count, msgspec.Meta(description="what can be spent after it")]
    receipt: ReceiptView | None = None
    dry_run: Annotated[bool, msgspec.Meta(description="true where nothing was recorded")] = False


class LotView(msgspec.Struct):
    """What is left of the expiring grant recorded as event `grant`."""

    grant: Annotated[Version, msgspec.Meta(description="the version of its event")]
    credit: Annotated[Credits, msgspec.Meta(description="what can be spent of it")]
    expires_at: Time


class HoldView(msgspec.Struct):
    """An open hold: event `version`."""

    version: Annotated[Version, msgspec.Meta(description="what capture and release call `hold`")]
    amount: Credits
    deadline: Annotated[Time, msgspec.Meta(description="from then on it counts as released")]
    reference: str | None


class CheckinView(msgspec.Struct):
    """Whether the day's check-in (Asia/Shanghai) is done, the days in a row, and what the next one earns."""

    checked_in: Annotated[bool, msgspec.Meta(description="today, in Shanghai")]
    streak: Annotated[Count, msgspec.Meta(description="days in a row")]
    next_reward: Annotated[Credits, msgspec.Meta(description="what the next check-in earns")]


class CreditView(msgspec.Struct):
    """What a person has: `lots` are the expiring part of `credit`, first to expire first."""

    version: Latest
    credit: Spendable
    held: Held
    frozen: Frozen
    lots: list[LotView]
    holds: list[HoldView]
    checkin: CheckinView
    as_of: Time


class AccountView(msgspec.Struct):
    """An account: granted is the sum of credit, held, spent, expired and revoked."""

    openid: str
    version: Latest
    head: Annotated[Hash, msgspec.Meta(description="the hash of that event")]
    credit: Spendable
    held: Held
    granted: Annotated[Count, msgspec.Meta(description="all that was ever granted")]
    spent: Annotated[Count, msgspec.Meta(description="what was spent and not given back")]
    expired: Count
    revoked: Count
    frozen: Frozen
    lots: list[LotView]
    holds: list[HoldView]
    registered_at: Time
    as_of: Annotated[
        Time,
        msgspec.Meta(description="when it changed last, of which it is always this; or the moment asked for"),
    ]


class GrantedLine(msgspec.Struct, omit_defaults=True):
    """The answer to one line of a bulk grant: 201 with version and credit, or why not."""

    line: Version
    status: Annotated[int, msgspec.Meta(ge=200, le=599)]
    openid: str | None = None
    version: Version | None = None
    credit: Count | None = None
    replayed: bool = False
    receipt: ReceiptView | None = None
    code: str | None = None
    detail: str | None = None


def view_event(row: Recorded, *, recorded: bool = True) -> EventView:
    return EventView(
        row.version,
        row.type,
        msgspec.Raw(row.data),
        row.credit,
        rfc3339(row.recorded_at_us),
        row.hash.hex() if recorded else None,
    )


def view_page(page: Page) -> EventPage:
    return EventPage([view_event(row) for row in page.events], page.next_before)


def view_written(outcome: Receipted, *, dry_run: bool) -> Written:
    recorded = outcome.replayed or not dry_run
    event = view_event(outcome.events[-1], recorded=recorded)
    return Written(event, outcome.credit, view_receipt(outcome.receipt), not recorded)


def view_receipt(signed: SignedReceipt | None) -> ReceiptView | None:
    if signed is None:
        return None
    receipt = signed.receipt
    return ReceiptView(
        receipt.key.hex(),
        receipt.version,
        receipt.hash.hex(),
        receipt.credit,
        receipt.recorded_at_us,
        signed.place,
        b64encode(b"".join(signed.path)).decode(),
        signed.note,
    )


def view_lots(account: Account) -> list[LotView]:
    return [LotView(lot.grant, lot.credit, rfc3339(lot.expires_at_us)) for lot in account.balance.lots]


def view_holds(account: Account) -> list[HoldView]:
    return [
        HoldView(hold.version, hold.amount, rfc3339(hold.deadline_us), hold.reference)
        for hold in account.balance.holds
    ]


def view_account(account: Account, as_of_us: int) -> AccountView:
    balance = account.balance
    return AccountView(
        account.openid,
        account.version,
        account.head.hex(),
        balance.credit,
        balance.held,
        balance.granted,
        balance.spent,
        balance.expired,
        balance.revoked,
        balance.frozen,
        view_lots(account),
        view_holds(account),
        rfc3339(account.registered_at_us),
        rfc3339(as_of_us),
    )
