"""What the tests of the ledger library share: small ledgers, commands to fill them with, and damage."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from hypothesis import strategies as st

from ledger.account import Account
from ledger.commands import Command, GrantCredit, RegisterUser
from ledger.committer import ledger_committer, microseconds_now
from ledger.errors import Refusal
from ledger.events import MAX_CREDIT
from ledger.execute import Outcome
from ledger.log import BEFORE_ALL, LogScan, RawEvent
from ledger.schema import create
from ledger.sqlite import Connection, Turnstile, connect
from ledger.verify import audit

APPID = "wx0123456789abcdef"
SINCE_US = 1_700_000_000_000_000

TRIGGERS = (
    "event_is_never_updated",
    "event_is_never_deleted",
    "event_is_never_replaced",
    "event_versions_have_no_gap",
)


@contextmanager
def new_directory() -> Iterator[Path]:
    """A directory for one example of a test that hypothesis runs many times."""
    with tempfile.TemporaryDirectory(prefix="ledger-") as directory:
        yield Path(directory)


@contextmanager
def new_ledger() -> Iterator[Path]:
    """An empty ledger in such a directory."""
    with new_directory() as directory:
        create(directory / "ledger.db", APPID)
        yield directory / "ledger.db"


def commit(
    path: Path, *commands: Command, clock_us: Callable[[], int] = microseconds_now
) -> list[Outcome | Exception]:
    """What `commands` came to in one transaction; no connection stays open."""
    committer = ledger_committer(path, clock_us=clock_us)
    try:
        return committer.commit(commands)
    finally:
        committer.close()


def committed(path: Path, *commands: Command, clock_us: Callable[[], int] = microseconds_now) -> list[Outcome]:
    """As `commit`, where nothing may be refused."""
    outcomes = []
    for outcome in commit(path, *commands, clock_us=clock_us):
        assert isinstance(outcome, Outcome), outcome
        outcomes.append(outcome)
    return outcomes


def ticking(start_us: int = SINCE_US) -> Callable[[], int]:
    """A clock that shows one microsecond more each time it is read."""
    ticks = count(start_us)
    return lambda: next(ticks)


def log_of(path: Path) -> list[RawEvent]:
    """Every stored event in the order of its position, as bytes."""
    rows: list[RawEvent] = []
    with LogScan(path) as scan:
        while chunk := scan.chunk(rows[-1].position if rows else BEFORE_ALL):
            rows += chunk
    return rows


def accounts_of(path: Path) -> dict[bytes, Account]:
    """Every account row."""
    with LogScan(path) as scan:
        return dict(scan.accounts())


def assert_sound(path: Path) -> None:
    report = audit(path)
    assert report.good, report.faults


@contextmanager
def vandal(path: Path) -> Iterator[Connection]:
    """A connection of somebody who owns the file: the triggers are dropped and the checks switched off."""
    turnstile = Turnstile(path.with_name("ledger.lock"))
    connection = connect(path)
    try:
        with turnstile:
            for trigger in TRIGGERS:
                connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
            connection.execute("PRAGMA ignore_check_constraints=ON")
            yield connection
    finally:
        connection.close()
        turnstile.close()


def flip_bit(value: int | bytes, bit: int) -> int | bytes:
    """`value` with one of its bits the other way; `bit` is taken modulo their number."""
    if isinstance(value, int):
        return value ^ (1 << bit % 63)
    changed = bytearray(value)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


def settle_file(path: Path) -> None:
    """Bring all that is in the write-ahead log into the file itself, and close it."""
    connection = connect(path)
    assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    connection.close()
    assert not path.with_name(path.name + "-wal").exists()


# Few openids, keys and amounts, so that repeats, conflicts and limits come up all the time.
OPENIDS = st.sampled_from(["oAnna", "oBo", "o-C_c"])
AMOUNTS = st.one_of(st.integers(1, 5), st.sampled_from([MAX_CREDIT, MAX_CREDIT - 102, 2**52]))
REASONS = st.sampled_from(["gift", "签到奖励", "👨‍👩‍👧 family", 'quote " and \\'])
REGISTRATIONS = st.builds(RegisterUser, OPENIDS, st.sampled_from([0, 1, 100, MAX_CREDIT]))
GRANTS = st.builds(GrantCredit, OPENIDS, AMOUNTS, REASONS, st.sampled_from(["k1", "k2", "k3", "k4", "k5"]))
COMMANDS = st.one_of(REGISTRATIONS, GRANTS, GRANTS, GRANTS)
BATCHES = st.lists(st.lists(COMMANDS, max_size=8), max_size=5)


def run_batches(path: Path, batches: list[list[Command]]) -> list[Outcome]:
    """Commit each list in a transaction of its own; every outcome that was not a refusal."""
    committer = ledger_committer(path, clock_us=ticking())
    done = []
    try:
        for batch in batches:
            for outcome in committer.commit(batch):
                if isinstance(outcome, Outcome):
                    done.append(outcome)
                else:
                    assert isinstance(outcome, Refusal), outcome
    finally:
        committer.close()
    return done


def sample_ledger(path: Path) -> None:
    """Two accounts of four and three events, interleaved."""
    clock_us = ticking()
    committed(
        path,
        RegisterUser("oAnna", 100),
        RegisterUser("oBo", 7),
        GrantCredit("oAnna", 5, "gift", "k1"),
        GrantCredit("oBo", 2, "签到奖励", "k1"),
        GrantCredit("oAnna", 1, "gift", "k2"),
        clock_us=clock_us,
    )
