"""Replay: the account rows follow from the log alone, and are put right from it."""

from pathlib import Path

import pytest
from hypothesis import given, settings

from ledger.commands import Command, GrantCredit, RegisterUser
from ledger.execute import Outcome
from ledger.log import RawEvent
from ledger.replay import replay, replay_and_write
from ledger.sqlite import Connection
from ledger.statement import MAX_PAGE, Reader, Standing
from ledger.verify import describe
from tests.ledger_processes import Program
from tests.ledger_samples import (
    BATCHES,
    DAY_US,
    FORGED_ROW,
    SINCE_US,
    accounts_of,
    assert_sound,
    commit,
    log_of,
    new_ledger,
    run_batches,
    sample_ledger,
    vandal,
)


@pytest.fixture
def ledger(ledger_path: Path) -> Path:
    sample_ledger(ledger_path)
    return ledger_path


def last_events(path: Path) -> dict[str, RawEvent]:
    return {row.openid.decode(): row for row in log_of(path)}


@given(BATCHES)
@settings(max_examples=40, deadline=None)
def test_after_any_commands_the_fold_of_the_log_is_what_is_read_live(batches: list[list[Command]]) -> None:
    with new_ledger() as path:
        done = run_batches(path, batches)
        rebuilt = replay(path)
        assert (rebuilt.differences, rebuilt.faults) == ([], [])
        rows = log_of(path)
        assert (
            rebuilt.events == len(rows) == sum(len(outcome.events) for outcome in done if not outcome.replayed)
        )
        reader = Reader(path)
        for openid in ("oAnna", "oBo", "o-C_c"):
            events = [row for row in rows if row.openid == openid.encode()]
            page = reader.page(openid, SINCE_US - 1, limit=MAX_PAGE).events
            assert [
                (entry.version, entry.type.encode(), entry.data, entry.credit, entry.hash) for entry in page
            ] == [(row.version, row.type, row.data, row.credit, row.hash) for row in reversed(events)]
            for now_us in (SINCE_US - 1, SINCE_US + 1000, SINCE_US + 10 * DAY_US):
                page = reader.page(openid, now_us, limit=MAX_PAGE).events
                standing = Standing(page[0].version, page[0].credit) if page else None
                assert reader.standing(openid, now_us) == standing
        reader.close()


@given(BATCHES)
@settings(max_examples=30, deadline=None)
def test_the_size_of_the_lists_makes_no_difference(batches: list[list[Command]]) -> None:
    """One command a transaction, or all in one: the same log, byte for byte, and the same answers."""
    commands = [command for batch in batches for command in batch]
    logs, answers = [], []
    for cut in ([[command] for command in commands], [commands], batches):
        with new_ledger() as path:
            answers.append(run_batches(path, cut))
            logs.append((log_of(path), accounts_of(path)))
    assert logs[0] == logs[1] == logs[2]
    assert answers[0] == answers[1] == answers[2]


@given(BATCHES)
@settings(max_examples=20, deadline=None)
def test_sending_everything_again_changes_nothing(batches: list[list[Command]]) -> None:
    """What was accepted is answered as it was then. What was refused is sent again as well: nothing new."""
    with new_ledger() as path:
        first = run_batches(path, batches)
        accepted = {outcome.events[-1].hash: outcome for outcome in first if outcome.events}
        before = log_of(path)
        again = [
            outcome
            for batch in batches
            for outcome in commit(path, *batch)
            if isinstance(outcome, Outcome) and outcome.events
        ]
        # A grant refused for want of an account or of room may go through now; everything else is a repeat.
        for outcome in again:
            if outcome.replayed:
                was = accepted.get(outcome.events[-1].hash)
                assert was is None or (was.version, was.credit) == (outcome.version, outcome.credit)
        assert log_of(path)[: len(before)] == before
        assert_sound(path)


