"""Backups made while others write, and going back to one: nothing is lost that was not said before."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from ledger.backup import Files as Databases
from ledger.backup import Unsound, check, last_seal
from ledger.directory import alone, exchange, settle, share, staging
from ledger.errors import LedgerUnusable
from ledger.note import Checkpoint
from ledger.parallel import silent
from ledger.seal import NotSealed
from ledger.sqlite import connect
from tests.conftest import Service
from tests.data_directories import Data
from tests.ledger_processes import Program
from tests.ledger_samples import assert_sound, flip_bit, log_of, make_unreadable, vandal

NOW_US = 1_800_000_000_123_456


@pytest.fixture
def data(tmp_path: Path) -> Data:
    made = Data.made(tmp_path / "data")
    made.register("oAnna", "oBo")
    made.seal()
    made.grant("oAnna", "k1")
    return made


@pytest.fixture
def backup(data: Data, tmp_path: Path) -> Path:
    data.says("backup", tmp_path / "backup")
    return tmp_path / "backup"


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_a_backup_is_a_sound_copy_without_keys(data: Data, tmp_path: Path) -> None:
    (data.path / "secret.key").write_text("secret")
    (data.path / "signing.key").write_text("secret")
    done = data.run("backup", tmp_path / "backup")
    assert done.exit_code == 0, done.stderr
    assert "5 events, 2 accounts, 205 credits, up to seal 1; audited and good" in done.stdout
    assert str(data.path / "secret.key") in done.stderr
    assert str(data.path / "signing.key") in done.stderr
    copy = Data(tmp_path / "backup")
    assert copy.names() == {"ledger.db", "seals.db", "access.db", "backup.json"}
    assert {path.stat().st_mode & 0o777 for path in copy.path.iterdir()} == {0o600}
    assert copy.path.stat().st_mode & 0o777 == 0o700
    assert log_of(copy.ledger) == log_of(data.ledger)
    assert copy.seals_there() == data.seals_there()
    assert_sound(copy.ledger)
    manifest = json.loads((copy.path / "backup.json").read_text())
    assert manifest.pop("made_at_us") > NOW_US - 10**15
    assert manifest == {
        "events": 5,
        "accounts": 2,
        "outstanding": 205,
        "seal": 1,
        "note": data.seals_there()[0][1],
    }


def test_a_backup_never_takes_the_place_of_something(data: Data, backup: Path) -> None:
    before = contents(backup)
    assert "is there already" in data.refuses("backup", backup)
    assert contents(backup) == before


def test_a_backup_while_others_write_and_seal_is_sound(data: Data, tmp_path: Path) -> None:
    with Program("grant-until-told", data.ledger, "oAnna", "a") as writer:
        assert writer.read() == "ready"
        writer.go()
        for number in range(3):
            writer.read()
            writer.drain()
            data.seal()
            data.says("backup", tmp_path / f"backup{number}")
            copy = Data(tmp_path / f"backup{number}")
            assert_sound(copy.ledger)
            written = log_of(copy.ledger)
            assert written == log_of(data.ledger)[: len(written)]
            assert copy.seals_there() == data.seals_there()
            copy.seal()  # which says when the ledger lacks what was sealed
        assert writer.stop() == 0


def test_a_damaged_ledger_gives_no_backup(data: Data, tmp_path: Path) -> None:
    with vandal(data.ledger) as connection:
        connection.execute("UPDATE event SET credit = 7 WHERE position = 3")
    assert "oBo version 1" in data.refuses("backup", tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == []


def test_a_copy_that_lacks_what_is_sealed_is_not_sound(data: Data, backup: Path) -> None:
    data.grant("oAnna", "k2")
    data.seal()
    files = Databases(data.seals, backup / "ledger.db", data.access)
    with pytest.raises(Unsound, match=r"oAnna version 4: cut-tail: .*seal 2 covers"):
        check(files, 0, lambda label: nullcontext(silent))


def test_kill_9_in_a_backup_leaves_nothing_of_that_name(data: Data, tmp_path: Path) -> None:
    data.register(*(f"oMany{number}" for number in range(3000)))
    target = tmp_path / "to" / "backup"
    target.parent.mkdir()
    data.killed("backup", target, at=target.parent / ".backup.partial" / "ledger.db")
    assert not target.exists()
    (target.parent / ".backup.partial" / "of-the-killed").touch()
    data.says("backup", target)
    assert Data(target).names() == {"ledger.db", "seals.db", "access.db", "backup.json"}
    assert {path.name for path in target.parent.iterdir()} == {"backup"}


def test_while_a_backup_is_made_another_of_that_name_says_so(data: Data, tmp_path: Path) -> None:
    data.register(*(f"oMany{number}" for number in range(3000)))
    target = tmp_path / "to" / "backup"
    target.parent.mkdir()
    begun = target.parent / ".backup.partial" / "ledger.db"
    with data.halted("backup", target, at=begun) as first:
        told = data.refuses("backup", target)
        assert told == (
            f"Error: {target} is being made by another process: wait until that is done, or give another name\n"
        )
        data.says("backup", target.with_name("another"))
    assert "audited and good" in first.communicate()[0]
    assert {path.name for path in target.parent.iterdir()} == {"backup", "another"}
    for name in ("backup", "another"):
        copy = Data(target.with_name(name))
        assert {path.name for path in copy.path.iterdir()} == {
            "ledger.db",
            "seals.db",
            "access.db",
            "backup.json",
        }
        assert log_of(copy.ledger) == log_of(data.ledger)
        assert_sound(copy.ledger)


def test_of_many_backups_to_one_name_at_once_one_is_made(data: Data, tmp_path: Path) -> None:
    target = tmp_path / "to" / "backup"
    target.parent.mkdir()
    running = [data.started("backup", target) for _ in range(4)]
    ended = [(process.communicate()[1], process.returncode) for process in running]
    assert sorted(status for _, status in ended) == [0, 1, 1, 1]
    for told, status in ended:
        if status:
            assert re.fullmatch(r"Error: .* is (there already: give the|being made by another) .*\n", told)
    assert {path.name for path in target.parent.iterdir()} == {"backup"}
    assert log_of(target / "ledger.db") == log_of(data.ledger)
    assert_sound(target / "ledger.db")


def test_a_backup_whose_name_was_taken_meanwhile_leaves_what_took_it(data: Data, tmp_path: Path) -> None:
    data.register(*(f"oMany{number}" for number in range(3000)))
    target = tmp_path / "to" / "backup"
    target.parent.mkdir()
    begun = target.parent / ".backup.partial" / "ledger.db"
    with data.halted("backup", target, at=begun) as first:
        target.mkdir()
        (target / "mine").write_text("mine")
    _, told = first.communicate()
    assert first.returncode == 1
    assert re.fullmatch(r"Error: cannot give .* the name .*; give another\n", told)
    assert contents(target) == {"mine": b"mine"}
    assert {path.name for path in target.parent.iterdir()} == {"backup"}


def test_a_restore_into_nothing_just_restores(data: Data, backup: Path, tmp_path: Path) -> None:
    new = Data(tmp_path / "new")
    assert "another one of the same number would be a fork" in new.refuses("restore", backup)
    note = tmp_path / "note"
    note.write_text(last_seal(backup / "seals.db").note)
    assert "restored: 5 events, 2 accounts" in new.says("restore", backup, "--note", note)
    assert new.names() == {"ledger.db", "seals.db", "access.db"}
    assert log_of(new.ledger) == log_of(data.ledger)
    assert new.seals_there() == data.seals_there()
    assert new.seal().seal.number == 2


def test_a_restore_that_loses_nothing_goes_ahead(data: Data, backup: Path) -> None:
    told = data.says("restore", backup)
    assert "LOST" not in told
    (replaced,) = data.path.glob("replaced-*")
    assert f"What was there is in {replaced}" in told
    # The seals that were there are as new as those of the backup, so they stay.
    assert {path.name for path in replaced.iterdir()} == {"ledger.db", "access.db"}
    assert_sound(data.ledger)


def test_what_a_restore_would_lose_is_said_and_nothing_is_done(data: Data, backup: Path) -> None:
    data.grant("oAnna", "k2")
    data.grant("oAnna", "k3")
    data.register("oNew")
    before = contents(data.path)
    told = data.refuses("restore", backup)
    assert "WOULD BE LOST  oAnna versions 4 to 5\n" in told
    assert "WOULD BE LOST  oNew versions 1 to 2\n" in told
    assert "WOULD BE LOST  4 events\n" in told
    assert "oBo" not in told
    assert "--accept-loss" in told
    assert contents(data.path) | {"x": b""} == before | {"service.lock": b"", "x": b""}
    assert len(log_of(data.ledger)) == 9


def test_an_accepted_loss_is_sealed_as_one(data: Data, backup: Path) -> None:
    data.grant("oAnna", "k2")
    data.seal()
    lost = log_of(data.ledger)
    seals = data.seals_there()
    told = data.says("restore", backup, "--accept-loss")
    assert "LOST  oAnna version 4\n" in told
    assert "credit-ledger seal --accept-loss" in told
    assert len(log_of(data.ledger)) == 5
    (replaced,) = data.path.glob("replaced-*")
    assert log_of(replaced / "ledger.db") == lost
    # The log of seals goes on from what was published, and says what happened.
    assert data.seals_there() == seals
    with pytest.raises(NotSealed):
        data.seal()
    sealed = data.seal(accept_loss=True).seal
    assert (sealed.number, sealed.lost) == (3, 2), "all behind the newest seal whose end is still there"
    data.grant("oBo", "k9")
    data.seal()
    data.says("backup", backup.with_name("later"))


def test_a_rewritten_history_counts_as_lost(data: Data, backup: Path) -> None:
    """An account that went another way since the backup: as long, with other events."""
    data.says("restore", backup)
    data.grant("oBo", "k1")
    other = backup.with_name("other")
    data.says("backup", other)
    data.says("restore", backup, "--accept-loss")
    data.grant("oBo", "k2")
    assert "WOULD BE LOST  oBo version 3\n" in data.refuses("restore", other)


def test_without_the_ledger_the_seals_say_what_is_lost(data: Data, backup: Path) -> None:
    data.grant("oAnna", "k2")
    data.grant("oAnna", "k3")
    data.seal()
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        (data.path / name).unlink(missing_ok=True)
    told = data.refuses("restore", backup)
    assert "WOULD BE LOST  at least 2 events" in told
    assert not data.ledger.exists()


def test_a_ledger_that_breaks_off_is_one_of_which_the_loss_is_not_known(data: Data, backup: Path) -> None:
    """It can be opened; its events cannot be read."""
    make_unreadable(data.ledger)
    told = data.refuses("restore", backup)
    assert "ledger.db cannot be read (" in told
    assert "what is only in it is not known" in told


def test_a_note_says_nothing_where_there_is_no_seal(data: Data, tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.write_text(data.seals_there()[0][1])
    other = Data.made(tmp_path / "other")
    other.says("backup", tmp_path / "backup")
    told = Data(tmp_path / "new").refuses("restore", tmp_path / "backup", "--note", note)
    assert "neither the backup nor the present files have a seal to compare the note with" in told


def test_a_published_note_alone_shows_a_loss(data: Data, backup: Path, tmp_path: Path) -> None:
    note = tmp_path / "note"
    data.grant("oAnna", "k2")
    note.write_text(data.seal().note)
    new = Data(tmp_path / "new")
    told = new.refuses("restore", backup, "--note", note)
    assert "WOULD BE LOST  what the last 1 published seals cover" in told
    assert not new.ledger.exists()
    assert "signing.key" in new.says("restore", backup, "--note", note, "--accept-loss")


def test_a_published_note_that_the_backup_has_is_no_loss(data: Data, tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.write_text(data.seals_there()[0][1])
    data.seal()
    data.says("backup", tmp_path / "backup")
    assert "LOST" not in Data(tmp_path / "new").says("restore", tmp_path / "backup", "--note", note)


def test_a_note_of_another_log_is_refused(data: Data, backup: Path, tmp_path: Path) -> None:
    other = Data.made(tmp_path / "other")
    other.register("oElse")
    note = tmp_path / "note"
    note.write_text(other.seal().note)
    assert "the note is of another log" in Data(tmp_path / "new").refuses("restore", backup, "--note", note)
    note.write_text("hello\n")
    assert "the note is none of this ledger" in Data(tmp_path / "new").refuses(
        "restore", backup, "--note", note
    )


def test_a_backup_of_another_log_is_refused_whatever_is_accepted(data: Data, tmp_path: Path) -> None:
    other = Data.made(tmp_path / "other")
    other.register("oElse")
    other.seal()
    other.says("backup", tmp_path / "backup")
    before = log_of(data.ledger)
    assert "different logs" in data.refuses("restore", tmp_path / "backup", "--accept-loss")
    assert log_of(data.ledger) == before


@pytest.mark.parametrize("name", ["ledger.db", "seals.db", "access.db"])
def test_what_cannot_be_read_any_more_is_said_and_put_right(data: Data, backup: Path, name: str) -> None:
    for path in data.path.glob(f"{name}-*"):
        path.unlink()
    (data.path / name).write_bytes(b"no database at all" * 100)
    if name != "access.db":
        assert f"NOT KNOWN  {data.path / name} cannot be read" in data.refuses("restore", backup)
    data.says("restore", backup, "--accept-loss")
    (replaced,) = data.path.glob("replaced-*")
    assert (replaced / name).read_bytes().startswith(b"no database")
    assert_sound(data.ledger)
    assert len(data.seals_there()) == 1


SEALS_DAMAGE = {
    "a note": "UPDATE seal SET note = 'x'",
    "an entry": "UPDATE seal SET entry = replace(entry, 'events 4', 'events 3')",
    "the key": "UPDATE log SET vkey = 'x'",
    "no key": "DELETE FROM log",
    "no parts": "DROP TABLE part",
}


def damaged(seals: Path, statement: str) -> None:
    with closing(connect(seals)) as connection:
        for (trigger,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(statement)


@pytest.mark.parametrize("statement", SEALS_DAMAGE.values(), ids=SEALS_DAMAGE.keys())
def test_damaged_seals_do_not_stay(data: Data, backup: Path, statement: str) -> None:
    """The service does not start with them, or does not seal: then nothing was restored."""
    damaged(data.seals, statement)
    assert f"NOT KNOWN  {data.seals} cannot be read" in data.refuses("restore", backup)
    data.says("restore", backup, "--accept-loss")
    data.says("audit")
    data.seal()


@pytest.mark.parametrize("statement", ["DELETE FROM subtree", "UPDATE subtree SET hash = zeroblob(32)"])
def test_seals_with_a_damaged_tree_stay_and_are_made_whole(data: Data, backup: Path, statement: str) -> None:
    data.grant("oBo", "k2")
    data.seal()
    damaged(data.seals, statement)
    assert "LOST  1 events" in data.says("restore", backup, "--accept-loss")
    assert len(data.seals_there()) == 2


def test_a_note_of_receipts_is_none_of_seals(data: Data, backup: Path, tmp_path: Path) -> None:
    """The same key signs both: a receipt's note of 9 would count as nine seals, most of them lost."""
    note = tmp_path / "note"
    origin = f"{data.signer.name}/receipts"
    note.write_text(data.signer.sign(Checkpoint(origin, 9, bytes(32)).text()), encoding="utf-8")
    data.says("export", tmp_path / "export")
    for command in (("restore", backup), ("audit",)):
        assert f"but of {origin}" in data.refuses(*command, "--note", note)
    other = Data(tmp_path / "other")
    assert f"but of {origin}" in other.refuses("import", tmp_path / "export", "--note", note)


