"""The audit: whatever is changed behind the ledger's back is found and named, and nothing else is."""

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ledger.commands import Command, RegisterUser
from ledger.log import RawEvent
from ledger.projection import COLUMNS
from ledger.sqlite import Connection, IntegrityError, OperationalError
from ledger.verify import Fault, audit
from tests.ledger_samples import (
    BATCHES,
    FORGED_ROW,
    account_of,
    accounts_of,
    committed,
    flip_bit,
    log_of,
    new_ledger,
    run_batches,
    sample_ledger,
    ticking,
    vandal,
    whole_life,
)

# The fields of a stored event -> how a column's value is put in; text from bytes, to spoil its UTF-8 too.
TEXT, PLAIN = "CAST(? AS TEXT)", "?"
CHAINED = {
    "version": PLAIN,
    "type": TEXT,
    "data": TEXT,
    "credit": PLAIN,
    "key": TEXT,
    "fingerprint": PLAIN,
    "recorded_at": PLAIN,
    "hash": PLAIN,
}


@pytest.fixture
def ledger(ledger_path: Path) -> Path:
    sample_ledger(ledger_path)
    return ledger_path


def column_of(row: RawEvent, column: str) -> int | bytes | None:
    return getattr(row, "recorded_at_us" if column == "recorded_at" else column)  # type: ignore[no-any-return]


def places(faults: list[Fault]) -> list[tuple[str, int]]:
    """Where the faults are, without SQLite's own finding that a row breaks a CHECK of its table."""
    return [(fault.openid, fault.version) for fault in faults if fault.what != "file"]


def change(connection: Connection, row: RawEvent, column: str, value: object) -> None:
    try:
        connection.execute(
            f"UPDATE event SET {column} = {CHAINED.get(column, TEXT)} WHERE position = ?", (value, row.position)
        )
    except IntegrityError:
        assume(False)  # the changed value is another event's
    except OperationalError as error:
        assume("malformed JSON" not in str(error))  # SQLite reads the data of a correction, for its index
        raise


def test_a_good_ledger_is_good_and_its_figures_are_right(ledger: Path) -> None:
    report = audit(ledger)
    assert report.good, report.faults
    assert (report.events, report.accounts, report.outstanding) == (7, 2, 106 + 9)


def test_an_empty_ledger_is_good(ledger_path: Path) -> None:
    report = audit(ledger_path)
    assert (report.good, report.events, report.accounts, report.outstanding) == (True, 0, 0, 0)


@given(BATCHES)
@settings(max_examples=25, deadline=None)
def test_whatever_was_committed_is_good(batches: list[list[Command]]) -> None:
    with new_ledger() as path:
        run_batches(path, batches)
        report = audit(path)
        assert report.good, report.faults
        assert report.events == len(log_of(path))
        assert report.outstanding == sum(
            account_of(path, openid.decode()).balance.credit for openid in accounts_of(path)
        )


@given(BATCHES, st.data())
@settings(max_examples=100, deadline=None)
def test_one_flipped_bit_in_any_chained_column_of_any_event_is_found_there(
    batches: list[list[Command]], data: st.DataObject
) -> None:
    """The first wrong event is named; the later ones of its account are not judged, the others are good."""
    with new_ledger() as path:
        run_batches(path, [[RegisterUser("oAnna", 100)], *batches])
        row = data.draw(st.sampled_from(log_of(path)))
        column = data.draw(st.sampled_from(list(CHAINED)))
        value = column_of(row, column)
        spoilt = data.draw(st.sampled_from([0, b"", b"k0"])) if value is None else None
        if value is not None:
            spoilt = flip_bit(value, data.draw(st.integers(0, 10_000)))
        with vandal(path) as connection:
            change(connection, row, column, spoilt)
        assert places(audit(path).faults) == [(row.openid.decode(), row.version)]


@pytest.mark.parametrize("columns", ["key = NULL", "fingerprint = NULL", "key = NULL, fingerprint = NULL"])
def test_a_key_or_fingerprint_taken_away_is_found(ledger: Path, columns: str) -> None:
    """Whoever frees a key could grant with it again."""
    with vandal(ledger) as connection:
        connection.execute(f"UPDATE event SET {columns} WHERE openid = 'oAnna' AND version = 3")
    assert places(audit(ledger).faults) == [("oAnna", 3)]


