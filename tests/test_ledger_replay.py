"""Replay: the account rows follow from the log alone, are proved by a seal, and put right from it."""

import fcntl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from ledger import beside, replay_range, schema, seal_file
from ledger import replay as replaying
from ledger.beside import NEXT, Beside, FoldScan
from ledger.chain import event_hash, link
from ledger.commands import Command, GrantCredit, RegisterUser
from ledger.committer import ledger_committer
from ledger.errors import LedgerUnusable, NotCommitted
from ledger.events import MAX_CREDIT, CreditGranted
from ledger.execute import Outcome
from ledger.log import EVERYBODY, Log, LogScan, RawEvent
from ledger.note import Signer
from ledger.projection import PROJECTION
from ledger.replay import CannotUndo, replay, replay_and_write, undo
from ledger.sealed_root import Proof
from ledger.sealer import make_seal
from ledger.sqlite import Connection, connect
from ledger.statement import MAX_PAGE, Reader, Standing
from tests.ledger_processes import Program
from tests.ledger_samples import (
    BATCHES,
    DAY_US,
    FORGED_ROW,
    SINCE_US,
    account_of,
    accounts_of,
    assert_sound,
    commit,
    commit_with,
    committed,
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
        assert all(difference.sentence() for difference in rebuilt.differences)
    assert accounts_of(ledger) == right
    assert log_of(ledger) == events
    assert replay(ledger).differences == []
    assert_sound(ledger)


def test_a_replay_alone_writes_nothing(ledger: Path) -> None:
    with vandal(ledger) as connection:
        connection.execute(DAMAGE["credit"])
    wrong = accounts_of(ledger)
    (difference,) = replay(ledger).differences
    assert (difference.openid, difference.sentence()) == (b"oAnna", "credit is 1106, its events come to 106")
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


def test_a_good_ledger_has_the_same_rows_afterwards(ledger: Path) -> None:
    right = accounts_of(ledger)
    rebuilt = replay_and_write(ledger)
    assert (rebuilt.events, rebuilt.accounts, rebuilt.differences, rebuilt.faults) == (7, 2, [], [])
    assert (rebuilt.swapped, rebuilt.proof, rebuilt.resumed) == (True, None, 0)
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


# -- proof by the last seal ---------------------------------------------------------------------------------

SIGNER = Signer("credit-ledger/tests", Ed25519PrivateKey.generate())


def seal(path: Path) -> int:
    """Seal the ledger; the number of the seal."""
    seal_file.create(path.with_name("seals.db"), SIGNER.verifier.vkey)
    made = make_seal(path, path.with_name("seals.db"), SIGNER, SINCE_US)
    assert made is not None
    return made.seal.number


def test_what_was_sealed_is_proved_and_what_came_later_is_folded_on(ledger: Path) -> None:
    assert replay(ledger).proof is None, "nothing was sealed"
    number = seal(ledger)
    committed(ledger, GrantCredit("oAnna", 1, "gift", "late"), RegisterUser("oLate", 100))
    right = accounts_of(ledger)
    for run in (replay, replay_and_write):
        rebuilt = run(ledger)
        assert (rebuilt.proof, rebuilt.events, rebuilt.accounts) == (Proof(number, holds=True), 10, 3)
        assert (rebuilt.differences, rebuilt.faults) == ([], [])
    assert accounts_of(ledger) == right
    number = seal(ledger)
    assert replay_and_write(ledger).proof == Proof(number, holds=True)


def test_what_was_sealed_is_proved_where_many_keys_begin_alike(ledger: Path) -> None:
    """They are sorted only among those that begin with the same byte."""
    committed(ledger, *(RegisterUser(f"o{number}", number) for number in range(1, 200)))
    number = seal(ledger)
    assert replay(ledger).proof == Proof(number, holds=True)


def rewrite_chain(connection: Connection) -> None:
    """Another reason for the last event of oBo, with the right hash, and the account row to match."""
    columns = "credit, key, fingerprint, recorded_at, hash"
    rows = connection.execute(
        f"SELECT version, type, data, {columns} FROM event WHERE openid = 'oBo'"
    ).fetchall()
    (before, last) = sorted(rows)[-2:]
    data = b'{"actor":"key:tests","amount":2,"reason":"other"}'
    digest = event_hash(
        before[-1], b"oBo", last[0], last[1].encode(), data, last[3], last[4].encode(), *last[5:7]
    )
    where = "WHERE openid = 'oBo'"
    connection.execute(
        f"UPDATE event SET data = ?, hash = ? {where} AND version = ?", (data.decode(), digest, last[0])
    )
    connection.execute(f"UPDATE account SET head = ? {where}", (digest,))


def cut_tail(connection: Connection) -> None:
    connection.execute("DELETE FROM event WHERE position = (SELECT max(position) FROM event)")
    connection.execute("UPDATE account SET version = 3, credit = 105, granted = 105 WHERE openid = 'oAnna'")
    connection.execute(
        "UPDATE account SET (head, recorded_at) = (SELECT hash, recorded_at FROM event WHERE openid = 'oAnna'"
        " AND version = 3) WHERE openid = 'oAnna'"
    )


@pytest.mark.parametrize("forge", [rewrite_chain, cut_tail])
def test_a_log_that_does_not_come_to_the_sealed_root_is_not_swapped_in(ledger: Path, forge: object) -> None:
    """Right in itself, every event can be followed: only the seal tells."""
    number = seal(ledger)
    with vandal(ledger) as connection:
        forge(connection)  # type: ignore[operator]
        connection.execute("UPDATE account SET streak = 9")
    wrong = accounts_of(ledger)
    for run in (replay, replay_and_write):
        rebuilt = run(ledger)
        assert (rebuilt.proof, rebuilt.faults, rebuilt.swapped) == (Proof(number, holds=False), [], False)
        assert len(rebuilt.differences) == 2
    assert accounts_of(ledger) == wrong
    assert tables_beside(ledger) == set()


def test_a_seal_of_another_total_is_not_what_the_log_comes_to(ledger: Path) -> None:
    number = seal(ledger)
    with closing(connect(ledger.with_name("seals.db"))) as connection:
        connection.execute("DROP TRIGGER seal_is_never_updated")
        connection.execute("UPDATE seal SET entry = replace(entry, 'outstanding ', 'outstanding 1')")
    for run in (replay, replay_and_write):
        rebuilt = run(ledger)
        assert (rebuilt.proof, rebuilt.swapped) == (Proof(number, holds=False), False)


def test_seals_that_cannot_be_read_are_named(ledger: Path) -> None:
    seal(ledger)
    seals = ledger.with_name("seals.db")
    with closing(connect(seals)) as connection:
        connection.execute("DROP TABLE seal")
    for run in (replay, replay_and_write):
        with pytest.raises(LedgerUnusable, match=r"seals\.db cannot be read: no such table"):
            run(ledger)


# -- beside, swapped, and back ------------------------------------------------------------------------------


def tables_beside(path: Path) -> set[str]:
    with closing(connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {name for (name,) in names} & set(schema.BESIDE)


@given(BATCHES, BATCHES, BATCHES, st.booleans(), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_built_beside_caught_up_swapped_and_undone_the_rows_are_always_the_fold(
    sealed: list[list[Command]],
    before: list[list[Command]],
    after: list[list[Command]],
    with_seal: bool,
    at_once: int,
) -> None:
    """Over any commands before a seal, behind it, and after the swap; with a few rows a transaction."""
    with new_ledger() as path, pytest.MonkeyPatch.context() as patch:
        for module in (beside, replaying, replay_range):
            patch.setattr(module, "AT_ONCE", at_once)
        patch.setattr(beside, "_FACT_ROWS", 2 * at_once + 1)
        run_batches(path, sealed)
        with_seal = with_seal and bool(log_of(path))  # nothing is no seal
        if with_seal:
            seal(path)
        run_batches(path, before)
        right = accounts_of(path)
        rebuilt = replay_and_write(path)
        assert (rebuilt.differences, rebuilt.faults, rebuilt.swapped) == ([], [], True)
        assert (rebuilt.proof is not None) == with_seal
        assert accounts_of(path) == right
        run_batches(path, after)
        right = accounts_of(path)
        for _ in range(2):
            assert undo(path) == rebuilt.events + len(log_of(path)[rebuilt.events :])
            assert accounts_of(path) == right
        assert replay(path).differences == []
        assert_sound(path)


def test_an_undo_brings_back_the_very_rows_and_a_second_one_undoes_it(ledger: Path) -> None:
    right = accounts_of(ledger)
    with vandal(ledger) as connection:
        connection.execute("UPDATE account SET credit = 9999, granted = 9999 WHERE openid = 'oAnna'")
    wrong = accounts_of(ledger)
    replay_and_write(ledger)
    assert accounts_of(ledger) == right
    (granted,) = committed(ledger, GrantCredit("oBo", 1, "gift", "k9"))
    undo(ledger)
    assert accounts_of(ledger)[b"oAnna"] == wrong[b"oAnna"]
    assert accounts_of(ledger)[b"oBo"][0] == granted.version
    undo(ledger)
    assert accounts_of(ledger)[b"oAnna"] == right[b"oAnna"]
    assert accounts_of(ledger)[b"oBo"][0] == granted.version
    assert_sound(ledger)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("credit = 9999, granted = 9999", "version 5 with credit"),
        ("holds = CAST(x'ff' AS TEXT), due_at = 1", "the account row of oAnna is damaged"),
    ],
    ids=["it has more", "it cannot be read"],
)
def test_a_damaged_row_whose_account_went_on_is_not_brought_back(ledger: Path, damage: str, why: str) -> None:
    with vandal(ledger) as connection:
        connection.execute(f"UPDATE account SET {damage} WHERE openid = 'oAnna'")
    replay_and_write(ledger)
    committed(ledger, GrantCredit("oAnna", 1, "gift", "k9"))
    right = accounts_of(ledger)
    for _ in range(2):
        with pytest.raises(CannotUndo, match=rf"oAnna does not lead to event 5, recorded since \({why}"):
            undo(ledger)
    assert accounts_of(ledger) == right
    assert_sound(ledger)


def test_there_is_nothing_to_undo_before_a_swap_nor_while_the_next_is_built(ledger: Path) -> None:
    with pytest.raises(CannotUndo, match="nothing to undo"):
        undo(ledger)
    replay_and_write(ledger)
    with closing(Beside(ledger, "killed")) as beside_it:
        beside_it.take_over()
        beside_it.remove()
        beside_it.begin_build(3, None, [EVERYBODY])
    with pytest.raises(CannotUndo, match="nothing to undo"):
        undo(ledger)


def test_swapped_in_or_out_the_tables_are_as_the_schema_makes_them(ledger: Path) -> None:
    for _ in range(3):
        replay_and_write(ledger)
        assert tables_beside(ledger) == {"account_former"}
        with closing(connect(ledger)) as connection:
            (plan,) = connection.execute("EXPLAIN QUERY PLAN SELECT 1 FROM account WHERE due_at < 5").fetchall()
            assert "USING COVERING INDEX account_due" in plan[3]
            tables = dict(
                connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
            )
            assert tables["account"] == tables["account_former"].replace("account_former", "account")
        assert_sound(ledger)


def test_nothing_but_the_account_rows_changes(ledger: Path) -> None:
    """No event, no seal, no session: nothing is decided, sealed or sent by a replay."""
    seal(ledger)
    committed(ledger, GrantCredit("oAnna", 1, "gift", "late"))
    ledger.with_name("access.db").write_bytes(b"somebody else's")
    kept = [ledger.with_name(name) for name in ("seals.db", "access.db")]
    events, files = log_of(ledger), [path.read_bytes() for path in kept]
    for step in (replay, replay_and_write, undo, replay_and_write):
        step(ledger)
        assert log_of(ledger) == events
        assert [path.read_bytes() for path in kept] == files
    assert not ledger.with_name("seals.db-wal").exists()


# -- cut short, and two at a time ---------------------------------------------------------------------------


@contextmanager
def cut_short(path: Path, position: int, folded: str) -> Iterator[None]:
    """What a replay leaves that was killed after its first of two ranges, the accounts before `folded`."""
    replay_and_write(path)
    ranges = [beside.Range(b"", folded.encode()), beside.Range(folded.encode(), None)]
    with closing(Beside(path, "killed")) as killed:
        killed.take_over()
        killed.remove()
        killed.begin_build(position, None, ranges)
    replay_range.fold_and_write(path, "killed", position, ranges[0], lambda count: None)
    yield


def test_a_replay_that_was_cut_short_goes_on_from_the_ranges_that_are_there(ledger: Path) -> None:
    right = accounts_of(ledger)
    with cut_short(ledger, 7, "oB"):
        told: list[tuple[int, int]] = []
        rebuilt = replay_and_write(ledger, lambda done, total: told.append((done, total)))
    assert (rebuilt.resumed, rebuilt.swapped, rebuilt.differences) == (4, True, [])
    assert told == [(3, 3)]
    assert accounts_of(ledger) == right
    assert_sound(ledger)


def test_the_children_of_a_replay_that_was_killed_write_nothing_into_the_next(ledger: Path) -> None:
    with cut_short(ledger, 7, "oB"), closing(Beside(ledger, "next")) as other:
        other.take_over()
        with pytest.raises(LedgerUnusable, match="another replay has taken over"):
            replay_range.fold_and_write(ledger, "killed", 7, beside.Range(b"oB", None), lambda count: None)
        with FoldScan(ledger) as scan:
            assert [openid for openid, _ in scan.account_rows(NEXT, EVERYBODY)] == [b"oAnna"]
        assert other.missing() == [beside.Range(b"oB", None)]


def test_a_removal_that_was_cut_short_is_finished_by_the_next_replay(ledger: Path) -> None:
    right = accounts_of(ledger)
    replay_and_write(ledger)
    with closing(connect(ledger)) as connection:
        connection.execute("UPDATE replay SET state = 'going'")
        connection.execute("DELETE FROM account_former WHERE openid = 'oAnna'")
    with pytest.raises(CannotUndo):
        undo(ledger)
    assert replay_and_write(ledger).swapped
    undo(ledger)
    assert accounts_of(ledger) == right


def test_a_table_that_is_half_removed_is_never_brought_back(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay_and_write(ledger)

    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Beside, "_remove_some", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replay_and_write(ledger)
    monkeypatch.undo()
    with pytest.raises(CannotUndo, match="nothing to undo"):
        undo(ledger)
    assert replay_and_write(ledger).swapped


def test_a_build_of_another_fold_is_not_gone_on_with(ledger: Path) -> None:
    right = accounts_of(ledger)
    with cut_short(ledger, 7, "oB"):
        with closing(connect(ledger)) as connection:
            connection.execute("UPDATE replay SET projection = 99")
            connection.execute("UPDATE account_next SET streak = 99")
        assert replay_and_write(ledger).resumed == 0
    assert accounts_of(ledger) == right


@pytest.mark.parametrize("run", [replay_and_write, undo])
def test_one_replay_writes_at_a_time(ledger: Path, run: object) -> None:
    replay_and_write(ledger)
    with ledger.with_name("replay.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LedgerUnusable, match="another replay is at work"):
            run(ledger)  # type: ignore[operator]
        assert replay(ledger).faults == [], "that writes nothing and needs no turn"
    run(ledger)  # type: ignore[operator]


# -- events that cannot be followed -------------------------------------------------------------------------

UNFOLLOWABLE = {
    "credit": "UPDATE event SET credit = credit + 1 WHERE position = {second}",
    "version": "UPDATE event SET version = 9 WHERE position = {second}",
    "type": "UPDATE event SET type = 'UserRegistered', data = '{{}}' WHERE position = {second}",
    "no registration": (
        "UPDATE event SET type = 'AccountFrozen', data = json_object('actor', 'a', 'reason', 'b')"
        " WHERE position = {first}"
    ),
    "unknown type": "UPDATE event SET type = 'CreditForged' WHERE position = {second}",
    "data": "UPDATE event SET data = '{{' WHERE position = {second}",
    "data that are no text": "UPDATE event SET data = CAST(x'ff' AS TEXT) WHERE position = {second}",
    "time": "UPDATE event SET recorded_at = 0 WHERE position = {second}",
    "openid": "UPDATE event SET openid = 'oForged' WHERE position = {second}",
    "openid that is no text": "UPDATE event SET openid = CAST(x'6fff' AS TEXT) WHERE position = {first}",
    "position before the first": "UPDATE event SET position = 0 WHERE position = {first}",
    "hash that is none": "UPDATE event SET hash = x'00' WHERE position = {second}",
    "removed": "DELETE FROM event WHERE position = {second}",
    "removed from an account's end": "DELETE FROM event WHERE position = {last} - 1",
    "another last hash": "UPDATE event SET hash = zeroblob(32) WHERE position = {last}",
}


@pytest.mark.parametrize("behind_a_seal", [False, True])
@pytest.mark.parametrize("damage", UNFOLLOWABLE.values(), ids=UNFOLLOWABLE.keys())
def test_an_event_that_cannot_be_followed_is_named_and_nothing_swapped(
    ledger: Path, damage: str, behind_a_seal: bool
) -> None:
    """Among those that the rows are built from, and among those that they are caught up with."""
    first = 1
    if behind_a_seal:
        seal(ledger)
        late = [GrantCredit(openid, 1, "gift", "k8") for openid in ("oNew", "oBo")]
        committed(ledger, RegisterUser("oNew", 1), *late)
        first = 8
    with vandal(ledger) as connection:
        connection.execute(damage.format(first=first, second=first + 1, last=len(log_of(ledger))))
    wrong = accounts_of(ledger)
    for run in (replay, replay_and_write):
        rebuilt = run(ledger)
        assert rebuilt.faults
        assert rebuilt.faults[0].openid in ("oAnna", "oBo", "oNew", "o\\xff", "oForged", "")
        assert (rebuilt.proof, rebuilt.swapped) == (None, False)
    assert accounts_of(ledger) == wrong
    assert tables_beside(ledger) == set()


def test_an_account_with_more_than_there_can_be_is_named(ledger: Path) -> None:
    """Each of the grants can be; no row can be stored of what they come to."""
    account, rows = account_of(ledger, "oBo"), []
    for _ in range(2):
        row, account = link(account, CreditGranted(MAX_CREDIT, "gift", "key:x"), None, None, SINCE_US + 10**12)
        rows.append(astuple(row))
    with vandal(ledger) as connection:
        connection.executemany(
            "INSERT INTO event (openid, version, type, data, credit, key, fingerprint, recorded_at, hash)"
            " VALUES (?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?)",
            rows,
        )
    for run in (replay, replay_and_write):
        faults = [(fault.openid, fault.version, fault.what) for fault in run(ledger).faults]
        assert faults == [("oBo", account.version, "invariant")]


# -- rows of another fold -----------------------------------------------------------------------------------


def test_rows_of_another_fold_are_refused_until_they_are_built_anew(ledger: Path) -> None:
    committer, reader = ledger_committer(ledger), Reader(ledger)
    commit_with(committer, GrantCredit("oAnna", 1, "gift", "k8"))
    today = accounts_of(ledger)
    with closing(connect(ledger)) as connection:
        connection.execute(f"UPDATE ledger SET projection = {PROJECTION + 1}")
        connection.execute("UPDATE account SET streak = 77")
    for opened in (Reader, LogScan, Log):
        with pytest.raises(LedgerUnusable, match="credit-ledger replay --write"):
            opened(ledger)
    for writer in (committer, ledger_committer(ledger)):  # one has the file open already, one opens it now
        with pytest.raises(NotCommitted, match="credit-ledger replay --write"):
            commit_with(writer, GrantCredit("oAnna", 1, "gift", "k9"))

    dry = replay(ledger)
    assert (dry.projection, dry.differences, dry.swapped) == (PROJECTION + 1, [], False)
    rebuilt = replay_and_write(ledger)
    assert (rebuilt.projection, rebuilt.differences, rebuilt.swapped) == (PROJECTION + 1, [], True)
    assert accounts_of(ledger) == today
    commit_with(committer, GrantCredit("oAnna", 1, "gift", "k9"))
    with pytest.raises(CannotUndo, match=f"projection {PROJECTION + 1}"):
        undo(ledger)
    committer.close()
    reader.close()
    assert_sound(ledger)


def test_a_wrong_hash_does_not_become_the_head_of_a_chain_with_another_fold_either(ledger: Path) -> None:
    with vandal(ledger) as connection:
        connection.execute(f"UPDATE ledger SET projection = {PROJECTION + 1}")
        connection.execute("UPDATE event SET hash = zeroblob(32) WHERE position = 7")
    rebuilt = replay_and_write(ledger)
    assert [(fault.openid, fault.what) for fault in rebuilt.faults] == [("oAnna", "changed")]
    assert not rebuilt.swapped
