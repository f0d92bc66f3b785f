"""Append-only is the database's rule: it holds for whoever opens the file, with whatever library."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ledger.sqlite import IntegrityError, connect
from tests.ledger_samples import APPID, TRIGGERS, assert_sound, log_of, sample_ledger, settle_file

COLUMNS = "openid, version, type, data, credit, key, fingerprint, recorded_at, hash"
# oAnna's third event, rewritten: ten times the amount.
FORGED = (
    "'oAnna', {version}, 'CreditGranted', '{{\"amount\":50,\"reason\":\"gift\"}}', 150, {key}, x'00', 1, {hash}"
)
HASH = "zeroblob(32)"


def values(version: str = "3", key: str = "'k1'") -> str:
    return FORGED.format(version=version, key=key, hash=HASH)


def insert(verb: str, version: str = "3", key: str = "'k1'", position: str | None = None) -> str:
    if position is None:
        return f"{verb} INTO event ({COLUMNS}) VALUES ({values(version, key)})"
    return f"{verb} INTO event (position, {COLUMNS}) VALUES ({position}, {values(version, key)})"


LAST = "(SELECT max(position) FROM event)"
NEXT = "(SELECT max(version) + 1 FROM event WHERE openid = 'oAnna')"

TAMPERING = {
    "an update": "UPDATE event SET credit = 999 WHERE openid = 'oAnna' AND version = 3",
    "an update that changes nothing": "UPDATE event SET credit = credit",
    "an update of the position": "UPDATE event SET position = position + 100",
    "an update or replace": "UPDATE OR REPLACE event SET version = 2 WHERE openid = 'oAnna' AND version = 3",
    "an update or ignore": "UPDATE OR IGNORE event SET credit = 999",
    "a delete": "DELETE FROM event WHERE openid = 'oAnna' AND version = 3",
    "a delete of all": "DELETE FROM event",
    "insert of a version that is there": insert("INSERT", key="'k99'"),
    "replace by openid and version": insert("INSERT OR REPLACE", key="'k99'"),
    "replace by key": insert("INSERT OR REPLACE", version=NEXT, key="'k1'"),
    "replace by position": insert("INSERT OR REPLACE", version=NEXT, key="'k99'", position="5"),
    "replace of the last position": insert("REPLACE", version=NEXT, key="'k99'", position=LAST),
    "replace of an event without a key": insert("REPLACE", version="1", key="'k99'"),
    "upsert by openid and version": insert("INSERT", key="'k99'")
    + " ON CONFLICT (openid, version) DO UPDATE SET credit = excluded.credit",
    "upsert by key": insert("INSERT", version=NEXT)
    + " ON CONFLICT (openid, key) WHERE key IS NOT NULL DO UPDATE SET credit = excluded.credit",
    "upsert by position": insert("INSERT", version=NEXT, key="'k99'", position="5")
    + " ON CONFLICT (position) DO UPDATE SET credit = excluded.credit",
    "a version that leaves a gap": insert("INSERT", version=NEXT + " + 1", key="'k99'"),
    "a first version other than 1": insert("INSERT", version="2", key="'k99'").replace("oAnna", "oNew"),
    "a version of zero": insert("INSERT", version="0", key="'k99'"),
    "a position below the first": insert("INSERT", version=NEXT, key="'k99'", position="-5"),
    "a position of zero": insert("INSERT", version=NEXT, key="'k99'", position="0"),
    "a position of minus one": insert("INSERT", version=NEXT, key="'k99'", position="-1"),
    "a key without a fingerprint": insert("INSERT", version=NEXT, key="'k99'").replace("x'00'", "NULL"),
    "a fingerprint without a key": insert("INSERT", version=NEXT, key="NULL"),
    "a hash that is too short": insert("INSERT", version=NEXT, key="'k99'").replace("(32)", "(31)"),
    "credit below zero": insert("INSERT", version=NEXT, key="'k99'").replace(" 150,", " -1,"),
    "credit above the limit": insert("INSERT", version=NEXT, key="'k99'").replace(" 150,", f" {2**53},"),
    "a time below zero": insert("INSERT", version=NEXT, key="'k99'").replace(" 1, zero", " -1, zero"),
    "a number that is text": insert("INSERT", version=NEXT, key="'k99'").replace(" 150,", " 'many',"),
}


@pytest.fixture
def ledger(ledger_path: Path) -> Path:
    sample_ledger(ledger_path)
    return ledger_path


@pytest.mark.parametrize("statement", TAMPERING.values(), ids=TAMPERING.keys())
def test_this_statement_is_refused_on_a_connection_of_the_product(ledger: Path, statement: str) -> None:
    before = log_of(ledger)
    connection = connect(ledger)
    with pytest.raises(IntegrityError):
        connection.execute(statement)
    connection.close()
    assert log_of(ledger) == before
    assert_sound(ledger)


# As CPython's own module opens a file: another SQLite library, recursive_triggers off, defensive off.
SHELL = """
import json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
assert connection.execute("PRAGMA recursive_triggers").fetchone() == (0,)
answers = {}
for name, statement in json.load(sys.stdin).items():
    try:
        connection.execute(statement)
        answers[name] = "went through"
    except sqlite3.IntegrityError as error:
        answers[name] = "refused"
    except sqlite3.Error as error:
        answers[name] = repr(error)
print(json.dumps(answers))
"""


def in_a_shell(path: Path, statements: dict[str, str]) -> dict[str, str]:
    """What CPython's sqlite3 answered, in a process of its own: two SQLite libraries in one lose locks."""
    shell = subprocess.run(
        [sys.executable, "-c", SHELL, str(path)],
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(shell.stdout))


def test_every_such_statement_is_refused_on_a_connection_of_another_library_as_well(ledger: Path) -> None:
    """INSERT OR REPLACE deletes without firing BEFORE DELETE triggers there."""
    before = log_of(ledger)
    assert in_a_shell(ledger, TAMPERING) == dict.fromkeys(TAMPERING, "refused")
    assert log_of(ledger) == before
    assert_sound(ledger)


def test_the_same_statements_do_their_damage_without_the_triggers(ledger: Path) -> None:
    """That the refusals above are the triggers' work, and not a mistake in the statements."""
    with closing(connect(ledger)) as connection:
        for trigger in TRIGGERS:
            connection.execute(f"DROP TRIGGER {trigger}")
    settle_file(ledger)
    destructive = {
        name: statement
        for name, statement in TAMPERING.items()
        if statement.startswith(("UPDATE", "DELETE", "REPLACE", "INSERT OR REPLACE"))
        or "upsert" in name
        or "gap" in name
        or "other than 1" in name
    }
    del destructive["an update of the position"], destructive["a delete of all"]
    before = log_of(ledger)
    for name, statement in destructive.items():
        spoilt = ledger.with_name(f"{len(name)}.db")
        spoilt.write_bytes(ledger.read_bytes())
        assert in_a_shell(spoilt, {name: statement}) == {name: "went through"}
        if name != "an update that changes nothing":
            assert log_of(spoilt) != before, name
        spoilt.unlink()


def test_a_correct_next_event_may_be_appended_by_hand(ledger: Path) -> None:
    """The triggers refuse changes, not history: what a hand appended is for the audit to judge."""
    answers = in_a_shell(ledger, {"append": insert("INSERT", version=NEXT, key="'k99'")})
    assert answers == {"append": "went through"}
    assert len(log_of(ledger)) == 8
    assert APPID  # the sample's owner, for whoever opens the file by hand
