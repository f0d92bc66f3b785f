"""Every single tampering of one event, in any ledger: the audit names what was done, and to whom."""

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ledger.chain import event_hash
from ledger.commands import Command, RegisterUser
from ledger.log import RawEvent
from ledger.sqlite import Connection, connect
from ledger.verify import Fault, audit
from tests.ledger_samples import (
    BATCHES,
    committed,
    log_of,
    new_ledger,
    run_batches,
    ticking,
    vandal,
    whole_life,
)
from tests.test_audit_seals import audited, rewrite, sealed

FIRST: list[Command] = [RegisterUser("oAnna", 100), RegisterUser("oBo", 5)]


def fill(path: Path, batches: list[list[Command]]) -> list[RawEvent]:
    run_batches(path, [FIRST, *batches])
    return log_of(path)


def of_events(faults: list[Fault]) -> list[tuple[str, str, int]]:
    """What was found of accounts, without what SQLite or the positions show besides."""
    return [(fault.what, fault.openid, fault.version) for fault in faults if fault.openid]


def insert(connection: Connection, row: RawEvent, version: int, digest: bytes) -> None:
    connection.execute(
        "INSERT INTO event (openid, version, type, data, credit, recorded_at, hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            row.openid.decode(),
            version,
            row.type.decode(),
            row.data.decode(),
            row.credit,
            row.recorded_at_us,
            digest,
        ),
    )


def last_of(rows: list[RawEvent], openid: bytes) -> int:
    return max(row.version for row in rows if row.openid == openid)


@given(BATCHES, st.data())
@settings(max_examples=30, deadline=None)
def test_a_deleted_event_is_named(batches: list[list[Command]], data: st.DataObject) -> None:
    with new_ledger() as path:
        rows = fill(path, batches)
        row = data.draw(st.sampled_from(rows))
        with vandal(path) as connection:
            connection.execute("DELETE FROM event WHERE position = ?", (row.position,))
        report = audit(path)
        name = row.openid.decode()
        if row.version == last_of(rows, row.openid):
            assert of_events(report.faults) == [("account", name, 0)]
        else:
            assert of_events(report.faults) == [("removed", name, row.version)]
        gap = [fault.position for fault in report.faults if fault.what == "removed" and not fault.openid]
        assert gap == ([row.position] if row.position < len(rows) else [])


@given(BATCHES, st.data())
@settings(max_examples=30, deadline=None)
def test_an_extra_event_with_the_right_hash_is_named(batches: list[list[Command]], data: st.DataObject) -> None:
    """At the end of an account it makes the account row wrong; in the middle the next does not follow it."""
    with new_ledger() as path:
        rows = fill(path, batches)
        row = data.draw(st.sampled_from([row for row in rows if row.type != b"UserRegistered"]))
        later = [other for other in rows if other.openid == row.openid and other.version > row.version]
        version = row.version + 1
        columns = (
            row.openid,
            version,
            b"AccountFrozen",
            b'{"actor":"key:x","reason":"r"}',
            row.credit,
            None,
            None,
        )
        digest = event_hash(row.hash, *columns, row.recorded_at_us)
        extra = row._replace(type=columns[2], data=columns[3])
        with vandal(path) as connection:
            for other in reversed(later):
                connection.execute(
                    "UPDATE event SET version = version + 1, position = position + 1000 WHERE position = ?",
                    (other.position,),
                )
            insert(connection, extra, version, digest)
        found = of_events(audit(path).faults)
        assert len(found) == 1
        what, openid, number = found[0]
        assert openid == row.openid.decode()
        # What is put in may not be able to happen there; if it can, what follows it is chained to another.
        # What follows stands before it in the file here.
        expected = {("impossible", version), ("lapse", version), ("reordered", version)}
        assert (what, number) in expected | {("changed", version + 1) if later else ("account", 0)}


