"""What happened: the facts that the log keeps for ever, and their stored form."""

from typing import Annotated, Final

import msgspec

from ledger.errors import CorruptEvent

# The largest integer that JavaScript reads exactly; credit and amounts never exceed it.
MAX_CREDIT: Final = 2**53 - 1


class UserRegistered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first event of every account. Who that is lies in the openid alone: names are not kept here."""


class CreditGranted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The account can spend `amount` more, 1 to MAX_CREDIT, because of `reason`."""

    amount: Annotated[int, msgspec.Meta(ge=1, le=MAX_CREDIT)]
    reason: str


Event = UserRegistered | CreditGranted

EVENT_TYPES: Final[dict[str, type[Event]]] = {cls.__name__: cls for cls in (UserRegistered, CreditGranted)}


class Recorded(msgspec.Struct, frozen=True):
    """One row of the log without its `position`, which is not part of the contract.

    `data` is the stored JSON byte for byte, `credit` what the account can spend right after the event,
    `recorded_at_us` microseconds since 1970 UTC. `key` and `fingerprint` are there together or not at all.
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
