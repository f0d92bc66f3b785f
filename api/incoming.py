"""What comes in at `/v1`: the structs that check requests, and from which /openapi.json is made."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec

from ledger.commands import (
    CaptureHold,
    FreezeAccount,
    GrantCredit,
    HoldCredit,
    ReleaseHold,
    ReverseSpend,
    RevokeGrant,
    SpendCredit,
    UnfreezeAccount,
)
from ledger.events import MAX_CREDIT, MAX_TIME_US

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

# `(?!\n)` because `$` alone lets a line feed through at the end.
OPENID: Final = r"^[A-Za-z0-9_-]{1,128}$(?!\n)"
# In the sandbox, alice: what is in the document can be tried there.
EXAMPLE_OPENID: Final = "o2fv3_VxtHnCpuzaOoKm7luAtrSw"
Openid = Annotated[str, msgspec.Meta(pattern=OPENID, description="whose account", examples=[EXAMPLE_OPENID])]
Credits = Annotated[
    int, msgspec.Meta(ge=1, le=MAX_CREDIT, description="credits, without a decimal point", examples=[30])
]
Version = Annotated[int, msgspec.Meta(ge=1, le=MAX_CREDIT)]
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,200}$(?!\n)")]
Reason = Annotated[
    Text, msgspec.Meta(description="why, for the statement that the user reads", examples=["订单 1042"])
]
Reference = Annotated[
    Text, msgspec.Meta(description="your own, such as an order number", examples=["order-1042"])
]
Key = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[\x21-\x7e]{1,255}$(?!\n)",
        description="makes this line happen once, as Idempotency-Key does",
        examples=["campaign-7-0001"],
    ),
]
Moment = Annotated[datetime, msgspec.Meta(tz=True, description="RFC 3339, with an offset or Z")]
Nickname = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,32}$(?!\n)", examples=["小明"])]
Avatar = Annotated[
    str,
    msgspec.Meta(
        max_length=40_000,
        pattern=r"^(https://[\x21-\x7e]+|data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2})$(?!\n)",
    ),
]


def microseconds(moment: datetime | None) -> int | None:
    """Microseconds since 1970 UTC, within the years 1970 to 9999 that the ledger knows."""
    return None if moment is None else min(max((moment - _EPOCH) // _MICROSECOND, 0), MAX_TIME_US)


def moment_us(text: str) -> int | None:
    """A time as RFC 3339 has it, in microseconds since 1970; None where it is none, or has no offset."""
    try:
        parsed = msgspec.convert(text, datetime, strict=True)
    except msgspec.ValidationError:
        return None
    return None if parsed.tzinfo is None else microseconds(parsed)


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is sent; a field that nobody knows is refused."""


class LoginBody(Body, frozen=True):
    """What `wx.login` gave."""

    code: Annotated[
        str,
        msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,128}$(?!\n)", examples=["dev-alice-1"]),
    ]


class ProfileBody(Body, frozen=True):
    """What a person chose: `avatar` an https address or a small picture as a `data:` URL; null keeps it."""

    nickname: Nickname
    avatar: Avatar | None = None


class GrantBody(Body, frozen=True):
    """Credit to give; without `expires_at` it never expires."""

    amount: Credits
    reason: Reason
    reference: Reference | None = None
    expires_at: Moment | None = None

    def command(self, openid: str, key: str) -> GrantCredit:
        expires_at_us = microseconds(self.expires_at)
        return GrantCredit(openid, self.amount, self.reason, key, self.reference, expires_at_us)


class GrantLine(Body, frozen=True):
    """One line of a bulk grant: its own account and idempotency key."""

    openid: Openid
    key: Key
    amount: Credits
    reason: Reason
    reference: Reference | None = None
    expires_at: Moment | None = None

    def command(self) -> GrantCredit:
        expires_at_us = microseconds(self.expires_at)
        return GrantCredit(self.openid, self.amount, self.reason, self.key, self.reference, expires_at_us)


class SpendBody(Body, frozen=True):
    """Credit to spend: what expires first is used first."""

    amount: Credits
    reason: Reason
    reference: Reference | None = None

    def command(self, openid: str, key: str) -> SpendCredit:
        return SpendCredit(openid, self.amount, self.reason, key, self.reference)


class HoldBody(Body, frozen=True):
    """Credit to reserve until `deadline`, or for seven days."""

    amount: Credits
    reason: Reason
    reference: Reference | None = None
    deadline: Moment | None = None

    def command(self, openid: str, key: str) -> HoldCredit:
        deadline_us = microseconds(self.deadline)
        return HoldCredit(openid, self.amount, self.reason, key, self.reference, deadline_us)


class CaptureBody(Body, frozen=True):
    """What to spend of a hold, all of it without `amount`; the rest goes back. That is the end of the hold."""

    reason: Reason
    amount: Credits | None = None
    reference: Reference | None = None

    def command(self, openid: str, key: str, hold: int) -> CaptureHold:
        return CaptureHold(openid, hold, self.reason, key, self.amount, self.reference)


class ReleaseBody(Body, frozen=True):
    """Why a hold is given back whole."""

    reason: Reason
    reference: Reference | None = None

    def command(self, openid: str, key: str, hold: int) -> ReleaseHold:
        return ReleaseHold(openid, hold, self.reason, key, self.reference)


class ReversalBody(Body, frozen=True):
    """What to give back of the event `spend` (a spend or a capture): all that is left without `amount`."""

    spend: Annotated[Version, msgspec.Meta(description="the version of that event", examples=[4])]
    reason: Reason
    amount: Credits | None = None
    reference: Reference | None = None

    def command(self, openid: str, key: str) -> ReverseSpend:
        return ReverseSpend(openid, self.spend, self.reason, key, self.amount, self.reference)


class RevocationBody(Body, frozen=True):
    """The event `grant` of which to take back what is left."""

    grant: Annotated[Version, msgspec.Meta(description="the version of that event", examples=[2])]
    reason: Reason
    reference: Reference | None = None

    def command(self, openid: str, key: str) -> RevokeGrant:
        return RevokeGrant(openid, self.grant, self.reason, key, self.reference)


class FreezeBody(Body, frozen=True):
    """Why an account is frozen."""

    reason: Reason
    reference: Reference | None = None

    def command(self, openid: str, key: str) -> FreezeAccount:
        return FreezeAccount(openid, self.reason, key, self.reference)


class UnfreezeBody(Body, frozen=True):
    """Why an account may be used again."""

    reason: Reason
    reference: Reference | None = None

    def command(self, openid: str, key: str) -> UnfreezeAccount:
        return UnfreezeAccount(openid, self.reason, key, self.reference)
