"""What the tests of the ledger library share: small ledgers, commands to fill them with, and damage."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

from hypothesis import strategies as st

from ledger.account import Account, Balance
from ledger.audit_scan import AuditScan
from ledger.commands import (
    CaptureHold,
    CheckIn,
    Command,
    FreezeAccount,
    GrantCredit,
    HoldCredit,
    RecordLapses,
    RegisterUser,
    ReleaseHold,
    ReverseSpend,
    RevokeGrant,
    SpendCredit,
    Submission,
    UnfreezeAccount,
)
from ledger.committer import Committer, ledger_committer, microseconds_now
from ledger.errors import Refusal
from ledger.events import MAX_CREDIT, Event, decode
from ledger.execute import Outcome
from ledger.log import BEFORE_ALL, Log, LogScan, RawEvent
from ledger.projection import COLUMNS, Row, from_row
from ledger.schema import create
from ledger.sqlite import Connection, Turnstile, connect
from ledger.statement import Reader, Standing
from ledger.verify import audit

APPID = "wx0123456789abcdef"
SINCE_US = 1_700_000_000_000_000
DAY_US = 86_400_000_000
ACTOR = "key:tests"

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


def handed_in(command: Command | Submission) -> Submission:
    """What stands for itself, or a bare command as these tests' own API key hands it in."""
    return command if isinstance(command, Submission) else Submission(command, ACTOR)


def commit_with(
    committer: Committer[Log, Submission, Outcome], *commands: Command | Submission
) -> list[Outcome | Exception]:
    return committer.commit([handed_in(command) for command in commands])


def commit(
    path: Path, *commands: Command | Submission, clock_us: Callable[[], int] = microseconds_now
) -> list[Outcome | Exception]:
    """What `commands` came to in one transaction; no connection stays open."""
    committer = ledger_committer(path, clock_us=clock_us)
    try:
        return commit_with(committer, *commands)
    finally:
        committer.close()


def committed(
    path: Path, *commands: Command | Submission, clock_us: Callable[[], int] = microseconds_now
) -> list[Outcome]:
    """As `commit`, where nothing may be refused."""
    outcomes = []
    for outcome in commit(path, *commands, clock_us=clock_us):
        assert isinstance(outcome, Outcome), outcome
        outcomes.append(outcome)
    return outcomes


