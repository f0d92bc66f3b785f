"""What somebody wants: commands, checked when they are made, so that one that exists can be decided on.

`openid` is the account, `key` makes it happen once however often it is sent, `reason` says why and
`reference` is the caller's own, such as an order number. Times are microseconds since 1970, UTC.
"""

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import msgspec

from ledger.errors import InvalidCommand
from ledger.events import MAX_CREDIT, MAX_TIME_US

# WeChat's samples have 28 characters of [A-Za-z0-9_-] and its documentation promises nothing, so any
# visible ASCII is taken, and the comparison is exact.
OPENID_PATTERN: Final = r"[\x21-\x7e]{1,128}"
# RFC draft-ietf-httpapi-idempotency-key-header: a string; callers have 1 to 255 characters of visible ASCII.
# The other form is `user_key`'s, and holds a space so that no caller can give it.
KEY_PATTERN: Final = r"[\x21-\x7e]{1,255}|user [0-9a-f]{64}"
# No control characters; no lone surrogates, which SQLite cannot bind. Emoji and their joiners are welcome.
TEXT_PATTERN: Final = r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,200}"

_OPENID: Final = re.compile(OPENID_PATTERN, re.ASCII)
_KEY: Final = re.compile(KEY_PATTERN, re.ASCII)
_TEXT: Final = re.compile(TEXT_PATTERN)
_RULES: Final = re.compile(r"[A-Za-z0-9._-]{1,32}", re.ASCII)


