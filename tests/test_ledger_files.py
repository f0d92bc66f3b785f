"""The ledger file: how it is created, what is refused, and how a connection is set up."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.commands import RegisterUser
from ledger.committer import ledger_committer
from ledger.errors import LedgerUnusable, NotCommitted
from ledger.log import Log, LogScan
from ledger.schema import IDENTITY, create, open_ledger
from ledger.sqlite import Connection, connect
from ledger.statement import Reader
from tests.ledger_processes import at_once
from tests.ledger_samples import APPID, assert_sound, commit_with, committed, log_of, new_ledger, sample_ledger

OPENERS: dict[str, Callable[[Path], object]] = {
    "open_ledger": open_ledger,
    "Log": Log,
    "LogScan": LogScan,
    "Reader": Reader,
}

KNOWN = IDENTITY.schema_version


def write_pragma(path: Path, pragma: str) -> None:
    connection = connect(path)
    connection.execute(f"PRAGMA {pragma}")
    connection.close()


def foreign_database(path: Path) -> None:
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('CREATE TABLE theirs (x)')"
    subprocess.run([sys.executable, "-c", code, path], check=True)


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS.keys())
def test_a_missing_file_is_refused_and_not_created(tmp_path: Path, opener: Callable[[Path], object]) -> None:
    path = tmp_path / "ledger.db"
    with pytest.raises(LedgerUnusable, match=f"no ledger at {path}"):
        opener(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"hello, this is no database\n" * 100, b"\0" * 4096, b""])
@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS.keys())
def test_a_file_that_is_no_database_is_refused(
    tmp_path: Path, opener: Callable[[Path], object], content: bytes
) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(LedgerUnusable, match=str(path)):
        opener(path)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match=str(tmp_path)):
        open_ledger(tmp_path)


@pytest.mark.parametrize("application_id", [0, 1, IDENTITY.application_id + 1])
def test_the_database_of_another_application_is_refused(ledger_path: Path, application_id: int) -> None:
    write_pragma(ledger_path, f"application_id={application_id}")
    with pytest.raises(LedgerUnusable, match=f"{ledger_path} is not a database of this service"):
        open_ledger(ledger_path)


@pytest.mark.parametrize(
    "version", [0, IDENTITY.schema_version - 1, IDENTITY.schema_version + 1, 2**31 - 1, -1]
)
def test_an_older_or_newer_schema_is_refused(ledger_path: Path, version: int) -> None:
    """A release that does not know the schema must not write into it."""
    write_pragma(ledger_path, f"user_version={version}")
    with pytest.raises(LedgerUnusable, match=f"schema version {version}, this release knows {KNOWN}"):
        open_ledger(ledger_path)


def test_a_reader_that_was_open_notices_that_the_schema_changed(ledger_path: Path) -> None:
    reader = Reader(ledger_path)
    reader.check_schema()
    write_pragma(ledger_path, f"user_version={IDENTITY.schema_version + 1}")
    with pytest.raises(LedgerUnusable, match=f"schema version {IDENTITY.schema_version + 1}"):
        reader.check_schema()
    reader.close()


def test_the_ledger_of_another_mini_program_is_refused_naming_file_and_both_owners(tmp_path: Path) -> None:
    """An openid belongs to one mini-program: the same person has another one in the next."""
    path = tmp_path / "ledger.db"
    create(path, "wx-theirs")
    for opener in (open_ledger, Reader, Log):
        with pytest.raises(LedgerUnusable) as refusal:
            opener(path, appid="wx-ours")
        for told in (str(path), "wx-theirs", "wx-ours", "WECHAT_APPID", "CREDIT_DATA"):
            assert told in str(refusal.value)
    open_ledger(path, appid="wx-theirs").close()
    open_ledger(path).close()


def test_a_committer_for_another_mini_program_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    create(path, "wx-theirs")
    committer = ledger_committer(path, appid="wx-ours")
    for commands in ([RegisterUser("oAnna", 100)], [RegisterUser("oAnna", 100), RegisterUser("oBo", 100)]):
        with pytest.raises(NotCommitted, match="is the ledger of appid wx-theirs"):
            commit_with(committer, *commands)
    committer.close()
    assert log_of(path) == []


def test_creating_a_ledger_again_keeps_it_and_its_owner(ledger_path: Path) -> None:
    sample_ledger(ledger_path)
    before, owner = log_of(ledger_path), owner_of(ledger_path)
    create(ledger_path, owner)
    create(ledger_path, "wx-other")
    assert log_of(ledger_path) == before
    assert owner_of(ledger_path) == owner
    assert_sound(ledger_path)


def owner_of(path: Path) -> str:
    connection = open_ledger(path)
    ((appid,),) = connection.execute("SELECT appid FROM ledger").fetchall()
    connection.close()
    return str(appid)


def test_creating_a_ledger_where_somebody_elses_database_is_leaves_that_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    foreign_database(path)
    with pytest.raises(LedgerUnusable, match=str(path)):
        create(path, APPID)
    connection = connect(path)
    tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    identity = connection.execute("PRAGMA application_id").fetchone()
    connection.close()
    assert (tables, identity) == ([("theirs",)], (0,))


def test_4_processes_that_create_the_same_ledger_leave_one_sound_ledger(tmp_path: Path) -> None:
    for attempt in range(2):
        path = tmp_path / str(attempt) / "ledger.db"
        path.parent.mkdir()
        assert at_once(*[("create", path)] * 4) == ["created"] * 4
        assert owner_of(path) == APPID
        committed(path, RegisterUser("oAnna", 100))
        assert_sound(path)


def test_a_ledger_is_readable_by_its_owner_alone(ledger_path: Path) -> None:
    sample_ledger(ledger_path)
    connection = open_ledger(ledger_path)
    connection.execute("SELECT 1 FROM ledger").fetchone()
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in ledger_path.parent.iterdir()}
    connection.close()
    assert set(modes) == {"ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.lock"}
    assert set(modes.values()) == {"0o600"}


EXPECTED_PRAGMAS = {
    "busy_timeout": 5000,
    "journal_mode": "wal",
    "synchronous": 2,  # FULL: every commit is synced before it is answered
    "foreign_keys": 1,
    "recursive_triggers": 1,
    "trusted_schema": 0,
    "cell_size_check": 1,
    "mmap_size": 0,
    "journal_size_limit": 64 * 2**20,
    "application_id": IDENTITY.application_id,
    "user_version": IDENTITY.schema_version,
    "query_only": 0,
}


def pragmas(connection: Connection, names: list[str]) -> dict[str, object]:
    return {name: (connection.execute(f"PRAGMA {name}").fetchone() or (0,))[0] for name in names}


@pytest.mark.parametrize("read_only", [False, True])
def test_every_connection_is_set_up_like_this(ledger_path: Path, read_only: bool) -> None:
    """Most of it is not stored in the file, so one forgotten connection loses what the others keep."""
    connection = open_ledger(ledger_path, read_only=read_only)
    found = pragmas(connection, list(EXPECTED_PRAGMAS))
    connection.close()
    assert found == {**EXPECTED_PRAGMAS, "query_only": int(read_only)}


def test_what_is_deleted_is_overwritten_only_where_asked_for(tmp_path: Path) -> None:
    for wanted in (False, True):
        (tmp_path / "access.db").touch()
        connection = connect(tmp_path / "access.db", secure_delete=wanted)
        assert connection.execute("PRAGMA secure_delete").fetchone() == (int(wanted),)
        connection.close()


@pytest.mark.parametrize("name", ["a b", "100%", "what?mode=memory", "#1", "数据", "a&b=c"])
def test_a_path_may_have_any_characters(tmp_path: Path, name: str) -> None:
    """They are opened as URIs, in which some of these mean something."""
    path = tmp_path / name / "ledger.db"
    path.parent.mkdir()
    create(path, APPID)
    committed(path, RegisterUser("oAnna", 100))
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert_sound(path)


def test_a_half_created_ledger_is_finished_by_the_next_create(tmp_path: Path) -> None:
    """A process killed inside `create` leaves an empty file, in WAL mode already."""
    path = tmp_path / "ledger.db"
    path.touch()
    connect(path).close()
    assert path.stat().st_size
    with pytest.raises(LedgerUnusable, match="not a database of this service"):
        open_ledger(path, appid=APPID)
    create(path, APPID)
    open_ledger(path, appid=APPID).close()


def test_a_disk_that_is_full_at_creation_is_told_by_file_and_reason_and_room_mends_it(tmp_path: Path) -> None:
    """A limit of the process stands in for the disk."""
    path = tmp_path / "ledger.db"
    code = (
        "import resource, sys; from pathlib import Path; from ledger.schema import create;"
        "from ledger.errors import LedgerUnusable; resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))\n"
        "try: create(Path(sys.argv[1]), 'wx')\n"
        "except LedgerUnusable as unusable: print(unusable)"
    )
    told = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"cannot create {path}: ")
    create(path, APPID)
    open_ledger(path, appid=APPID).close()


def test_a_ledger_whose_creation_lost_power_in_a_transaction_is_created_by_the_next_start(
    tmp_path: Path,
) -> None:
    """Its pages and the journal that takes them back are copied while the transaction is on its way."""
    begun, found = tmp_path / "begun.db", tmp_path / "ledger.db"
    code = (
        "import shutil, sqlite3, sys; begun, found = sys.argv[1:]; file = sqlite3.connect(begun);"
        "file.execute('PRAGMA user_version=0'); file.execute('VACUUM'); file.execute('PRAGMA cache_size=1');"
        "file.execute('BEGIN'); [file.execute(f'CREATE TABLE t{n} (x)') for n in range(100)];"
        "[shutil.copy(begun + end, found + end) for end in ('', '-journal')]"
    )
    subprocess.run([sys.executable, "-c", code, begun, found], check=True)
    assert found.stat().st_size > 4096
    create(found, APPID)
    committed(found, RegisterUser("oAnna", 5))
    assert_sound(found)


def test_a_file_that_is_refused_is_left_byte_for_byte_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('CREATE TABLE theirs (x)')"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    path.chmod(0o644)
    before = path.read_bytes()
    for refused in (lambda: open_ledger(path), lambda: create(path, APPID), lambda: Reader(path)):
        with pytest.raises(LedgerUnusable, match="not a database of this service"):
            refused()
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o644


def test_two_ledgers_in_two_directories_have_nothing_in_common(ledger_path: Path) -> None:
    with new_ledger() as other:
        sample_ledger(other)
        assert len(log_of(other)) == 7
        assert log_of(ledger_path) == []
