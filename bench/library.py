"""Grants without HTTP: the ledger as a library, bare inserts of the same rows, and `eventsourcing`."""

import random
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from bench.contender import EVENTSOURCING, NotInstalled, installed, python_of
from bench.limits import BareTables, Rows, account_values, event_values
from bench.machine import Failed, started
from bench.people import commit_all
from ledger import schema
from ledger.account import Account
from ledger.commands import GrantCredit, RegisterUser, Submission
from ledger.committer import ledger_committer
from ledger.events import Recorded
from ledger.execute import Outcome
from ledger.log import Log
from ledger.projection import Row, to_row

ACCOUNTS: Final = 1000
_OPENIDS: Final = [f"bench{number}" for number in range(ACCOUNTS)]


class _Counted(msgspec.Struct):
    grants: int
    seconds: float
    credit: int


def grants_per_second(directory: Path, batch: int, seconds: float) -> float:
    """Grants through the ledger's write path, so many a commit; the commands are made before."""
    path = directory / "library.db"
    schema.create(path, "wxbench")
    commit_all(path, [RegisterUser(openid, 0) for openid in _OPENIDS])
    try:
        with closing(ledger_committer(path)) as ledger:

            def write(first: int) -> Callable[[], None]:
                numbers = range(first, first + batch)
                some = [
                    Submission(GrantCredit(_OPENIDS[n % ACCOUNTS], 1, "benchmark", f"key{n}"), "key:bench")
                    for n in numbers
                ]

                def commit() -> None:
                    if not all(isinstance(outcome, Outcome) for outcome in ledger.commit(some)):
                        raise Failed("a grant in the library was refused")

                return commit

            return _rate(write, batch, seconds)
    finally:
        _remove(path)


def inserts_per_second(directory: Path, batch: int, seconds: float, *, guarded: bool = False) -> float:
    """The rows of those grants, an event and its account each, so many a transaction; all are made before.

    `guarded` is into the tables of a ledger, whose checks and triggers look at each of them.
    """
    event, account = _a_grant(directory)
    path = directory / "bare.db"
    if guarded:
        schema.create(path, "wxbench")
    tables = BareTables(path)
    try:

        def write(first: int) -> Callable[[], None]:
            numbers = range(first, first + batch)
            places = [(_OPENIDS[n % ACCOUNTS], n // ACCOUNTS + 1) for n in numbers]
            rows = [
                (event_values(event, openid, version, f"key{n}"), account_values(account, openid, version))
                for n, (openid, version) in zip(numbers, places, strict=True)
            ]

            return partial(_insert, tables, rows)

        return _rate(write, batch, seconds)
    finally:
        tables.close()
        _remove(path)


def grown_inserts_per_second(path: Path, openids: list[str], batch: int, seconds: float) -> float:
    """The rows of grants to any of these accounts into the ledger at `path`, so many a transaction.

    What is hashed there is not, so it is no good ledger any more.
    """
    with closing(Log(path)) as log:
        accounts = {openid: _account(log, openid) for openid in openids}
    event, _ = _a_grant(path.parent)
    chance = random.Random(7)  # noqa: S311 - whom a benchmark chooses is no secret
    with closing(BareTables(path)) as tables:

        def write(first: int) -> Callable[[], None]:
            rows = []
            for number in range(first, first + batch):
                account = accounts[openid := chance.choice(openids)]
                version = account.version + 1
                accounts[openid] = msgspec.structs.replace(account, version=version)
                values = account_values(to_row(account), openid, version)
                rows.append((event_values(event, openid, version, f"bare{number}"), values))
            return partial(_insert, tables, rows)

        return _rate(write, batch, seconds)


def eventsourcing_per_second(directory: Path, batch: int, seconds: float, cache: Path) -> float:
    """Grants of the `eventsourcing` library, in a process of its own; raises NotInstalled."""
    place = installed(EVENTSOURCING, cache)
    path = directory / "eventsourcing.db"
    command = [str(python_of(place)), "grants.py", str(path), str(batch), str(seconds)]
    with started(
        command, cwd=EVENTSOURCING.source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        output = process.communicate(timeout=seconds + 60)[0]
    _remove(path)
    if process.returncode:
        raise NotInstalled(output.decode(errors="replace").strip()[-300:])
    counted = msgspec.json.decode(output, type=_Counted)
    if counted.credit != counted.grants:
        raise Failed(f"eventsourcing granted {counted.grants}, its accounts have {counted.credit}")
    return counted.grants / counted.seconds


def _insert(tables: BareTables, rows: list[Rows]) -> None:
    tables.begin()
    for pair in rows:
        tables.add(pair)
    tables.commit()


def _account(log: Log, openid: str) -> Account:
    account = log.account(openid)
    if account is None:
        raise Failed(f"{openid} has no account")
    return account


def _rate(write: Callable[[int], Callable[[], None]], batch: int, seconds: float) -> float:
    """Of writes a second: `write` prepares the batch that begins with a number, and only what that returns is
    timed."""
    done, spent = 0, 0.0
    while spent < seconds:
        commit = write(done)
        begun = time.perf_counter()
        commit()
        spent += time.perf_counter() - begun
        done += batch
    return done / spent


def _a_grant(directory: Path) -> tuple[Recorded, Row]:
    """The event and the account row that the ledger makes of a grant."""
    path = directory / "one.db"
    schema.create(path, "wxbench")
    grant = Submission(GrantCredit(_OPENIDS[0], 1, "benchmark", "key0"), "key:bench")
    try:
        with closing(ledger_committer(path)) as ledger:
            _, granted = ledger.commit([Submission(RegisterUser(_OPENIDS[0], 0), "rule:signup"), grant])
        if not isinstance(granted, Outcome):
            raise Failed(f"a grant came to {granted!r}")
        with closing(Log(path)) as log:
            return granted.events[-1], to_row(_account(log, _OPENIDS[0]))
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.with_suffix(".lock").unlink(missing_ok=True)
