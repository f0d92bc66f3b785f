"""The chain of one account: what is hashed, and how an event is linked to the one before it."""

from hashlib import sha256
from struct import Struct
from typing import Final

from ledger.account import Account, Balance, apply
from ledger.events import Event, Recorded, encode
from ledger.sums import account_key

# Says what is hashed, so that no event can be taken for a node of some other tree; 0x00 and 0x01 are left
# to the leaves and nodes of Merkle trees (RFC 6962).
_EVENT_DOMAIN: Final = b"\x02"
_ABSENT: Final = b"\xff\xff\xff\xff"
# Whatever has a length of its own, behind its length; packed in few calls, because an audit hashes every event.
_ACCOUNT: Final = Struct(">4s32sIQI").pack
_COUNTED: Final = Struct(">IQI").pack
_LENGTH: Final = Struct(">I").pack
_END: Final = Struct(">4s32sIQ").pack
_INTEGER: Final = Struct(">IQ").pack
_DIGEST: Final = _LENGTH(32)


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
    """`event_hash` for whoever has `account`, the SHA-256 of the openid, at hand."""
    begin = _EVENT_DOMAIN, _LENGTH(len(previous)), previous
    middle = _ACCOUNT(_DIGEST, account, 8, version, len(type_name)), type_name, _LENGTH(len(data)), data
    if key is not None and fingerprint is not None and len(fingerprint) == 32:
        end = _COUNTED(8, credit, len(key)), key, _END(_DIGEST, fingerprint, 8, recorded_at_us)
    else:
        end = _INTEGER(8, credit), _part(key) + _part(fingerprint), _INTEGER(8, recorded_at_us)
    return sha256(b"".join((*begin, *middle, *end))).digest()


def _part(text: bytes | None) -> bytes:
    return _ABSENT if text is None else _LENGTH(len(text)) + text
