"""The write path on a real file: what is written, what a key answers, and what one command does to others."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ledger.account import Account, Balance
from ledger.chain import event_hash
from ledger.commands import Command, GrantCredit, RegisterUser, Submission, fingerprint
from ledger.committer import Committer, ledger_committer
from ledger.errors import AccountNotFound, CreditLimitExceeded, KeyReused, NotCommitted
from ledger.events import MAX_CREDIT
from ledger.execute import Outcome, execute
from ledger.log import Log
from tests.ledger_samples import (
    account_of,
    accounts_of,
    assert_sound,
    commit,
    commit_with,
    committed,
    handed_in,
    log_of,
)

NOW_US = 1_700_000_000_000_000


def grant(amount: int, key: str, openid: str = "oAnna", reason: str = "gift") -> GrantCredit:
    return GrantCredit(openid, amount, reason, key)


def what_happened(path: Path) -> list[tuple[bytes, int, bytes, bytes, int, bytes | None]]:
    return [(row.openid, row.version, row.type, row.data, row.credit, row.key) for row in log_of(path)]


REGISTERED_WITH_100 = [
    (b"oAnna", 1, b"UserRegistered", b"{}", 0, None),
    (b"oAnna", 2, b"CreditGranted", b'{"actor":"rule:signup","amount":100,"reason":"signup"}', 100, None),
]


def test_a_registration_writes_the_user_and_the_signup_grant_in_one_transaction(ledger_path: Path) -> None:
    (outcome,) = committed(ledger_path, RegisterUser("oAnna", 100), clock_us=lambda: NOW_US)
    assert (outcome.openid, outcome.version, outcome.credit, outcome.replayed) == ("oAnna", 2, 100, False)
    assert [event.type for event in outcome.events] == ["UserRegistered", "CreditGranted"]
    assert what_happened(ledger_path) == REGISTERED_WITH_100
    head = log_of(ledger_path)[1].hash
    balance = Balance(credit=100, granted=100)
    assert accounts_of(ledger_path).keys() == {b"oAnna"}
    assert account_of(ledger_path, "oAnna") == Account("oAnna", 2, head, NOW_US, NOW_US, balance)
    assert_sound(ledger_path)


@pytest.mark.parametrize("signup_grant", [100, 0, 1, MAX_CREDIT])
def test_registering_again_changes_nothing_even_with_another_signup_grant(
    ledger_path: Path, signup_grant: int
) -> None:
    (first,) = committed(ledger_path, RegisterUser("oAnna", 100))
    before = log_of(ledger_path), accounts_of(ledger_path)
    (second,) = committed(ledger_path, RegisterUser("oAnna", signup_grant))
    assert second == Outcome("oAnna", first.version, first.credit, (), replayed=True)
    assert (log_of(ledger_path), accounts_of(ledger_path)) == before


def test_registering_twice_in_one_list_registers_once(ledger_path: Path) -> None:
    outcomes = committed(ledger_path, RegisterUser("oAnna", 100), RegisterUser("oAnna", 100))
    assert [outcome.replayed for outcome in outcomes] == [False, True]
    assert what_happened(ledger_path) == REGISTERED_WITH_100


def test_a_signup_grant_of_zero_registers_without_a_grant(ledger_path: Path) -> None:
    (outcome,) = committed(ledger_path, RegisterUser("oAnna", 0))
    assert (outcome.version, outcome.credit) == (1, 0)
    assert what_happened(ledger_path) == REGISTERED_WITH_100[:1]
    assert_sound(ledger_path)


def test_a_grant_writes_one_event_chained_to_the_last_with_its_key_and_fingerprint(ledger_path: Path) -> None:
    command = grant(7, "k1", reason="签到奖励")
    committed(ledger_path, RegisterUser("oAnna", 100), command, clock_us=lambda: NOW_US)
    _, second, third = log_of(ledger_path)
    data = '{"actor":"key:tests","amount":7,"reason":"签到奖励"}'.encode()
    assert (third.version, third.type, third.data, third.credit) == (3, b"CreditGranted", data, 107)
    assert (third.key, third.fingerprint, third.recorded_at_us) == (b"k1", fingerprint(command), NOW_US)
    assert third.hash == event_hash(
        second.hash, b"oAnna", 3, b"CreditGranted", data, 107, b"k1", fingerprint(command), NOW_US
    )


def test_a_repeated_key_answers_what_was_answered_then_and_writes_nothing(ledger_path: Path) -> None:
    _, first, _ = committed(ledger_path, RegisterUser("oAnna", 100), grant(7, "k1"), grant(1, "k2"))
    before = log_of(ledger_path)
    (again,) = committed(ledger_path, grant(7, "k1"))
    assert again == msgspec.structs.replace(first, replayed=True)
    assert (again.version, again.credit) == (3, 107), "as it was then, not 108 as it is now"
    assert log_of(ledger_path) == before


def test_a_repeated_key_in_the_same_list_is_answered_from_the_list(ledger_path: Path) -> None:
    _, first, again = committed(ledger_path, RegisterUser("oAnna", 0), grant(7, "k1"), grant(7, "k1"))
    assert again == msgspec.structs.replace(first, replayed=True)
    assert len(log_of(ledger_path)) == 2


@pytest.mark.parametrize("other", [grant(8, "k1"), grant(7, "k1", reason="present")])
def test_the_key_of_another_command_is_refused_and_names_the_event_it_made(
    ledger_path: Path, other: Command
) -> None:
    committed(ledger_path, RegisterUser("oAnna", 100), grant(7, "k1"))
    before = log_of(ledger_path)
    assert commit(ledger_path, other) == [KeyReused("k1", 3)]
    assert log_of(ledger_path) == before


def test_a_refused_command_leaves_its_key_free(ledger_path: Path) -> None:
    assert commit(ledger_path, grant(7, "k1")) == [AccountNotFound("oAnna")]
    assert log_of(ledger_path) == []
    _, granted = committed(ledger_path, RegisterUser("oAnna", 100), grant(8, "k1"))
    assert (granted.credit, granted.replayed) == (108, False)


def test_the_same_key_on_two_accounts_is_two_keys(ledger_path: Path) -> None:
    committed(ledger_path, RegisterUser("oAnna", 100), RegisterUser("oBo", 100))
    anna, bo = committed(ledger_path, grant(7, "k1", "oAnna"), grant(9, "k1", "oBo"))
    assert (anna.credit, bo.credit, anna.replayed, bo.replayed) == (107, 109, False, False)


def test_openids_that_differ_in_case_or_a_wildcard_are_other_people(ledger_path: Path) -> None:
    openids = ["oA", "oa", "o%", "o_", "o*"]
    committed(ledger_path, *(RegisterUser(openid, 0) for openid in openids))
    outcomes = committed(ledger_path, *(grant(7, "k1", openid) for openid in openids))
    assert [outcome.credit for outcome in outcomes] == [7] * 5
    assert_sound(ledger_path)


def test_outcomes_stand_in_the_order_of_their_commands_and_a_refusal_touches_nobody_else(
    ledger_path: Path,
) -> None:
    outcomes = commit(
        ledger_path,
        RegisterUser("oAnna", 100),
        grant(1, "k1", "oNobody"),
        grant(MAX_CREDIT, "k1"),
        grant(7, "k1"),
        grant(8, "k1"),
        RegisterUser("oBo", 5),
    )
    assert [type(outcome) for outcome in outcomes] == [
        Outcome,
        AccountNotFound,
        CreditLimitExceeded,
        Outcome,
        KeyReused,
        Outcome,
    ]
    assert [account_of(ledger_path, openid).balance.credit for openid in ("oAnna", "oBo")] == [107, 5]
    assert len(log_of(ledger_path)) == 5
    assert_sound(ledger_path)


def test_credit_reaches_the_largest_integer_that_javascript_reads_exactly_and_no_more(
    ledger_path: Path,
) -> None:
    _, full, over = commit(
        ledger_path, RegisterUser("oAnna", 100), grant(MAX_CREDIT - 100, "k1"), grant(1, "k2")
    )
    assert isinstance(full, Outcome)
    assert full.credit == MAX_CREDIT == 9007199254740991
    assert over == CreditLimitExceeded(MAX_CREDIT, 1, MAX_CREDIT)
    assert_sound(ledger_path)


def test_recorded_time_never_runs_back_within_an_account_when_the_clock_does(ledger_path: Path) -> None:
    clock = iter([5000, 3000, 4000, 6000])
    committer = ledger_committer(ledger_path, clock_us=lambda: next(clock))
    for command in (RegisterUser("oAnna", 100), grant(1, "k1"), RegisterUser("oBo", 0), grant(1, "k2")):
        commit_with(committer, command)
    committer.close()
    times = [(row.openid, row.recorded_at_us) for row in log_of(ledger_path)]
    assert times == [
        (b"oAnna", 5000),
        (b"oAnna", 5000),
        (b"oAnna", 5000),
        (b"oBo", 4000),
        (b"oAnna", 6000),
    ]
    assert account_of(ledger_path, "oAnna").registered_at_us == 5000
    assert_sound(ledger_path)


def unbindable() -> GrantCredit:
    """A command that got past its own checks, as a bug would let it: SQLite cannot bind a lone surrogate."""
    command = grant(7, "k1")
    msgspec.structs.force_setattr(command, "key", "\ud800")
    return command


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_an_unexpected_error_fails_its_own_command_and_the_rest_lands_exactly_once(
    ledger_path: Path, position: int
) -> None:
    commands: list[Command] = [RegisterUser("oAnna", 100), grant(1, "k1"), grant(2, "k2")]
    commands.insert(position, unbindable())
    outcomes = commit(ledger_path, *commands)
    culprit = outcomes.pop(position)
    assert isinstance(culprit, UnicodeEncodeError)
    assert [outcome.credit for outcome in outcomes if isinstance(outcome, Outcome)] == [100, 101, 103]
    assert len(log_of(ledger_path)) == 4
    assert_sound(ledger_path)


def test_an_unexpected_error_alone_is_returned_and_the_next_list_goes_through(ledger_path: Path) -> None:
    committer = ledger_committer(ledger_path)
    (culprit,) = commit_with(committer, unbindable())
    assert isinstance(culprit, UnicodeEncodeError)
    (registered,) = commit_with(committer, RegisterUser("oAnna", 100))
    assert isinstance(registered, Outcome)
    committer.close()
    assert what_happened(ledger_path) == REGISTERED_WITH_100


def committer_that_fails(path: Path, culprit: Command) -> Committer[Log, Submission, Outcome]:
    """A committer in which the work on `culprit` fails after its rows were written."""

    def perform(log: Log, submission: Submission) -> Outcome:
        outcome = execute(log, submission, NOW_US)
        if submission == handed_in(culprit):
            raise ZeroDivisionError
        return outcome

    return Committer(lambda: Log(path), perform, path.with_name("ledger.lock"))


def test_what_the_culprit_wrote_before_it_failed_is_rolled_back(ledger_path: Path) -> None:
    commands = [RegisterUser("oAnna", 100), grant(1, "k1"), grant(2, "k2")]
    committer = committer_that_fails(ledger_path, commands[1])
    outcomes = commit_with(committer, *commands)
    committer.close()
    assert [type(outcome) for outcome in outcomes] == [Outcome, ZeroDivisionError, Outcome]
    assert [row.key for row in log_of(ledger_path)] == [None, None, b"k2"]
    (now_it_lands,) = committed(ledger_path, commands[1])
    assert (now_it_lands.credit, now_it_lands.replayed) == (103, False)
    assert_sound(ledger_path)


def test_a_clock_that_sqlite_cannot_keep_fails_the_command_and_writes_nothing(ledger_path: Path) -> None:
    """An integer of 2**63 raises at bind, in the middle of a transaction."""
    (culprit,) = commit(ledger_path, RegisterUser("oAnna", 100), clock_us=lambda: 2**63)
    assert isinstance(culprit, OverflowError)
    assert log_of(ledger_path) == []
    assert accounts_of(ledger_path) == {}


def test_an_empty_list_commits_nothing(ledger_path: Path) -> None:
    assert commit(ledger_path) == []
    assert log_of(ledger_path) == []


HOLD_WRITE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_writer_outside_the_turnstile_makes_the_list_fail_as_not_committed(
    ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's forgotten `BEGIN IMMEDIATE` in a shell: nothing was written, and the caller may try again."""
    monkeypatch.setattr("ledger.sqlite.BUSY_TIMEOUT_MS", 50)
    committer = ledger_committer(ledger_path)
    arguments = [sys.executable, "-c", HOLD_WRITE_LOCK, str(ledger_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "held\n"
        with pytest.raises(NotCommitted, match=r"ledger\.db cannot be written now: database is locked"):
            commit_with(committer, RegisterUser("oAnna", 100), RegisterUser("oBo", 100))
        shell.communicate()
    (registered,) = commit_with(committer, RegisterUser("oAnna", 100))
    assert isinstance(registered, Outcome)
    committer.close()
    assert what_happened(ledger_path) == REGISTERED_WITH_100
