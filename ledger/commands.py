"""What somebody wants: commands, checked when they are made, so that one that exists can be decided on."""

import re
from hashlib import sha256
from typing import Final

import msgspec

from ledger.errors import InvalidCommand
from ledger.events import MAX_CREDIT

# WeChat's samples have 28 characters of [A-Za-z0-9_-] and its documentation promises nothing, so any
# visible ASCII is taken, and the comparison is exact.
_OPENID: Final = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
# RFC draft-ietf-httpapi-idempotency-key-header: a string; we take 1 to 255 characters of visible ASCII.
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
# No control characters; no lone surrogates, which SQLite cannot bind. Emoji and their joiners are welcome.
_REASON: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,200}")


class RegisterUser(msgspec.Struct, frozen=True, omit_defaults=True):
    """Open the account of `openid` with `signup_grant` credits, 0 for none.

    Needs no key: the account is its own record, and registering it again changes nothing.
    """

    openid: str
    signup_grant: int

    def __post_init__(self) -> None:
        _check_openid(self.openid)
        _check_credits("signup_grant", self.signup_grant, at_least=0)


class GrantCredit(msgspec.Struct, frozen=True, omit_defaults=True):
    """Give `openid` `amount` credits, 1 to MAX_CREDIT; `key` makes it happen once however often it is sent."""

    openid: str
    amount: int
    reason: str
    key: str

    def __post_init__(self) -> None:
        _check_openid(self.openid)
        _check_credits("amount", self.amount, at_least=1)
        _check_reason(self.reason)
        _check_key(self.key)


Command = RegisterUser | GrantCredit

_encoder = msgspec.json.Encoder(order="sorted")


def key_of(command: Command) -> str | None:
    """The idempotency key, unique within the account; None where the command needs none."""
    return None if isinstance(command, RegisterUser) else command.key


def fingerprint(command: Command) -> bytes:
    """SHA-256 of the command's type and fields: tells a repeated command from another one under the same key.

    Fields at their default are left out, so a field that a later release adds does not change the
    fingerprints of commands recorded before it.
    """
    return sha256(type(command).__name__.encode() + b"\0" + _encoder.encode(command)).digest()


def _check_openid(openid: object) -> None:
    if type(openid) is not str or not _OPENID.fullmatch(openid):
        raise InvalidCommand("openid must be 1 to 128 visible ASCII characters")


def _check_key(key: object) -> None:
    if type(key) is not str or not _KEY.fullmatch(key):
        raise InvalidCommand("key must be 1 to 255 visible ASCII characters")


def _check_reason(reason: object) -> None:
    if type(reason) is not str or not _REASON.fullmatch(reason):
        raise InvalidCommand("reason must be 1 to 200 characters, none of them a control character")


def _check_credits(name: str, amount: object, *, at_least: int) -> None:
    # `type(...) is int` because True is an int, and a STRICT table would store it as 1.
    if type(amount) is not int or not at_least <= amount <= MAX_CREDIT:
        raise InvalidCommand(f"{name} must be an integer from {at_least} to {MAX_CREDIT}")