@pytest.mark.parametrize("made_at_us", [-1, 253_402_300_800_000_000, 10**30, "now"])
def test_a_moment_that_is_none_is_refused(data: Data, backup: Path, made_at_us: object) -> None:
    manifest = json.loads((backup / "backup.json").read_bytes())
    (backup / "backup.json").write_text(json.dumps({**manifest, "made_at_us": made_at_us}), encoding="utf-8")
    assert "is no whole backup" in data.refuses("restore", backup, "--accept-loss")


def test_a_backup_that_was_not_finished_is_refused(data: Data, backup: Path) -> None:
    """The file that says so comes last."""
    (backup / "backup.json").unlink()
    assert "is no whole backup" in data.refuses("restore", backup, "--accept-loss")


def test_a_damaged_backup_is_refused_before_anything_is_touched(data: Data, backup: Path) -> None:
    page = bytearray((backup / "ledger.db").read_bytes())
    where = page.index(b"CreditGranted", 4096 * 2)
    page[where : where + 1] = bytes(flip_bit(bytes(page[where : where + 1]), 1))
    (backup / "ledger.db").write_bytes(bytes(page))
    before = log_of(data.ledger)
    assert "changed" in data.refuses("restore", backup, "--accept-loss")
    assert log_of(data.ledger) == before
    assert list(data.path.glob("replaced-*")) == []


