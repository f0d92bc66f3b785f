"""Totals over all accounts: what these come to as of any moment, up to any day and for any reason."""

import json
import os
import pty
import subprocess
import sys
import unicodedata
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.account import Account, day_begins_us, day_of
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
)
from ledger.committer import ledger_committer, microseconds_now
from ledger.errors import CorruptEvent, LedgerUnusable
from ledger.events import (
    CreditGranted,
    CreditSpent,
    Event,
    GrantRevoked,
    HoldCaptured,
    SpendReversed,
    decode,
)
from ledger.execute import Outcome
from ledger.statement import Reader, rfc3339
from ledger.totals import Flow, Totals, totals
from scripts.credit_ledger_totals import _cut
from scripts.credit_ledger_totals import totals as command
from tests.ledger_samples import (
    DAY_US,
    SINCE_US,
    Till,
    commit_with,
    committed,
    log_of,
    make_unreadable,
    new_ledger,
    vandal,
)

PEOPLE = ("oAnna", "oBo", "o-C_c")
REASONS = ("spring", "签到奖励", "order")
FIGURES = ("issued", "redeemed", "expired", "revoked", "outstanding", "held")
AHEAD_US = (3, 10, 10, 20, 50, DAY_US, 2 * DAY_US)


# -- random ledgers ----------------------------------------------------------------------------------------


def some_command(chance: Random, versions: dict[str, list[int]], key: str, now_us: int) -> Command:
    """One that mostly goes through, about an event of the right type in `versions`."""
    openid, reason = chance.choice(PEOPLE), chance.choice(REASONS)
    moment_us = now_us // 10 * 10 + chance.choice(AHEAD_US)
    amount, part = chance.randint(1, 30), chance.choice((None, chance.randint(1, 9)))

    def one_of(*types: str) -> int:
        return chance.choice([number for name in types for number in versions.get(openid + name, [])] or [3])

    return chance.choice(  # type: ignore[no-any-return]
        [
            lambda: GrantCredit(openid, amount, reason, key, None, moment_us),
            lambda: GrantCredit(openid, amount, reason, key, None, moment_us),
            lambda: GrantCredit(openid, amount, reason, key),
            lambda: SpendCredit(openid, amount, reason, key),
            lambda: SpendCredit(openid, amount, reason, key),
            lambda: HoldCredit(openid, amount, reason, key, None, moment_us),
            lambda: HoldCredit(openid, amount, reason, key, None, moment_us),
            lambda: CaptureHold(openid, one_of("CreditHeld"), reason, key, part),
            lambda: ReleaseHold(openid, one_of("CreditHeld"), reason, key),
            lambda: ReverseSpend(openid, one_of("CreditSpent", "HoldCaptured"), reason, key, part),
            lambda: ReverseSpend(openid, one_of("CreditSpent", "HoldCaptured"), reason, key, part),
            lambda: RevokeGrant(openid, one_of("CreditGranted"), reason, key),
            lambda: CheckIn(openid, key, (1, 2), "2026"),
            lambda: RecordLapses(openid),
        ]
    )()


