"""What lapses by itself: every answer is the same whether or not a sweep has run, and so is every event."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
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
)
from ledger.committer import ledger_committer
from ledger.errors import Refusal
from ledger.events import EVENT_TYPES, Recorded
from ledger.execute import Outcome
from ledger.statement import BEFORE_ALL_DUE, MAX_LOOK, Reader
from tests.ledger_samples import (
    DAY_US,
    SINCE_US,
    assert_sound,
    commit_with,
    committed,
    handed_in,
    log_of,
    new_ledger,
)

PEOPLE = ("oAnna", "oBo")
AHEAD_US = (3, 10, 10, 20, 20, 30, 50, 100, DAY_US)


class Side:
    """One of two ledgers that live through the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_us = SINCE_US
        self.committer = ledger_committer(path, clock_us=lambda: self.now_us)
        self.reader = Reader(path)

    def sweep(self) -> None:
        commit_with(self.committer, *(RecordLapses(openid) for openid in PEOPLE))

    def close(self) -> None:
        self.committer.close()
        self.reader.close()


def some_command(chance: Random, versions: dict[str, list[int]], key: str, now_us: int) -> Command:
    """One that mostly goes through, about an event of the right type in `versions`."""
    openid = chance.choice(PEOPLE)
    moment_us = now_us // 10 * 10 + chance.choice(AHEAD_US)
    amount, part = chance.randint(1, 9), chance.choice((None, chance.randint(1, 5)))

    def one_of(*types: str) -> int:
        return chance.choice([number for name in types for number in versions.get(openid + name, [])] or [3])

    return chance.choice(  # type: ignore[no-any-return]
        [
            lambda: GrantCredit(openid, amount, "gift", key, None, moment_us),
            lambda: GrantCredit(openid, amount, "gift", key, None, moment_us),
            lambda: GrantCredit(openid, amount, "gift", key),
            lambda: SpendCredit(openid, amount, "order", key),
            lambda: HoldCredit(openid, amount, "order", key, "order 7", moment_us),
            lambda: HoldCredit(openid, amount, "order", key, None, moment_us),
            lambda: CaptureHold(openid, one_of("CreditHeld"), "shipped", key, part),
            lambda: ReleaseHold(openid, one_of("CreditHeld"), "cancelled", key),
            lambda: ReverseSpend(openid, one_of("CreditSpent", "HoldCaptured"), "refund", key, part),
            lambda: RevokeGrant(openid, one_of("CreditGranted"), "mistake", key),
            lambda: CheckIn(openid, key, (1, 2), "2026"),
            lambda: FreezeAccount(openid, "asked for", key),
            lambda: UnfreezeAccount(openid, "asked for", key),
            lambda: UnfreezeAccount(openid, "asked for", key),
        ]
    )()


def statement(side: Side, openid: str, asked: dict[str, object]) -> list[tuple[list[Recorded], int | None]]:
    """Every page by its cursor."""
    pages, before = [], asked.pop("before", None)
    while True:
        page = side.reader.page(openid, side.now_us, before=before, **asked)  # type: ignore[arg-type]
        pages.append((page.events, page.next_before))
        if page.next_before is None:
            return pages
        assert before is None or page.next_before < before  # type: ignore[operator]
        before = page.next_before


def assert_same_answers(chance: Random, swept: Side, lazy: Side) -> None:
    for openid in PEOPLE:
        now_us = swept.now_us
        account = swept.reader.account(openid, now_us)
        assert lazy.reader.account(openid, now_us) == account
        assert lazy.reader.standing(openid, now_us) == swept.reader.standing(openid, now_us)
        then_us = chance.randint(SINCE_US - 1, now_us)
        assert lazy.reader.account_as_of(openid, then_us) == swept.reader.account_as_of(openid, then_us)
        assert lazy.reader.account_as_of(openid, now_us) == account
        assert account is not None
        asked = {
            "limit": chance.choice((1, 2, 5, 100)),
            "before": chance.choice((None, chance.randint(0, account.version + 2))),
            "types": frozenset(chance.sample(sorted(EVENT_TYPES), chance.choice((0, 0, 1, 3)))),
            "since_us": chance.choice((None, chance.randint(SINCE_US - 1, now_us))),
            "until_us": chance.choice((None, chance.randint(SINCE_US - 1, now_us + 1))),
        }
        assert statement(lazy, openid, dict(asked)) == statement(swept, openid, dict(asked)), asked


def without_position(path: Path, openid: str) -> list[tuple[object, ...]]:
    rows = [row for row in log_of(path) if row.openid == openid.encode()]
    return [tuple(getattr(row, name) for name in row._fields if name != "position") for row in rows]