@given(BATCHES, st.data())
@settings(max_examples=30, deadline=None)
def test_events_of_an_account_that_changed_places_are_named(
    batches: list[list[Command]], data: st.DataObject
) -> None:
    with new_ledger() as path:
        rows = fill(path, batches)
        one = data.draw(st.sampled_from([row for row in rows if row.openid == b"oAnna"]))
        later = [row for row in rows if row.openid == b"oAnna" and row.version > one.version]
        assume(later)
        other = data.draw(st.sampled_from(later))
        with vandal(path) as connection:
            for old, new in ((one.position, 9999), (other.position, one.position), (9999, other.position)):
                connection.execute("UPDATE event SET position = ? WHERE position = ?", (new, old))
        assert of_events(audit(path).faults) == [("reordered", "oAnna", one.version)]


@given(BATCHES, st.data())
@settings(max_examples=20, deadline=None)
def test_the_contents_of_two_accounts_events_that_were_exchanged_are_named(
    batches: list[list[Command]], data: st.DataObject
) -> None:
    with new_ledger() as path:
        rows = fill(path, batches)
        one = data.draw(st.sampled_from([row for row in rows if row.openid == b"oAnna"]))
        other = data.draw(st.sampled_from([row for row in rows if row.openid == b"oBo"]))
        assume((one.type, one.data, one.credit) != (other.type, other.data, other.credit))
        with vandal(path) as connection:
            for row, has in ((one, other), (other, one)):
                connection.execute(
                    "UPDATE event SET type = ?, data = ?, credit = ? WHERE position = ?",
                    (has.type.decode(), has.data.decode(), has.credit, row.position),
                )
        found = of_events(audit(path).faults)
        assert sorted(found) == [("changed", "oAnna", one.version), ("changed", "oBo", other.version)]


@given(BATCHES, st.data())
@settings(max_examples=15, deadline=None)
def test_what_only_a_seal_shows_is_named_with_the_account(
    batches: list[list[Command]], data: st.DataObject
) -> None:
    """A cut tail, a removed account and one that was chained anew, each without a trace in the ledger."""
    with new_ledger() as path:
        rows = fill(path, batches)
        sealed(path, 10**12)
        kind = data.draw(st.sampled_from(["cut", "account", "rewritten"]))
        openid = data.draw(st.sampled_from(sorted({row.openid for row in rows})))
        if kind == "cut":
            left = rows[: data.draw(st.integers(1, len(rows) - 1))]
        elif kind == "account":
            left = [row for row in rows if row.openid != openid]
        else:
            left = [
                row._replace(recorded_at_us=0) if (row.openid, row.version) == (openid, 1) else row
                for row in rows
            ]
        rewrite(path, left)
        cut = {row.openid for row in rows[len(left) :]} if kind == "cut" else {openid}
        gone = cut - {row.openid for row in left}
        found = audited(path).faults
        assert len(found) == len(cut)
        assert [fault.what for fault in found].count("missing-account") == len(gone)
        if kind != "account":
            what = "cut-tail" if kind == "cut" else "rewritten-chain"
            assert {fault.openid.encode() for fault in found if fault.what == what} == cut - gone


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER event_is_never_updated",
        "DROP INDEX event_key",
        "CREATE TRIGGER extra AFTER INSERT ON event BEGIN SELECT 1; END",
        "UPDATE ledger SET appid = ''",
        "DELETE FROM ledger",
    ],
)
def test_a_changed_schema_is_named(ledger_path: Path, statement: str) -> None:
    committed(ledger_path, *whole_life(), clock_us=ticking())
    connection = connect(ledger_path)
    connection.execute(statement)
    connection.close()
    assert [fault.what for fault in audit(ledger_path).faults] == ["schema"]


@pytest.mark.parametrize("index", ["sqlite_autoindex_event_1", "event_key", "event_correction"])
def test_an_index_that_leaves_an_event_out_is_found(ledger_path: Path, index: str) -> None:
    """Its row is there and right; a key that the index does not know could grant a second time."""
    committed(ledger_path, *whole_life(), clock_us=ticking())
    with vandal(ledger_path) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("CREATE TABLE spare (openid TEXT)")
        connection.execute("CREATE INDEX spare_index ON spare (openid)")
        connection.execute(
            "UPDATE sqlite_master SET"
            " rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'spare_index')"
            " WHERE name = ?",
            (index,),
        )
    found = [fault.detail for fault in audit(ledger_path).faults if fault.what == "file"]
    assert found
