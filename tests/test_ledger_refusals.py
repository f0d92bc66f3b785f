"""Why a command is refused: every reason of every command, in order of precedence, with its figures."""

from pathlib import Path

import pytest

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
    Submission,
    UnfreezeAccount,
    key_of,
)
from ledger.decide import MAX_OPEN
from ledger.errors import (
    AccountIsFrozen,
    AccountNotFound,
    AlreadyCheckedIn,
    AlreadyFrozen,
    CaptureExceedsHold,
    CreditLimitExceeded,
    GrantNotFound,
    HoldNotFound,
    HoldSettled,
    InsufficientCredit,
    KeyReused,
    NotFrozen,
    NothingToRevoke,
    NotInFuture,
    Refusal,
    ReversalExceedsSpend,
    SpendNotFound,
    TooManyOpen,
    VersionMismatch,
)
from ledger.execute import Outcome
from ledger.refusals import REFUSALS
from tests.ledger_samples import (
    ACTOR,
    DAY_US,
    SINCE_US,
    accounts_of,
    assert_sound,
    commit,
    committed,
    log_of,
    new_ledger,
    settle_file,
)

MAX_CREDIT = 2**53 - 1
NOW_US = SINCE_US + 1000  # 2023-11-15 06:13 in Shanghai
MIDNIGHT_US = 1_700_064_000_000_000  # there, at the end of that day
LATER_US = NOW_US + 30 * DAY_US

# Three accounts that have the same eleven events; `oFrozen` and `oFull` hold all that one may hold as well.
FROZEN, FULL, GOOD, NOBODY = "oFrozen", "oFull", "oGood", "oNobody"
# One more is full as well, and spent an expiring grant whole before: a refund of that would need a lot more.
CRAMMED, CRAMMED_SPENT = "oCrammed", 12
HELD, SETTLED, SPENT, REVOKED, GRANTED, LAST = 3, 4, 6, 8, 10, 10


def history(openid: str) -> list[Command]:
    return [
        RegisterUser(openid, 100),  # 1, 2
        HoldCredit(openid, 5, "order", "h1"),  # 3
        HoldCredit(openid, 6, "order", "h2"),  # 4
        ReleaseHold(openid, 4, "cancelled", "h3"),  # 5
        SpendCredit(openid, 10, "order", "s1"),  # 6
        ReverseSpend(openid, 6, "refund", "s2", 4),  # 7
        GrantCredit(openid, 20, "mistake", "g1"),  # 8
        RevokeGrant(openid, 8, "mistake", "g2"),  # 9
        GrantCredit(openid, 3, "gift", "used"),  # 10
    ]


@pytest.fixture(scope="module")
def prepared() -> bytes:
    with new_ledger() as path:
        for openid in (FROZEN, FULL, GOOD):
            committed(path, *history(openid), clock_us=lambda: SINCE_US)
        for openid in (FROZEN, FULL):
            lots = [GrantCredit(openid, 1, "gift", f"lot{n}", None, LATER_US) for n in range(MAX_OPEN - 1)]
            committed(path, CheckIn(openid, "c1", (1,), "2026"), *lots, clock_us=lambda: SINCE_US)
        crammed = [
            *history(CRAMMED),
            GrantCredit(CRAMMED, 1, "gift", "lot", None, LATER_US),
            SpendCredit(CRAMMED, 1, "order", "s3"),
            *(GrantCredit(CRAMMED, 1, "gift", f"lot{n}", None, LATER_US) for n in range(MAX_OPEN - 1)),
        ]
        committed(path, *crammed, clock_us=lambda: SINCE_US)
        committed(path, FreezeAccount(FROZEN, "asked for", "f1"), clock_us=lambda: SINCE_US)
        settle_file(path)
        return path.read_bytes()


@pytest.fixture
def ledger(ledger_path: Path, prepared: bytes) -> Path:
    ledger_path.write_bytes(prepared)
    return ledger_path


FULL_VERSION = LAST + 2 + MAX_OPEN - 1
FROZEN_VERSION = FULL_VERSION + 1
# Of the two that are full: 100 + 3 + 1 - 5 held - 6 spent, and the lots.
AVAILABLE = 93 + MAX_OPEN - 1


