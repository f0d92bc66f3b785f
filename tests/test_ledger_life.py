"""The life of a credit, by example: granted, spent, held, given back, taken back, expired."""

from pathlib import Path

import pytest

from ledger.commands import (
    CaptureHold,
    FreezeAccount,
    GrantCredit,
    HoldCredit,
    RecordLapses,
    RegisterUser,
    ReleaseHold,
    ReverseSpend,
    RevokeGrant,
    SpendCredit,
    Submission,
    UnfreezeAccount,
)
from ledger.errors import (
    AccountIsFrozen,
    HoldSettled,
    InsufficientCredit,
    NothingToRevoke,
    NotInFuture,
    ReversalExceedsSpend,
)
from ledger.events import (
    AccountFrozen,
    AccountUnfrozen,
    CreditExpired,
    CreditGranted,
    CreditHeld,
    CreditSpent,
    GrantRevoked,
    HoldCaptured,
    HoldReleased,
    Part,
    SpendReversed,
)
from ledger.statement import Reader
from tests.ledger_samples import ACTOR, DAY_US, SINCE_US, Till, account_of, accounts_of, committed, log_of

SPRING, SUMMER = 100, 200  # when the two campaigns of most examples end
SPRING_US, SUMMER_US = SINCE_US + SPRING, SINCE_US + SUMMER


@pytest.fixture
def till(ledger_path: Path) -> Till:
    """oAnna has 10 credits for ever, 7 until summer (grant 3) and 5 until spring (grant 4)."""
    till = Till(ledger_path)
    till.at(0, RegisterUser("oAnna", 10))
    till.at(1, GrantCredit("oAnna", 7, "campaign", "summer", None, SUMMER_US))
    till.at(2, GrantCredit("oAnna", 5, "campaign", "spring", None, SPRING_US))
    return till


def spend(amount: int, key: str = "s") -> SpendCredit:
    return SpendCredit("oAnna", amount, "order", key, "order 7")


def hold(amount: int, key: str = "h", until: int | None = None) -> HoldCredit:
    deadline_us = None if until is None else SINCE_US + until
    return HoldCredit("oAnna", amount, "order", key, "order 7", deadline_us)


def from_spring(amount: int) -> Part:
    return Part(amount, 4, SPRING_US)


def from_summer(amount: int) -> Part:
    return Part(amount, 3, SUMMER_US)


@pytest.mark.parametrize(
    ("amount", "used"),
    [
        (1, (from_spring(1),)),
        (5, (from_spring(5),)),
        (6, (from_spring(5), from_summer(1))),
        (12, (from_spring(5), from_summer(7))),
        (13, (from_spring(5), from_summer(7), Part(1))),
        (22, (from_spring(5), from_summer(7), Part(10))),
    ],
)
def test_a_spend_uses_what_expires_first_then_what_never_does_and_writes_down_which(
    till: Till, amount: int, used: tuple[Part, ...]
) -> None:
    assert till.at(3, spend(amount)) == CreditSpent(amount, used, "order", ACTOR, "order 7")
    assert till.balance(3).credit == 22 - amount
    assert till.balance(3).spent == amount


def test_of_two_grants_that_expire_together_the_older_is_used_first(till: Till) -> None:
    till.at(3, GrantCredit("oAnna", 5, "campaign", "again", None, SPRING_US))
    event = till.at(4, spend(6))
    assert isinstance(event, CreditSpent)
    assert event.used == (Part(5, 4, SPRING_US), Part(1, 5, SPRING_US))


def test_a_spend_of_more_than_there_is_says_what_there_is(till: Till) -> None:
    till.at(3, hold(6))
    assert till.refused(4, spend(17)) == InsufficientCredit(available=16, held=6, asked=17, expiring=6)
    assert till.refused(SPRING, spend(17, "t")) == InsufficientCredit(16, 6, 17, 6)
    assert till.refused(SUMMER, spend(17, "u")) == InsufficientCredit(10, 6, 17, 0)


def test_credit_expires_at_its_moment_and_not_before(till: Till) -> None:
    assert till.lots(SPRING - 1) == {None: 10, 3: 7, 4: 5}
    assert till.lots(SPRING) == {None: 10, 3: 7}
    assert till.lots(SUMMER - 1) == {None: 10, 3: 7}
    assert till.lots(SUMMER) == {None: 10}
    assert till.balance(SUMMER).expired == 12


