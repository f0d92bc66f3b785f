"""What happened: the facts that the log keeps for ever, and their stored form.

Of an event's fields only facts are kept, never what could be worked out from a rule: which grants a spend used
is written into it, so a replay never decides again. `reason` says why, `reference` is the caller's own (an
order number), `actor` who: `key:ID` an API key, `operator:NAME` somebody at the command line, `rule:NAME`
the ledger itself. Times are microseconds since 1970, UTC.
"""

from functools import lru_cache
from typing import Annotated, Final

import msgspec

from ledger.errors import CorruptEvent

# The largest integer that JavaScript reads exactly; credit and amounts never exceed it.
MAX_CREDIT: Final = 2**53 - 1
# The last microsecond of the year 9999, which is where RFC 3339 ends.
MAX_TIME_US: Final = 253_402_300_799_999_999

Credits = Annotated[int, msgspec.Meta(ge=1, le=MAX_CREDIT)]
_CreditsOrNone = Annotated[int, msgspec.Meta(ge=0, le=MAX_CREDIT)]
Version = Annotated[int, msgspec.Meta(ge=1, le=MAX_CREDIT)]
TimeUs = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME_US)]


class _Fact(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What all events have in common: strict fields, and optional ones absent from what is stored."""


class Part(_Fact, frozen=True):
    """`amount` credits of one lot: of the grant recorded as event `grant`, which expires, or, without that,
    of the account's one lot that never does."""

    amount: Credits
    grant: Version | None = None
    expires_at_us: TimeUs | None = None


Parts = tuple[Part, ...]


class UserRegistered(_Fact, frozen=True):
    """The first event of every account. Who that is lies in the openid alone: names are not kept here."""


class CreditGranted(_Fact, frozen=True):
    """The account can spend `amount` more, until `expires_at_us` where that is given."""

    amount: Credits
    reason: str
    actor: str
    reference: str | None = None
    expires_at_us: TimeUs | None = None


class CheckedIn(_Fact, frozen=True):
    """The person checked in on `day`, the `streak`-th day in a row, under the rule table named `rules`.

    Days are counted from 1970-01-01 in Asia/Shanghai. The reward is the CreditGranted that follows.
    """

    day: Annotated[int, msgspec.Meta(ge=1)]
    streak: Annotated[int, msgspec.Meta(ge=1)]
    rules: str


class CreditSpent(_Fact, frozen=True):
    """`amount` was spent, taken from the lots in `used`."""

    amount: Credits
    used: Parts
    reason: str
    actor: str
    reference: str | None = None


class CreditHeld(_Fact, frozen=True):
    """`amount` was reserved from the lots in `used`, to be captured or released before `deadline_us`."""

    amount: Credits
    used: Parts
    deadline_us: TimeUs
    reason: str
    actor: str
    reference: str | None = None


class HoldCaptured(_Fact, frozen=True):
    """Of the hold recorded as event `hold`, `amount` was spent, namely `used`; that is its end.

    What was not captured went back: `returned` to its lots, and `expired` credits to lots that had expired.
    """

    hold: Version
    amount: Credits
    used: Parts
    reason: str
    actor: str
    returned: Parts = ()
    expired: _CreditsOrNone = 0
    reference: str | None = None


class HoldReleased(_Fact, frozen=True):
    """All `amount` of the hold went back: `returned` to its lots, `expired` to lots that had expired."""

    hold: Version
    amount: Credits
    reason: str
    actor: str
    returned: Parts = ()
    expired: _CreditsOrNone = 0
    reference: str | None = None


class SpendReversed(_Fact, frozen=True):
    """`amount` of what event `spend` spent came back: `returned` to its lots, `expired` to expired ones."""

    spend: Version
    amount: Credits
    reason: str
    actor: str
    returned: Parts = ()
    expired: _CreditsOrNone = 0
    reference: str | None = None


class GrantRevoked(_Fact, frozen=True):
    """`amount`, which was left of the grant recorded as event `grant`, was taken back.

    Of the rest, `held` is in open holds and `spent` is gone. Never-expiring credit is one lot: there the
    revoked grant counts as the one that was spent last.
    """

    grant: Version
    amount: Credits
    spent: _CreditsOrNone
    held: _CreditsOrNone
    reason: str
    actor: str
    reference: str | None = None


class CreditExpired(_Fact, frozen=True):
    """The lots in `parts`, all that expired at this moment, came to their end with `amount` unspent."""

    amount: Credits
    parts: Parts
    reason: str
    actor: str


class AccountFrozen(_Fact, frozen=True):
    """From here on only reversals, and operators, change the account. Time goes on: credit still expires."""

    reason: str
    actor: str
    reference: str | None = None


class AccountUnfrozen(_Fact, frozen=True):
    """The account is as any other again."""

    reason: str
    actor: str
    reference: str | None = None


Event = (
    UserRegistered
    | CreditGranted
    | CheckedIn
    | CreditSpent
    | CreditHeld
    | HoldCaptured
    | HoldReleased
    | SpendReversed
    | GrantRevoked
    | CreditExpired
    | AccountFrozen
    | AccountUnfrozen
)

EVENT_TYPES: Final[dict[str, type[Event]]] = {cls.__name__: cls for cls in Event.__args__}


class Subject(msgspec.Struct, frozen=True):
    """An earlier event that a command is about, and how much of it was reversed or revoked since."""

    event: Event
    corrected: int


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """One row of the log without its `position`, which is not part of the contract.

    `data` is the stored JSON byte for byte, `credit` what the account can spend right after the event.
    `recorded_at_us` is when it was recorded, in microseconds since 1970 UTC; for what lapses by itself
    (`ledger.lapse`), when it lapsed. `key` and `fingerprint` are there together or not at all.
    """

    openid: str
    version: int
    type: str
    data: bytes
    credit: int
    key: str | None
    fingerprint: bytes | None
    recorded_at_us: int
    hash: bytes


_encoder = msgspec.json.Encoder(order="sorted")
_decoders = {name: msgspec.json.Decoder(cls) for name, cls in EVENT_TYPES.items()}


def encode(event: Event) -> bytes:
    """Canonical JSON: UTF-8, keys sorted, no white space. These bytes are hashed and never rewritten."""
    return _encoder.encode(event)


def decode(type_name: str, data: bytes) -> Event:
    """The event in stored bytes; raises CorruptEvent unless they are exactly what `encode` makes of it."""
    decoder = _decoders.get(type_name)
    if decoder is None:
        raise CorruptEvent(f"unknown event type {type_name!r}")
    try:
        event: Event = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptEvent(f"{type_name} does not decode: {error}") from None
    if encode(event) != data:
        raise CorruptEvent(f"{type_name} is not canonical JSON")
    return event


@lru_cache(8192)
def decode_stored(type_name: bytes, data: bytes) -> Event:
    """As `decode`, for whoever reads the whole log; also raises UnicodeDecodeError.

    Kept, because many events say the same: registrations, the grants of a campaign, a day's check-ins.
    """
    return decode(type_name.decode(), data)
