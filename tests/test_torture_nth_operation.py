"""The parts of the torture suite whose disk fails or fills up: nothing is lost, and a loss would show."""

from contextlib import closing
from itertools import chain, takewhile
from pathlib import Path
from shutil import copytree

import pytest

from ledger.commands import GrantCredit, RegisterUser
from ledger.sqlite import connect
from tests.ledger_samples import committed, vandal
from tests.torture import failing_service
from tests.torture.failing_service import full_disk
from tests.torture.nth_operation import (
    FAULTS,
    broken_promises,
    check_strace,
    let_operations_fail,
    numbers,
    run,
    stuck,
    unprovoked,
    wrong_end,
)
from tests.torture.nth_writer import Answer
from tests.torture.power_story import ACCESS, LEDGER
from tests.torture.round import CannotRun, Round


@pytest.fixture(scope="module")
def _strace() -> None:
    try:
        check_strace()
    except CannotRun as why:
        pytest.skip(f"a failing disk was NOT tested: {why}")


@pytest.mark.usefixtures("_strace")
def test_operations_that_fail_lose_nothing(tmp_path: Path) -> None:
    """A few of all: from number 15 in wide steps, to where there are no more."""
    round = Round("operations", tmp_path, 0, number=15)
    let_operations_fail(round, rounds_of_a_walk=170)
    assert round.broken == []
    assert all(round.tally[fault.name] for fault in FAULTS)
    for fault in FAULTS:
        (behind,) = round.walked[f"{fault.name}: none any more at number"]
        assert round.walked[f"{fault.name}: number"] == set(range(15, behind, 170))
    assert round.tally["acknowledged"] > 0


def test_the_rounds_of_a_walk_leave_no_number_out_and_begin_anew() -> None:
    rounds = [list(takewhile(lambda number: number <= 20, numbers(round, 6))) for round in range(1, 8)]
    assert rounds[1] == [2, 8, 14, 20]
    assert sorted(chain(*rounds[:6])) == list(range(1, 21))
    assert rounds[6] == rounds[0]


@pytest.mark.usefixtures("_strace")
def test_a_service_whose_syncs_fail_loses_nothing(tmp_path: Path) -> None:
    round = Round("service", tmp_path, 0)
    failing_service.failing_service(round, 12)
    assert round.broken == []
    assert round.tally["syncs of a service that failed"] >= 1
    assert round.tally["acknowledged"] > 0


def test_a_service_on_a_full_disk_is_brought_back_by_its_reserve_and_loses_nothing(tmp_path: Path) -> None:
    round = Round("disk", tmp_path, 0)
    try:
        full_disk(round)
    except CannotRun as why:
        pytest.skip(f"a full disk was NOT tested: {why}")
    assert round.broken == []
    assert round.tally["disks filled"] == 1
    assert round.tally["unknown"] + round.tally["not committed"] > 0


# -- the checks ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def _done(tmp_path_factory: pytest.TempPathFactory, _strace: None) -> tuple[Path, list[Answer]]:
    directory = tmp_path_factory.mktemp("nth") / "done"
    answers, status, _ = run(directory, FAULTS[0], 0, "ends")
    assert status == 0
    return directory, answers


class Ran:
    """A directory as the program leaves it where nothing fails, and what it said."""

    def __init__(self, directory: Path, answers: list[Answer]) -> None:
        self.directory = directory
        self.answers = list(answers)

    def broken(self) -> str:
        return "\n".join(broken_promises(self.directory, self.answers))

    def forge(self, number: int, file: str = LEDGER, **changes: object) -> None:
        (at,) = [at for at, each in enumerate(self.answers) if (each.file, each.number) == (file, number)]
        fields = {name: getattr(self.answers[at], name) for name in Answer.__struct_fields__}
        self.answers[at] = Answer(**{**fields, **changes})


@pytest.fixture
def ran(tmp_path: Path, _done: tuple[Path, list[Answer]]) -> Ran:
    directory, answers = _done
    return Ran(copytree(directory, tmp_path / "ran"), answers)


def test_a_run_in_which_nothing_failed_breaks_no_promise(ran: Ran) -> None:
    assert ran.broken() == ""
    assert list(wrong_end(ran.answers, 0, ran.directory)) == []


def test_an_unknown_outcome_may_be_there(ran: Ran) -> None:
    ran.forge(3, outcome="unknown", told=[])
    assert ran.broken() == ""


