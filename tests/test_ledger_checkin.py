"""Checking in by example, and the bounds of an account."""

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ledger.commands import (
    CaptureHold,
    CheckIn,
    GrantCredit,
    HoldCredit,
    RecordLapses,
    RegisterUser,
    ReleaseHold,
    SpendCredit,
)
from ledger.decide import MAX_OPEN
from ledger.errors import AlreadyCheckedIn, CreditLimitExceeded, NotInFuture, TooManyOpen
from ledger.events import CheckedIn, decode
from ledger.execute import Outcome
from ledger.replay import replay
from tests.ledger_samples import (
    DAY_US,
    SINCE_US,
    Till,
    account_of,
    assert_sound,
    commit,
    committed,
    log_of,
)

MAX_CREDIT = 2**53 - 1
SHANGHAI = ZoneInfo("Asia/Shanghai")
REWARDS = (1, 2, 3)


def shanghai_us(*moment: int) -> int:
    return round(datetime(*moment, tzinfo=SHANGHAI).timestamp()) * 1_000_000  # type: ignore[arg-type,misc]


def tap(path: Path, at_us: int, rewards: tuple[int, ...] = REWARDS, rules: str = "2026") -> object:
    """(day of the streak, reward) of a check-in at that moment, or why not."""
    (told,) = commit(path, CheckIn("oAnna", f"at-{at_us}", rewards, rules), clock_us=lambda: at_us)
    if not isinstance(told, Outcome):
        return told
    checked_in, granted = (decode(row.type, row.data) for row in told.events[-2:])
    assert isinstance(checked_in, CheckedIn)
    assert checked_in.rules == rules
    return checked_in.streak, granted.amount  # type: ignore[union-attr]


@pytest.fixture
def anna(ledger_path: Path) -> Path:
    committed(ledger_path, RegisterUser("oAnna", 0), clock_us=lambda: shanghai_us(2026, 1, 1))
    return ledger_path


def test_a_check_in_counts_once_a_day_from_midnight_to_midnight_in_shanghai(anna: Path) -> None:
    midnight_us = shanghai_us(2026, 3, 2)
    assert tap(anna, midnight_us - 1) == (1, 1)
    assert tap(anna, midnight_us) == (2, 2), "a microsecond later is the next day there"
    next_us = shanghai_us(2026, 3, 3)
    assert tap(anna, midnight_us + 1) == AlreadyCheckedIn(2, next_us)
    assert tap(anna, next_us - 1) == AlreadyCheckedIn(2, next_us)
    assert tap(anna, next_us) == (3, 3)
    assert account_of(anna, "oAnna").balance.credit == 6


def test_the_day_does_not_turn_at_midnight_in_utc(anna: Path) -> None:
    assert tap(anna, shanghai_us(2026, 3, 2, 7, 59)) == (1, 1)
    assert isinstance(tap(anna, shanghai_us(2026, 3, 2, 8, 1)), AlreadyCheckedIn)


def test_the_recorded_day_is_counted_from_1970_in_shanghai(anna: Path) -> None:
    tap(anna, shanghai_us(2026, 3, 2, 0, 0))
    days = (datetime(2026, 3, 2, tzinfo=SHANGHAI) - datetime(1970, 1, 1, tzinfo=SHANGHAI)).days
    assert log_of(anna)[-2].data == b'{"day":%d,"rules":"2026","streak":1}' % days
    assert log_of(anna)[-1].data == b'{"actor":"rule:checkin/2026","amount":1,"reason":"checkin"}'


def test_a_streak_earns_by_the_table_and_stays_at_its_last_line(anna: Path) -> None:
    days = [tap(anna, shanghai_us(2026, 3, 2) + day * DAY_US) for day in range(6)]
    assert days == [(1, 1), (2, 2), (3, 3), (4, 3), (5, 3), (6, 3)]


@pytest.mark.parametrize("missed", [1, 2, 30])
def test_a_missed_day_breaks_the_streak(anna: Path, missed: int) -> None:
    start_us = shanghai_us(2026, 3, 2)
    assert [tap(anna, start_us + day * DAY_US) for day in (0, 1)] == [(1, 1), (2, 2)]
    assert tap(anna, start_us + (2 + missed) * DAY_US) == (1, 1)
    assert tap(anna, start_us + (3 + missed) * DAY_US) == (2, 2)