def stale(command: Command) -> Submission:
    """Handed in by somebody who last read the account at version 7."""
    return Submission(command, ACTOR, expected_version=7)


def now(command: Command) -> Submission:
    return Submission(command, ACTOR)


REUSED = KeyReused("used", GRANTED)
UNKNOWN = AccountNotFound(NOBODY)
STALE = VersionMismatch(FROZEN_VERSION, 7)
ICE = AccountIsFrozen(FROZEN)
PAST = NotInFuture(NOW_US, NOW_US)
LIMIT = CreditLimitExceeded(124 + MAX_OPEN - 1, MAX_CREDIT, MAX_CREDIT)
SHORT = InsufficientCredit(AVAILABLE, 5, MAX_CREDIT, MAX_OPEN - 1)
CROWDED = TooManyOpen(MAX_OPEN, MAX_OPEN)

# Of each command everything is wrong in the first line; each next line puts right what the one before was
# refused for and nothing else, so all that follows was true there too. The last one goes through. What no
# account can be at once is left out: one that nobody registered is not frozen, and no key of it is used.
TABLE: list[tuple[Submission, Refusal | None]] = [
    (now(RegisterUser(NOBODY, 100)), None),
    (stale(GrantCredit(FROZEN, MAX_CREDIT, "gift", "used", None, NOW_US)), REUSED),
    (stale(GrantCredit(NOBODY, MAX_CREDIT, "gift", "used", None, NOW_US)), UNKNOWN),
    (stale(GrantCredit(FROZEN, MAX_CREDIT, "gift", "new", None, NOW_US)), STALE),
    (now(GrantCredit(FROZEN, MAX_CREDIT, "gift", "new", None, NOW_US)), ICE),
    (now(GrantCredit(FULL, MAX_CREDIT, "gift", "new", None, NOW_US)), PAST),
    (now(GrantCredit(FULL, MAX_CREDIT, "gift", "new", None, NOW_US + 1)), LIMIT),
    (now(GrantCredit(FULL, 1, "gift", "new", None, NOW_US + 1)), CROWDED),
    (now(GrantCredit(FULL, 1, "gift", "new")), None),
    (stale(SpendCredit(FROZEN, MAX_CREDIT, "order", "used")), REUSED),
    (stale(SpendCredit(NOBODY, MAX_CREDIT, "order", "used")), UNKNOWN),
    (stale(SpendCredit(FROZEN, MAX_CREDIT, "order", "new")), STALE),
    (now(SpendCredit(FROZEN, MAX_CREDIT, "order", "new")), ICE),
    (now(SpendCredit(FULL, MAX_CREDIT, "order", "new")), SHORT),
    (now(SpendCredit(FULL, AVAILABLE, "order", "new")), None),
    (stale(HoldCredit(FROZEN, MAX_CREDIT, "order", "used", None, NOW_US)), REUSED),
    (stale(HoldCredit(NOBODY, MAX_CREDIT, "order", "used", None, NOW_US)), UNKNOWN),
    (stale(HoldCredit(FROZEN, MAX_CREDIT, "order", "new", None, NOW_US)), STALE),
    (now(HoldCredit(FROZEN, MAX_CREDIT, "order", "new", None, NOW_US)), ICE),
    (now(HoldCredit(FULL, MAX_CREDIT, "order", "new", None, NOW_US)), PAST),
    (now(HoldCredit(FULL, MAX_CREDIT, "order", "new", None, NOW_US + 1)), SHORT),
    (now(HoldCredit(FULL, AVAILABLE, "order", "new", None, NOW_US + 1)), CROWDED),
    (now(HoldCredit(GOOD, 92, "order", "new", None, LATER_US)), None),
    (stale(CaptureHold(FROZEN, SPENT, "shipped", "used", 7)), REUSED),
    (stale(CaptureHold(NOBODY, SPENT, "shipped", "used", 7)), UNKNOWN),
    (stale(CaptureHold(FROZEN, SPENT, "shipped", "new", 7)), STALE),
    (now(CaptureHold(FROZEN, SPENT, "shipped", "new", 7)), ICE),
    (now(CaptureHold(FULL, SPENT, "shipped", "new", 7)), HoldNotFound(SPENT)),
    (now(CaptureHold(FULL, SETTLED, "shipped", "new", 7)), HoldSettled(SETTLED)),
    (now(CaptureHold(FULL, HELD, "shipped", "new", 7)), CaptureExceedsHold(5, 7)),
    (now(CaptureHold(FULL, HELD, "shipped", "new", 5)), None),
    (stale(ReleaseHold(FROZEN, SPENT, "cancelled", "used")), REUSED),
    (stale(ReleaseHold(NOBODY, SPENT, "cancelled", "used")), UNKNOWN),
    (stale(ReleaseHold(FROZEN, SPENT, "cancelled", "new")), STALE),
    (now(ReleaseHold(FROZEN, SPENT, "cancelled", "new")), ICE),
    (now(ReleaseHold(FULL, SPENT, "cancelled", "new")), HoldNotFound(SPENT)),
    (now(ReleaseHold(FULL, SETTLED, "cancelled", "new")), HoldSettled(SETTLED)),
    (now(ReleaseHold(FULL, HELD, "cancelled", "new")), None),
    (stale(ReverseSpend(FROZEN, HELD, "refund", "used", 7)), REUSED),
    (stale(ReverseSpend(NOBODY, HELD, "refund", "used", 7)), UNKNOWN),
    (stale(ReverseSpend(FROZEN, HELD, "refund", "new", 7)), STALE),
    (now(ReverseSpend(FROZEN, HELD, "refund", "new", 7)), SpendNotFound(HELD)),
    (now(ReverseSpend(FROZEN, SPENT, "refund", "new", 7)), ReversalExceedsSpend(10, 4, 7)),
    (now(ReverseSpend(CRAMMED, CRAMMED_SPENT, "refund", "new", 1)), CROWDED),
    (now(ReverseSpend(FROZEN, SPENT, "refund", "new", 6)), None),
    (stale(RevokeGrant(FROZEN, SPENT, "mistake", "used")), REUSED),
    (stale(RevokeGrant(NOBODY, SPENT, "mistake", "used")), UNKNOWN),
    (stale(RevokeGrant(FROZEN, SPENT, "mistake", "new")), STALE),
    (now(RevokeGrant(FROZEN, SPENT, "mistake", "new")), ICE),
    (now(RevokeGrant(FULL, SPENT, "mistake", "new")), GrantNotFound(SPENT)),
    (now(RevokeGrant(FULL, REVOKED, "mistake", "new")), NothingToRevoke(20, 20)),
    (now(RevokeGrant(FULL, GRANTED, "mistake", "new")), None),
    (stale(FreezeAccount(FROZEN, "asked for", "used")), REUSED),
    (stale(FreezeAccount(NOBODY, "asked for", "used")), UNKNOWN),
    (stale(FreezeAccount(FROZEN, "asked for", "new")), STALE),
    (now(FreezeAccount(FROZEN, "asked for", "new")), AlreadyFrozen(FROZEN)),
    (now(FreezeAccount(FULL, "asked for", "new")), None),
    (stale(UnfreezeAccount(FULL, "asked for", "used")), REUSED),
    (stale(UnfreezeAccount(NOBODY, "asked for", "used")), UNKNOWN),
    (stale(UnfreezeAccount(FULL, "asked for", "new")), VersionMismatch(FULL_VERSION, 7)),
    (now(UnfreezeAccount(FULL, "asked for", "new")), NotFrozen(FULL)),
    (now(UnfreezeAccount(FROZEN, "asked for", "new")), None),
    (stale(CheckIn(FROZEN, "used", (MAX_CREDIT,), "2026")), REUSED),
    (stale(CheckIn(NOBODY, "used", (MAX_CREDIT,), "2026")), UNKNOWN),
    (stale(CheckIn(FROZEN, "new", (MAX_CREDIT,), "2026")), STALE),
    (now(CheckIn(FROZEN, "new", (MAX_CREDIT,), "2026")), ICE),
    (now(CheckIn(FULL, "new", (MAX_CREDIT,), "2026")), AlreadyCheckedIn(1, MIDNIGHT_US)),
    (
        now(CheckIn(GOOD, "new", (MAX_CREDIT,), "2026")),
        CreditLimitExceeded(123, MAX_CREDIT, MAX_CREDIT),
    ),
    (now(CheckIn(GOOD, "new", (1,), "2026")), None),
    (stale(RecordLapses(NOBODY)), UNKNOWN),
    (stale(RecordLapses(FROZEN)), STALE),
    (now(RecordLapses(FROZEN)), None),
]
IDS = [
    f"{type(line.command).__name__}-{refusal.code if refusal else 'goes-through'}" for line, refusal in TABLE
]