class Till:
    """The account of oAnna on a ledger of its own, and a clock that is set: `till.at(30, command)`.

    Moments are microseconds behind SINCE_US.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def at(self, moment: int, command: Command | Submission) -> Event:
        """The event that the command led to, the last one if there are several."""
        (outcome,) = committed(self.path, command, clock_us=lambda: SINCE_US + moment)
        row = outcome.events[-1]
        return decode(row.type, row.data)

    def refused(self, moment: int, command: Command | Submission) -> Refusal:
        (outcome,) = commit(self.path, command, clock_us=lambda: SINCE_US + moment)
        assert isinstance(outcome, Refusal), outcome
        return outcome

    def balance(self, moment: int) -> Balance:
        """What is read at that moment, and the same from the log alone."""
        reader = Reader(self.path)
        account = reader.account("oAnna", SINCE_US + moment)
        standing = reader.standing("oAnna", SINCE_US + moment)
        reader.close()
        assert account is not None
        assert standing == Standing(account.version, account.balance.credit)
        assert_sound(self.path)
        return account.balance

    def lots(self, moment: int) -> dict[int | None, int]:
        """What is left of each expiring grant, and, under None, of the credit that never expires."""
        balance = self.balance(moment)
        return {
            None: balance.credit - balance.expiring,
            **{lot.grant: lot.credit for lot in balance.lots},
        }

    def types(self, moment: int) -> list[str]:
        """Of every event up to then, recorded or due, the oldest first."""
        reader = Reader(self.path)
        page = reader.page("oAnna", SINCE_US + moment, limit=100)
        reader.close()
        return [row.type for row in reversed(page.events)]


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


def accounts_of(path: Path) -> dict[bytes, Row]:
    """Every account row, in the order of `COLUMNS`."""
    with AuditScan(path) as scan:
        return dict(scan.account_rows())


def account_of(path: Path, openid: str) -> Account:
    """What the account row of `openid` says."""
    return from_row(openid, accounts_of(path)[openid.encode()])


def assert_sound(path: Path) -> None:
    report = audit(path)
    assert report.good, report.faults


@contextmanager
def vandal(path: Path) -> Iterator[Connection]:
    """A connection of somebody who owns the file: the triggers are dropped and the checks switched off.

    In the end the triggers are there again, as a careful forger leaves them.
    """
    turnstile = Turnstile(path.with_name("ledger.lock"))
    connection = connect(path)
    try:
        with turnstile:
            made = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for trigger in TRIGGERS:
                connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
            connection.execute("PRAGMA ignore_check_constraints=ON")
            yield connection
            for (sql,) in made:
                connection.execute(sql)
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


# A row of the account table that no event stands behind.
FORGED_ROW = (
    f"INSERT INTO account (openid, {', '.join(COLUMNS)}) SELECT 'oForged', {', '.join(COLUMNS)}"
    " FROM account LIMIT 1"
)

# Few openids, keys, versions, moments and amounts, so that repeats, conflicts and limits come up all the time.
OPENIDS = st.sampled_from(["oAnna", "oBo", "o-C_c"])
AMOUNTS = st.one_of(st.integers(1, 5), st.sampled_from([MAX_CREDIT, MAX_CREDIT - 102, 2**52]))
REASONS = st.sampled_from(["gift", "签到奖励", "👨‍👩‍👧 family", 'quote " and \\'])
REFERENCES = st.sampled_from([None, None, "order 7", "订单 8"])
# The clock of `run_batches` shows SINCE_US and a few microseconds, and real ones much more.
MOMENTS = st.one_of(st.none(), st.integers(SINCE_US - 1, SINCE_US + 40), st.just(SINCE_US + DAY_US))
VERSIONS = st.integers(1, 9)
PARTS = st.none() | st.integers(1, 4)
KEYS = st.sampled_from([f"k{number}" for number in range(1, 13)])

REGISTRATIONS = st.builds(RegisterUser, OPENIDS, st.sampled_from([0, 1, 100, MAX_CREDIT]))
GRANTS = st.builds(
    GrantCredit, OPENIDS, AMOUNTS, REASONS, st.sampled_from(["k1", "k2", "k3", "k4", "k5"]), REFERENCES, MOMENTS
)
SPENDS = st.builds(SpendCredit, OPENIDS, AMOUNTS, REASONS, KEYS, REFERENCES)
HOLDS = st.builds(HoldCredit, OPENIDS, AMOUNTS, REASONS, KEYS, REFERENCES, MOMENTS)
CORRECTIONS = st.one_of(
    st.builds(CaptureHold, OPENIDS, VERSIONS, REASONS, KEYS, PARTS, REFERENCES),
    st.builds(ReleaseHold, OPENIDS, VERSIONS, REASONS, KEYS, REFERENCES),
    st.builds(ReverseSpend, OPENIDS, VERSIONS, REASONS, KEYS, PARTS, REFERENCES),
    st.builds(RevokeGrant, OPENIDS, VERSIONS, REASONS, KEYS, REFERENCES),
)
OTHERS = st.one_of(
    st.builds(CheckIn, OPENIDS, KEYS, st.sampled_from([(1,), (1, 2, 3)]), st.sampled_from(["2026", "2027"])),
    st.builds(RecordLapses, OPENIDS),
    st.builds(FreezeAccount, OPENIDS, REASONS, KEYS, REFERENCES),
    st.builds(UnfreezeAccount, OPENIDS, REASONS, KEYS, REFERENCES),
    st.builds(UnfreezeAccount, OPENIDS, REASONS, KEYS, REFERENCES),
)
COMMANDS = st.one_of(
    REGISTRATIONS, REGISTRATIONS, GRANTS, GRANTS, GRANTS, SPENDS, HOLDS, CORRECTIONS, CORRECTIONS, OTHERS
)
BATCHES = st.lists(st.lists(COMMANDS, max_size=8), max_size=5)


def run_batches(path: Path, batches: list[list[Command]]) -> list[Outcome]:
    """Commit each list in a transaction of its own; every outcome that was not a refusal."""
    committer = ledger_committer(path, clock_us=ticking())
    done = []
    try:
        for batch in batches:
            for outcome in commit_with(committer, *batch):
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


def whole_life(openid: str = "oAnna", since_us: int = SINCE_US) -> list[Command]:
    """Commands that, handed in from `since_us` on by a ticking clock, make one event of nearly every type.

    Two lots and two holds stay open, and one lot and one hold have lapsed.
    """
    return [
        RegisterUser(openid, 100),  # 1, 2
        GrantCredit(openid, 5, "campaign", "k3", "spring", since_us + 5),  # 3
        GrantCredit(openid, 7, "campaign", "k4", "summer", since_us + DAY_US),  # 4
        HoldCredit(openid, 2, "order", "k5", "order 1", since_us + 4),  # 5
        CheckIn(openid, "k6", (1, 2), "2026"),  # the release of 5 as 6; 7, 8
        SpendCredit(openid, 9, "order", "k7", "order 2"),  # what is left of 3 has expired as 9; 10
        ReverseSpend(openid, 10, "refund", "k8", 3),  # 11
        GrantCredit(openid, 6, "campaign", "k9", None, since_us + 2 * DAY_US),  # 12
        HoldCredit(openid, 4, "order", "k10", "order 3", since_us + DAY_US),  # 13
        HoldCredit(openid, 3, "order", "k11", "order 4", since_us + 2 * DAY_US),  # 14
        CaptureHold(openid, 13, "shipped", "k12", 2),  # 15
        HoldCredit(openid, 5, "order", "k13"),  # 16
        ReleaseHold(openid, 16, "cancelled", "k14"),  # 17
        HoldCredit(openid, 1, "order", "k15", "order 5", since_us + 3 * DAY_US),  # 18
        GrantCredit(openid, 8, "mistake", "k16", None, since_us + 9 * DAY_US),  # 19
        GrantCredit(openid, 9, "campaign", "k17", None, since_us + 9 * DAY_US),  # 20
        RevokeGrant(openid, 19, "mistake", "k18"),  # 21
        FreezeAccount(openid, "asked for", "k19"),  # 22
    ]


def make_unreadable(ledger: Path) -> None:
    """Damage the first page of the events: the file can be opened, its events cannot be read."""
    with closing(connect(ledger)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'event'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with ledger.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