def test_what_expires_at_one_moment_is_one_event_that_names_each_grant(till: Till) -> None:
    till.at(3, GrantCredit("oAnna", 2, "campaign", "again", None, SPRING_US))
    till.at(4, spend(1))
    event = till.at(SPRING + 50, RecordLapses("oAnna"))
    assert event == CreditExpired(6, (from_spring(4), Part(2, 5, SPRING_US)), "expiry", "rule:expiry")
    assert log_of(till.path)[-1].recorded_at_us == SPRING_US


def test_a_grant_cannot_expire_in_the_past_nor_at_once(till: Till) -> None:
    for moment in (49, 50):
        grant = GrantCredit("oAnna", 1, "campaign", "late", None, SINCE_US + moment)
        assert till.refused(50, grant) == NotInFuture(SINCE_US + moment, SINCE_US + 50)
    assert till.refused(50, hold(1, until=50)) == NotInFuture(SINCE_US + 50, SINCE_US + 50)


def test_never_expiring_credit_is_one_lot_however_often_it_was_granted(ledger_path: Path) -> None:
    """10,000 check-ins must not make 10,000 rows or lots to walk."""
    grants = [GrantCredit("oAnna", 1, "gift", f"k{number}") for number in range(10_000)]
    committed(ledger_path, RegisterUser("oAnna", 0), *grants)
    assert len(accounts_of(ledger_path)) == 1
    account = account_of(ledger_path, "oAnna")
    assert (account.balance.credit, account.balance.lots) == (10_000, ())
    event = Till(ledger_path).at(10**12, spend(9_999))
    assert isinstance(event, CreditSpent)
    assert event.used == (Part(9_999),)


def test_a_hold_reserves_what_expires_first_and_says_until_when(till: Till) -> None:
    held = till.at(3, hold(6, until=50))
    deadline_us = SINCE_US + 50
    used = (from_spring(5), from_summer(1))
    assert held == CreditHeld(6, used, deadline_us, "order", ACTOR, "order 7")
    balance = till.balance(3)
    assert (balance.credit, balance.held, balance.spent) == (16, 6, 0)


def test_a_hold_without_a_deadline_is_for_seven_days(till: Till) -> None:
    held = till.at(3, hold(13))
    assert isinstance(held, CreditHeld)
    assert held.deadline_us == SINCE_US + 3 + 7 * DAY_US
    assert till.balance(3 + 7 * DAY_US - 1).held == 13
    assert till.balance(3 + 7 * DAY_US).held == 0


def test_a_hold_protects_its_credit_from_expiry_while_it_lives(till: Till) -> None:
    till.at(3, hold(5, until=SUMMER - 1))
    assert till.balance(SPRING + 10).held == 5
    assert till.balance(SPRING + 10).expired == 0
    captured = till.at(SPRING + 20, CaptureHold("oAnna", 5, "shipped", "c"))
    assert captured == HoldCaptured(5, 5, (from_spring(5),), "shipped", ACTOR, reference="order 7")
    assert (till.balance(SPRING + 20).spent, till.balance(SPRING + 20).expired) == (5, 0)


def test_a_partial_capture_spends_what_expires_first_and_gives_the_rest_back(till: Till) -> None:
    till.at(3, hold(13))
    captured = till.at(4, CaptureHold("oAnna", 5, "shipped", "c", 6))
    assert captured == HoldCaptured(
        5, 6, (from_spring(5), from_summer(1)), "shipped", ACTOR, (from_summer(6), Part(1)), 0, "order 7"
    )
    assert till.lots(4) == {None: 10, 3: 6}
    assert till.refused(5, CaptureHold("oAnna", 5, "shipped", "d")) == HoldSettled(5)


def test_what_a_partial_capture_gives_back_too_late_expires_at_once(till: Till) -> None:
    till.at(3, hold(13))
    captured = till.at(SPRING + 1, CaptureHold("oAnna", 5, "shipped", "c", 2))
    assert isinstance(captured, HoldCaptured)
    assert (captured.returned, captured.expired) == ((from_summer(7), Part(1)), 3)
    balance = till.balance(SPRING + 1)
    assert (balance.credit, balance.spent, balance.expired, balance.held) == (17, 2, 3, 0)


def test_a_release_gives_everything_back_to_where_it_came_from(till: Till) -> None:
    till.at(3, hold(13))
    released = till.at(4, ReleaseHold("oAnna", 5, "cancelled", "r"))
    assert released == HoldReleased(
        5, 13, "cancelled", ACTOR, (from_spring(5), from_summer(7), Part(1)), 0, "order 7"
    )
    assert till.lots(4) == {None: 10, 3: 7, 4: 5}


