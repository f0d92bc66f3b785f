"""The chain: which bytes are hashed, and that nothing can be changed or shifted without another hash."""

from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.account import GENESIS, Account, Balance
from ledger.chain import event_hash, link
from ledger.errors import CorruptEvent
from ledger.events import (
    EVENT_TYPES,
    AccountFrozen,
    AccountUnfrozen,
    CheckedIn,
    CreditExpired,
    CreditGranted,
    CreditHeld,
    CreditSpent,
    GrantRevoked,
    HoldCaptured,
    HoldReleased,
    Part,
    SpendReversed,
    UserRegistered,
    decode,
    encode,
)
from ledger.follow import Wrong, follow
from ledger.log import RawEvent

FIELDS: dict[str, object] = {
    "previous": bytes(range(32)),
    "openid": b"oAnna",
    "version": 3,
    "type_name": b"CreditGranted",
    "data": '{"amount":7,"reason":"签到"}'.encode(),
    "credit": 107,
    "key": b"k1",
    "fingerprint": bytes(32),
    "recorded_at_us": 1_700_000_000_000_000,
}


def hash_of(**changed: object) -> bytes:
    return event_hash(**{**FIELDS, **changed})  # type: ignore[arg-type]


def test_the_hashed_bytes_are_these() -> None:
    """Written out by hand from the layout in `event_hash`: a stored log is read by every later release."""
    hashed = bytes.fromhex(
        "02"
        "00000020 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        "00000020 1fcb9e398d0877ff060163b714824d7318b68f86db91cbee79b9cfb8bedf3561"  # SHA-256 of oAnna
        "00000008 0000000000000003"
        "0000000d 4372656469744772616e746564"
        "0000001e 7b22616d6f756e74223a372c22726561736f6e223a22e7adbee588b0227d"
        "00000008 000000000000006b"
        "00000002 6b31"
        "00000020 0000000000000000000000000000000000000000000000000000000000000000"
        "00000008 00060a24181e4000"
    )
    assert hash_of() == sha256(hashed).digest()
    assert hash_of().hex() == "9dff574ae3e3ddfb846f5be50044116dc6a6fd18433dfbc40e9b4d8b0644740a"


def test_an_absent_key_and_fingerprint_are_hashed_as_these_bytes() -> None:
    hashed = bytes.fromhex(
        "02"
        f"00000020 {'00' * 32}"
        "00000020 1fcb9e398d0877ff060163b714824d7318b68f86db91cbee79b9cfb8bedf3561"  # SHA-256 of oAnna
        "00000008 0000000000000001"
        "0000000e 5573657252656769737465726564"
        "00000002 7b7d"
        "00000008 0000000000000000"
        "ffffffff"
        "ffffffff"
        "00000008 0000000000000001"
    )
    registered = event_hash(GENESIS, b"oAnna", 1, b"UserRegistered", b"{}", 0, None, None, 1)
    assert registered == sha256(hashed).digest()
    assert registered.hex() == "bed7f570c370bb4cc21ee14f553988939dbb34d30676257621e78a85accdabfa"


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_changes_the_hash(name: str) -> None:
    value = FIELDS[name]
    others = [value + 1, value - 1] if isinstance(value, int) else [b"", bytes(value) + b"\0", b"k2"]  # type: ignore[call-overload]
    if name in ("key", "fingerprint"):
        others.append(None)
    hashes = [hash_of(**{name: other}) for other in others]
    assert len({hash_of(), *hashes}) == 1 + len(others)


PARTS = st.binary(max_size=6)
ROWS = st.tuples(
    PARTS,
    PARTS,
    st.integers(0, 3),
    PARTS,
    PARTS,
    st.integers(0, 3),
    st.none() | PARTS,
    st.none() | PARTS,
    st.integers(0, 3),
)