@given(st.integers(0, 6), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_one_flipped_bit_in_an_openid_is_found_in_the_account_that_lost_the_event(which: int, bit: int) -> None:
    with new_ledger() as path:
        sample_ledger(path)
        row = log_of(path)[which]
        with vandal(path) as connection:
            change(connection, row, "openid", flip_bit(row.openid, bit))
        lost = row.openid.decode()
        last = row.version == {"oAnna": 4, "oBo": 3}[lost]
        # After the last event nothing is missing from the chain: the account row is ahead of it.
        assert (lost, 0 if last else row.version) in places(audit(path).faults)


@given(st.integers(0, 6), st.integers(0, 63))
@settings(max_examples=40, deadline=None)
def test_one_flipped_bit_in_a_position_is_found(which: int, bit: int) -> None:
    """Below zero too, where a scan that starts at 1 would never look."""
    with new_ledger() as path:
        sample_ledger(path)
        row = log_of(path)[which]
        moved = row.position ^ (1 << bit) if bit < 63 else row.position - 2**63
        with vandal(path) as connection:
            try:
                connection.execute("UPDATE event SET position = ? WHERE position = ?", (moved, row.position))
            except IntegrityError:
                assume(False)
        assert not audit(path).good


@pytest.mark.parametrize("position", [0, -1, -5, -(2**63) + 1])
def test_an_event_put_below_the_first_position_is_found_and_named(ledger: Path, position: int) -> None:
    with vandal(ledger) as connection:
        connection.execute(
            "INSERT INTO event SELECT ?, openid, 5, type, data, credit, 'k9', fingerprint, recorded_at, hash"
            " FROM event WHERE openid = 'oAnna' AND version = 4",
            (position,),
        )
    assert places(audit(ledger).faults) == [("oAnna", 5)]


def test_every_deleted_event_is_found(ledger: Path) -> None:
    original = ledger.read_bytes()
    for row in log_of(ledger):
        with vandal(ledger) as connection:
            connection.execute("DELETE FROM event WHERE position = ?", (row.position,))
        report = audit(ledger)
        last = row.version == {b"oAnna": 4, b"oBo": 3}[row.openid]
        assert (row.openid.decode(), 0 if last else row.version) in places(report.faults)
        removed = [fault.position for fault in report.faults if fault.what == "removed" and not fault.openid]
        assert removed == ([] if row.position == 7 else [row.position])
        ledger.write_bytes(original)


def test_a_whole_account_removed_from_the_middle_leaves_a_hole_that_is_found(ledger: Path) -> None:
    with vandal(ledger) as connection:
        connection.execute("DELETE FROM event WHERE openid = 'oBo'")
        connection.execute("DELETE FROM account WHERE openid = 'oBo'")
    assert {(fault.what, fault.position) for fault in audit(ledger).faults} == {("removed", 3), ("removed", 6)}


@pytest.mark.parametrize("version", [4, 5])
def test_an_inserted_event_is_found(ledger: Path, version: int) -> None:
    """At the end of the account, or in the middle with the later ones moved up."""
    with vandal(ledger) as connection:
        connection.execute("UPDATE event SET version = 5 WHERE openid = 'oAnna' AND version = ?", (version,))
        connection.execute(
            "INSERT INTO event (openid, version, type, data, credit, key, fingerprint, recorded_at, hash)"
            " SELECT openid, ?, type, data, credit, 'k9', fingerprint, recorded_at, hash"
            " FROM event WHERE openid = 'oAnna' AND version = 3",
            (version,),
        )
    assert ("oAnna", version) in places(audit(ledger).faults)


def test_two_events_that_changed_places_are_found(ledger: Path) -> None:
    with vandal(ledger) as connection:
        for old, new in ((5, 99), (7, 5), (99, 7)):
            connection.execute("UPDATE event SET position = ? WHERE position = ?", (new, old))
    (fault,) = audit(ledger).faults
    assert (fault.openid, fault.version, fault.position, fault.what) == ("oAnna", 3, 5, "reordered")


def test_two_events_that_changed_accounts_are_found_in_both(ledger: Path) -> None:
    with vandal(ledger) as connection:
        for position, openid in ((5, "oNobody"), (6, "oAnna"), (5, "oBo")):
            connection.execute("UPDATE event SET openid = ? WHERE position = ?", (openid, position))
    found = [(fault.what, fault.openid, fault.version, fault.position) for fault in audit(ledger).faults]
    assert sorted(found) == [("changed", "oAnna", 3, 6), ("changed", "oBo", 3, 5)]


def test_two_events_that_changed_versions_are_found(ledger: Path) -> None:
    with vandal(ledger) as connection:
        for old, new in ((3, 99), (4, 3), (99, 4)):
            connection.execute(
                "UPDATE event SET version = ? WHERE openid = 'oAnna' AND version = ?", (new, old)
            )
    assert places(audit(ledger).faults) == [("oAnna", 3)]


@given(st.sampled_from(["oAnna", "oBo"]), st.sampled_from(COLUMNS), st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_one_flipped_bit_in_any_column_of_an_account_row_is_found(openid: str, column: str, bit: int) -> None:
    """In the JSON of lots and holds too, where it can make another account of it or no JSON at all."""
    with new_ledger() as path:
        for each in ("oAnna", "oBo"):
            committed(path, *whole_life(each), clock_us=ticking())
        value = accounts_of(path)[openid.encode()][COLUMNS.index(column)]
        place = TEXT if column in ("lots", "holds") else PLAIN
        with vandal(path) as connection:
            connection.execute(
                f"UPDATE account SET {column} = {place} WHERE openid = ?", (flip_bit(value, bit), openid)
            )
        fault, *of_the_file = audit(path).faults
        assert places(of_the_file) == []
        assert (fault.openid, fault.version, fault.what) == (openid, 0, "account")
        assert fault.detail.startswith(f"{column} is ")


@pytest.mark.parametrize("column", ["lots", "holds", "due_at"])
def test_lots_and_holds_taken_away_from_an_account_row_are_found(ledger_path: Path, column: str) -> None:
    committed(ledger_path, *whole_life(), clock_us=ticking())
    with vandal(ledger_path) as connection:
        connection.execute(f"UPDATE account SET {column} = NULL")
    faults = [fault for fault in audit(ledger_path).faults if fault.what == "account"]
    assert [fault.detail.startswith(f"{column} is nothing, its events come to ") for fault in faults] == [True]


@pytest.mark.parametrize("renamed", ["oann\u00e4".encode(), b"oAnn\xff", b"", b"oAnna\0"])
def test_an_account_row_under_another_openid_is_one_missing_and_one_too_many(
    ledger: Path, renamed: bytes
) -> None:
    with vandal(ledger) as connection:
        connection.execute("UPDATE account SET openid = CAST(? AS TEXT) WHERE openid = 'oAnna'", (renamed,))
    assert sorted(places(audit(ledger).faults)) == sorted(
        [("oAnna", 0), (renamed.decode(errors="backslashreplace"), 0)]
    )


def test_a_missing_account_row_is_found(ledger: Path) -> None:
    with vandal(ledger) as connection:
        connection.execute("DELETE FROM account WHERE openid = 'oAnna'")
    (fault,) = audit(ledger).faults
    assert (fault.openid, fault.version, fault.what) == ("oAnna", 0, "account")
    assert "missing" in fault.detail


def test_a_forged_account_row_is_found(ledger: Path) -> None:
    with vandal(ledger) as connection:
        connection.execute(FORGED_ROW)
    (fault,) = audit(ledger).faults
    assert (fault.openid, fault.detail) == ("oForged", "an account row without any event")


def test_each_damaged_account_has_a_fault_of_its_own_and_a_good_one_has_none(ledger: Path) -> None:
    committed(ledger, RegisterUser("oCi", 5))
    with vandal(ledger) as connection:
        connection.execute("UPDATE event SET credit = 1 WHERE version = 2 AND openid IN ('oAnna', 'oBo')")
    assert places(audit(ledger).faults) == [("oAnna", 2), ("oBo", 2)]


def test_a_version_that_only_equals_the_right_number_is_found(ledger: Path) -> None:
    """A table rebuilt without STRICT keeps 1.0 where 1 was."""
    with vandal(ledger) as connection:
        connection.execute("ALTER TABLE event RENAME TO strict_event")
        connection.execute("CREATE TABLE event AS SELECT * FROM strict_event")
        connection.execute(
            "CREATE TABLE loose (position INTEGER PRIMARY KEY, openid, version REAL, type, data,"
            " credit, key, fingerprint, recorded_at, hash)"
        )
        connection.execute("INSERT INTO loose SELECT * FROM event")
        connection.execute("DROP TABLE event")
        connection.execute("ALTER TABLE loose RENAME TO event")
    events = [fault for fault in audit(ledger).faults if fault.version]
    assert places(events) == [("oAnna", 1), ("oBo", 1)]
