"""The chain of one account: what is hashed, and how an event is linked to the one before it."""

from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import Final

from ledger.account import Account, Balance, apply
from ledger.events import Event, Recorded, encode
from ledger.sums import account_key

# Says what is hashed, so that no event can be taken for a node of some other tree; 0x00 and 0x01 are left
# to the leaves and nodes of Merkle trees (RFC 6962).
_EVENT_DOMAIN: Final = b"\x02"
# Lengths: of a digest, of an integer, and of what is not there.
_DIGEST, _INTEGER, _ABSENT = 32, 8, 0xFFFFFFFF


def link(
    account: Account, event: Event, key: str | None, fingerprint: bytes | None, now_us: int
) -> tuple[Recorded, Account]:
    """The row that follows `account`'s last one, and the account after it.

    Its time is `now_us`, or the last event's where the clock ran back.
    """
    version = account.version + 1
    balance = apply(account.balance, version, event)
    data = encode(event)
    recorded_at_us = max(now_us, account.recorded_at_us)
    type_name = type(event).__name__
    digest = event_hash(
        account.head,
        account.openid.encode(),
        version,
        type_name.encode(),
        data,
        balance.credit,
        None if key is None else key.encode(),
        fingerprint,
        recorded_at_us,
    )
    row = Recorded(
        account.openid, version, type_name, data, balance.credit, key, fingerprint, recorded_at_us, digest
    )
    return row, advance(account, row.version, row.hash, row.recorded_at_us, balance)


def advance(account: Account, version: int, head: bytes, recorded_at_us: int, balance: Balance) -> Account:
    """The account after an event of that version, hash and time, whose facts come to `balance`."""
    return Account(
        account.openid,
        version,
        head,
        account.registered_at_us if account.version else recorded_at_us,
        recorded_at_us,
        balance,
    )


def event_hash(
    previous: bytes,
    openid: bytes,
    version: int,
    type_name: bytes,
    data: bytes,
    credit: int,
    key: bytes | None,
    fingerprint: bytes | None,
    recorded_at_us: int,
) -> bytes:
    """SHA-256(0x02, previous hash, then each column but `position`; of the openid its SHA-256).

    So a phone, which never learns its openid, can check its whole chain. Each part is preceded by its length
    as 4 bytes, big-endian, so no two rows have the same bytes; integers are 8 bytes, big-endian; an absent
    key or fingerprint is the length 0xffffffff and nothing more.
    """
    return chained(
        previous, account_key(openid), version, type_name, data, credit, key, fingerprint, recorded_at_us
    )


def chained(
    previous: bytes,
    account: bytes,
    version: int,
    type_name: bytes,
    data: bytes,
    credit: int,
    key: bytes | None,
    fingerprint: bytes | None,
    recorded_at_us: int,
) -> bytes:
    """`event_hash` for whoever has `account`, the SHA-256 of the openid, at hand.

    Raises TypeError or struct.error where a damaged column is no text, or no count.
    """
    key_bytes = b"" if key is None else key
    fingerprint_bytes = b"" if fingerprint is None else fingerprint
    lengths = len(previous), len(type_name), len(data), len(key_bytes), len(fingerprint_bytes)
    packed = _packer(lengths)(
        _EVENT_DOMAIN,
        len(previous),
        previous,
        _DIGEST,
        account,
        _INTEGER,
        version,
        len(type_name),
        type_name,
        len(data),
        data,
        _INTEGER,
        credit,
        _ABSENT if key is None else len(key_bytes),
        key_bytes,
        _ABSENT if fingerprint is None else len(fingerprint_bytes),
        fingerprint_bytes,
        _INTEGER,
        recorded_at_us,
    )
    return sha256(packed).digest()


@lru_cache(4096)
def _packer(lengths: tuple[int, ...]) -> Callable[..., bytes]:
    """Packs an event whose parts of any length have these; a few hundred combinations occur. One call for all
    parts, because an audit hashes every event."""
    previous, type_name, data, key, fingerprint = lengths
    return Struct(f">cI{previous}sI32sIQI{type_name}sI{data}sIQI{key}sI{fingerprint}sIQ").pack