@given(ROWS, ROWS)
def test_two_rows_have_the_same_hash_only_if_they_are_the_same(one: tuple, other: tuple) -> None:
    assert (event_hash(*one) == event_hash(*other)) == (one == other)


@given(st.lists(PARTS, min_size=4, max_size=4), st.data())
def test_bytes_cannot_move_from_one_field_to_the_next(parts: list[bytes], data: st.DataObject) -> None:
    """Without lengths, openid "ab" and type "c" would hash as "a" and "bc"."""
    joined = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(joined)), min_size=3, max_size=3)))
    shifted = [joined[start:end] for start, end in zip([0, *cuts], [*cuts, len(joined)], strict=True)]
    names = ("openid", "type_name", "data", "key")
    same = hash_of(**dict(zip(names, parts, strict=True))) == hash_of(**dict(zip(names, shifted, strict=True)))
    assert same == (parts == shifted)


def test_a_row_is_linked_to_the_one_before_it_and_becomes_the_head() -> None:
    first, after_first = link(Account("oAnna"), UserRegistered(), None, None, 5)
    second, after_second = link(after_first, CreditGranted(7, "gift", "key:shop"), "k1", b"f" * 32, 9)
    assert first.hash == event_hash(GENESIS, b"oAnna", 1, b"UserRegistered", b"{}", 0, None, None, 5)
    assert second.hash == event_hash(
        first.hash, b"oAnna", 2, b"CreditGranted", second.data, 7, b"k1", b"f" * 32, 9
    )
    assert after_second == Account(
        "oAnna",
        version=2,
        head=second.hash,
        registered_at_us=5,
        recorded_at_us=9,
        balance=Balance(credit=7, granted=7),
    )


# What a damaged page can have in a column, by its name in a row as the audit reads it.
NO_COUNT = "its version is not a count"
NO_COLUMN = "a column is not of its type, or a count is below zero"
NO_KEY = "its key or fingerprint is not stored as text or bytes"
OF_ANOTHER_TYPE = [
    ("version", 2.0, NO_COUNT),
    ("version", "2", NO_COUNT),
    ("version", None, NO_COUNT),
    ("openid", None, NO_COLUMN),
    ("openid", "oAnna", NO_COLUMN),
    ("type", 7, NO_COLUMN),
    ("type", "CreditGranted", NO_COLUMN),
    ("data", None, NO_COLUMN),
    ("data", "{}", NO_COLUMN),
    ("credit", b"5", NO_COLUMN),
    ("credit", -1, NO_COLUMN),
    ("key", 7, NO_KEY),
    ("key", "text", NO_KEY),
    ("fingerprint", 7, NO_KEY),
    ("fingerprint", "text", NO_KEY),
    ("recorded_at_us", "now", NO_COLUMN),
    ("recorded_at_us", -1, NO_COLUMN),
    ("hash", None, NO_COLUMN),
]


@pytest.mark.parametrize(("column", "value", "said"), OF_ANOTHER_TYPE)
def test_a_column_of_another_type_makes_a_changed_event_and_no_crash(
    column: str, value: object, said: str
) -> None:
    _, account = link(Account("oAnna"), UserRegistered(), None, None, 5)
    granted, _ = link(account, CreditGranted(5, "gift", "key:a"), "k1", bytes(32), 6)
    row = RawEvent(2, b"oAnna", 2, b"CreditGranted", granted.data, 5, b"k1", bytes(32), 6, granted.hash)
    assert follow(account, row).head == granted.hash
    with pytest.raises(Wrong) as wrong:
        follow(account, row._replace(**{column: value}))
    assert wrong.value.what == "changed"
    assert wrong.value.detail.startswith(said)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=10))
def test_the_time_within_an_account_never_runs_back_whatever_the_clock_does(clock: list[int]) -> None:
    account, times = Account("oAnna"), []
    for now_us in clock:
        row, account = link(account, UserRegistered(), None, None, now_us)
        times.append(row.recorded_at_us)
    assert times == [max(clock[: position + 1]) for position in range(len(clock))]


