"""access.db: who may come in, and what may be forgotten. No credit is in it.

Sessions, API keys, WeChat's session keys (sealed), codes presented lately, and profiles. It is a file of
its own so that the ledger can be handed to an auditor without a secret in it, and a person erased without
touching the log. Functions that write take the open file and run inside a transaction of `access_committer`.
"""

import secrets
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from ledger.committer import Committer
from ledger.errors import LedgerUnusable
from ledger.sqlite import (
    Connection,
    Cursor,
    Identity,
    WritableFile,
    check_identity,
    connect,
    create_file,
    turnstile_path,
)

IDENTITY: Final = Identity(application_id=0x43524C41, schema_version=2)  # "CRLA"

_SECOND_US: Final = 1_000_000
_DAY_US: Final = 86_400 * _SECOND_US
IDLE_EXPIRY_US: Final = 30 * _DAY_US
ABSOLUTE_EXPIRY_US: Final = 180 * _DAY_US
# How stale `last_used_at` may be: a session may idle out an hour early, and most requests write nothing.
TOUCH_INTERVAL_US: Final = 3600 * _SECOND_US
CODE_MEMORY_US: Final = 600 * _SECOND_US
# How long the session key before the latest still opens what was encrypted with it.
FORMER_KEY_US: Final = 300 * _SECOND_US

# How stale a key's `last_used_at` may be.
KEY_TOUCH_INTERVAL_US: Final = 60 * _SECOND_US

_SCHEMA: Final = """
CREATE TABLE secret_key (only INTEGER PRIMARY KEY CHECK (only = 1), made_this BLOB NOT NULL) STRICT;

CREATE TABLE session (
    token_hash BLOB PRIMARY KEY CHECK (length(token_hash) = 32),
    openid TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_openid ON session (openid);
CREATE INDEX session_idle ON session (last_used_at);
CREATE INDEX session_age ON session (created_at);

-- WeChat knows one session key per person, whatever the number of devices.
CREATE TABLE wechat_session (
    openid TEXT PRIMARY KEY,
    unionid TEXT,
    session_key BLOB NOT NULL,
    former_key BLOB,
    replaced_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE presented_code (
    code_hash BLOB PRIMARY KEY CHECK (length(code_hash) = 32),
    presented_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX presented_code_age ON presented_code (presented_at);

CREATE TABLE api_key (
    key_hash BLOB PRIMARY KEY CHECK (length(key_hash) = 32),
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE profile (openid TEXT PRIMARY KEY, nickname TEXT, avatar TEXT) STRICT, WITHOUT ROWID;
"""


class Session(msgspec.Struct, frozen=True):
    """A live login of one device; `stale` when its time of last use should be written again."""

    openid: str
    token_hash: bytes
    stale: bool


class ApiKey(msgspec.Struct, frozen=True):
    """A backend's key, without the secret that it is: `id` names it in events and lists."""

    id: str
    name: str
    scopes: frozenset[str]
    created_at_us: int
    expires_at_us: int
    revoked_at_us: int | None
    last_used_at_us: int | None

    def is_live(self, now_us: int) -> bool:
        return self.revoked_at_us is None and now_us < self.expires_at_us


class Profile(msgspec.Struct, frozen=True):
    """What a person calls himself, untrusted text, and his picture's address or `data:` URL."""

    nickname: str | None = None
    avatar: str | None = None


def create(path: Path, key_check: bytes) -> None:
    """Create access.db for the secret key that made `key_check`; one that exists is left alone."""
    create_file(path, IDENTITY, _SCHEMA, "INSERT INTO secret_key VALUES (1, ?)", (key_check,))


def open_access(path: Path, *, read_only: bool = False) -> Connection:
    """A connection to an existing access.db of a known schema; raises LedgerUnusable, naming the file."""
    if not path.exists():
        raise LedgerUnusable(f"no database at {path}: start the service once, or set CREDIT_DATA")
    return connect(path, IDENTITY, read_only=read_only, secure_delete=True)


def check_schema(connection: Connection, path: Path) -> None:
    """Raise LedgerUnusable where the file is not of the schema that this code knows."""
    check_identity(connection, path, IDENTITY)


def key_check(connection: Connection) -> bytes:
    """What the secret key that belongs to this file made when the file was created."""
    (made_this,) = connection.execute("SELECT made_this FROM secret_key").fetchone()
    return bytes(made_this)


# -- reading, on the event loop ------------------------------------------------------------------------


def find_session(connection: Connection | Cursor, token: str, now_us: int) -> Session | None:
    """The live session of a token; None where there is none, or it idled out or is too old."""
    digest = sha256(token.encode()).digest()
    row = connection.execute(
        "SELECT openid, created_at, last_used_at FROM session WHERE token_hash = ?", (digest,)
    ).fetchone()
    if row is None:
        return None
    openid, created_at, last_used_at = row
    if now_us - last_used_at > IDLE_EXPIRY_US or now_us - created_at > ABSOLUTE_EXPIRY_US:
        return None
    return Session(openid, digest, now_us - last_used_at > TOUCH_INTERVAL_US)


def find_key(connection: Connection | Cursor, key: str) -> ApiKey | None:
    """The API key that `key` is, live or not; None where it is none."""
    row = connection.execute(
        "SELECT id, name, scopes, created_at, expires_at, revoked_at, last_used_at FROM api_key"
        " WHERE key_hash = ?",
        (sha256(key.encode()).digest(),),
    ).fetchone()
    return None if row is None else _api_key(row)


def list_keys(connection: Connection) -> list[ApiKey]:
    """Every API key, the oldest first."""
    rows = connection.execute(
        "SELECT id, name, scopes, created_at, expires_at, revoked_at, last_used_at FROM api_key"
        " ORDER BY created_at, id"
    ).fetchall()
    return [_api_key(row) for row in rows]


