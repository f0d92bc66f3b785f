"""`scripts/bench audit`: what seals, audit and replay cost, on a ledger that grows from nothing.

The ledger is filled through the write path, and at a quarter, a half and the whole of its size everything is
measured on it; the commands run as an operator runs them, in processes of their own.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import msgspec

from api.vault import create_secret_key, open_signer
from ledger import schema, seal_file
from ledger.commands import Command, GrantCredit, RegisterUser, SpendCredit, Submission
from ledger.committer import ledger_committer
from ledger.seal import origin_of
from scripts.bench_machine import ROOT, conditions, file_system
from scripts.bench_table import Target

_APPID: Final = "wxbench"
_AT_ONCE: Final = 1000
# What a busy service has in a commit.
_BATCH: Final = 64
_CHANGED: Final = 10_000
_EVENTS_PER_ACCOUNT: Final = 10
_SHARES: Final = (0.25, 0.5, 1.0)


class Failed(click.ClickException):
    """The benchmark measured nothing that could be believed."""


class Run(msgspec.Struct, frozen=True):
    """One command from its start to its end: seconds, and the memory of its largest process."""

    seconds: float
    mib: float


class Point(msgspec.Struct, frozen=True):
    """What was measured at one size of the ledger."""

    events: int
    accounts: int
    append_per_s: float
    audit: Run
    replay: Run


class Measured(msgspec.Struct, frozen=True):
    """The curve, the seals after _CHANGED accounts changed, and appends a second with and without a sealer."""

    points: list[Point]
    seals: list[Run]
    with_sealer: list[float]
    without: list[float]
    conditions: dict[str, object]


class Ledger:
    """A ledger in `data` that is filled as fast as the write path goes."""

    def __init__(self, data: Path, accounts: int) -> None:
        self.data = data
        self.path = data / "ledger.db"
        self.openids: list[str] = []
        self.events = 0
        self._most = accounts
        self._keys = 0
        self._random = random.Random(7)  # noqa: S311 - whom a benchmark chooses is no secret
        schema.create(self.path, _APPID)
        create_secret_key(data / "signing.key")
        signer = open_signer(data / "signing.key", origin_of(_APPID))
        seal_file.create(data / "seals.db", signer.verifier.vkey)
        self._committer = ledger_committer(self.path)

    def fill(self, events: int, tick: Callable[[int], object]) -> float:
        """Append until there are `events`; how many a second that were."""
        begun, before = time.perf_counter(), self.events
        while self.events < events:
            more = self.append([self._next() for _ in range(min(_AT_ONCE, events - self.events))])
            tick(more)
        return (self.events - before) / (time.perf_counter() - begun)

    def change(self, accounts: int) -> None:
        """One grant to each of so many accounts, chosen by chance."""
        chosen = self._random.sample(self.openids, min(accounts, len(self.openids)))
        for start in range(0, len(chosen), _AT_ONCE):
            self.append([self._grant(openid) for openid in chosen[start : start + _AT_ONCE]])

    def append_for(self, seconds: float) -> float:
        """Grants a second, in batches as a busy service makes them."""
        begun, before = time.perf_counter(), self.events
        while time.perf_counter() - begun < seconds:
            self.append([self._grant(self._random.choice(self.openids)) for _ in range(_BATCH)])
        return (self.events - before) / (time.perf_counter() - begun)

    def append(self, commands: list[Command]) -> int:
        appended = 0
        for outcome in self._committer.commit([Submission(command, "key:bench") for command in commands]):
            if not isinstance(outcome, Exception):
                appended += len(outcome.events)
        self.events += appended
        return appended

    def close(self) -> None:
        self._committer.close()

    def _next(self) -> Command:
        if len(self.openids) < self._most:
            digest = sha256(str(len(self.openids)).encode()).digest()
            self.openids.append("o" + urlsafe_b64encode(digest)[:27].decode())
            return RegisterUser(self.openids[-1], 100)
        openid = self._random.choice(self.openids)
        if self._random.random() < 0.5:
            return self._grant(openid)
        self._keys += 1
        return SpendCredit(openid, self._random.randint(1, 20), "coffee", f"order-{self._keys}")

    def _grant(self, openid: str) -> Command:
        self._keys += 1
        return GrantCredit(openid, self._random.randint(1, 20), "campaign", f"grant-{self._keys}")


def command(data: Path, says: str, *arguments: str) -> Run:
    """Run `credit-ledger` as an operator does; Failed where it ends badly or does not say `says`."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "scripts.credit_ledger", *arguments],
        env={**os.environ, "CREDIT_DATA": str(data)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None  # noqa: S101 - for the type checker: it was asked for above
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or says not in output.decode(errors="replace"):
        raise Failed(f"credit-ledger {' '.join(arguments)}:\n{output.decode(errors='replace')[-2000:]}")
    return Run(time.perf_counter() - begun, usage.ru_maxrss / 1024)


def measure(directory: Path, events: int, rounds: int, seconds: float, tick: Callable[[int], Any]) -> Measured:
    """The whole benchmark in `directory`."""
    circumstances = {**conditions(directory), "rounds": rounds, "seconds": seconds}
    ledger = Ledger(directory, events // _EVENTS_PER_ACCOUNT)
    try:
        points = [_point(ledger, int(events * share), tick) for share in _SHARES]
        seals = []
        for _ in range(rounds):
            ledger.change(_CHANGED)
            seals.append(command(directory, "seal ", "seal"))
        without, with_sealer = [], []
        for _ in range(rounds):
            without.append(ledger.append_for(seconds))
            with _sealing(directory):
                with_sealer.append(ledger.append_for(seconds))
        command(directory, "good", "audit")
    finally:
        ledger.close()
    return Measured(points, seals, with_sealer, without, circumstances)


def targets(measured: Measured) -> list[Target]:
    last = measured.points[-1]
    ratios = [one / other for one, other in zip(measured.with_sealer, measured.without, strict=True)]
    rates = [point.events / point.audit.seconds for point in measured.points]
    return [
        Target("appends beside a sealer, to those without", 0.95, True, ratios),
        Target(
            f"s to seal {_CHANGED:,} changed of {last.accounts:,}",
            1.5,
            False,
            [run.seconds for run in measured.seals],
        ),
        Target("MiB of the sealer", 200, False, [run.mib for run in measured.seals]),
        Target("events/s audited", 150_000, True, [last.events / last.audit.seconds]),
        Target("events/s replayed", 200_000, True, [last.events / last.replay.seconds]),
        Target("events/s audited, to those at a quarter of the size", 0.9, True, [rates[-1] / rates[0]]),
    ]


def markdown(measured: Measured) -> str:
    lines = ["| events | accounts | appended/s | audit, s | events/s | MiB | replay, s | events/s | MiB |"]
    lines.append("|--:" * 9 + "|")
    for point in measured.points:
        cells = [f"{point.events:,}", f"{point.accounts:,}", f"{point.append_per_s:,.0f}"]
        for run in (point.audit, point.replay):
            cells += [f"{run.seconds:.1f}", f"{point.events / run.seconds:,.0f}", f"{run.mib:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| | target | measured | rounds |", "|---|--:|--:|--:|"]
    for target in targets(measured):
        sign = "≥" if target.at_least else "≤"
        found = f"{min(target.values):,.3g}–{max(target.values):,.3g}"
        lines.append(f"| {target.name} | {sign} {target.bound:g} | {median(target.values):,.6g} | {found} |")
    about = measured.conditions
    lines += [
        "",
        f"Measured by `scripts/bench audit` on {about['date']}: {about['cores']} × {about['cpu']}, "
        f"{about['file_system']}, {about['syncs']} fdatasync/s, Python {about['python']}, "
        f"SQLite {about['sqlite']}.",
        f"Medians of {about['rounds']} rounds; appends in batches of {_BATCH}, {about['seconds']} s each; "
        "beside them, where it says so, one seal.",
    ]
    return "\n".join(lines) + "\n"


def _point(ledger: Ledger, events: int, tick: Callable[[int], Any]) -> Point:
    append_per_s = ledger.fill(events, tick)
    command(ledger.data, "seal ", "seal")
    audit = command(ledger.data, "good", "audit")
    replay = command(ledger.data, f"{ledger.events} events", "replay")
    return Point(ledger.events, len(ledger.openids), append_per_s, audit, replay)


@contextmanager
def _sealing(data: Path) -> Iterator[None]:
    """One seal, begun with the block and waited for at its end."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "scripts.credit_ledger", "seal", "--background"],
        env={**os.environ, "CREDIT_DATA": str(data)},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    ) as sealer:
        yield
    if sealer.returncode:
        raise Failed("a seal failed beside the appends")


@click.command()
@click.option("--events", default=1_000_000, show_default=True, type=click.IntRange(10_000), help="How many.")
@click.option(
    "--rounds", default=5, show_default=True, type=click.IntRange(1, 100), help="Of seals and appends."
)
@click.option("--seconds", default=5.0, show_default=True, help="Length of each turn of appends.")
@click.option("--write", type=click.Path(path_type=Path), help="Write the table to this file as well.")
@click.option(
    "--scratch",
    default=Path("/var/tmp"),  # noqa: S108 - a directory of our own is made in it
    type=click.Path(path_type=Path),
    help="Where the ledger is made, and removed again: the disk to be measured (/var/tmp).",
)
def main(events: int, rounds: int, seconds: float, write: Path | None, scratch: Path) -> None:
    """Measure what seals, audit and replay cost, on a ledger that grows from nothing to so many events.

    A tenth as many accounts as events. A million events take some five minutes, ten million about an hour
    and 5 GB. Ends with status 1 when a target is missed.
    """
    with tempfile.TemporaryDirectory(prefix="credit-bench-", dir=scratch) as name:
        directory = Path(name)
        if file_system(directory) == "tmpfs":
            raise Failed(f"{scratch} is in memory, where nothing is durable: name a disk with --scratch")
        with click.progressbar(
            length=events, label="Appending", file=sys.stderr, hidden=not sys.stderr.isatty()
        ) as bar:
            measured = measure(directory, events, rounds, seconds, bar.update)
    table = markdown(measured)
    click.echo(table, nl=False)
    if write is not None:
        write.write_text(table, encoding="utf-8")
    missed = [target.name for target in targets(measured) if not target.met]
    if missed:
        click.echo(f"Missed: {', '.join(missed)}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="scripts/bench audit")