def live(path: Path, chance: Random, steps: int) -> int:
    """Commands over some days, most of which go through; when the last one was."""
    now_us = SINCE_US + chance.randrange(DAY_US)
    committer = ledger_committer(path, clock_us=lambda: now_us)
    versions: dict[str, list[int]] = {}
    commit_with(committer, *(RegisterUser(openid, 20) for openid in PEOPLE))
    for step in range(steps):
        now_us += chance.choice((0, 1, 2, 5, 9, 10, 25, DAY_US // 3, DAY_US))
        (outcome,) = commit_with(committer, some_command(chance, versions, f"k{step}", now_us))
        if isinstance(outcome, Outcome):
            for row in outcome.events:
                versions.setdefault(row.openid + row.type, []).append(row.version)
    committer.close()
    return now_us


def accounts_at(reader: Reader, at_us: int) -> list[Account]:
    found = (reader.account_as_of(openid, at_us) for openid in PEOPLE)
    return [account for account in found if account is not None]


def sums(accounts: list[Account]) -> dict[str, int]:
    """The figures of totals, from the balances of the accounts."""
    fields = {"issued": "granted", "redeemed": "spent", "outstanding": "credit"}
    return {
        name: sum(getattr(account.balance, fields.get(name, name)) for account in accounts) for name in FIGURES
    }


def figures(found: Flow) -> dict[str, int]:
    return {name: getattr(found, name) for name in FIGURES}


def events_at(reader: Reader, openid: str, at_us: int) -> dict[int, Event]:
    found: dict[int, Event] = {}
    before = None
    while True:
        page = reader.page(openid, at_us, limit=100, before=before, until_us=at_us + 1)
        found |= {row.version: decode(row.type, row.data) for row in page.events}
        before = page.next_before
        if before is None:
            return found


def flows_of(account: Account, events: dict[int, Event]) -> dict[str, Flow]:
    """By reason, from what is left in the end: what of a grant is not there, used or revoked has expired.

    Nothing here depends on when anything expired, or on what the events say about that.
    """
    flows: defaultdict[str, Flow] = defaultdict(Flow)
    left = {number: event.amount for number, event in events.items() if isinstance(event, CreditGranted)}
    reversed_of: defaultdict[int, int] = defaultdict(int)
    for event in events.values():
        if isinstance(event, SpendReversed):
            reversed_of[event.spend] += event.amount
        if isinstance(event, GrantRevoked):
            left[event.grant] -= event.amount
            flows[grant_in(events, event.grant).reason].revoked += event.amount
    for number, event in events.items():
        if isinstance(event, CreditSpent | HoldCaptured):
            still = event.amount - reversed_of[number]
            flows[event.reason].redeemed += still
            each = [part.grant for part in event.used for _ in range(part.amount)]
            for grant in each[:still]:  # what was used last came back first
                if grant is not None:
                    left[grant] -= 1
    for lot in account.balance.lots:
        left[lot.grant] -= lot.credit
    for part in (part for hold in account.balance.holds for part in hold.parts):
        if part.grant is not None:
            left[part.grant] -= part.amount
    for number in left:
        grant = grant_in(events, number)
        flows[grant.reason].issued += grant.amount
        flows[grant.reason].expired += 0 if grant.expires_at_us is None else left[number]
    return flows


def grant_in(events: dict[int, Event], version: int) -> CreditGranted:
    event = events[version]
    assert isinstance(event, CreditGranted)
    return event


def assert_totals_are_the_sums(path: Path, reader: Reader, found: Totals, at_us: int) -> None:
    accounts = accounts_at(reader, at_us)
    assert figures(found) == sums(accounts)
    assert (found.accounts, found.events) == (len(accounts), sum(account.version for account in accounts))
    assert found.issued == sum(figures(found).values()) - found.issued

    by_reason: defaultdict[str, Flow] = defaultdict(Flow)
    for account in accounts:
        for reason, flow in flows_of(account, events_at(reader, account.openid, at_us)).items():
            there = by_reason[reason]
            by_reason[reason] = Flow(
                *(getattr(there, name) + getattr(flow, name) for name in Flow.__struct_fields__)
            )
    assert found.by_reason == by_reason

    running = dict.fromkeys(FIGURES, 0)
    for (day, end), flow in zip(found.at_ends_of_days(), found.by_day.values(), strict=True):
        running = {name: running[name] + getattr(flow, name) for name in FIGURES}
        there = sums(accounts_at(reader, min(day_begins_us(day + 1) - 1, at_us)))
        assert running == there
        assert (end.outstanding, end.held) == (there["outstanding"], there["held"])
    assert running == figures(found)
    assert list(found.by_day) == sorted(found.by_day)


@given(st.randoms(use_true_random=True))
@settings(max_examples=12, deadline=None)
def test_totals_are_the_sums_over_all_accounts_at_every_moment(chance: Random) -> None:
    """Of each event, recorded or due, of the moment before it, and of one when everything has lapsed."""
    with new_ledger() as path:
        live(path, chance, steps=50)
        reader = Reader(path)
        end_us = SINCE_US + 400 * DAY_US
        moments = {end_us} | {
            row.recorded_at_us for openid in PEOPLE for row in reader.page(openid, end_us, limit=100).events
        }
        for moment in sorted(moments | {moment - 1 for moment in chance.sample(sorted(moments), 5)}):
            found = totals(path, end_us, moment)
            assert_totals_are_the_sums(path, reader, found, moment)
        assert totals(path, end_us) == totals(path, end_us, end_us)
        reader.close()


@given(st.randoms(use_true_random=True))
@settings(max_examples=8, deadline=None)
def test_totals_depend_on_no_sweep(chance: Random) -> None:
    with new_ledger() as path:
        now_us = live(path, chance, steps=30) + chance.choice((0, 20, DAY_US, 9 * DAY_US))
        then_us = chance.randint(SINCE_US, now_us)
        lazy = totals(path, now_us), totals(path, now_us, then_us)
        committed(path, *(RecordLapses(openid) for openid in PEOPLE), clock_us=lambda: now_us)
        assert (totals(path, now_us), totals(path, now_us, then_us)) == lazy


# -- reasons and days --------------------------------------------------------------------------------------


@pytest.fixture
def till(ledger_path: Path) -> Till:
    """oAnna has 10 of "signup" that never expire, as event 2, 7 of "spring" that do at 100, as 3, and 5 of
    "summer" that do at 200, as 4."""
    till = Till(ledger_path)
    till.at(0, RegisterUser("oAnna", 10))
    till.at(1, GrantCredit("oAnna", 7, "spring", "g3", None, SINCE_US + 100))
    till.at(2, GrantCredit("oAnna", 5, "summer", "g4", None, SINCE_US + 200))
    return till


def flows(till: Till, moment: int) -> dict[str, tuple[int, ...]]:
    """issued, redeemed, expired, revoked of each reason, as of that moment."""
    found = totals(till.path, SINCE_US + 400 * DAY_US, SINCE_US + moment)
    return {reason: msgspec.structs.astuple(flow) for reason, flow in found.by_reason.items()}


def test_what_expires_counts_for_the_reason_of_its_grant(till: Till) -> None:
    assert flows(till, 99)["spring"] == (7, 0, 0, 0)
    assert flows(till, 100) == {"signup": (10, 0, 0, 0), "spring": (7, 0, 7, 0), "summer": (5, 0, 0, 0)}
    assert flows(till, 200)["summer"] == (5, 0, 5, 0)


def test_what_expires_in_a_hold_counts_for_the_grant_it_was_held_of(till: Till) -> None:
    till.at(10, HoldCredit("oAnna", 11, "order", "h", None, SINCE_US + 300))  # 7 of spring, 4 of summer
    assert flows(till, 100)["spring"] == (7, 0, 0, 0), "a hold keeps it from expiring"
    till.at(150, CaptureHold("oAnna", 5, "shipped", "c", 3))  # 3 of spring; 4 of it are gone, summer's go back
    expected = {
        "signup": (10, 0, 0, 0), "spring": (7, 0, 4, 0), "summer": (5, 0, 0, 0), "shipped": (0, 3, 0, 0),
    }  # fmt: skip
    assert flows(till, 150) == expected
    assert flows(till, 200) == expected | {"summer": (5, 0, 5, 0)}


def test_what_expires_with_the_release_of_a_hold_counts_too_recorded_or_not(till: Till) -> None:
    till.at(10, HoldCredit("oAnna", 11, "order", "h", None, SINCE_US + 150))
    assert flows(till, 149)["spring"] == (7, 0, 0, 0)
    assert flows(till, 150)["spring"] == (7, 0, 7, 0)
    till.at(160, RecordLapses("oAnna"))
    assert flows(till, 149)["spring"] == (7, 0, 0, 0)
    assert flows(till, 150)["spring"] == (7, 0, 7, 0)
    assert "order" not in flows(till, 160), "a hold is no redemption"


def test_each_part_of_a_reversal_expires_for_its_own_grant(till: Till) -> None:
    """What was used last comes back first: of signup, then of summer, then of spring."""
    till.at(10, SpendCredit("oAnna", 14, "order", "s"))  # 7 of spring, 5 of summer, 2 of signup
    till.at(50, ReverseSpend("oAnna", 5, "refund", "r1", 3))  # 2 of signup, 1 of summer, which lives again
    assert flows(till, 50)["order"] == (0, 11, 0, 0)
    assert flows(till, 50).keys() == {"signup", "spring", "summer", "order"}, "a refund redeems nothing"
    till.at(150, ReverseSpend("oAnna", 5, "refund", "r2", 6))  # 4 of summer, and 2 of spring that are gone
    assert flows(till, 150)["order"] == (0, 5, 0, 0)
    assert flows(till, 150)["spring"] == (7, 0, 2, 0)
    till.at(250, ReverseSpend("oAnna", 5, "refund", "r3"))  # the last 5 of spring
    assert flows(till, 250) == {
        "signup": (10, 0, 0, 0), "spring": (7, 0, 7, 0), "summer": (5, 0, 5, 0), "order": (0, 0, 0, 0),
    }  # fmt: skip


def test_what_is_revoked_counts_for_the_reason_of_its_grant(till: Till) -> None:
    till.at(10, SpendCredit("oAnna", 2, "order", "s"))
    till.at(11, RevokeGrant("oAnna", 3, "mistake", "r"))
    till.at(12, RevokeGrant("oAnna", 2, "mistake", "r2"))
    assert flows(till, 12) == {
        "signup": (10, 0, 0, 10), "spring": (7, 0, 0, 5), "summer": (5, 0, 0, 0), "order": (0, 2, 0, 0),
    }  # fmt: skip


def test_a_day_is_one_in_shanghai_and_has_what_lapsed_on_it(ledger_path: Path) -> None:
    till = Till(ledger_path)
    midnight = day_begins_us(day_of(SINCE_US) + 1) - SINCE_US
    today = day_of(SINCE_US)
    till.at(midnight - 2, RegisterUser("oAnna", 10))
    till.at(midnight - 1, GrantCredit("oAnna", 7, "gift", "g", None, SINCE_US + midnight + DAY_US))
    till.at(midnight, SpendCredit("oAnna", 3, "order", "s"))
    till.at(midnight + 1, HoldCredit("oAnna", 2, "order", "h", None, SINCE_US + midnight + DAY_US - 1))
    till.at(midnight + 9 * DAY_US, FreezeAccount("oAnna", "asked for", "f"))  # and by now all of it has lapsed
    found = totals(till.path, SINCE_US + midnight + 9 * DAY_US)
    assert {number - today: msgspec.structs.astuple(day) for number, day in found.by_day.items()} == {
        0: (17, 0, 0, 0, 17, 0),
        1: (0, 3, 0, 0, -3, 0),  # held and released
        2: (0, 0, 4, 0, -4, 0),
    }, "and no day on which nothing moved"
    assert [(day.outstanding, day.held) for _, day in found.at_ends_of_days()] == [(17, 0), (14, 0), (10, 0)]


def test_an_event_of_a_time_to_come_is_one_of_now_where_the_clock_ran_back(till: Till) -> None:
    till.at(60, SpendCredit("oAnna", 3, "order", "s"))
    assert totals(till.path, SINCE_US + 30).redeemed == 3
    assert totals(till.path, SINCE_US + 30, SINCE_US + 30).redeemed == 0


# -- the reading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worth_us", [0, 50_000])
def test_any_number_of_ranges_and_processes_comes_to_the_same(
    ledger_path: Path, monkeypatch: pytest.MonkeyPatch, worth_us: int
) -> None:
    now_us = live(ledger_path, Random(7), steps=60) + DAY_US
    expected = totals(ledger_path, now_us)
    monkeypatch.setattr("ledger.parallel._WORTH_A_PROCESS", worth_us)
    monkeypatch.setattr("ledger.totals._RANGE_EVENTS", 2)
    told: list[tuple[int, int]] = []
    found = totals(ledger_path, now_us, None, lambda done, total: told.append((done, total)))
    assert found == expected
    rows = len(log_of(ledger_path))
    assert told[-1] == (rows, rows)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_what_is_written_meanwhile_is_in_none_of_it(ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or of one commit that moves credit of two accounts, one would be in and the other not."""
    now_us = live(ledger_path, Random(8), steps=60) + DAY_US
    expected = totals(ledger_path, now_us)
    monkeypatch.setattr("ledger.totals._RANGE_EVENTS", 2)
    wrote: list[int] = []

    def write(done: int, total: int) -> None:
        if len(wrote) == 3:
            return
        key = f"meanwhile-{len(wrote)}"
        committed(
            ledger_path,
            *(GrantCredit(openid, 1, "meanwhile", key) for openid in PEOPLE),
            clock_us=lambda: now_us,
        )
        wrote.append(done)

    assert totals(ledger_path, now_us, None, write) == expected
    assert len(wrote) > 1, "from when the first range was read"
    assert totals(ledger_path, now_us).issued == expected.issued + len(wrote) * len(PEOPLE)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DELETE FROM event WHERE version = 3", "event 4 of oAnna cannot be followed"),
        ("UPDATE event SET data = '{}' WHERE version = 3", "event 3 of oAnna cannot be followed"),
        ("UPDATE event SET type = 'CreditSpent' WHERE version = 3", "event 3 of oAnna cannot be followed"),
        ("UPDATE event SET openid = CAST(X'6fff' AS TEXT) WHERE version = 1", "cannot be followed"),
        (
            "UPDATE event SET data = replace(data, '\"grant\":3', '\"grant\":4') WHERE version = 5",
            "event 5 of oAnna cannot be followed",
        ),
        (
            "UPDATE event SET data = replace(data, '\"spend\":5', '\"spend\":2') WHERE version = 6",
            "event 6 of oAnna cannot be followed, see credit-ledger audit: event 2 is not a spend",
        ),
        (
            "UPDATE event SET data = replace(data, '\"grant\":2', '\"grant\":1') WHERE version = 7",
            "event 7 of oAnna cannot be followed, see credit-ledger audit: event 1 is not a grant",
        ),
    ],
)
def test_a_damaged_log_has_no_totals(till: Till, damage: str, said: str) -> None:
    till.at(10, SpendCredit("oAnna", 3, "order", "s"))
    till.at(11, ReverseSpend("oAnna", 5, "refund", "r", 1))
    till.at(12, RevokeGrant("oAnna", 2, "mistake", "m"))
    with vandal(till.path) as connection:
        connection.execute(damage)
    with pytest.raises(CorruptEvent, match=said) as error:
        totals(till.path, SINCE_US + 20)
    assert "credit-ledger audit" in str(error.value)


def test_expired_credit_that_no_grant_explains_is_damage(till: Till) -> None:
    till.at(10, HoldCredit("oAnna", 11, "order", "h", None, SINCE_US + 300))
    till.at(150, ReleaseHold("oAnna", 5, "cancelled", "r"))
    with vandal(till.path) as connection:  # the sums are as they were; but what expired was never-expiring
        connection.execute(
            "UPDATE event SET data = replace(data, '\"grant\":4', '\"grant\":9') WHERE version = 6"
        )
    with pytest.raises(CorruptEvent, match="event 6 of oAnna"):
        totals(till.path, SINCE_US + 160)


def test_a_file_that_is_no_database_is_named(ledger_path: Path) -> None:
    ledger_path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(LedgerUnusable, match=str(ledger_path)):
        totals(ledger_path, SINCE_US)


def test_a_file_that_cannot_be_read_to_its_end_is_named(till: Till) -> None:
    """What is looked at when it is opened is good."""
    make_unreadable(till.path)
    with pytest.raises(LedgerUnusable, match=f"{till.path} cannot be read"):
        totals(till.path, SINCE_US)


# -- the command line --------------------------------------------------------------------------------------


def run(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, env={"CREDIT_DATA": str(path.parent)})


def says(path: Path, *arguments: str) -> str:
    done = run(path, *arguments)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def shop(ledger_path: Path) -> Path:
    """Two days of a shop, with something held, expired, revoked and reversed."""
    till = Till(ledger_path)
    till.at(0, RegisterUser("oAnna", 100_000))
    till.at(1, GrantCredit("oAnna", 12_345, "春节活动", "g", None, SINCE_US + DAY_US))
    till.at(2, GrantCredit("oAnna", 500, "mistake", "m"))
    till.at(3, SpendCredit("oAnna", 345, "咖啡 ☕", "s"))
    till.at(4, RevokeGrant("oAnna", 4, "mistake", "r"))
    till.at(2 * DAY_US, HoldCredit("oAnna", 2_000, "order", "h"))
    till.at(2 * DAY_US + 1, SpendCredit("oAnna", 1_000, "order", "s2"))
    till.at(2 * DAY_US + 2, ReverseSpend("oAnna", 9, "refund", "b", 300))
    return ledger_path


AS_OF = rfc3339(SINCE_US + 3 * DAY_US)
SUMMARY = """\
             credits  of issued
issued       112,845     100.0%
redeemed       1,045       0.9%
expired       12,000      10.6%
revoked          500       0.4%
outstanding   97,300      86.2%
held           2,000       1.8%
"""
BY_REASON = """\
reason     issued  expired  of issued  revoked  redeemed  of all
signup    100,000        0          -        0         0       -
春节活动   12,345   12,000      97.2%        0         0       -
mistake       500        0          -      500         0       -
order           0        0          -        0       700    0.6%
咖啡 ☕         0        0          -        0       345    0.3%
"""
BY_DAY = """\
day          issued  redeemed  expired  revoked  outstanding   held
2023-11-15  112,845       345        0      500      112,000      0
2023-11-16        0         0   12,000        0      100,000      0
2023-11-17        0       700        0        0       97,300  2,000
"""


def test_it_prints_the_sums_then_reasons_then_days(shop: Path) -> None:
    head = f"1 accounts and 10 events as of {AS_OF}\n"
    assert says(shop, "--as-of", AS_OF) == "\n".join((head, SUMMARY, BY_REASON, BY_DAY))
    assert says(shop, "--as-of", AS_OF, "--by", "reason") == "\n".join((head, SUMMARY, BY_REASON))
    assert says(shop, "--as-of", AS_OF, "--by", "day") == "\n".join((head, SUMMARY, BY_DAY))


def test_without_a_moment_it_is_now(shop: Path) -> None:
    """By when the hold has been released."""
    before = rfc3339(microseconds_now())
    found = json.loads(says(shop, "--json"))
    assert before <= found["as_of"] <= rfc3339(microseconds_now())
    assert (found["outstanding"], found["held"], found["events"]) == (99_300, 0, 11)


def test_json_has_all_of_it_for_programs(shop: Path) -> None:
    found = json.loads(says(shop, "--json", "--as-of", AS_OF))
    assert list(found) == ["as_of", "accounts", "events", *FIGURES, "by_reason", "by_day"]
    assert found["by_reason"][1] == {
        "reason": "春节活动", "issued": 12_345, "redeemed": 0, "expired": 12_000, "revoked": 0,
    }  # fmt: skip
    assert found["by_day"][-1] == {
        "day": "2023-11-17", "issued": 0, "redeemed": 700, "expired": 0, "revoked": 0, "outstanding": 97_300,
        "held": 2_000,
    }  # fmt: skip
    assert found["issued"] == 112_845
    assert "by_day" not in json.loads(says(shop, "--json", "--by", "reason"))
    assert "by_reason" not in json.loads(says(shop, "--json", "--by", "day"))


def test_a_long_or_wicked_reason_keeps_to_its_column(ledger_path: Path) -> None:
    reasons = ["长" * 200, "\u2028line", "👨‍👩‍👧 family", "e\u0301tude", "\u202eevil"]
    committed(
        ledger_path,
        RegisterUser("oAnna", 0),
        *(GrantCredit("oAnna", 5, reason, f"k{number}") for number, reason in enumerate(reasons)),
    )
    text = says(ledger_path, "--by", "reason").partition("reason")[2]
    lines = text.splitlines()[1:]
    assert len(lines) == len(reasons)
    assert "\u2028" not in text
    assert "\u202e" not in text
    assert any(line.startswith("长" * 19 + "… ") for line in lines)
    wide = {
        sum(
            0 if unicodedata.category(character) in ("Mn", "Cf") else
            1 + (unicodedata.east_asian_width(character) in "WF")
            for character in line
        )
        for line in lines
    }  # fmt: skip
    assert len(wide) == 1, "every line ends in the same column"


def test_an_empty_ledger_comes_to_nothing(ledger_path: Path) -> None:
    text = says(ledger_path)
    assert text.startswith("0 accounts and 0 events as of ")
    assert "held               0          -\n" in text


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--as-of", "2999-01-01T00:00:00Z"), 1, "must not be in the future"),
        (("--as-of", "yesterday"), 2, "not a time with an offset"),
        (("--as-of", "2026-01-01T00:00:00"), 2, "not a time with an offset"),
        (("--by", "week"), 2, "Invalid value for '--by'"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(
    shop: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    done = run(shop, *arguments)
    assert done.exit_code == status
    assert said in done.output


def test_a_fault_of_the_ledger_is_a_sentence(shop: Path, tmp_path: Path) -> None:
    with vandal(shop) as connection:
        connection.execute("DELETE FROM event WHERE version = 3")
    done = run(shop)
    assert (done.exit_code, "cannot be followed, see credit-ledger audit" in done.output) == (1, True)
    done = run(tmp_path / "nowhere" / "ledger.db")
    assert (done.exit_code, "no ledger at" in done.output) == (1, True)


def test_a_terminal_sees_how_far_it_is(shop: Path) -> None:
    """In a process of its own, as it is installed."""
    reading, writing = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", "from scripts.credit_ledger import main; main()", "totals", "--json"],
        env={**os.environ, "CREDIT_DATA": str(shop.parent), "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=writing,
        timeout=60,
    )
    os.close(writing)
    shown = os.read(reading, 10_000).decode()
    os.close(reading)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["issued"] == 112_845
    assert "Adding up" in shown
    assert "100%" in shown


def test_a_reason_of_any_length_is_cut_at_once() -> None:
    """An imported event can have one of a million characters."""
    assert _cut("r" * 1_000_000) == "r" * 39 + "…"