def live_through_the_same(chance: Random, swept: Side, lazy: Side, steps: int) -> None:
    versions: dict[str, list[int]] = {}
    for step in range(steps):
        now_us = lazy.now_us + chance.choice((0, 1, 2, 5, 9, 10, 25, DAY_US))
        while chance.random() < 0.3 and swept.now_us < now_us:  # a sweep at any time in between
            swept.now_us = chance.randint(swept.now_us, now_us)
            swept.sweep()
        swept.now_us = lazy.now_us = now_us
        command = handed_in(some_command(chance, versions, f"k{step}", now_us))
        (one,), (other,) = (side.committer.commit([command]) for side in (swept, lazy))
        if isinstance(one, Outcome):
            assert isinstance(other, Outcome)
            assert (one.version, one.credit, one.events[-1]) == (other.version, other.credit, other.events[-1])
            for row in one.events:
                versions.setdefault(row.openid + row.type, []).append(row.version)
        else:
            assert isinstance(one, Refusal), one
            assert one == other
        if chance.random() < 0.5:
            assert_same_answers(chance, swept, lazy)
        swept.sweep()
        assert_same_answers(chance, swept, lazy)
        assert swept.reader.due(now_us, BEFORE_ALL_DUE, 10) == []


@given(st.randoms(use_true_random=True))
@settings(max_examples=25, deadline=None)
def test_a_sweeper_makes_no_difference_to_any_answer_and_none_to_any_event(chance: Random) -> None:
    with new_ledger() as one, new_ledger() as other:
        swept, lazy = Side(one), Side(other)
        for side in (swept, lazy):
            commit_with(side.committer, *(RegisterUser(openid, 20) for openid in PEOPLE))
        live_through_the_same(chance, swept, lazy, steps=40)
        lazy.sweep()
        assert_same_answers(chance, swept, lazy)
        swept.close()
        lazy.close()
        for openid in PEOPLE:
            assert without_position(one, openid) == without_position(other, openid)
        assert_sound(one)
        assert_sound(other)


@pytest.fixture
def reader(ledger_path: Path) -> Iterator[Reader]:
    """Of an account with a hold until 20 and lots that end at 30 and 40; none of that is recorded yet."""
    committed(
        ledger_path,
        RegisterUser("oAnna", 5),  # 1, 2
        GrantCredit("oAnna", 7, "campaign", "k1", None, SINCE_US + 30),  # 3
        GrantCredit("oAnna", 8, "campaign", "k2", None, SINCE_US + 40),  # 4
        HoldCredit("oAnna", 11, "order", "k3", "order 7", SINCE_US + 20),  # 5
        clock_us=lambda: SINCE_US + 10,
    )
    opened = Reader(ledger_path)
    yield opened
    opened.close()


def shown(reader: Reader, at_us: int, **asked: object) -> list[tuple[int, str, int, int]]:
    page = reader.page("oAnna", SINCE_US + at_us, **asked)  # type: ignore[arg-type]
    return [(row.version, row.type, row.credit, row.recorded_at_us - SINCE_US) for row in page.events]


LAPSED = [
    (8, "CreditExpired", 5, 40),
    (7, "CreditExpired", 13, 30),
    (6, "HoldReleased", 20, 20),
]


def test_a_statement_shows_what_lapsed_before_anybody_recorded_it(ledger_path: Path, reader: Reader) -> None:
    assert [shown(reader, at_us)[0][:2] for at_us in (19, 20, 29, 30, 39, 40, 99)] == [
        (5, "CreditHeld"),
        (6, "HoldReleased"),
        (6, "HoldReleased"),
        (7, "CreditExpired"),
        (7, "CreditExpired"),
        (8, "CreditExpired"),
        (8, "CreditExpired"),
    ]
    assert shown(reader, 99)[:3] == LAPSED
    pending = reader.page("oAnna", SINCE_US + 99)
    assert len(log_of(ledger_path)) == 5
    committed(ledger_path, RecordLapses("oAnna"), clock_us=lambda: SINCE_US + 99)
    assert len(log_of(ledger_path)) == 8
    assert reader.page("oAnna", SINCE_US + 99) == pending
    assert_sound(ledger_path)


def test_a_statement_filters_by_type_what_is_pending_and_what_is_recorded(reader: Reader) -> None:
    assert shown(reader, 99, types=frozenset({"CreditExpired"})) == LAPSED[:2]
    both = shown(reader, 99, types=frozenset({"HoldReleased", "CreditHeld"}))
    assert both == [LAPSED[2], (5, "CreditHeld", 9, 10)]
    assert shown(reader, 99, types=frozenset({"CreditSpent"})) == []