def foreign(path: Path) -> None:
    """Somebody else's database is there, in the mode that SQLite makes by itself."""
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('CREATE TABLE theirs (x)')"
    subprocess.run([sys.executable, "-c", code, path], check=True)


def of_another_schema(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")


OTHERS = {
    "another program": (foreign, "is not a database of this service"),
    "another schema": (of_another_schema, "has schema version 99"),
}


@pytest.mark.parametrize("name", ["ledger.db", "seals.db", "access.db"])
@pytest.mark.parametrize(("become", "said"), OTHERS.values(), ids=OTHERS.keys())
def test_what_is_another_programs_file_is_not_taken_along(
    data: Data, backup: Path, become: Callable[[Path], None], said: str, name: str
) -> None:
    """Neither into a backup nor out of one; and it stays as it was."""
    become(backup / name)
    before = log_of(data.ledger)
    theirs = (backup / name).read_bytes()
    assert data.refuses("restore", backup, "--accept-loss").startswith(f"Error: {backup / name} {said}")
    assert (backup / name).read_bytes() == theirs
    assert log_of(data.ledger) == before
    assert list(data.path.glob("replaced-*")) == []

    become(data.path / name)
    theirs = (data.path / name).read_bytes()
    told = data.refuses("backup", backup.with_name("another"))
    assert told.startswith(f"Error: {data.path / name} {said}")
    assert (data.path / name).read_bytes() == theirs
    assert list(backup.parent.glob("*another*")) == []


def test_a_directory_that_is_no_backup_is_refused(data: Data, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is no backup" in data.refuses("restore", tmp_path / "empty")


def test_all_that_is_lost_can_be_had_as_json(data: Data, backup: Path) -> None:
    data.grant("oAnna", "k2")
    done = data.run("restore", backup, "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["done"] is False
    assert told["loss"] == {
        "events": 1,
        "accounts": [{"openid": "oAnna", "first": 4, "last": 4}],
        "seals": 0,
        "unknown": [],
    }


def test_nothing_is_exchanged_under_a_running_service(
    new_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = new_service(workers=2)
    token = service.login("alice")
    data = Data(service.data)
    data.says("backup", tmp_path / "backup")
    data.says("export", tmp_path / "export")
    assert "is in use: a service runs on it" in data.refuses("restore", tmp_path / "backup")
    assert "is in use: a service runs on it" in data.refuses("import", tmp_path / "export")
    assert service.stop() == 0
    assert "restored: 2 events" in data.says("restore", tmp_path / "backup")
    service.start()
    assert service.credit(token) == {"credit": 100}


def test_no_service_starts_while_files_are_exchanged(data: Data) -> None:
    with alone(data.path), pytest.raises(LedgerUnusable, match="wait until that is done"):
        share(data.path)


@pytest.mark.parametrize("moved", [0, 1, 2, 3, 4])
def test_an_exchange_that_broke_off_anywhere_is_finished(tmp_path: Path, moved: int) -> None:
    """Four renamings and one more stand between what was and what is to be: each can be the last one."""
    for name in ("a.db", "a.db-wal", "b.db"):
        (tmp_path / name).write_text(f"old {name}")
    incoming, replaced = tmp_path / ".incoming-1", tmp_path / "replaced-1"
    for directory in (incoming, replaced):
        directory.mkdir()
    for name in ("a.db", "b.db"):
        (incoming / name).write_text(f"new {name}")
    steps = [
        (tmp_path / "a.db", replaced / "a.db"),
        (tmp_path / "a.db-wal", replaced / "a.db-wal"),
        (incoming / "a.db", tmp_path / "a.db"),
        (tmp_path / "b.db", replaced / "b.db"),
    ]
    for before, after in steps[:moved]:
        before.rename(after)
    settle(tmp_path)
    assert {name: (tmp_path / name).read_text() for name in ("a.db", "b.db")} == {
        "a.db": "new a.db",
        "b.db": "new b.db",
    }
    assert contents(replaced) == {name: f"old {name}".encode() for name in ("a.db", "a.db-wal", "b.db")}
    assert not (tmp_path / "a.db-wal").exists()
    assert not incoming.exists()


def test_what_a_killed_restore_staged_is_gone_with_the_next_command(data: Data, backup: Path) -> None:
    """A copy of access.db is in it, with whoever is erased then."""
    staged = data.path / ".staged"
    with data.halted("restore", backup, at=staged / "access.db") as process:
        data.says("seals")
        assert staged.exists()  # it is still at work
        process.kill()
    process.communicate()
    data.says("erase", "oAnna", "--yes")
    assert not staged.exists()


def test_replaced_files_are_named_after_the_moment(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("old")
    with alone(tmp_path), staging(tmp_path) as staged:
        (staged / "a.db").write_text("new")
        (staged / "a.lock").write_text("")
        replaced = exchange(tmp_path, staged, NOW_US)
    assert re.fullmatch(r"replaced-20270115T080000\.123456Z", replaced.name)
    assert contents(replaced) == {"a.db": b"old"}
    assert contents(tmp_path) == {"a.db": b"new", "service.lock": b""}


def test_a_service_finishes_an_exchange_before_it_serves(
    new_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = new_service(workers=1)
    service.login("alice")
    data = Data(service.data)
    data.says("backup", tmp_path / "backup")
    token = service.login("bob")
    assert service.stop() == 0
    incoming = data.path / ".incoming-1"
    incoming.mkdir()
    for name in ("ledger.db", "access.db"):
        (tmp_path / "backup" / name).rename(incoming / name)
    service.start()
    assert not incoming.exists()
    assert (data.path / "replaced-1" / "ledger.db").exists()
    assert service.get("/v1/me", token).status_code == 401