def test_a_hold_is_released_by_itself_at_its_deadline(till: Till) -> None:
    till.at(3, hold(13, until=50))
    assert till.balance(49).held == 13
    assert till.lots(50) == {None: 10, 3: 7, 4: 5}
    for number, command in enumerate(
        (CaptureHold("oAnna", 5, "shipped", "c"), ReleaseHold("oAnna", 5, "cancelled", "r"))
    ):
        assert till.refused(50 + number, command) == HoldSettled(5)
    till.at(60, spend(1))
    released, spent = log_of(till.path)[-2:]
    assert (released.type, released.recorded_at_us) == (b"HoldReleased", SINCE_US + 50)
    assert (spent.type, spent.recorded_at_us) == (b"CreditSpent", SINCE_US + 60)
    assert b'"actor":"rule:deadline"' in released.data


def test_at_one_moment_holds_are_released_before_credit_expires(till: Till) -> None:
    """So what a hold gives back at the very moment at which it expires is expired by its release."""
    till.at(3, hold(3, until=SPRING))
    assert till.types(SPRING)[-2:] == ["HoldReleased", "CreditExpired"]
    assert till.lots(SPRING) == {None: 10, 3: 7}
    assert till.balance(SPRING).expired == 5


def test_a_reversal_in_full_gives_back_to_the_grants_it_came_from(till: Till) -> None:
    till.at(3, spend(13))
    reversed_ = till.at(4, ReverseSpend("oAnna", 5, "refund", "r"))
    assert reversed_ == SpendReversed(
        5, 13, "refund", ACTOR, (from_spring(5), from_summer(7), Part(1)), 0, "order 7"
    )
    assert till.lots(4) == {None: 10, 3: 7, 4: 5}
    assert till.balance(4).spent == 0
    assert till.refused(5, ReverseSpend("oAnna", 5, "refund", "again")) == ReversalExceedsSpend(13, 13, 13)


def test_a_reversal_in_parts_gives_back_first_what_was_used_last_and_never_more_than_was_spent(
    till: Till,
) -> None:
    till.at(3, spend(14))  # 5 of spring, 7 of summer, 2 of what never expires
    returned = []
    for number, part in enumerate((1, 3, 6)):
        event = till.at(4 + number, ReverseSpend("oAnna", 5, "refund", f"r{number}", part))
        assert isinstance(event, SpendReversed)
        returned.append(event.returned)
    assert returned == [(Part(1),), (from_summer(2), Part(1)), (from_spring(1), from_summer(5))]
    assert till.refused(8, ReverseSpend("oAnna", 5, "refund", "r9", 5)) == ReversalExceedsSpend(14, 10, 5)
    rest = till.at(9, ReverseSpend("oAnna", 5, "refund", "r10"))
    assert isinstance(rest, SpendReversed)
    assert (rest.amount, rest.returned) == (4, (from_spring(4),))
    assert till.lots(9) == {None: 10, 3: 7, 4: 5}


def test_what_expired_meanwhile_expires_at_once_when_it_is_given_back(till: Till) -> None:
    till.at(3, spend(13))
    event = till.at(SPRING, ReverseSpend("oAnna", 5, "refund", "r"))
    assert isinstance(event, SpendReversed)
    assert (event.amount, event.returned, event.expired) == (13, (from_summer(7), Part(1)), 5)
    assert till.lots(SPRING) == {None: 10, 3: 7}
    assert (till.balance(SPRING).expired, till.balance(SPRING).spent) == (5, 0)


def test_a_capture_is_reversed_as_a_spend_is_up_to_what_was_captured(till: Till) -> None:
    till.at(3, hold(13))
    till.at(4, CaptureHold("oAnna", 5, "shipped", "c", 6))
    assert till.refused(5, ReverseSpend("oAnna", 6, "refund", "r", 7)) == ReversalExceedsSpend(6, 0, 7)
    event = till.at(6, ReverseSpend("oAnna", 6, "refund", "s"))
    assert isinstance(event, SpendReversed)
    assert event.returned == (from_spring(5), from_summer(1))
    assert till.lots(6) == {None: 10, 3: 7, 4: 5}