@pytest.mark.parametrize("swept", [False, True])
def test_since_is_the_first_moment_of_a_statement_and_until_the_first_behind_it(
    ledger_path: Path, reader: Reader, swept: bool
) -> None:
    if swept:
        committed(ledger_path, RecordLapses("oAnna"), clock_us=lambda: SINCE_US + 99)

    def versions(since: int | None, until: int | None) -> list[int]:
        bounds = {"since_us": since, "until_us": until}
        given_ones = {name: SINCE_US + bound for name, bound in bounds.items() if bound is not None}
        return [version for version, *_ in shown(reader, 99, **given_ones)]

    assert versions(20, None) == [8, 7, 6]
    assert versions(21, None) == [8, 7]
    assert versions(40, None) == [8]
    assert versions(41, None) == []
    assert versions(None, 20) == [5, 4, 3, 2, 1]
    assert versions(None, 21) == [6, 5, 4, 3, 2, 1]
    assert versions(None, 10) == []
    assert versions(10, 11) == [5, 4, 3, 2, 1]
    assert versions(20, 40) == [7, 6]
    assert versions(30, 30) == []
    assert versions(40, 20) == []


@pytest.mark.parametrize("limit", range(1, 9))
def test_a_cursor_goes_from_what_is_pending_to_what_is_recorded_without_a_gap(
    ledger_path: Path, reader: Reader, limit: int
) -> None:
    """And the sweep may run between any two pages."""
    read: list[int] = []
    before = None
    for number in range(20):
        page = reader.page("oAnna", SINCE_US + 99, before=before, limit=limit)
        read += [row.version for row in page.events]
        if page.next_before is None:
            break
        before = page.next_before
        if number == 1:
            committed(ledger_path, RecordLapses("oAnna"), clock_us=lambda: SINCE_US + 99)
    assert read == [8, 7, 6, 5, 4, 3, 2, 1]


def test_a_page_of_few_types_looks_at_a_bounded_number_of_events_and_says_where_to_go_on(
    ledger_path: Path,
) -> None:
    """Or looking for a refund in 100,000 check-ins would read them all, for one page."""
    committed(
        ledger_path,
        RegisterUser("oAnna", 5),
        SpendCredit("oAnna", 1, "order", "k"),
        *(GrantCredit("oAnna", 1, "gift", f"k{number}") for number in range(2 * MAX_LOOK)),
        GrantCredit("oAnna", 1, "gift", "expiring", None, SINCE_US + 9),
        clock_us=lambda: SINCE_US,
    )
    reader = Reader(ledger_path)
    newest = 2 * MAX_LOOK + 5  # the expiry that nobody recorded
    cursors, found, before = [], [], None
    while True:
        page = reader.page("oAnna", SINCE_US + 9, before=before, types=frozenset({"CreditSpent"}), limit=5)
        found.append([row.version for row in page.events])
        before = page.next_before
        if before is None:
            break
        cursors.append(before)
    reader.close()
    assert cursors == [newest - MAX_LOOK + 1, newest - 2 * MAX_LOOK + 1]
    assert found == [[], [], [3]]


def test_what_is_due_is_listed_the_longest_due_first_and_goes_on_behind_a_cursor(ledger_path: Path) -> None:
    dues = {"oA": 50, "oB": 20, "oC": 20, "oD": 90, "oE": 10}
    for openid, due in dues.items():
        committed(
            ledger_path,
            RegisterUser(openid, 5),
            GrantCredit(openid, 1, "campaign", "k1", None, SINCE_US + due),
            clock_us=lambda: SINCE_US,
        )
    reader = Reader(ledger_path)
    first = reader.due(SINCE_US + 50, BEFORE_ALL_DUE, 2)  # which ends between two of one moment
    second = reader.due(SINCE_US + 50, first[-1], 3)
    assert [openid for _, openid in first + second] == ["oE", "oB", "oC", "oA"]
    assert [due - SINCE_US for due, _ in first + second] == [10, 20, 20, 50]
    assert reader.due(SINCE_US + 9, BEFORE_ALL_DUE, 3) == []
    committed(ledger_path, RecordLapses("oB"), clock_us=lambda: SINCE_US + 50)
    assert [openid for _, openid in reader.due(SINCE_US + 50, BEFORE_ALL_DUE, 9)] == ["oE", "oC", "oA"]
    reader.close()


def test_a_sweep_of_nothing_writes_nothing(ledger_path: Path) -> None:
    committed(
        ledger_path,
        RegisterUser("oAnna", 5),
        GrantCredit("oAnna", 1, "campaign", "k1", None, SINCE_US + 9),
        clock_us=lambda: SINCE_US,
    )
    before = log_of(ledger_path)
    (nothing,) = committed(ledger_path, RecordLapses("oAnna"), clock_us=lambda: SINCE_US + 8)
    assert (nothing.events, nothing.version, nothing.credit) == ((), 3, 6)
    assert log_of(ledger_path) == before
    (swept,) = committed(ledger_path, RecordLapses("oAnna"), clock_us=lambda: SINCE_US + 9)
    assert [(row.type, row.recorded_at_us, row.key) for row in swept.events] == [
        ("CreditExpired", SINCE_US + 9, None)
    ]
    assert (swept.version, swept.credit) == (4, 5)
    assert_sound(ledger_path)