def test_an_acknowledged_command_that_is_gone_is_reported(ran: Ran) -> None:
    with vandal(ran.directory / LEDGER) as connection:
        connection.execute("DELETE FROM event WHERE key = 'last'")
    assert "was acknowledged, and is there 0 times" in ran.broken()


def test_a_refused_or_failed_command_that_is_there_is_reported(ran: Ran) -> None:
    ran.forge(3, told=["failed: OperationalError()"])
    assert "was failed: OperationalError(), and is there 1 times" in ran.broken()


def test_what_was_told_not_to_be_committed_and_is_there_is_reported(ran: Ran) -> None:
    ran.forge(5, outcome="not committed", told=[])
    assert "change 5 was told not to be committed, and is there" in ran.broken()


def test_half_a_batch_is_reported(ran: Ran) -> None:
    ran.forge(4, outcome="unknown", told=[])
    with vandal(ran.directory / LEDGER) as connection:
        connection.execute("DELETE FROM event WHERE key = 'many-29'")
    assert "change 4 is there in part" in ran.broken()


def test_a_token_that_does_not_work_is_reported(ran: Ran) -> None:
    with closing(connect(ran.directory / ACCESS)) as connection:
        connection.execute("DELETE FROM session")
    assert "the token of login 0 was given out and does not work" in ran.broken()


def test_a_file_that_the_next_start_cannot_open_is_reported(ran: Ran) -> None:
    (ran.directory / LEDGER).write_bytes(b"no database " * 1000)
    assert "the next start cannot work with it" in ran.broken()


def test_writing_on_after_an_io_error_of_commit_is_reported(ran: Ran) -> None:
    why = "COMMIT of ledger.db answered disk I/O error: try again with the same key"
    ran.forge(2, outcome="unknown", told=[], why=why)
    assert "it went on with ledger.db" in "\n".join(wrong_end(ran.answers, 0, ran.directory))


def test_not_going_on_once_there_is_room_is_reported(ran: Ran) -> None:
    ran.forge(2, outcome="unknown", told=[], why="COMMIT of ledger.db answered database or disk is full")
    assert list(stuck(ran.answers)) == []
    ran.forge(3, outcome="not committed", told=[], why="cannot start a transaction within a transaction")
    assert "it did not go on by itself" in "\n".join(stuck(ran.answers))


def test_a_change_that_fails_where_no_operation_did_is_reported(ran: Ran) -> None:
    assert list(unprovoked(ran.answers)) == []
    ran.forge(3, outcome="not committed", told=[], why="database is locked")
    assert "nothing failed, and of 14 changes 13 were told" in "\n".join(unprovoked(ran.answers))


def test_an_end_without_a_word_is_reported(ran: Ran) -> None:
    (ran.directory / "stderr").write_text("Traceback\nOperationalError: disk I/O error\n")
    (broken,) = wrong_end(ran.answers, 1, ran.directory)
    assert broken == "it ended with status 1: ['OperationalError: disk I/O error']"


@pytest.mark.parametrize(
    ("told", "version", "broken"),
    [
        (["acknowledged"], 3, ""),
        ([], None, "nobody sent ['k']"),
        (["outcome-unknown", "replayed"], 3, ""),
        (["not-committed", "replayed"], 3, "was told not to be committed, and was"),
        (["acknowledged"], 4, "was acknowledged as version 4"),
        (["not-committed"], None, "was not settled"),
        (["internal-error", "acknowledged"], 3, "was answered {'internal-error'}"),
    ],
)
def test_what_clients_were_told_is_held_against_the_log(
    ledger_path: Path, told: list[str], version: int | None, broken: str
) -> None:
    committed(ledger_path, RegisterUser("oAnna", 5), GrantCredit("oAnna", 1, "gift", "k"))
    versions = {} if version is None else {"k": version}
    found = "\n".join(failing_service.broken_promises("oAnna", {"k": told}, versions, ledger_path))
    assert (broken in found) if broken else not found


def test_a_key_that_nobody_sent_and_one_that_is_gone_are_reported(ledger_path: Path) -> None:
    committed(ledger_path, RegisterUser("oAnna", 5), GrantCredit("oAnna", 1, "gift", "k"))
    told, versions = {"gone": ["acknowledged"]}, {"gone": 4}
    found = "\n".join(failing_service.broken_promises("oAnna", told, versions, ledger_path))
    assert "gone was acknowledged as version 4 and is there 0 times" in found
    assert "nobody sent ['k']" in found