def test_a_revocation_takes_what_is_left_and_says_what_was_spent_and_is_held(till: Till) -> None:
    till.at(3, spend(2))
    till.at(4, hold(1))
    revoked = till.at(5, RevokeGrant("oAnna", 4, "mistake", "v"))
    assert revoked == GrantRevoked(4, 2, spent=2, held=1, reason="mistake", actor=ACTOR)
    assert till.lots(5) == {None: 10, 3: 7}
    assert till.refused(6, RevokeGrant("oAnna", 4, "mistake", "w")) == NothingToRevoke(5, 2)
    till.at(7, ReleaseHold("oAnna", 6, "cancelled", "r"))
    again = till.at(8, RevokeGrant("oAnna", 4, "mistake", "x"))
    assert again == GrantRevoked(4, 1, spent=2, held=0, reason="mistake", actor=ACTOR)
    assert till.balance(8).revoked == 3


def test_a_revocation_of_credit_that_never_expires_counts_the_grant_as_the_one_spent_last(till: Till) -> None:
    till.at(3, GrantCredit("oAnna", 6, "mistake", "g"))  # 5: 16 never expire now
    till.at(4, spend(24))  # all that expires, and 12
    revoked = till.at(5, RevokeGrant("oAnna", 5, "mistake", "v"))
    assert revoked == GrantRevoked(5, 4, spent=2, held=0, reason="mistake", actor=ACTOR)
    assert till.lots(5) == {None: 0}
    assert till.refused(6, RevokeGrant("oAnna", 2, "mistake", "w")) == NothingToRevoke(10, 0)


def test_nothing_is_left_to_revoke_of_what_expired(till: Till) -> None:
    assert till.refused(SPRING, RevokeGrant("oAnna", 4, "mistake", "v")) == NothingToRevoke(5, 0)


def test_a_frozen_account_keeps_its_credit_and_refuses_to_move_it_but_time_goes_on(till: Till) -> None:
    till.at(3, spend(1))
    assert till.at(4, FreezeAccount("oAnna", "asked for", "f", "case 9")) == AccountFrozen(
        "asked for", ACTOR, "case 9"
    )
    assert till.refused(5, spend(1, "t")) == AccountIsFrozen("oAnna")
    till.at(6, ReverseSpend("oAnna", 5, "refund", "r"))
    assert till.lots(6) == {None: 10, 3: 7, 4: 5}
    till.at(7, Submission(spend(1, "u"), "operator:kim", operator=True))
    assert till.lots(SPRING) == {None: 10, 3: 7}
    assert till.balance(SPRING).frozen
    assert till.at(SPRING + 1, UnfreezeAccount("oAnna", "cleared", "g")) == AccountUnfrozen("cleared", ACTOR)
    till.at(SPRING + 2, spend(1, "t"))
    assert not till.balance(SPRING + 2).frozen


def test_every_event_says_who_did_it(till: Till) -> None:
    event = till.at(3, Submission(GrantCredit("oAnna", 1, "gift", "k"), "operator:kim"))
    assert event == CreditGranted(1, "gift", "operator:kim")
    row = log_of(till.path)[-1]
    (again,) = committed(till.path, Submission(GrantCredit("oAnna", 1, "gift", "k"), "key:other"))
    assert (again.replayed, again.events[0].data) == (True, row.data), "whoever repeats it, it was kim"


def test_an_account_is_as_of_any_moment_what_it_was_then(till: Till) -> None:
    till.at(10, hold(6, until=50))
    till.at(20, spend(3))
    till.at(30, CaptureHold("oAnna", 5, "shipped", "c", 2))
    moments = {moment: till.balance(moment) for moment in (30, 99, SPRING, SUMMER, 999)}
    reader = Reader(till.path)
    for swept in (False, True):
        if swept:
            till.at(1000, RecordLapses("oAnna"))
        for moment, balance in moments.items():
            account = reader.account_as_of("oAnna", SINCE_US + moment)
            assert account is not None
            assert account.balance == balance
    credit = []
    for moment in (0, 1, 2, 9, 10, 19, 20, 29, 30):
        account = reader.account_as_of("oAnna", SINCE_US + moment)
        assert account is not None
        credit.append((account.balance.credit, account.balance.held))
    assert credit == [
        (10, 0), (17, 0), (22, 0), (22, 0), (16, 6), (16, 6), (13, 6), (13, 6), (17, 0),
    ]  # fmt: skip
    assert reader.account_as_of("oAnna", SINCE_US - 1) is None
    reader.close()