def test_the_table_has_every_refusal_of_every_command_in_the_documented_order() -> None:
    in_table: dict[type[Command], tuple[type[Refusal], ...]] = {}
    for submission, refusal in TABLE:
        so_far = in_table.setdefault(type(submission.command), ())
        if refusal is not None:
            in_table[type(submission.command)] = (*so_far, type(refusal))
    assert in_table == REFUSALS
    assert REFUSALS.keys() == set(Command.__args__)


@pytest.mark.parametrize(("submission", "expected"), TABLE, ids=IDS)
def test_the_first_refusal_that_is_true_is_the_answer_and_nothing_is_written(
    ledger: Path, submission: Submission, expected: Refusal | None
) -> None:
    before = log_of(ledger), accounts_of(ledger)
    trial = Submission(
        submission.command, ACTOR, submission.operator, submission.expected_version, dry_run=True
    )
    (tried, told) = commit(ledger, trial, submission, clock_us=lambda: NOW_US)
    if expected is None:
        assert isinstance(tried, Outcome), tried
        assert isinstance(told, Outcome), told
        assert_sound(ledger)
        return
    assert tried == told == expected
    assert (log_of(ledger), accounts_of(ledger)) == before


REFUSED = [(line, refusal) for line, refusal in TABLE if refusal is not None and key_of(line.command) == "new"]


