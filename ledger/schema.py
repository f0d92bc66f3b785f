"""The ledger file: its tables and triggers, and how it is created and opened."""

from pathlib import Path
from typing import Final

from ledger.errors import LedgerUnusable, OtherProjection
from ledger.events import MAX_CREDIT
from ledger.projection import PROJECTION
from ledger.sqlite import UNREADABLE, Connection, Identity, connect, create_file, in_memory

IDENTITY: Final = Identity(application_id=0x43524C47, schema_version=3)  # "CRLG"
# What replay has beside the live account rows at times.
BESIDE: Final = ("account_next", "account_former")


def account_table(name: str, due_index: str) -> str:
    """The table of account rows under a name of its own: what is live, and what replay has beside it.

    A projection of the log, the head of each chain, and what consumers find their work with. The name is
    quoted because that is how ALTER TABLE leaves it, so that a table swapped in reads like the first one.
    """
    return f"""
CREATE TABLE "{name}" (
    openid TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    head BLOB NOT NULL,
    registered_at INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    credit INTEGER NOT NULL CHECK (credit BETWEEN 0 AND {MAX_CREDIT}),
    held INTEGER NOT NULL CHECK (held BETWEEN 0 AND {MAX_CREDIT}),
    granted INTEGER NOT NULL CHECK (granted = credit + held + spent + expired + revoked),
    spent INTEGER NOT NULL CHECK (spent >= 0),
    expired INTEGER NOT NULL CHECK (expired >= 0),
    revoked INTEGER NOT NULL CHECK (revoked >= 0),
    frozen INTEGER NOT NULL CHECK (frozen IN (0, 1)),
    checkin_day INTEGER NOT NULL,
    streak INTEGER NOT NULL,
    -- expiring lots and open holds as JSON, null where there are none: they are read and written with the row
    lots TEXT,
    holds TEXT,
    due_at INTEGER CHECK ((due_at IS NULL) = (lots IS NULL AND holds IS NULL)) -- when the first of them lapses
) STRICT, WITHOUT ROWID;
CREATE INDEX {due_index} ON "{name}" (due_at) WHERE due_at IS NOT NULL;
"""


_SCHEMA: Final = f"""
CREATE TABLE ledger (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    appid TEXT NOT NULL, -- an openid belongs to one mini-program, so a ledger does too
    projection INTEGER NOT NULL -- the fold that the rows of `account` are of
) STRICT;

CREATE TABLE event (
    -- -1 would be taken for "not given" by the trigger below, and refuse every later event
    position INTEGER PRIMARY KEY CHECK (position >= 1),
    openid TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    type TEXT NOT NULL,
    data TEXT NOT NULL,
    credit INTEGER NOT NULL CHECK (credit BETWEEN 0 AND {MAX_CREDIT}),
    key TEXT,
    fingerprint BLOB,
    recorded_at INTEGER NOT NULL CHECK (recorded_at >= 0),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    CHECK ((key IS NULL) = (fingerprint IS NULL)),
    UNIQUE (openid, version)
) STRICT;

CREATE UNIQUE INDEX event_key ON event (openid, key) WHERE key IS NOT NULL;
-- What was given back of a spend, or taken back of a grant: few events, found by the one that they correct.
CREATE INDEX event_correction ON event (openid, coalesce(data ->> 'spend', data ->> 'grant'))
    WHERE type IN ('SpendReversed', 'GrantRevoked');

{account_table("account", "account_due")}
-- The table that replay has beside `account`: of which fold it is, up to which position, and which seal has the
-- root of that. `run` tells the process that works on it from the children of one that was killed.
CREATE TABLE replay (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    state TEXT NOT NULL CHECK (state IN ('building', 'built', 'former', 'going')),
    projection INTEGER NOT NULL,
    position INTEGER NOT NULL,
    seal INTEGER,
    run TEXT NOT NULL
) STRICT;
CREATE TABLE replay_range (
    low BLOB PRIMARY KEY,
    high BLOB,
    events INTEGER -- that were folded and whose rows are written; null where that is still to be done
) STRICT, WITHOUT ROWID;

CREATE TRIGGER event_is_never_updated BEFORE UPDATE ON event
BEGIN SELECT RAISE(ABORT, 'the log is append-only: an event cannot be updated, record a new one'); END;

CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
BEGIN SELECT RAISE(ABORT, 'the log is append-only: an event cannot be deleted, record a new one'); END;

-- INSERT OR REPLACE deletes without firing the trigger above on a connection without recursive_triggers,
-- which is what the sqlite3 shell opens. A position of -1 is SQLite's way of saying "not given".
CREATE TRIGGER event_is_never_replaced BEFORE INSERT ON event
WHEN EXISTS (SELECT 1 FROM event WHERE openid = NEW.openid AND version = NEW.version)
  OR EXISTS (SELECT 1 FROM event WHERE openid = NEW.openid AND key = NEW.key)
  OR EXISTS (SELECT 1 FROM event WHERE position = NEW.position)
BEGIN SELECT RAISE(ABORT, 'the log is append-only: an event cannot be replaced, record a new one'); END;

CREATE TRIGGER event_versions_have_no_gap BEFORE INSERT ON event
WHEN NEW.version <> 1
  AND NOT EXISTS (SELECT 1 FROM event WHERE openid = NEW.openid AND version = NEW.version - 1)
BEGIN SELECT RAISE(ABORT, 'the events of an account are numbered without a gap'); END;
"""

