"""A person is erased: not a byte of who that was is left in access.db, and the ledger is as it was."""

import base64
import random
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from api import access
from ledger.sqlite import connect
from tests.conftest import Service
from tests.data_directories import Data
from tests.ledger_samples import log_of

# Without the rewriting of the file the first of them leaves an openid behind.
SEEDS = (13, 1, 2)
NAME = "爱丽丝 Alice Liddell"
AVATAR = "data:image/png;base64," + base64.b64encode(random.Random(1).randbytes(30_000)).decode()


def change(path: Path, *changes: access.Change) -> None:
    with closing(access.access_committer(path)) as committer:
        for outcome in committer.commit(changes):
            assert not isinstance(outcome, Exception), outcome


def logs_in(openid: str, name: str, avatar: str) -> list[access.Change]:
    return [
        partial(access.open_session, openid=openid, unionid=f"union-{openid}", sealed_key=b"s" * 40, now_us=5),
        partial(access.open_session, openid=openid, unionid=None, sealed_key=b"t" * 40, now_us=6),
        partial(access.save_profile, openid=openid, chosen=access.Profile(name, avatar)),
    ]


def traces(directory: Path, *texts: str) -> list[tuple[str, str]]:
    """Which of the texts, or pieces of the long ones, are anywhere in access.db and what belongs to it."""
    found = []
    for path in sorted(directory.glob("access.db*")):
        stored = path.read_bytes()
        for text in texts:
            pieces = [text[begin : begin + 60] for begin in range(0, max(len(text) - 60, 1), 60)]
            found += [(path.name, piece) for piece in pieces if piece.encode() in stored]
    return found


@pytest.fixture
def data(tmp_path: Path) -> Data:
    made = Data.made(tmp_path / "data")
    made.register("oAlice", "oBob")
    change(made.access, *logs_in("oAlice", NAME, AVATAR), *logs_in("oBob", "Bob", "https://example.com/b.png"))
    return made


def test_nothing_is_left_of_a_person_who_was_erased(data: Data) -> None:
    assert traces(data.path, NAME, AVATAR, "oAlice", "union-oAlice")
    before = log_of(data.ledger)
    told = data.says("erase", "oAlice", "--yes")
    assert "erased: 2 sessions, 1 WeChat session keys with unionid, 1 profiles" in told
    assert "Events stay" in told
    assert traces(data.path, NAME, AVATAR, "oAlice", "union-oAlice") == []
    assert traces(data.path, "oBob", "union-oBob", "https://example.com/b.png")
    assert log_of(data.ledger) == before


def test_nothing_is_left_where_a_service_or_another_reader_has_the_file_open(data: Data) -> None:
    """An open connection keeps the write-ahead log on disk: it has to be emptied, not only left behind."""
    with closing(connect(data.access, read_only=True)) as reader:
        change(data.access, *logs_in("oAlice", NAME, AVATAR))
        reader.execute("SELECT count(*) FROM profile").fetchone()
        data.says("erase", "oAlice", "--yes")
        assert data.access.with_name("access.db-wal").stat().st_size == 0
    assert traces(data.path, NAME, AVATAR, "oAlice", "union-oAlice") == []


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_left_in_a_file_with_a_past(data: Data, seed: int) -> None:
    """Rows that move between pages as others come, grow and go leave copies of themselves, also with
    secure_delete: these are pasts in which that happens."""
    chance = random.Random(seed)
    for _ in range(30):
        people = [f"oPerson-{chance.randrange(60)}" for _ in range(8)]
        profiles = [access.Profile("n" * chance.randint(1, 900), "x" * chance.randint(1, 900)) for _ in people]
        alice = access.Profile(NAME * chance.randint(1, 30), AVATAR[: chance.randint(100, 5000)])
        change(
            data.access,
            *(
                partial(access.save_profile, openid=person, chosen=profile)
                for person, profile in zip(people, profiles, strict=True)
            ),
            partial(access.save_profile, openid="oAlice", chosen=alice),
            *(partial(access.erase_person, openid=person) for person in chance.sample(people, 4)),
        )
    data.says("erase", "oAlice", "--yes")
    assert traces(data.path, NAME, "oAlice", "union-oAlice", AVATAR) == []


def test_a_reader_that_stays_is_said_and_the_next_time_nothing_is_left(data: Data) -> None:
    with closing(connect(data.access, read_only=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM profile").fetchone()
        assert "run this again soon" in data.refuses("erase", "oAlice", "--yes")
        reader.execute("COMMIT")
        assert "erased: 0 sessions" in data.says("erase", "oAlice", "--yes")
    assert traces(data.path, NAME, AVATAR, "oAlice", "union-oAlice") == []


def test_it_asks_first(data: Data) -> None:
    done = data.run("erase", "oAlice")
    assert done.exit_code == 1
    assert "for ever?" in done.stdout
    assert traces(data.path, "oAlice")


def test_what_still_has_the_person_is_named(data: Data, tmp_path: Path) -> None:
    data.says("backup", tmp_path / "backup")
    data.says("restore", tmp_path / "backup")
    (replaced,) = data.path.glob("replaced-*")
    told = data.says("erase", "oAlice", "--yes")
    assert str(replaced / "access.db") in told
    assert "Backups made before" in told


def test_a_running_service_forgets_the_person_and_knows_the_others(new_service: Callable[..., Service]) -> None:
    service = new_service()
    alice, bob = service.login("alice"), service.login("bob")
    openid = service.openid_of("alice")
    data = Data(service.data)
    change(data.access, partial(access.save_profile, openid=openid, chosen=access.Profile(NAME, AVATAR)))
    assert service.get("/v1/me", alice).status_code == 200
    data.says("erase", openid, "--yes")
    assert service.get("/v1/me", alice).status_code == 401
    assert service.credit(bob) == {"credit": 100}
    # A new login is a new acquaintance, under the same credit.
    assert service.credit(service.login("alice")) == {"credit": 100}
    data.says("erase", openid, "--yes")
    assert service.stop() == 0
    assert traces(data.path, NAME, AVATAR, openid) == []
    assert openid not in service.log
    assert NAME not in service.log