def test_other_rules_from_tomorrow_on_change_nothing_that_was_earned(anna: Path) -> None:
    """Each check-in says under which table it was; a replay adds up what was granted and looks at no table."""
    start_us = shanghai_us(2026, 3, 2)
    earned = [
        tap(anna, start_us, (1, 2, 3), "2026"),
        tap(anna, start_us + DAY_US, (10, 20), "2027"),
        tap(anna, start_us + 2 * DAY_US, (7,), "2028"),
    ]
    assert earned == [(1, 1), (2, 20), (3, 7)]
    tables = [decode("CheckedIn", row.data) for row in log_of(anna) if row.type == b"CheckedIn"]
    assert [table.rules for table in tables] == ["2026", "2027", "2028"]  # type: ignore[union-attr]
    assert replay(anna).differences == []
    assert account_of(anna, "oAnna").balance.credit == 28


def test_a_repeated_tap_is_answered_as_the_first_was_although_the_rules_changed(anna: Path) -> None:
    at_us = shanghai_us(2026, 3, 2)
    (first,) = committed(anna, CheckIn("oAnna", "tap", (5,), "2026"), clock_us=lambda: at_us)
    (again,) = committed(anna, CheckIn("oAnna", "tap", (9, 9), "2027"), clock_us=lambda: at_us + 9 * DAY_US)
    assert again.replayed
    assert (again.version, again.credit) == (first.version, first.credit) == (3, 5)
    assert len(log_of(anna)) == 3


def test_a_clock_that_runs_backwards_gives_no_second_check_in_and_lets_nothing_expire_twice(
    ledger_path: Path,
) -> None:
    till = Till(ledger_path)
    till.at(0, RegisterUser("oAnna", 0))
    till.at(0, GrantCredit("oAnna", 5, "gift", "k", None, SINCE_US + 50))
    till.at(2 * DAY_US, CheckIn("oAnna", "c1", REWARDS, "2026"))
    assert isinstance(till.refused(DAY_US, CheckIn("oAnna", "c2", REWARDS, "2026")), AlreadyCheckedIn)
    last_us = SINCE_US + 2 * DAY_US
    too_late = GrantCredit("oAnna", 5, "gift", "late", None, last_us)
    assert till.refused(DAY_US, too_late) == NotInFuture(last_us, last_us), "or it would expire before it began"
    till.at(10, SpendCredit("oAnna", 1, "order", "s"))
    times = [row.recorded_at_us - SINCE_US for row in log_of(ledger_path)]
    assert times == [0, 0, 50, 2 * DAY_US, 2 * DAY_US, 2 * DAY_US]
    assert till.balance(10) == till.balance(2 * DAY_US)
    assert (till.balance(10).credit, till.balance(10).expired) == (0, 5)


def test_time_may_run_back_to_before_an_expiry_that_was_only_read(ledger_path: Path) -> None:
    """A read writes nothing: what it showed as expired is there again if the clock was wrong."""
    till = Till(ledger_path)
    till.at(0, RegisterUser("oAnna", 0))
    till.at(0, GrantCredit("oAnna", 5, "gift", "k", None, SINCE_US + 50))
    assert till.balance(60).credit == 0
    till.at(40, SpendCredit("oAnna", 5, "order", "s"))
    assert (till.balance(60).credit, till.balance(60).spent, till.balance(60).expired) == (0, 5, 0)


def expiring(number: int) -> GrantCredit:
    return GrantCredit("oAnna", 2, "gift", f"g{number}", None, SINCE_US + 1000 + number)