@pytest.mark.parametrize(
    ("submission", "refusal"), REFUSED, ids=[f"{type(a.command).__name__}-{b.code}" for a, b in REFUSED]
)
def test_the_key_of_what_was_refused_is_still_free(
    ledger: Path, submission: Submission, refusal: Refusal
) -> None:
    openid = submission.command.openid
    refund = ReverseSpend(openid, SPENT, "refund", "new", 1)
    told, done = commit(ledger, submission, refund, clock_us=lambda: NOW_US)
    assert told == refusal
    assert isinstance(done, Outcome), done
    assert (done.replayed, done.events[-1].key) == (False, "new")


def test_a_key_refused_because_nobody_is_registered_is_free_once_somebody_is(ledger: Path) -> None:
    spend = SpendCredit(NOBODY, 3, "order", "new")
    told, _, done = commit(ledger, spend, RegisterUser(NOBODY, 5), spend, clock_us=lambda: NOW_US)
    assert told == UNKNOWN
    assert isinstance(done, Outcome)
    assert (done.replayed, done.credit) == (False, 2)


THROUGH_ICE: list[Command] = [
    GrantCredit(FROZEN, 1, "gift", "new"),
    SpendCredit(FROZEN, 1, "order", "new"),
    HoldCredit(FROZEN, 1, "order", "new"),
    CaptureHold(FROZEN, HELD, "shipped", "new"),
    ReleaseHold(FROZEN, HELD, "cancelled", "new"),
    RevokeGrant(FROZEN, GRANTED, "mistake", "new"),
    CheckIn(FROZEN, "new", (1,), "2026"),
]


def test_what_a_frozen_account_refuses_is_listed_above() -> None:
    assert {type(each) for each in THROUGH_ICE} == {
        command for command, refusals in REFUSALS.items() if AccountIsFrozen in refusals
    }


@pytest.mark.parametrize("command", THROUGH_ICE, ids=lambda command: type(command).__name__)
def test_an_operator_gets_through_where_an_account_is_frozen_and_nobody_else(
    ledger: Path, command: Command
) -> None:
    committed(  # room for one hold more, and the next day
        ledger,
        Submission(SpendCredit(FROZEN, 9, "order", "room"), "operator:kim", operator=True),
        clock_us=lambda: NOW_US,
    )
    tomorrow = NOW_US + DAY_US
    refused, done = commit(
        ledger, command, Submission(command, "operator:kim", operator=True), clock_us=lambda: tomorrow
    )
    assert refused == ICE
    assert isinstance(done, Outcome), done
    assert not done.replayed
    assert_sound(ledger)


