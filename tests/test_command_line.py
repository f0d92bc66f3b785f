"""`credit-ledger`: what an operator and an auditor type."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from getpass import getuser
from pathlib import Path

import pytest

from ledger.sqlite import connect
from tests.conftest import Service, register

COMMAND = [sys.executable, "-c", "from scripts.credit_ledger import main; main()"]


class Ledger:
    """A data directory and the command line that is pointed at it."""

    def __init__(self, data: Path) -> None:
        self.path = data / "ledger.db"
        self.environ = {**os.environ, "CREDIT_DATA": str(data), "PYTHONPATH": os.getcwd()}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments], env=self.environ, capture_output=True, text=True, timeout=60
        )

    def says(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def damage(self, *statements: str) -> None:
        connection = connect(self.path)
        connection.execute("PRAGMA ignore_check_constraints=ON")
        made = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for trigger, _ in made:
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in made:
            connection.execute(sql)
        connection.close()


@pytest.fixture
def ledger(ledger_path: Path) -> Ledger:
    register(ledger_path, "alice", "bob")
    return Ledger(ledger_path.parent)


def test_grant_gives_once_per_key(ledger: Ledger) -> None:
    grant = ("grant", "alice", "50", "--reason", "对不起", "--key", "ticket-1")
    assert "granted: 50 to alice; credit 150 after version 3" in ledger.says(*grant)
    assert "granted before under this key: 50 to alice; credit 150 after version 3" in ledger.says(*grant)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("grant", "nobody", "5", "--reason", "r", "--key", "k"), 1, "account-not-found"),
        (("grant", "alice", "9007199254740991", "--reason", "r", "--key", "k"), 1, "credit-limit-exceeded"),
        (("grant", "alice", "0", "--reason", "r", "--key", "k"), 2, "not in the range"),
        (("grant", "alice", "1.5", "--reason", "r", "--key", "k"), 2, "not a valid integer"),
        (("grant", "alice", "9007199254740992", "--reason", "r", "--key", "k"), 2, "amount must be"),
        (("grant", "alice", "5", "--reason", "", "--key", "k"), 2, "reason must be"),
        (("grant", "alice", "5", "--reason", "r", "--key", "a b"), 2, "key must be"),
        (("grant", "alice", "5", "--reason", "r"), 2, "--key"),
        (("grant", "alice", "5", "--key", "k"), 2, "--reason"),
        (("statement", "nobody"), 1, "nobody registered as nobody"),
        (("statement", "alice", "--limit", "0"), 2, "not in the range"),
        (("frobnicate",), 2, "No such command"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    ledger: Ledger, arguments: tuple[str, ...], status: int, said: str
) -> None:
    done = ledger.run(*arguments)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_another_command_under_a_used_key_is_refused(ledger: Ledger) -> None:
    ledger.says("grant", "alice", "50", "--reason", "r", "--key", "k")
    done = ledger.run("grant", "alice", "51", "--reason", "r", "--key", "k")
    assert done.returncode == 1
    assert "key-reused" in done.stderr
    assert "version 3" in done.stderr


def test_a_statement_is_the_events_newest_first(ledger: Ledger) -> None:
    for number in range(120):
        if number in (0, 119):
            ledger.says("grant", "alice", "1", "--reason", f"r{number}", "--key", f"k{number}")
    lines = ledger.says("statement", "alice").splitlines()
    assert [line.split()[0] for line in lines] == ["version", "4", "3", "2", "1"]
    actor = f"operator:{getuser()}"
    assert lines[1].endswith(f'CreditGranted {{"actor":"{actor}","amount":1,"reason":"r119"}}')
    (line,) = ledger.says("statement", "alice", "--json", "--limit", "1").splitlines()
    event = json.loads(line)
    assert event["version"] == 4
    assert event["data"] == {"actor": actor, "amount": 1, "reason": "r119"}
    assert ledger.says("statement", "alice", "--json", "--before", "2").count("\n") == 1


def test_a_good_ledger_audits_well(ledger: Ledger) -> None:
    assert ledger.says("audit") == "4 events, 2 accounts, 200 credits: good\n"
    report = json.loads(ledger.says("audit", "--json"))
    (day,) = report.pop("days")
    assert (day["issued"], day["outstanding"]) == (200, 200)
    assert report.pop("skipped") == ["There are no seals: what was removed without a trace, nothing shows."]
    assert report == {"good": True, "events": 4, "accounts": 2, "outstanding": 200, "faults": [], "seals": None}


def test_audit_names_the_first_wrong_event_of_each_account_and_fails(ledger: Ledger) -> None:
    ledger.damage('UPDATE event SET data = \'{"amount":900,"reason":"signup"}\' WHERE version = 2')
    done = ledger.run("audit")
    assert done.returncode == 1
    assert re.findall(r"WRONG  (\w+) version (\d+)", done.stdout) == [("alice", "2"), ("bob", "2")]
    done = ledger.run("audit", "--json")
    assert done.returncode == 1
    faults = json.loads(done.stdout)["faults"]
    assert [(fault["openid"], fault["what"]) for fault in faults] == [("alice", "changed"), ("bob", "changed")]


def test_replay_names_what_differs_and_puts_it_right(ledger: Ledger) -> None:
    assert ledger.says("replay") == "4 events, 2 accounts: 0 rows differ\n"
    ledger.damage(
        "UPDATE account SET credit = 5000 WHERE openid = 'alice'", "DELETE FROM account WHERE openid = 'bob'"
    )
    done = ledger.run("replay")
    assert done.returncode == 1
    assert "DIFFERS  alice: credit is 5000, its events come to 100" in done.stdout
    assert "DIFFERS  bob" in done.stdout
    assert ledger.run("audit").returncode == 1, "replay without --write wrote nothing"
    assert "2 rows differ and were put right" in ledger.says("replay", "--write")
    assert ledger.says("audit").endswith("good\n")
    assert json.loads(ledger.says("replay", "--json"))["differences"] == []


def test_an_undo_says_whether_the_rows_that_it_brings_back_are_right(ledger: Ledger) -> None:
    ledger.says("replay", "--write")
    told = ledger.says("replay", "--undo")
    assert "are live again, with all 4 events" in told
    assert told.endswith("4 events, 2 accounts: 0 rows differ\n")

    ledger.damage("UPDATE account SET credit = credit + 1, granted = granted + 1 WHERE openid = 'bob'")
    ledger.says("replay", "--write")
    done = ledger.run("replay", "--undo")
    assert done.returncode == 1
    assert "are live again" in done.stdout
    assert "DIFFERS  bob: credit is 101, its events come to 100; granted is" in done.stdout
    assert "2 accounts: 1 rows differ" in done.stdout
    assert "another --undo, or build them anew with --write" in done.stderr
    done = ledger.run("replay", "--undo", "--json")
    assert (done.returncode, json.loads(done.stdout)["undone"]) == (0, True)
    done = ledger.run("replay", "--undo", "--json")
    assert (done.returncode, len(json.loads(done.stdout)["differences"])) == (1, 1)
    assert "1 rows differ and were put right" in ledger.says("replay", "--write")
    assert ledger.run("audit").returncode == 0


def test_an_undo_finds_a_wrong_head_in_the_rows_that_it_brings_back(ledger: Ledger) -> None:
    """What is chained to it next would be damage to the log itself."""
    ledger.damage("UPDATE account SET head = zeroblob(32) WHERE openid = 'bob'")
    ledger.says("replay", "--write")
    done = ledger.run("replay", "--undo")
    assert done.returncode == 1
    assert f"DIFFERS  bob: head is {bytes(32).hex()}" in done.stdout


def test_replay_does_not_write_what_a_damaged_log_comes_to(ledger: Ledger) -> None:
    ledger.damage("UPDATE event SET credit = 7 WHERE openid = 'alice' AND version = 2",
                  "UPDATE account SET credit = 5000 WHERE openid = 'bob'")  # fmt: skip
    done = ledger.run("replay", "--write")
    assert done.returncode == 1
    assert "CANNOT FOLLOW  alice version 2" in done.stdout
    assert "Nothing was written" in done.stderr
    assert "DIFFERS  bob" in ledger.run("replay").stdout


@pytest.mark.parametrize("command", ["audit", "replay"])
def test_without_a_ledger_it_says_where_it_looked(tmp_path: Path, command: str) -> None:
    done = Ledger(tmp_path).run(command)
    assert done.returncode == 1
    assert str(tmp_path / "ledger.db") in done.stderr
    assert "CREDIT_DATA" in done.stderr
    assert not list(tmp_path.iterdir()), "and creates none"


def test_long_work_shows_its_progress_on_a_terminal(ledger: Ledger) -> None:
    reading, writing = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "audit"], env=ledger.environ, stdout=subprocess.PIPE, stderr=writing, text=True, timeout=60
    )
    os.close(writing)
    shown = os.read(reading, 10_000).decode()
    os.close(reading)
    assert "Auditing" in shown
    assert "100%" in shown
    assert done.stdout.endswith("good\n"), "what a program reads is apart from it"
    assert ledger.run("audit").stderr == "", "and not a terminal sees none"


@pytest.mark.parametrize("command", [[], ["audit"], ["replay"], ["statement"], ["grant"]])
def test_help_teaches(ledger: Ledger, command: list[str]) -> None:
    assert "Usage: credit-ledger" in ledger.says(*command, "--help")


def test_all_of_it_is_safe_while_the_service_runs(new_service: Callable[..., Service]) -> None:
    service = new_service()
    token = service.login("alice")
    beside = Ledger(service.data)
    openid = service.openid_of("alice")
    beside.says("grant", openid, "5", "--reason", "r", "--key", "k")
    assert service.credit(token) == {"credit": 105}
    assert "good" in beside.says("audit")
    beside.damage(f"UPDATE account SET credit = 1 WHERE openid = '{openid}'")
    beside.says("replay", "--write")
    assert service.credit(token) == {"credit": 105}
