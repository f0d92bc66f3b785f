"""access.db: how long a session, a code and a former session key live, and what is kept of a person."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from api import access
from api.access import (
    ABSOLUTE_EXPIRY_US,
    CODE_MEMORY_US,
    FORMER_KEY_US,
    IDLE_EXPIRY_US,
    TOUCH_INTERVAL_US,
    Profile,
)
from api.vault import Vault, create_secret_key, open_vault
from ledger.errors import LedgerUnusable
from ledger.sqlite import Connection

NOW = 1_800_000_000_000_000
DAY = 86_400_000_000


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Connection]:
    path = tmp_path / "access.db"
    access.create(path, b"check")
    connection = access.open_access(path)
    yield connection
    connection.close()


def test_a_session_idles_out_after_thirty_days(file: Connection) -> None:
    token = access.open_session(file, "alice", None, b"k", NOW)
    assert IDLE_EXPIRY_US == 30 * DAY
    assert access.find_session(file, token, NOW + 30 * DAY) is not None
    assert access.find_session(file, token, NOW + 30 * DAY + 1) is None


def test_a_session_that_is_used_ends_after_a_hundred_and_eighty_days_all_the_same(file: Connection) -> None:
    token = access.open_session(file, "alice", None, b"k", NOW)
    assert ABSOLUTE_EXPIRY_US == 180 * DAY
    for day in range(0, 181, 20):
        session = access.find_session(file, token, NOW + day * DAY)
        assert session is not None
        assert session.openid == "alice"
        access.touch_session(file, session.token_hash, NOW + day * DAY)
    assert access.find_session(file, token, NOW + 180 * DAY + 1) is None


def test_use_is_noted_at_most_once_an_hour(file: Connection) -> None:
    token = access.open_session(file, "alice", None, b"k", NOW)

    def is_stale(at: int) -> bool:
        session = access.find_session(file, token, at)
        assert session is not None
        return session.stale

    assert not is_stale(NOW + TOUCH_INTERVAL_US)
    assert is_stale(NOW + TOUCH_INTERVAL_US + 1)


def test_dead_sessions_are_deleted_when_somebody_logs_in(file: Connection) -> None:
    access.open_session(file, "alice", None, b"k", NOW)
    access.open_session(file, "bob", None, b"k", NOW + IDLE_EXPIRY_US + 1)
    assert file.execute("SELECT openid FROM session").fetchall() == [("bob",)]


def test_a_code_is_remembered_for_ten_minutes(file: Connection) -> None:
    assert CODE_MEMORY_US == 600_000_000
    assert access.present_code(file, "code", NOW)
    assert not access.present_code(file, "code", NOW + CODE_MEMORY_US)
    assert access.present_code(file, "another", NOW + CODE_MEMORY_US)
    assert access.present_code(file, "code", NOW + CODE_MEMORY_US + 1), "forgotten, WeChat refuses it by itself"


def test_the_session_key_before_the_latest_is_kept_for_five_minutes(file: Connection) -> None:
    access.open_session(file, "alice", None, b"first", NOW)
    assert access.sealed_keys(file, "alice", NOW) == [b"first"]
    access.open_session(file, "alice", None, b"second", NOW)
    assert access.sealed_keys(file, "alice", NOW + FORMER_KEY_US) == [b"second", b"first"]
    assert access.sealed_keys(file, "alice", NOW + FORMER_KEY_US + 1) == [b"second"]
    assert access.sealed_keys(file, "nobody", NOW) == []


def test_a_unionid_may_appear_later_and_is_then_kept(file: Connection) -> None:
    for unionid in (None, "union-1", None):
        access.open_session(file, "alice", unionid, b"k", NOW)
    assert file.execute("SELECT unionid FROM wechat_session").fetchall() == [("union-1",)]


def test_a_profile_keeps_what_is_not_given(file: Connection) -> None:
    assert access.profile(file, "alice") == Profile(None, None)
    access.save_profile(file, "alice", Profile("小明", "https://a"))
    assert access.save_profile(file, "alice", Profile("小红", None)) == Profile("小红", "https://a")
    assert access.profile(file, "alice") == Profile("小红", "https://a")


def test_a_token_is_nowhere_in_the_file(file: Connection, tmp_path: Path) -> None:
    tokens = [access.open_session(file, "alice", None, b"k", NOW) for _ in range(50)]
    file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.close()
    stored = (tmp_path / "access.db").read_bytes()
    assert len(set(tokens)) == 50
    assert not [token for token in tokens if token.encode() in stored]


def test_what_is_deleted_is_gone_from_the_file_too(file: Connection, tmp_path: Path) -> None:
    access.save_profile(file, "alice", Profile("a-name-to-be-forgotten", None))
    file.execute("DELETE FROM profile")
    file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.close()
    assert b"a-name-to-be-forgotten" not in (tmp_path / "access.db").read_bytes()


def test_what_is_sealed_opens_with_the_same_key_for_the_same_person_only() -> None:
    vault, other = Vault(b"1" * 32), Vault(b"2" * 32)
    sealed = vault.seal("alice", "secret")
    assert vault.unseal("alice", sealed) == "secret"
    assert sealed != vault.seal("alice", "secret"), "a nonce is used once"
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for opener, name, text in ((vault, "bob", sealed), (other, "alice", sealed), (vault, "alice", changed)):
        with pytest.raises(InvalidTag):
            opener.unseal(name, text)
    assert vault.made(vault.check())
    assert not other.made(vault.check())


def test_a_secret_key_that_was_cut_short_is_never_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies while it writes the key must not keep the service from ever starting."""

    def die(descriptor: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "secret.key"
    monkeypatch.setattr("os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        create_secret_key(path)
    assert not path.exists()
    monkeypatch.undo()
    create_secret_key(path)
    key = path.read_text()
    create_secret_key(path)
    assert path.read_text() == key
    assert open_vault(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret.key"]


def test_what_a_start_left_that_was_killed_at_a_key_is_removed(tmp_path: Path) -> None:
    """Of the key itself there would be a second name for ever."""
    path = tmp_path / "secret.key"
    create_secret_key(path)
    (tmp_path / ".secret.key.abc.partial").hardlink_to(path)
    create_secret_key(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret.key"]


def test_a_key_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match=r"cannot create .*/gone/secret\.key: No such file or directory"):
        create_secret_key(tmp_path / "gone" / "secret.key")


def test_looking_for_a_caller_keeps_no_old_state_of_the_file_in_sight(tmp_path: Path) -> None:
    path = tmp_path / "access.db"
    access.create(path, b"check")
    with (
        closing(access.open_access(path)) as file,
        closing(access.open_access(path, read_only=True)) as reading,
    ):
        token = access.open_session(file, "alice", None, b"k", NOW)
        _, key = access.create_key(file, "backend", frozenset({"read"}), NOW, NOW + DAY)
        lookups = reading.cursor()
        assert access.find_session(lookups, token, NOW) is not None
        assert not is_busy(file)
        assert access.find_key(lookups, key) is not None
        assert not is_busy(file)
        access.close_sessions(file, "alice")
        assert access.find_session(lookups, token, NOW) is None


def is_busy(file: Connection) -> bool:
    """Whether somebody still reads what is there before the next change."""
    access.close_sessions(file, "bob")
    access.open_session(file, "bob", None, b"k", NOW)
    return bool(file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