def _api_key(row: tuple[Any, ...]) -> ApiKey:
    return ApiKey(row[0], row[1], frozenset(row[2].split()), *row[3:])


def sealed_keys(connection: Connection, openid: str, now_us: int) -> list[bytes]:
    """The person's sealed WeChat session keys, latest first; the one before it only for a few minutes."""
    row = connection.execute(
        "SELECT session_key, former_key, replaced_at FROM wechat_session WHERE openid = ?", (openid,)
    ).fetchone()
    if row is None:
        return []
    latest, former, replaced_at = row
    return [latest] if former is None or now_us - replaced_at > FORMER_KEY_US else [latest, former]


def profile(connection: Connection, openid: str) -> Profile:
    row = connection.execute("SELECT nickname, avatar FROM profile WHERE openid = ?", (openid,)).fetchone()
    return Profile() if row is None else Profile(*row)


# -- writing, inside a transaction ---------------------------------------------------------------------


def present_code(connection: Connection, code: str, now_us: int) -> bool:
    """Remember that `code` was presented; False where it was before, in the last ten minutes."""
    connection.execute("DELETE FROM presented_code WHERE presented_at < ?", (now_us - CODE_MEMORY_US,))
    cursor = connection.execute(
        "INSERT INTO presented_code (code_hash, presented_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (sha256(code.encode()).digest(), now_us),
    )
    return bool(cursor.rowcount)


def open_session(
    connection: Connection, openid: str, unionid: str | None, sealed_key: bytes, now_us: int
) -> str:
    """A new session of one more device, and its token: 256 bits that are stored nowhere but in their hash."""
    connection.execute("DELETE FROM session WHERE last_used_at < ?", (now_us - IDLE_EXPIRY_US,))
    connection.execute("DELETE FROM session WHERE created_at < ?", (now_us - ABSOLUTE_EXPIRY_US,))
    token = secrets.token_urlsafe(32)
    connection.execute(
        "INSERT INTO session VALUES (?, ?, ?, ?)", (sha256(token.encode()).digest(), openid, now_us, now_us)
    )
    connection.execute(
        "INSERT INTO wechat_session (openid, unionid, session_key, replaced_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (openid) DO UPDATE SET former_key = session_key, session_key = excluded.session_key,"
        " replaced_at = excluded.replaced_at, unionid = coalesce(excluded.unionid, unionid)",
        (openid, unionid, sealed_key, now_us),
    )
    return token


def close_session(connection: Connection, token_hash: bytes) -> None:
    """Log one device out."""
    connection.execute("DELETE FROM session WHERE token_hash = ?", (token_hash,))


def close_sessions(connection: Connection, openid: str) -> None:
    """Log all of a person's devices out."""
    connection.execute("DELETE FROM session WHERE openid = ?", (openid,))


def create_key(
    connection: Connection, name: str, scopes: frozenset[str], now_us: int, expires_at_us: int
) -> tuple[ApiKey, str]:
    """A new API key, and the secret that is handed out once and stored nowhere but in its hash."""
    key_id = secrets.token_hex(6)
    key = f"ck_{key_id}_{secrets.token_urlsafe(32)}"
    connection.execute(
        "INSERT INTO api_key (key_hash, id, name, scopes, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
        (sha256(key.encode()).digest(), key_id, name, " ".join(sorted(scopes)), now_us, expires_at_us),
    )
    return ApiKey(key_id, name, scopes, now_us, expires_at_us, None, None), key


def revoke_key(connection: Connection, key_id: str, now_us: int) -> bool:
    """End a key now; False where there is none with that id. One that was revoked stays as it was."""
    cursor = connection.execute(
        "UPDATE api_key SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?", (now_us, key_id)
    )
    return bool(cursor.rowcount)


def touch_key(connection: Connection, key_id: str, now_us: int) -> None:
    connection.execute("UPDATE api_key SET last_used_at = ? WHERE id = ?", (now_us, key_id))


def touch_session(connection: Connection, token_hash: bytes, now_us: int) -> None:
    connection.execute("UPDATE session SET last_used_at = ? WHERE token_hash = ?", (now_us, token_hash))


def save_profile(connection: Connection, openid: str, chosen: Profile) -> Profile:
    """Replace what is given, keep what is None, and return what is there then."""
    row = connection.execute(
        "INSERT INTO profile (openid, nickname, avatar) VALUES (?, ?, ?) ON CONFLICT (openid) DO UPDATE SET"
        " nickname = coalesce(excluded.nickname, nickname), avatar = coalesce(excluded.avatar, avatar)"
        " RETURNING nickname, avatar",
        (openid, chosen.nickname, chosen.avatar),
    ).fetchone()
    return Profile(*row)


def erase_person(connection: Connection, openid: str) -> list[int]:
    """Forget all that is kept of a person; how many sessions, WeChat sessions and profiles that were."""
    return [
        connection.execute("DELETE FROM session WHERE openid = ?", (openid,)).rowcount,
        connection.execute("DELETE FROM wechat_session WHERE openid = ?", (openid,)).rowcount,
        connection.execute("DELETE FROM profile WHERE openid = ?", (openid,)).rowcount,
    ]


# A change of access.db: one of the functions above with all but the connection filled in.
Change = Callable[[Connection], Any]


def access_committer(path: Path) -> Committer[WritableFile, Change, Any]:
    """The committer of access.db; its turnstile is the file `access.lock` beside it."""
    return Committer(
        lambda: WritableFile(open_access(path), path.name),
        lambda file, change: change(file.connection),
        turnstile_path(path),
    )