class _Checked(msgspec.Struct, frozen=True, omit_defaults=True):
    """Every field is checked by its name; None is taken where it is the default. Raises InvalidCommand."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                _CHECKS[name](name, value)


class RegisterUser(_Checked, frozen=True):
    """Open the account of `openid` with `signup_grant` credits, 0 for none.

    Needs no key: the account is its own record, and registering it again changes nothing.
    """

    openid: str
    signup_grant: int


class GrantCredit(_Checked, frozen=True):
    """Give `amount` credits, which expire at `expires_at_us` or never."""

    openid: str
    amount: int
    reason: str
    key: str
    reference: str | None = None
    expires_at_us: int | None = None


class SpendCredit(_Checked, frozen=True):
    """Spend `amount`: what expires first is used first, what never expires last."""

    openid: str
    amount: int
    reason: str
    key: str
    reference: str | None = None


class HoldCredit(_Checked, frozen=True):
    """Reserve `amount` until `deadline_us`, or for seven days. Held credit does not expire meanwhile."""

    openid: str
    amount: int
    reason: str
    key: str
    reference: str | None = None
    deadline_us: int | None = None


class CaptureHold(_Checked, frozen=True):
    """Spend `part` of the hold recorded as event `hold`, or all of it; what is left over goes back."""

    openid: str
    hold: int
    reason: str
    key: str
    part: int | None = None
    reference: str | None = None


class ReleaseHold(_Checked, frozen=True):
    """Give back all that the hold recorded as event `hold` reserves."""

    openid: str
    hold: int
    reason: str
    key: str
    reference: str | None = None


class ReverseSpend(_Checked, frozen=True):
    """Give back `part` of what event `spend` (a spend or a capture) spent, or all that was not yet."""

    openid: str
    spend: int
    reason: str
    key: str
    part: int | None = None
    reference: str | None = None


class RevokeGrant(_Checked, frozen=True):
    """Take back what is left of the grant recorded as event `grant`."""

    openid: str
    grant: int
    reason: str
    key: str
    reference: str | None = None


class FreezeAccount(_Checked, frozen=True):
    """Refuse everything but reversals, and operators, from now on."""

    openid: str
    reason: str
    key: str
    reference: str | None = None


class UnfreezeAccount(_Checked, frozen=True):
    """Let the account be used again."""

    openid: str
    reason: str
    key: str
    reference: str | None = None


class CheckIn(_Checked, frozen=True):
    """Check in for today in Shanghai.

    The n-th day in a row earns the n-th of `rewards`, a longer streak the last of them; `rules` is the name
    under which this table is recorded.
    """

    openid: str
    key: str
    rewards: tuple[int, ...]
    rules: str


class RecordLapses(_Checked, frozen=True):
    """Record what has lapsed by now: expired credit, and holds past their deadline. Needs no key."""

    openid: str


Command = (
    RegisterUser
    | GrantCredit
    | SpendCredit
    | HoldCredit
    | CaptureHold
    | ReleaseHold
    | ReverseSpend
    | RevokeGrant
    | FreezeAccount
    | UnfreezeAccount
    | CheckIn
    | RecordLapses
)


class Submission(msgspec.Struct, frozen=True):
    """A command as it is handed in: who asks, and on which conditions. None of this is part of the command,
    so the same command under the same key is the same whoever repeats it.

    `actor` is recorded in the events; an `operator` gets through where an account is frozen. With
    `expected_version` the account must be at that version. A `dry_run` is decided and not written.
    """

    command: Command
    actor: str
    operator: bool = False
    expected_version: int | None = None
    dry_run: bool = False


# By type, and not by isinstance(): that takes long to say no where the class is a struct, and every write would
# ask a dozen times.
_SUBJECTS: Final[dict[type, str]] = {
    CaptureHold: "hold",
    ReleaseHold: "hold",
    ReverseSpend: "spend",
    RevokeGrant: "grant",
}
_encoder = msgspec.json.Encoder(order="sorted")


def key_of(command: Command) -> str | None:
    """The idempotency key, unique within the account; None where the command needs none."""
    key: str | None = getattr(command, "key", None)
    return key


def user_key(given: str) -> str:
    """The key for what a person himself asks for under the key `given`.

    Keys are unique within an account, and a backend shares the account with the person: in a space of their
    own, a person's keys cannot take one that the backend is going to use.
    """
    return "user " + sha256(given.encode()).hexdigest()


def subject_of(command: Command) -> int | None:
    """The version of the earlier event that the command is about, or None."""
    field = _SUBJECTS.get(type(command))
    return None if field is None else getattr(command, field)


def fingerprint(command: Command) -> bytes:
    """SHA-256 of the command's type and fields: tells a repeated command from another one under the same key.

    Fields at their default are left out, so a field that a later release adds does not change the
    fingerprints of commands recorded before it. The rules of a check-in are today's settings and not what
    was asked, so they are left out too.
    """
    asked = {"openid": command.openid, "key": command.key} if type(command) is CheckIn else command
    return sha256(type(command).__name__.encode() + b"\0" + _encoder.encode(asked)).digest()


def _check_openid(_name: str, openid: object) -> None:
    if type(openid) is not str or not _OPENID.fullmatch(openid):
        raise InvalidCommand("openid must be 1 to 128 visible ASCII characters")


def _check_key(_name: str, key: object) -> None:
    if type(key) is not str or not _KEY.fullmatch(key):
        raise InvalidCommand("key must be 1 to 255 visible ASCII characters")


def _check_text(name: str, text: object) -> None:
    if type(text) is not str or not _TEXT.fullmatch(text):
        raise InvalidCommand(f"{name} must be 1 to 200 characters, none of them a control character")


def _integer(least: int, most: int) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        # `type(...) is int` because True is an int, and a STRICT table would store it as 1.
        if type(value) is not int or not least <= value <= most:
            raise InvalidCommand(f"{name} must be an integer from {least} to {most}")

    return check


def _check_rewards(_name: str, rewards: object) -> None:
    if type(rewards) is not tuple or not 1 <= len(rewards) <= 366:
        raise InvalidCommand("rewards must be 1 to 366 amounts")
    for reward in rewards:
        _CHECKS["amount"]("reward", reward)


def _check_rules(_name: str, rules: object) -> None:
    if type(rules) is not str or not _RULES.fullmatch(rules):
        raise InvalidCommand("rules must be 1 to 32 characters of A-Z a-z 0-9 . _ -")


_OPTIONAL: Final = frozenset({"reference", "expires_at_us", "deadline_us", "part"})
_CHECKS: Final[dict[str, Callable[[str, object], None]]] = {
    "openid": _check_openid,
    "key": _check_key,
    "reason": _check_text,
    "reference": _check_text,
    "signup_grant": _integer(0, MAX_CREDIT),
    "amount": _integer(1, MAX_CREDIT),
    "part": _integer(1, MAX_CREDIT),
    "hold": _integer(1, MAX_CREDIT),
    "spend": _integer(1, MAX_CREDIT),
    "grant": _integer(1, MAX_CREDIT),
    "expires_at_us": _integer(0, MAX_TIME_US),
    "deadline_us": _integer(0, MAX_TIME_US),
    "rewards": _check_rewards,
    "rules": _check_rules,
}