WHO = b'"actor":"key:shop"'
CANONICAL = {
    UserRegistered(): b"{}",
    CreditGranted(1, "gift", "key:shop"): b'{%s,"amount":1,"reason":"gift"}' % WHO,
    CreditGranted(2**53 - 1, "签到", "key:shop"): (
        b'{%s,"amount":9007199254740991,"reason":"\xe7\xad\xbe\xe5\x88\xb0"}' % WHO
    ),
    CreditGranted(1, "👍🏽", "key:shop"): b'{%s,"amount":1,"reason":"\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd"}' % WHO,
    CreditGranted(1, '"\\/', "key:shop"): b'{%s,"amount":1,"reason":"\\"\\\\/"}' % WHO,
    CreditGranted(1, "\u2028", "key:shop"): b'{%s,"amount":1,"reason":"\xe2\x80\xa8"}' % WHO,
    CreditGranted(1, "gift", "key:shop", "order 7", 9): (
        b'{%s,"amount":1,"expires_at_us":9,"reason":"gift","reference":"order 7"}' % WHO
    ),
    CheckedIn(19676, 3, "2026"): b'{"day":19676,"rules":"2026","streak":3}',
    CreditSpent(5, (Part(2, 3, 9), Part(3)), "order", "key:shop", "order 7"): (
        b'{%s,"amount":5,"reason":"order","reference":"order 7",'
        b'"used":[{"amount":2,"expires_at_us":9,"grant":3},{"amount":3}]}' % WHO
    ),
    CreditHeld(5, (Part(5),), 99, "order", "key:shop"): (
        b'{%s,"amount":5,"deadline_us":99,"reason":"order","used":[{"amount":5}]}' % WHO
    ),
    HoldCaptured(4, 2, (Part(2),), "order", "key:shop", (Part(1, 3, 9),), 2): (
        b'{%s,"amount":2,"expired":2,"hold":4,"reason":"order",'
        b'"returned":[{"amount":1,"expires_at_us":9,"grant":3}],"used":[{"amount":2}]}' % WHO
    ),
    HoldReleased(4, 2, "cancelled", "key:shop", (Part(2),)): (
        b'{%s,"amount":2,"hold":4,"reason":"cancelled","returned":[{"amount":2}]}' % WHO
    ),
    SpendReversed(4, 2, "refund", "key:shop", (Part(2),)): (
        b'{%s,"amount":2,"reason":"refund","returned":[{"amount":2}],"spend":4}' % WHO
    ),
    GrantRevoked(4, 2, 1, 0, "mistake", "key:shop"): (
        b'{%s,"amount":2,"grant":4,"held":0,"reason":"mistake","spent":1}' % WHO
    ),
    CreditExpired(2, (Part(2, 3, 9),), "expiry", "rule:expiry"): (
        b'{"actor":"rule:expiry","amount":2,"parts":[{"amount":2,"expires_at_us":9,"grant":3}],"reason":"expiry"}'
    ),
    AccountFrozen("asked for", "key:shop"): b'{%s,"reason":"asked for"}' % WHO,
    AccountUnfrozen("asked for", "key:shop", "case 9"): b'{%s,"reason":"asked for","reference":"case 9"}' % WHO,
}


def test_there_is_an_example_of_every_type_of_event() -> None:
    assert {type(event) for event in CANONICAL} == set(EVENT_TYPES.values())


@pytest.mark.parametrize(("event", "stored"), CANONICAL.items())
def test_an_event_is_stored_as_exactly_these_bytes_and_read_back(event: object, stored: bytes) -> None:
    """UTF-8, keys sorted, no white space: the bytes are hashed, so an encoder may never change them."""
    assert encode(event) == stored  # type: ignore[arg-type]
    assert decode(type(event).__name__, stored) == event