def test_an_operator_is_refused_for_every_other_reason_as_anybody(ledger: Path) -> None:
    told = commit(
        ledger,
        *(
            Submission(line.command, "operator:kim", True, line.expected_version)
            for line, refusal in TABLE
            if refusal is not None and refusal != ICE
        ),
        clock_us=lambda: NOW_US,
    )
    assert told == [refusal for _, refusal in TABLE if refusal is not None and refusal != ICE]


def test_a_reversal_gets_through_where_an_account_is_frozen_whoever_asks(ledger: Path) -> None:
    (done,) = committed(ledger, ReverseSpend(FROZEN, SPENT, "refund", "new"), clock_us=lambda: NOW_US)
    assert done.credit == AVAILABLE + 6


def test_a_repeat_is_answered_although_the_account_was_frozen_meanwhile(ledger: Path) -> None:
    """The key is looked up first: what happened happened."""
    (again,) = committed(ledger, stale(GrantCredit(FROZEN, 3, "gift", "used")), clock_us=lambda: NOW_US)
    assert (again.replayed, again.version) == (True, GRANTED)


def test_a_command_for_the_expected_version_is_done_and_for_any_other_refused(ledger: Path) -> None:
    def spend(key: str, version: int) -> Submission:
        return Submission(SpendCredit(GOOD, 1, "order", key), ACTOR, expected_version=version)

    told = commit(
        ledger, *(spend(f"n{each}", LAST + each) for each in (-1, 1, 0, 0, 1)), clock_us=lambda: NOW_US
    )
    assert told[:2] == [VersionMismatch(LAST, LAST - 1), VersionMismatch(LAST, LAST + 1)]
    assert isinstance(told[2], Outcome)
    assert (told[2].version, told[2].replayed) == (LAST + 1, False)
    again, last = told[3:]
    assert isinstance(again, Outcome), "the same command under the same key: a repeat, at whatever version"
    assert again.replayed
    assert isinstance(last, Outcome), "and the one that was too early before is expected now"


def test_the_expected_version_counts_what_lapsed_meanwhile(ledger_path: Path) -> None:
    """A reader is shown the expiry before anybody recorded it, so that is the version it will expect."""
    committed(
        ledger_path,
        RegisterUser(GOOD, 5),
        GrantCredit(GOOD, 1, "gift", "k1", None, SINCE_US + 9),
        clock_us=lambda: SINCE_US,
    )
    told = commit(
        ledger_path,
        Submission(SpendCredit(GOOD, 1, "order", "k2"), ACTOR, expected_version=3),
        Submission(SpendCredit(GOOD, 1, "order", "k2"), ACTOR, expected_version=4),
        clock_us=lambda: SINCE_US + 9,
    )
    assert told[0] == VersionMismatch(4, 3)
    assert isinstance(told[1], Outcome)
    assert [row.type for row in told[1].events] == ["CreditExpired", "CreditSpent"]


@pytest.mark.parametrize(
    "line", [line for line, refusal in TABLE if refusal is None], ids=lambda line: type(line.command).__name__
)
def test_a_dry_run_writes_nothing_and_says_what_the_real_one_then_answers(
    ledger: Path, line: Submission
) -> None:
    """All but the moment, and the hash that it is part of."""
    before = log_of(ledger), accounts_of(ledger)
    trial = Submission(line.command, ACTOR, dry_run=True)
    tried, tried_again = committed(ledger, trial, trial, clock_us=lambda: NOW_US)
    assert tried == tried_again
    assert (log_of(ledger), accounts_of(ledger)) == before
    (done,) = committed(ledger, line, clock_us=lambda: NOW_US + 1)
    assert (tried.openid, tried.version, tried.credit, tried.replayed) == (
        done.openid,
        done.version,
        done.credit,
        done.replayed,
    )
    same = ("openid", "version", "type", "data", "credit", "key", "fingerprint")
    assert [[getattr(row, name) for name in same] for row in tried.events] == [
        [getattr(row, name) for name in same] for row in done.events
    ]
    assert_sound(ledger)


def test_a_dry_run_of_a_repeat_answers_what_was_recorded(ledger: Path) -> None:
    (again,) = committed(ledger, Submission(GrantCredit(FROZEN, 3, "gift", "used"), ACTOR, dry_run=True))
    assert (again.replayed, again.version) == (True, GRANTED)