DAMAGE = {
    "credit": "UPDATE account SET credit = credit + 1000 WHERE openid = 'oAnna'",
    "version": "UPDATE account SET version = version - 1 WHERE openid = 'oAnna'",
    "head": "UPDATE account SET head = zeroblob(32) WHERE openid = 'oAnna'",
    "held": "UPDATE account SET held = 1 WHERE openid = 'oAnna'",
    "registered_at": "UPDATE account SET registered_at = 0 WHERE openid = 'oAnna'",
    "recorded_at": "UPDATE account SET recorded_at = 0 WHERE openid = 'oAnna'",
    "granted": "UPDATE account SET granted = granted + 1, spent = spent + 1 WHERE openid = 'oAnna'",
    "frozen": "UPDATE account SET frozen = 1 - frozen WHERE openid = 'oAnna'",
    "a check-in": "UPDATE account SET checkin_day = 19676, streak = 365 WHERE openid = 'oAnna'",
    "lots": "UPDATE account SET lots = '[[1700000000000009,3,50]]', due_at = 1700000000000009",
    "lots that are no JSON": "UPDATE account SET lots = '[[', due_at = 1",
    "holds that are no text": "UPDATE account SET holds = CAST(x'ff' AS TEXT), due_at = 1",
    "due_at": "UPDATE account SET due_at = 1 WHERE openid = 'oAnna'",
    "a missing row": "DELETE FROM account WHERE openid = 'oAnna'",
    "an extra row": FORGED_ROW,
    "another openid": "UPDATE account SET openid = 'oForged' WHERE openid = 'oAnna'",
    "an openid that is no text": "UPDATE account SET openid = CAST(x'6fff' AS TEXT) WHERE openid = 'oAnna'",
    "exchanged rows": "UPDATE account SET openid = CASE openid WHEN 'oAnna' THEN 'oZ' ELSE 'oAnna' END",
    "no rows at all": "DELETE FROM account",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_account_rows_are_named_and_put_right_exactly(ledger: Path, damage: str) -> None:
    right, events = accounts_of(ledger), log_of(ledger)
    with vandal(ledger) as connection:
        connection.execute(damage)
    wrong = accounts_of(ledger)
    named = {openid for openid in right.keys() | wrong.keys() if right.get(openid) != wrong.get(openid)}

    for run in (replay, replay_and_write):
        rebuilt = run(ledger)
        assert {difference.openid for difference in rebuilt.differences} == named
        assert all(describe(difference) for difference in rebuilt.differences)
    assert accounts_of(ledger) == right
    assert log_of(ledger) == events
    assert replay(ledger).differences == []
    assert_sound(ledger)


def test_a_replay_alone_writes_nothing(ledger: Path) -> None:
    with vandal(ledger) as connection:
        connection.execute(DAMAGE["credit"])
    wrong = accounts_of(ledger)
    (difference,) = replay(ledger).differences
    assert (difference.openid, describe(difference)) == (b"oAnna", "credit is 1106, its events come to 106")
    assert accounts_of(ledger) == wrong


def damage_both(connection: Connection) -> None:
    connection.execute("UPDATE event SET credit = 101 WHERE openid = 'oBo' AND version = 2")
    connection.execute(DAMAGE["credit"])


def remove_last_and_middle(connection: Connection) -> None:
    connection.execute("DELETE FROM event WHERE openid = 'oBo'")
    connection.execute("DELETE FROM account WHERE openid = 'oBo'")
    connection.execute(DAMAGE["credit"])


@pytest.mark.parametrize("damage", [damage_both, remove_last_and_middle])
def test_nothing_is_written_where_the_log_itself_is_damaged(ledger: Path, damage: object) -> None:
    """Not even the account whose events are right: a projection of a damaged log would hide the damage."""
    with vandal(ledger) as connection:
        damage(connection)  # type: ignore[operator]
    wrong = accounts_of(ledger)
    rebuilt = replay_and_write(ledger)
    assert rebuilt.faults
    assert [difference.openid for difference in rebuilt.differences] == [b"oAnna"]
    assert accounts_of(ledger) == wrong


def test_a_good_ledger_is_left_as_it_is(ledger: Path) -> None:
    right = accounts_of(ledger)
    rebuilt = replay_and_write(ledger)
    assert (rebuilt.events, rebuilt.accounts, rebuilt.differences, rebuilt.faults) == (7, 2, [], [])
    assert accounts_of(ledger) == right


def test_a_repair_beside_a_service_that_writes_loses_nothing(ledger: Path) -> None:
    """The account that it writes to is damaged: what it appends lands before or after the repair."""
    keys: set[str] = set()
    with Program("grant-until-told", ledger, "oAnna", "busy") as writer:
        assert writer.read() == "ready"
        writer.go()
        for extra in range(8):
            keys.update(writer.read())  # type: ignore[call-overload]
            for batch in writer.drain():
                keys.update(batch)  # type: ignore[call-overload]
            with vandal(ledger) as connection:
                connection.execute("UPDATE account SET registered_at = 0 WHERE openid = 'oAnna'")
                connection.execute(FORGED_ROW.replace("oForged", f"oForged{extra}"))
            rebuilt = replay_and_write(ledger)
            assert rebuilt.faults == []
            assert {each.openid for each in rebuilt.differences} == {b"oAnna", f"oForged{extra}".encode()}
        for batch in writer.kill():
            keys.update(batch)  # type: ignore[call-overload]
    recorded = [row.key.decode() for row in log_of(ledger) if row.key]
    assert keys <= set(recorded)
    assert_sound(ledger)
    assert accounts_of(ledger).keys() == {b"oAnna", b"oBo"}


def test_the_next_command_after_a_repair_goes_on_with_the_chain(ledger: Path) -> None:
    with vandal(ledger) as connection:
        connection.execute(DAMAGE["no rows at all"])
    replay_and_write(ledger)
    (granted,) = commit(ledger, GrantCredit("oAnna", 1, "gift", "k9"))
    assert isinstance(granted, Outcome)
    assert (granted.version, granted.credit) == (5, 107)
    (again,) = commit(ledger, RegisterUser("oBo", 100))
    assert isinstance(again, Outcome)
    assert (again.replayed, again.credit) == (True, 9)
    assert_sound(ledger)
