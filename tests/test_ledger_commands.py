"""Commands: what can be formed, and what tells a repeated one from another."""

from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.commands import (
    CaptureHold,
    CheckIn,
    Command,
    FreezeAccount,
    GrantCredit,
    HoldCredit,
    RecordLapses,
    RegisterUser,
    ReleaseHold,
    ReverseSpend,
    RevokeGrant,
    SpendCredit,
    UnfreezeAccount,
    fingerprint,
    key_of,
)
from ledger.errors import InvalidCommand

MAX_CREDIT = 2**53 - 1

NOT_INTEGERS = [True, False, 1.0, "7", None, b"7", [7]]
NOT_TEXT = [None, 7, b"abc", True, ["a"]]
NOT_VISIBLE_ASCII = ["", " ", "a b", "a\n", "\x00", "\x7f", "\t", "a\x1f", "é", "积分", "😀", "\ud800"]
NOT_A_REASON = ["", "\x00", "a\nb", "tab\t", "\x1f", "\x7f", "\x80", "\x9f", "\ud800", "\udfff", "a" * 201]


def grant(**changed: object) -> GrantCredit:
    fields: dict[str, object] = {"openid": "oAnna", "amount": 7, "reason": "gift", "key": "k1", **changed}
    return GrantCredit(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", [0, -1, 2**53, 2**63, 2**64, *NOT_INTEGERS])
def test_an_amount_is_an_integer_from_1_to_the_largest_that_javascript_reads_exactly(amount: object) -> None:
    with pytest.raises(InvalidCommand, match=f"amount must be an integer from 1 to {MAX_CREDIT}"):
        grant(amount=amount)
    assert [grant(amount=each).amount for each in (1, MAX_CREDIT)] == [1, MAX_CREDIT]


@pytest.mark.parametrize("amount", [-1, 2**53, 2**63, *NOT_INTEGERS])
def test_a_signup_grant_may_be_zero_and_is_otherwise_an_amount(amount: object) -> None:
    with pytest.raises(InvalidCommand, match=f"signup_grant must be an integer from 0 to {MAX_CREDIT}"):
        RegisterUser("oAnna", amount)  # type: ignore[arg-type]
    assert [RegisterUser("oAnna", each).signup_grant for each in (0, 1, MAX_CREDIT)] == [0, 1, MAX_CREDIT]


@pytest.mark.parametrize("openid", [*NOT_VISIBLE_ASCII, *NOT_TEXT, "a" * 129])
def test_an_openid_is_1_to_128_visible_ascii_characters(openid: object) -> None:
    with pytest.raises(InvalidCommand, match="openid"):
        RegisterUser(openid, 100)  # type: ignore[arg-type]
    with pytest.raises(InvalidCommand, match="openid"):
        grant(openid=openid)
    assert [grant(openid=each).openid for each in ("!", "~" * 128)] == ["!", "~" * 128]


@pytest.mark.parametrize("key", [*NOT_VISIBLE_ASCII, *NOT_TEXT, "k" * 256])
def test_a_key_is_1_to_255_visible_ascii_characters(key: object) -> None:
    with pytest.raises(InvalidCommand, match="key"):
        grant(key=key)
    assert [grant(key=each).key for each in ("!", "~" * 255)] == ["!", "~" * 255]


@pytest.mark.parametrize("reason", [*NOT_A_REASON, *NOT_TEXT])
def test_a_reason_is_1_to_200_characters_without_control_characters_or_lone_surrogates(reason: object) -> None:
    with pytest.raises(InvalidCommand, match="reason"):
        grant(reason=reason)


@pytest.mark.parametrize("reason", [" ", "签到奖励", "👨‍👩‍👧", "a" * 200, "👍" * 200])
def test_a_reason_may_be_in_any_language(reason: str) -> None:
    assert grant(reason=reason).reason == reason


# A command of each type with every field given, the optional ones too.
COMPLETE: list[Command] = [
    RegisterUser("oAnna", 100),
    GrantCredit("oAnna", 7, "gift", "k1", "order 7", 9),
    SpendCredit("oAnna", 7, "order", "k1", "order 7"),
    HoldCredit("oAnna", 7, "order", "k1", "order 7", 9),
    CaptureHold("oAnna", 3, "order", "k1", 2, "order 7"),
    ReleaseHold("oAnna", 3, "order", "k1", "order 7"),
    ReverseSpend("oAnna", 3, "refund", "k1", 2, "order 7"),
    RevokeGrant("oAnna", 3, "mistake", "k1", "order 7"),
    FreezeAccount("oAnna", "asked for", "k1", "case 9"),
    UnfreezeAccount("oAnna", "asked for", "k1", "case 9"),
    CheckIn("oAnna", "k1", (7, 8), "2026"),
    RecordLapses("oAnna"),
]
MAX_TIME_US = 253_402_300_799_999_999
NOT_A_COUNT = [0, -1, 2**53, 2**63, True, False, 1.0, "7", b"7", [7]]
NOT_A_MOMENT = [-1, MAX_TIME_US + 1, 2**63, True, 1.0, "7", b"7"]
WRONG: dict[str, list[object]] = {
    "openid": [*NOT_VISIBLE_ASCII, *NOT_TEXT, "a" * 129],
    "key": [*NOT_VISIBLE_ASCII, *NOT_TEXT, "k" * 256],
    "reason": [*NOT_A_REASON, *NOT_TEXT],
    "reference": [*NOT_A_REASON, *NOT_TEXT[1:]],
    "signup_grant": [-1, 2**53, 2**63, *NOT_INTEGERS],
    "amount": [*NOT_A_COUNT, None],
    "part": NOT_A_COUNT,
    "hold": [*NOT_A_COUNT, None],
    "spend": [*NOT_A_COUNT, None],
    "grant": [*NOT_A_COUNT, None],
    "expires_at_us": NOT_A_MOMENT,
    "deadline_us": NOT_A_MOMENT,
    "rewards": [None, (), [7], (0,), (-1,), (True,), (1.0,), ("7",), (2**53,), (1,) * 367, 7],
    "rules": [None, "", "a b", "积分", "r" * 33, "a/b", "a\n", 7, b"2026"],
}


def test_there_is_a_complete_example_of_every_command() -> None:
    assert {type(command) for command in COMPLETE} == set(Command.__args__)
    assert all(None not in msgspec.structs.astuple(command) for command in COMPLETE)


@pytest.mark.parametrize("command", COMPLETE, ids=lambda command: type(command).__name__)
def test_no_command_is_formed_with_a_wrong_value_in_any_field(command: Command) -> None:
    for name in command.__struct_fields__:
        for wrong in WRONG[name]:
            fields = {**msgspec.structs.asdict(command), name: wrong}
            said = "reward" if name == "rewards" else name
            with pytest.raises(InvalidCommand, match=f"^{said}"):
                type(command)(**fields)


def test_the_first_and_last_values_that_are_taken_are_these() -> None:
    assert HoldCredit("oAnna", 1, "r", "k", None, 0).deadline_us == 0
    assert GrantCredit("oAnna", 1, "r", "k", "a" * 200, MAX_TIME_US).expires_at_us == MAX_TIME_US
    assert ReverseSpend("oAnna", MAX_CREDIT, "r", "k", MAX_CREDIT).part == MAX_CREDIT
    assert CheckIn("oAnna", "k", (MAX_CREDIT,) * 366, "A-z_0.9" + "x" * 25).rewards[365] == MAX_CREDIT


def test_a_command_cannot_be_changed_once_it_was_checked() -> None:
    with pytest.raises(AttributeError):
        grant().amount = 0  # type: ignore[misc]


def test_a_grant_has_a_key_and_a_registration_needs_none() -> None:
    assert key_of(grant(key="k9")) == "k9"
    assert key_of(RegisterUser("oAnna", 100)) is None
    assert key_of(RecordLapses("oAnna")) is None
    assert [key_of(command) for command in COMPLETE[1:-1]] == ["k1"] * 10


PINNED = (
    b'GrantCredit\0{"amount":7,"key":"k1","openid":"oAnna","reason":"\xe7\xad\xbe\xe5\x88\xb0"}',
    "e675e2b0bfcade41ae5c1c974e863668915d0b3d1f300b4491fef47465ce0c87",
)


# Of each in `COMPLETE`, the first 64 bits: computed once and written down.
FINGERPRINTS = [
    "0b34817dec10edfe",
    "f3d61430b68d22cf",
    "8ec8311bb7597365",
    "d506416349d3e5b4",
    "285349742887f65b",
    "4689f6ae02521478",
    "c1a2d0a124b9cbbe",
    "c5dd403001329994",
    "beef8ce5565556b8",
    "e529cca570ef1371",
    "49d2ea623df6d7a5",
    "1281129733294bac",
]


def test_the_fingerprint_of_each_command_never_changes() -> None:
    assert [fingerprint(command).hex()[:16] for command in COMPLETE] == FINGERPRINTS


@pytest.mark.parametrize("command", COMPLETE[1:-2], ids=lambda command: type(command).__name__)
def test_a_fingerprint_tells_commands_apart_that_differ_in_any_one_field(command: Command) -> None:
    others = {"openid": "oBo", "key": "k9", "reason": "x", "reference": "x"}
    for name in command.__struct_fields__:
        values = [others.get(name, 5)]
        if name in ("reference", "part", "deadline_us", "expires_at_us"):
            values.append(None)
        for value in values:
            other = type(command)(**{**msgspec.structs.asdict(command), name: value})
            assert fingerprint(other) != fingerprint(command), name


def test_a_check_in_is_the_same_whatever_todays_rules_are() -> None:
    """The rules are the service's settings and not what was asked: a repeat after they changed is a repeat."""
    fingerprints = {
        fingerprint(CheckIn("oAnna", "k1", rewards, rules))
        for rewards in ((7, 8), (1,))
        for rules in ("2026", "2027")
    }
    assert len(fingerprints) == 1
    assert fingerprint(CheckIn("oAnna", "k2", (7, 8), "2026")) not in fingerprints
    assert fingerprint(CheckIn("oBo", "k1", (7, 8), "2026")) not in fingerprints


def test_a_fingerprint_is_the_hash_of_type_and_sorted_fields_and_never_changes() -> None:
    """Keys last for ever: a release that computed another value would refuse what it answered before."""
    hashed, pinned = PINNED
    assert sha256(hashed).hexdigest() == pinned
    assert fingerprint(grant(reason="签到")).hex() == pinned


FIELDS = st.fixed_dictionaries(
    {
        "openid": st.sampled_from(["a", "ab", "abc"]),
        "amount": st.sampled_from([1, 11, 111, MAX_CREDIT]),
        "reason": st.sampled_from(["1", "a", '","key":"k1', "积分"]),
        "key": st.sampled_from(["1", "a", '","key":"k1', "k1"]),
    }
)


@given(FIELDS, FIELDS)
def test_two_grants_have_the_same_fingerprint_exactly_when_they_are_equal(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert (fingerprint(grant(**one)) == fingerprint(grant(**other))) == (one == other)


def test_commands_of_two_types_with_the_same_fields_have_different_fingerprints() -> None:
    other = msgspec.defstruct(
        "TakeCredit", [("openid", str), ("amount", int), ("reason", str), ("key", str)], frozen=True
    )
    same_fields = other("oAnna", 7, "gift", "k1")
    assert fingerprint(same_fields) != fingerprint(grant())  # type: ignore[arg-type]


def test_a_field_added_later_at_its_default_does_not_change_a_recorded_fingerprint() -> None:
    """As `reference` and `expires_at_us` were: keys recorded before them must still match."""

    def next_release(command: type[Command], **options: bool) -> type[GrantCredit]:
        required = len(command.__struct_fields__) - len(command.__struct_defaults__)
        fields = [(name, str) for name in command.__struct_fields__[:required]]
        return msgspec.defstruct(  # type: ignore[return-value]
            command.__name__, [*fields, ("added", int | None, None)], frozen=True, **options
        )

    for command, values in ((GrantCredit, ("oAnna", 7, "gift", "k1")), (RegisterUser, ("oAnna", 100))):
        today = command(*values)
        later = next_release(command, omit_defaults=command.__struct_config__.omit_defaults)
        assert fingerprint(later(*values)) == fingerprint(today)
        assert fingerprint(later(*values, 5)) != fingerprint(today)  # type: ignore[call-arg]