NOT_CANONICAL = {
    "white space": b'{"actor":"a","amount": 1,"reason":"a"}',
    "a line feed at the end": b'{"actor":"a","amount":1,"reason":"a"}\n',
    "keys out of order": b'{"actor":"a","reason":"a","amount":1}',
    "a key twice": b'{"actor":"a","amount":1,"amount":1,"reason":"a"}',
    "an escape where none is needed": b'{"actor":"a","amount":1,"reason":"\\u0061"}',
    "an escaped slash": b'{"actor":"a","amount":1,"reason":"\\/"}',
    "an escaped Chinese character": b'{"actor":"a","amount":1,"reason":"\\u7b7e"}',
    "a lone surrogate": b'{"actor":"a","amount":1,"reason":"\\ud800"}',
    "bytes that are not UTF-8": b'{"actor":"a","amount":1,"reason":"\xff"}',
    "a surrogate in UTF-8": b'{"actor":"a","amount":1,"reason":"\xed\xa0\x80"}',
    "an overlong zero": b'{"actor":"a","amount":1,"reason":"\xc0\x80"}',
    "a byte order mark": b'\xef\xbb\xbf{"actor":"a","amount":1,"reason":"a"}',
    "an unknown field": b'{"actor":"a","amount":1,"note":1,"reason":"a"}',
    "a missing field": b'{"actor":"a","amount":1}',
    "a float": b'{"actor":"a","amount":1.0,"reason":"a"}',
    "an exponent": b'{"actor":"a","amount":1e0,"reason":"a"}',
    "a leading zero": b'{"actor":"a","amount":01,"reason":"a"}',
    "text for a number": b'{"actor":"a","amount":"1","reason":"a"}',
    "true for a number": b'{"actor":"a","amount":true,"reason":"a"}',
    "NaN": b'{"actor":"a","amount":NaN,"reason":"a"}',
    "infinity": b'{"actor":"a","amount":1e999,"reason":"a"}',
    "null": b"null",
    "an array": b"[]",
    "nothing": b"",
    "a default that is spelt out": b'{"actor":"a","amount":1,"reason":"a","reference":null}',
    "a time behind the year 9999": b'{"actor":"a","amount":1,"expires_at_us":253402300800000000,"reason":"a"}',
    "a time below zero": b'{"actor":"a","amount":1,"expires_at_us":-1,"reason":"a"}',
    "an amount of zero": b'{"actor":"a","amount":0,"reason":"a"}',
    "an amount beyond JavaScript": b'{"actor":"a","amount":9007199254740992,"reason":"a"}',
    "deep nesting": b"[" * 100_000,
}


@pytest.mark.parametrize("stored", NOT_CANONICAL.values(), ids=NOT_CANONICAL.keys())
def test_bytes_that_this_code_would_not_have_written_are_corrupt(stored: bytes) -> None:
    with pytest.raises(CorruptEvent):
        decode("CreditGranted", stored)


@pytest.mark.parametrize("type_name", ["", "Event", "creditgranted", "CreditGranted ", "CreditTaken"])
def test_an_event_of_an_unknown_type_is_corrupt(type_name: str) -> None:
    with pytest.raises(CorruptEvent, match="unknown event type"):
        decode(type_name, b"{}")


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(CorruptEvent, match="unknown field `note`"):
        decode("UserRegistered", b'{"note":1}')
    with pytest.raises(CorruptEvent, match="unknown field `note`"):
        decode("CreditGranted", b'{"actor":"a","amount":1,"note":1,"reason":"a"}')


@given(st.binary(max_size=40))
def test_whatever_decodes_encodes_to_the_same_bytes(stored: bytes) -> None:
    for type_name in EVENT_TYPES:
        try:
            event = decode(type_name, stored)
        except CorruptEvent:
            continue
        assert encode(event) == stored


def test_an_event_cannot_be_changed() -> None:
    for event in CANONICAL:
        assert isinstance(event, msgspec.Struct)
        assert event.__struct_config__.frozen