_FIRST_ROW: Final = "INSERT INTO ledger (only, appid, projection) VALUES (1, ?, ?)"


def create(path: Path, appid: str) -> None:
    """Create the ledger of `appid` at `path`; one that exists is left alone, whoever it belongs to."""
    create_file(path, IDENTITY, _SCHEMA, _FIRST_ROW, (appid, PROJECTION))


def open_ledger(
    path: Path, *, appid: str | None = None, read_only: bool = False, any_projection: bool = False
) -> Connection:
    """A connection to an existing ledger of a known schema; raises LedgerUnusable, naming the file.

    Give `appid` to refuse a ledger that belongs to another mini-program. One whose account rows are of
    another fold than this release's is refused too, unless `any_projection` is wanted.
    """
    if not path.exists():
        raise LedgerUnusable(f"no ledger at {path}: start the service once, or set CREDIT_DATA")
    connection = connect(path, IDENTITY, read_only=read_only)
    try:
        owner = connection.execute("SELECT appid FROM ledger").fetchone()
        if appid is not None and owner != (appid,):
            raise LedgerUnusable(
                f"{path} is the ledger of appid {owner[0] if owner else '(none)'}, not of {appid}: "
                "set WECHAT_APPID to its owner, or CREDIT_DATA to another directory"
            )
        if not any_projection and (other := other_projection(connection)) is not None:
            raise OtherProjection(f"{path}: {other}")
    except UNREADABLE as error:
        connection.close()
        raise LedgerUnusable(f"cannot use {path}: {error}") from None
    except LedgerUnusable:
        connection.close()
        raise
    return connection


def other_projection(connection: Connection) -> str | None:
    """What is to be done where the live account rows are of another fold than this release's, or None."""
    row = connection.execute("SELECT projection FROM ledger").fetchone()
    if row is None or row == (PROJECTION,):
        return None
    return (
        f"its account rows are of projection {row[0]}, this release works with {PROJECTION}: run "
        "credit-ledger replay --write with this release, or the release that they are of"
    )


def schema_problems(connection: Connection) -> list[str]:
    """In which tables, indexes and triggers a ledger differs from what `create` makes, in words.

    What replay keeps beside the live table may be there or not, and its swap gives indexes other names.
    """
    found = _made(connection)
    expected = _made(in_memory(_SCHEMA))
    problems = [f"{kind} {name or 'of account'} is missing" for kind, name in expected.keys() - found.keys()]
    for (kind, name), sql in found.items():
        if (kind, name) not in expected:
            problems.append(f"{kind} {name} is none that this release makes")
        elif expected[kind, name] != sql:
            problems.append(f"{kind} {name or 'of account'} is not as this release makes it")
    return sorted(problems)


def _made(connection: Connection) -> dict[tuple[str, str], str]:
    """The statement that made each table, index, trigger and view, by kind and name."""
    made = {}
    for kind, name, table, sql in connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"):
        if sql is None or table in BESIDE:
            continue
        if kind == "index" and table == "account":
            name, sql = "", sql[sql.index(" ON ") :]
        made[kind, name] = sql
    return made