def test_an_account_has_a_bounded_number_of_lots_and_holds(ledger_path: Path) -> None:
    """Each write walks them: without a bound, one account could make every write on it slow."""
    till = Till(ledger_path)
    committed(
        ledger_path,
        RegisterUser("oAnna", 100),
        *(expiring(number) for number in range(MAX_OPEN)),
        clock_us=lambda: SINCE_US,
    )
    assert till.refused(1, expiring(MAX_OPEN)) == TooManyOpen(MAX_OPEN, MAX_OPEN)
    assert till.refused(1, HoldCredit("oAnna", 1, "order", "h")) == TooManyOpen(MAX_OPEN, MAX_OPEN)
    till.at(2, GrantCredit("oAnna", 5, "gift", "never"))
    till.at(3, SpendCredit("oAnna", 2, "order", "s"))
    till.at(4, HoldCredit("oAnna", 1, "order", "h"))
    assert till.refused(5, expiring(MAX_OPEN)) == TooManyOpen(MAX_OPEN, MAX_OPEN)
    till.at(1001, expiring(MAX_OPEN))  # one of them has lapsed meanwhile
    assert len(till.balance(1001).lots) + len(till.balance(1001).holds) == MAX_OPEN


def test_all_that_was_ever_granted_stays_an_integer_that_javascript_reads_exactly(ledger_path: Path) -> None:
    """Of a lifetime, not of what is there: the sums of a statement are shown too."""
    till = Till(ledger_path)
    till.at(0, RegisterUser("oAnna", 100))
    till.at(1, GrantCredit("oAnna", MAX_CREDIT - 101, "gift", "k"))
    till.at(2, SpendCredit("oAnna", MAX_CREDIT - 1, "order", "s"))
    over = GrantCredit("oAnna", 2, "gift", "over")
    assert till.refused(3, over) == CreditLimitExceeded(MAX_CREDIT - 1, 2, MAX_CREDIT)
    assert till.refused(3, CheckIn("oAnna", "c", (2,), "2026")) == CreditLimitExceeded(
        MAX_CREDIT - 1, 2, MAX_CREDIT
    )
    till.at(4, GrantCredit("oAnna", 1, "gift", "last"))
    assert till.balance(4).granted == MAX_CREDIT


def test_a_year_of_holds_that_nobody_settles_is_released_in_order_by_one_write(ledger_path: Path) -> None:
    till = Till(ledger_path)
    till.at(0, RegisterUser("oAnna", 400))
    holds = [
        HoldCredit("oAnna", 1, "order", f"h{day}", None, SINCE_US + 1 + (day * 7 % 365) * DAY_US)
        for day in range(365)
    ]
    committed(ledger_path, *holds, clock_us=lambda: SINCE_US)
    (swept,) = committed(ledger_path, RecordLapses("oAnna"), clock_us=lambda: SINCE_US + 400 * DAY_US)
    times = [row.recorded_at_us for row in swept.events]
    assert times == sorted(times) == [SINCE_US + 1 + day * DAY_US for day in range(365)]
    assert (swept.credit, account_of(ledger_path, "oAnna").balance.holds) == (400, ())
    assert_sound(ledger_path)


def test_a_streak_is_of_days_and_not_of_24_hours(anna: Path) -> None:
    late, early = shanghai_us(2026, 3, 2, 0, 5), shanghai_us(2026, 3, 3, 23, 55)
    assert early - late > timedelta(hours=47) // timedelta(microseconds=1)
    assert (tap(anna, late), tap(anna, early)) == ((1, 1), (2, 2))


def test_a_hold_counts_once_for_each_lot_that_it_holds(ledger_path: Path) -> None:
    """Or holding everything, again and again, would make an account row of any size."""
    till = Till(ledger_path)
    half = MAX_OPEN // 2
    committed(
        ledger_path, RegisterUser("oAnna", 9), *(expiring(n) for n in range(half)), clock_us=lambda: SINCE_US
    )
    till.at(1, HoldCredit("oAnna", 2 * half, "order", "h1"))
    committed(ledger_path, *(expiring(half + n) for n in range(half)), clock_us=lambda: SINCE_US)
    assert till.refused(2, expiring(MAX_OPEN)) == TooManyOpen(MAX_OPEN, MAX_OPEN)
    till.at(3, CaptureHold("oAnna", half + 3, "shipped", "c", 2 * half - 1))
    till.at(4, HoldCredit("oAnna", 3, "order", "h2"))
    till.at(5, ReleaseHold("oAnna", MAX_OPEN + 5, "cancelled", "r"))
    balance = till.balance(5)
    assert (len(balance.lots), balance.holds, balance.credit) == (half + 1, (), 9 + 1 + 2 * half)
