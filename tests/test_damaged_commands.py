"""Every command on files that are damaged in every way: what is wrong is said in a sentence."""

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ledger.commands import HoldCredit
from ledger.sqlite import connect
from tests.data_directories import Data

PERSON = "oAnna"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Two seals, with a hold behind the first; a backup and an export of it beside."""
    data = Data.made(tmp_path_factory.mktemp("sound") / "data")
    data.register(PERSON, "oBen")
    data.seal()
    data.commit(HoldCredit(PERSON, 2, "order", "h1"))
    data.seal()
    key = data.path / "signing.key"
    key.touch(mode=0o600)
    key.write_text((b"k" * 32).hex())
    data.says("backup", data.path.with_name("backup"))
    data.says("export", data.path.with_name("export"))
    return data


@pytest.fixture
def data(sound: Data, tmp_path: Path) -> Data:
    shutil.copytree(sound.path, tmp_path / "data")
    return Data(tmp_path / "data")


def without(name: str) -> Callable[[Data], None]:
    return lambda data: (data.path / name).unlink()


def scribbled(name: str, page: int) -> Callable[[Data], None]:
    """A page of the file is overwritten; nothing of it is in a write-ahead log any more."""

    def scribble(data: Data) -> None:
        path = data.path / name
        with closing(connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with path.open("r+b") as file:
            file.seek(4096 * page)
            file.write(b"\xa5" * 300)

    return scribble


def changed(name: str, statement: str) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        with closing(connect(data.path / name)) as connection:
            triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for (trigger,) in triggers:
                connection.execute(f"DROP TRIGGER {trigger}")
            connection.execute("PRAGMA ignore_check_constraints=ON")
            connection.execute(statement)

    return change


DAMAGE = {
    **{f"no {name}": without(name) for name in ("ledger.db", "seals.db", "access.db", "signing.key")},
    **{
        f"page {page} of {name}": scribbled(name, page)
        for name in ("ledger.db", "seals.db", "access.db")
        for page in (1, 2, 3)
    },
    "no JSON": changed("ledger.db", "UPDATE event SET data = '{' WHERE type = 'CreditHeld'"),
    "no type": changed("ledger.db", "UPDATE event SET type = 'Foo' WHERE type = 'CreditHeld'"),
    "no holds": changed("ledger.db", f"UPDATE account SET holds = '{{' WHERE openid = '{PERSON}'"),
    "no owner": changed("ledger.db", "DELETE FROM ledger"),
    "no accounts": changed("ledger.db", "DROP TABLE account"),
    "no events": changed("ledger.db", "DROP TABLE event"),
    "no entry": changed("seals.db", "UPDATE seal SET entry = 'x'"),
    "no time": changed("seals.db", "UPDATE seal SET entry = replace(entry, '_us 1', '_us 99999999991')"),
    "no note": changed("seals.db", "UPDATE seal SET note = 'x'"),
    "no key": changed("seals.db", "DELETE FROM log"),
    "a key that is none": changed("seals.db", "UPDATE log SET vkey = 'x'"),
    "no parts": changed("seals.db", "DROP TABLE part"),
    "no subtrees": changed("seals.db", "DELETE FROM subtree"),
    "no sessions": changed("access.db", "DROP TABLE session"),
}
COMMANDS = (
    "audit",
    "audit --since 1",
    "backup OUT",
    "export FILE",
    "seal",
    "seal --rebuild",
    "seals",
    "seals --vkey",
    "replay",
    "replay --write",
    "replay --undo",
    "totals",
    f"statement {PERSON}",
    f"grant {PERSON} 5 --reason gift --key k1",
    "expire",
    f"erase {PERSON} --yes",
    "key create shop --scope read",
    "key list",
    "import EXPORT",
    "restore BACKUP --accept-loss",
)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_no_damage_is_answered_with_a_traceback(
    damage: Callable[[Data], None], data: Data, sound: Data
) -> None:
    damage(data)
    places = {
        "OUT": str(data.path / "out"),
        "FILE": str(data.path / "file"),
        "BACKUP": str(sound.path.with_name("backup")),
        "EXPORT": str(sound.path.with_name("export")),
    }
    for command in COMMANDS:
        # Which raises what was not caught.
        done = data.run(*(places.get(word, word) for word in command.split()))
        assert done.exit_code in (0, 1), (command, done.output)
        assert "Traceback" not in done.output
        assert done.exit_code == 0 or done.output.strip(), command


def test_a_full_disk_is_named(data: Data) -> None:
    """As /dev/full is: whatever is written there finds no room."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    process = data.started("export", "-")
    process.communicate()
    assert process.returncode == 0
    with open("/dev/full", "wb") as full:
        process = data.started("export", "-", stdout=full)
        _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert "No space left on device" in errors


def test_keys_are_made_where_the_next_start_finds_them(data: Data) -> None:
    """Where an exchange of files broke off, it is finished first: else the new key would be moved aside."""
    incoming = data.path / ".incoming-20260101T000000.000000Z"
    incoming.mkdir()
    shutil.copy(data.access, incoming / "access.db")
    data.says("key", "create", "shop", "--scope", "read")
    assert not incoming.exists()
    assert "shop" in data.says("key", "list")


def test_a_process_that_was_killed_for_want_of_memory_is_no_traceback(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel does it to one of those that audit, replay and totals share their work with."""
    monkeypatch.setattr("ledger.parallel._WORTH_A_PROCESS", 1)
    monkeypatch.setattr("ledger.verify.audit_range", killed)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert "was killed" in data.refuses("audit")


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
