"""The rules: which events or which refusal each command leads to, in the documented order."""

from pathlib import Path

import msgspec
import pytest

from ledger.account import Account, Balance, Hold, apply
from ledger.commands import Command, GrantCredit, RegisterUser
from ledger.decide import decide
from ledger.errors import AccountNotFound, CreditLimitExceeded, KeyReused, Refusal
from ledger.events import CreditGranted, Event, Part, UserRegistered
from tests.ledger_samples import ACTOR, commit, committed, handed_in

MAX_CREDIT = 2**53 - 1
NOBODY = Account("oAnna")
NOW_US = 50


def account(credit: int, held: int = 0) -> Account:
    """As if signed up with both, and then having reserved one."""
    return Account("oAnna", version=3, head=b"h" * 32, registered_at_us=1, balance=balance(credit, held))


def balance(credit: int, held: int = 0) -> Balance:
    holds = (Hold(99, 3, held, None, (Part(held),)),) if held else ()
    return Balance(credit, held, granted=credit + held, holds=holds)


def grant(amount: int) -> GrantCredit:
    return GrantCredit("oAnna", amount, "gift", "k1")


DECISIONS: list[tuple[Account, Command, tuple[Event, ...]]] = [
    (NOBODY, RegisterUser("oAnna", 100), (UserRegistered(), CreditGranted(100, "signup", "rule:signup"))),
    (NOBODY, RegisterUser("oAnna", 1), (UserRegistered(), CreditGranted(1, "signup", "rule:signup"))),
    (NOBODY, RegisterUser("oAnna", 0), (UserRegistered(),)),
    (
        NOBODY,
        RegisterUser("oAnna", MAX_CREDIT),
        (UserRegistered(), CreditGranted(MAX_CREDIT, "signup", "rule:signup")),
    ),
    (account(0), RegisterUser("oAnna", 100), ()),
    (account(MAX_CREDIT), RegisterUser("oAnna", MAX_CREDIT), ()),
    (account(0), grant(1), (CreditGranted(1, "gift", ACTOR),)),
    (account(0), grant(MAX_CREDIT), (CreditGranted(MAX_CREDIT, "gift", ACTOR),)),
    (account(1), grant(MAX_CREDIT - 1), (CreditGranted(MAX_CREDIT - 1, "gift", ACTOR),)),
    (account(1, held=1), grant(MAX_CREDIT - 2), (CreditGranted(MAX_CREDIT - 2, "gift", ACTOR),)),
]


@pytest.mark.parametrize(("before", "command", "events"), DECISIONS)
def test_a_command_leads_to_these_events(before: Account, command: Command, events: tuple[Event, ...]) -> None:
    assert decide(before, handed_in(command), None, NOW_US) == events


REFUSALS: list[tuple[Account, Command, Refusal]] = [
    (NOBODY, grant(1), AccountNotFound("oAnna")),
    (NOBODY, grant(MAX_CREDIT), AccountNotFound("oAnna")),
    (account(1), grant(MAX_CREDIT), CreditLimitExceeded(1, MAX_CREDIT, MAX_CREDIT)),
    (account(MAX_CREDIT), grant(1), CreditLimitExceeded(MAX_CREDIT, 1, MAX_CREDIT)),
    # What is reserved comes back when the reservation is released, so it counts.
    (account(1, held=1), grant(MAX_CREDIT - 1), CreditLimitExceeded(2, MAX_CREDIT - 1, MAX_CREDIT)),
]


@pytest.mark.parametrize(("before", "command", "refusal"), REFUSALS)
def test_a_command_is_refused_with_these_figures(before: Account, command: Command, refusal: Refusal) -> None:
    with pytest.raises(type(refusal)) as refused:
        decide(before, handed_in(command), None, NOW_US)
    assert refused.value.figures() == refusal.figures()


def test_refusals_come_in_the_documented_order(ledger_path: Path) -> None:
    """KeyReused, AccountNotFound, CreditLimitExceeded: each command here has a fault of a later kind too."""
    committed(ledger_path, RegisterUser("oAnna", MAX_CREDIT - 7), GrantCredit("oAnna", 7, "gift", "k1"))
    key_reused, not_found, limit_exceeded = commit(
        ledger_path,
        GrantCredit("oAnna", MAX_CREDIT, "gift", "k1"),
        GrantCredit("oNobody", MAX_CREDIT, "gift", "k1"),
        GrantCredit("oAnna", MAX_CREDIT, "gift", "k2"),
    )
    assert key_reused == KeyReused("k1", 3)
    assert not_found == AccountNotFound("oNobody")
    assert limit_exceeded == CreditLimitExceeded(MAX_CREDIT, MAX_CREDIT, MAX_CREDIT)


def test_a_refusal_says_its_code_its_figures_and_whether_a_retry_can_help() -> None:
    assert [(each.code, each.retry_helps) for each in (KeyReused, AccountNotFound, CreditLimitExceeded)] == [
        ("key-reused", False),
        ("account-not-found", True),
        ("credit-limit-exceeded", False),
    ]
    assert str(CreditLimitExceeded(1, 2, 3)) == "credit-limit-exceeded: granted 1, asked 2, limit 3"


def test_an_event_changes_an_account_by_its_own_facts_alone() -> None:
    assert apply(balance(5, held=2), 4, UserRegistered()) == balance(5, held=2)
    after = msgspec.structs.replace(balance(5, held=2), credit=12, granted=14)
    assert apply(balance(5, held=2), 4, CreditGranted(7, "gift", ACTOR)) == after
