"""What `scripts/bench` runs: the service under load, its figures, and whether they meet the targets.

One service, one machine, one run: the contenders take turns, round after round, and are compared within a
round. Whatever was not answered as it should be makes the whole benchmark fail.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import requests
from prometheus_client.parser import text_string_to_metric_families

from ledger.verify import audit
from scripts import sandbox_wechat
from scripts.bench_machine import ROOT, children, conditions, file_system, memory_mib, started
from scripts.bench_people import PEOPLE, Population, populate
from scripts.bench_table import LANGUAGES, Bulk, Load, Measured, markdown, parts, targets, write_between_markers

CONNECTIONS: Final = 64
CONTENDERS: Final = ("hello-get", "credit", "hello-post", "grant", "spend")
_START_TIMEOUT_S: Final = 20


class Failed(click.ClickException):
    """The benchmark measured nothing that could be believed."""


class Plan(msgspec.Struct, frozen=True):
    """How long all of it takes."""

    rounds: int
    seconds: int
    bulk_lines: int
    bulk_rounds: int


class Bench:
    """A running service in `directory`, with everybody registered and logged in, to be put under load."""

    people: Population

    def __init__(self, directory: Path, service: "subprocess.Popen[Any]", url: str, workers: int) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.log_path = directory / "service.log"
        self.url = url
        self.workers = workers
        self.answered = {"grant": 0, "spend": 0}
        self.loads_of = {"grant": 0, "spend": 0}
        self.bulk_lines = 0
        self._service = service
        self._runs = 0

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._service.poll() is None:
            try:
                if requests.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return
            except requests.ConnectionError:
                time.sleep(0.05)
        raise Failed(f"the service did not start:\n{self.log_path.read_text(errors='replace')[-4000:]}")

    def credit_of_all(self) -> int:
        """The credit of everybody together, as `GET /credit` answers it to each."""
        with requests.Session() as session:
            answers = [
                session.get(f"{self.url}/credit", params={"token": token}, timeout=5)
                for token in self.people.tokens
            ]
        return sum(int(answer.json()["credit"]) for answer in answers)

    def load(self, what: str, seconds: int, connections: int = CONNECTIONS) -> Load:
        """One run of wrk, or Failed when a single request of it was."""
        self._runs += 1
        who = {"spend": self.people.savers, "page": self.people.long}.get(what, self.people.everybody)
        threads = min(2, self.workers, connections)
        shape = [f"-t{threads}", f"-c{connections}", f"-d{seconds}", "--timeout", "10"]
        run = ["wrk", *shape, "-s", "scripts/bench.lua", self.url, "--"]
        run += [what, f"run{self._runs}", str(who), self.people.api_key]
        with started(run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as wrk:
            output = wrk.communicate(timeout=seconds + 30)[0].decode(errors="replace")
        _, found, result = output.partition("\nresult ")
        if wrk.returncode or not found:
            raise Failed(f"wrk failed:\n{output}")
        load = msgspec.json.decode(result, type=Load)
        if load.not_2xx or load.socket_errors or not load.requests:
            raise Failed(f"{what}: {load.not_2xx} answers other than 2xx, {load.socket_errors} socket errors")
        if what in self.answered:
            self.answered[what] += load.requests
            self.loads_of[what] += 1
        time.sleep(0.1)  # what was still in flight belongs to no run
        return load

    def bulk(self, lines: int) -> Bulk:
        """One bulk request of so many lines, and how much the worker that answered it grew by it."""
        self._runs += 1
        openids = self.people.openids
        body = b"".join(
            b'{"openid":"%s","key":"run%d-%d","amount":1,"reason":"benchmark"}\n'
            % (openids[number % PEOPLE].encode(), self._runs, number)
            for number in range(lines)
        )
        headers = {"Authorization": f"Bearer {self.people.api_key}", "Content-Type": "application/x-ndjson"}
        before = {pid: memory_mib(pid)[0] for pid in children(self._service.pid)}
        start = time.monotonic()
        with requests.post(
            f"{self.url}/v1/grants", data=body, headers=headers, stream=True, timeout=120
        ) as answer:
            good = sum(b'"status":201' in line for line in answer.iter_lines(chunk_size=65536))
        seconds = time.monotonic() - start
        if good != lines:
            raise Failed(f"of {lines} lines of a bulk grant {good} were granted")
        self.bulk_lines += lines
        growth_mib = max(memory_mib(pid)[0] - mib for pid, mib in before.items())
        return Bulk(lines, seconds, growth_mib)

    def largest_memory_mib(self) -> tuple[float, float]:
        """RSS and PSS of the largest worker."""
        return max(memory_mib(worker) for worker in children(self._service.pid))

    def commands_per_commit(self) -> float:
        """Over all commits of the ledger; Failed where the service itself counted an answer that is no 2xx."""
        text = requests.get(f"{self.url}/metrics", timeout=10).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        for sample in samples:
            refused = sample.name == "credit_refusals_total"
            if refused or sample.labels.get("status", "200") not in ("200", "201"):
                raise Failed(f"the service counted {sample.value:.0f} of {sample.name} {sample.labels}")
        of_ledger = {sample.name: sample.value for sample in samples if sample.labels.get("file") == "ledger"}
        return of_ledger["credit_commit_commands_sum"] / of_ledger["credit_commit_commands_count"]

    def check_ledger(self, credit_shown: int) -> None:
        """Call it when the service has stopped: every answered write is in the log, and the log is sound."""
        report = audit(self.data / "ledger.db")
        if report.faults:
            raise Failed(f"the ledger is not sound: {report.faults[:3]}")
        # Each grant adds an event and a credit, each spend an event and takes a credit.
        both = report.events - self.people.events - self.bulk_lines
        more = report.outstanding - self.people.credit - self.bulk_lines
        written = {"grant": (both + more) // 2, "spend": (both - more) // 2}
        for what, count in written.items():
            most = self.answered[what] + self.loads_of[what] * CONNECTIONS  # some were in flight at the end
            if not self.answered[what] <= count <= most:
                raise Failed(f"{self.answered[what]} {what}s were answered, {count} are in the log")
        if credit_shown != written["grant"] + self.bulk_lines:
            raise Failed(f"{written['grant']} + {self.bulk_lines} grants of 1, {credit_shown} shown")
        odd = [line for line in self.log_path.read_bytes().splitlines() if b'"level":"info"' not in line]
        if odd:
            raise Failed(f"the service logged {len(odd)} lines that are not info, the first: {odd[0]!r}")


@contextmanager
def serving(directory: Path) -> Iterator[Bench]:
    """The service with the benchmark's routes, set up as in production, and the sandbox beside it."""
    workers = len(os.sched_getaffinity(0))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{probe.getsockname()[1]}"
    sandbox_command = [sys.executable, "-m", "scripts.sandbox_wechat"]
    with started(sandbox_command, stdout=subprocess.PIPE, text=True) as sandbox:
        assert sandbox.stdout is not None  # noqa: S101 - for the type checker: it was asked for above
        environ = {
            **os.environ,
            "CREDIT_BIND": bind,
            "CREDIT_DATA": str(directory / "data"),
            "CREDIT_WORKERS": str(workers),
            "WECHAT_APPID": sandbox_wechat.APPID,
            "WECHAT_SECRET": sandbox_wechat.SECRET,
            "WECHAT_API": sandbox.stdout.readline().strip(),
            **{f"CREDIT_RATE_{who}": "off" for who in ("KEY", "TOKEN", "LOGIN")},  # one key, one address
        }
        command = [sys.executable, "-m", "gunicorn", "-c", "scripts/gunicorn_conf.py"]
        command.append("scripts.bench_app:from_environment()")
        with (directory / "service.log").open("wb") as log:
            service = started(command, env=environ, stdout=log, stderr=log)
            with service as process:
                bench = Bench(directory, process, f"http://{bind}", workers)
                bench.wait_until_ready()
                yield bench


def measure(directory: Path, plan: Plan, tick: Callable[[int], object]) -> Measured:
    """Everything, in `directory`; `tick` is told of each second that has passed under load."""
    circumstances = {**conditions(directory), "rounds": plan.rounds, "seconds": plan.seconds}
    loads: dict[str, list[Load]] = {name: [] for name in CONTENDERS}
    with serving(directory) as bench:
        bench.people = populate(directory, bench.data)
        if bench.credit_of_all() != 0:
            raise Failed("people have credit before anybody gave them some")
        for name in CONTENDERS:  # what is done once per process is done before the first round
            bench.load(name, 1)
            tick(1)
        for _ in range(plan.rounds):
            for name in CONTENDERS:
                loads[name].append(bench.load(name, plan.seconds))
                tick(plan.seconds)
        loads["login"] = [bench.load("login", plan.seconds)]
        loads["page"] = [bench.load("page", plan.seconds, connections=1) for _ in range(plan.rounds)]
        tick(plan.seconds * (1 + plan.rounds))
        rss_mib, pss_mib = bench.largest_memory_mib()
        bulk = [bench.bulk(plan.bulk_lines) for _ in range(plan.bulk_rounds)]
        credit_shown = bench.credit_of_all()
        circumstances |= {
            "workers": bench.workers,
            "batch": f"{bench.commands_per_commit():.0f}",
            "lines": f"{plan.bulk_lines:,}",
        }
    bench.check_ledger(credit_shown)
    return Measured(loads, bulk, rss_mib, pss_mib, circumstances)


def _find_wrk() -> None:
    if shutil.which("wrk"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        click.echo("Installing wrk, the load generator ...", err=True)
        for step in (["update", "-qq"], ["install", "-qq", "-y", "wrk"]):
            subprocess.run(["apt-get", *step], stdout=subprocess.DEVNULL, check=False)
    if not shutil.which("wrk"):
        raise Failed("wrk, the load generator, is not installed. On Debian: sudo apt-get install wrk")


@click.command()
@click.option("--quick", is_flag=True, help="3 rounds of 1 s, for a look: about 50 s in all.")
@click.option("--rounds", type=click.IntRange(1, 100), help="Turns of each contender (5).")
@click.option("--seconds", type=click.IntRange(1, 600), help="Length of each turn (5).")
@click.option("--write", is_flag=True, help="Replace the table in README.md and README.zh-CN.md.")
@click.option("--readmes", default=ROOT, type=click.Path(path_type=Path), help="Where they are (the checkout).")
@click.option(
    "--scratch",
    default=Path("/var/tmp"),  # noqa: S108 - a directory of our own is made in it
    type=click.Path(path_type=Path),
    help="Where the ledger is made, and removed again: the disk to be measured (/var/tmp).",
)
def main(
    quick: bool, rounds: int | None, seconds: int | None, write: bool, readmes: Path, scratch: Path
) -> None:
    """Measure the service under 64 connections and print a table for the README.

    Runs gunicorn with a worker per core and wrk on the same cores, against a new ledger, for about four
    minutes. Ends with status 1 when a target is missed or a single answer was wrong.
    """
    for signal_number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, lambda number, _: sys.exit(128 + number))
    rounds, seconds = rounds or (3 if quick else 5), seconds or (1 if quick else 5)
    for file_name in LANGUAGES if write else ():
        parts(readmes / file_name)  # a README that cannot be written is not found out after two minutes
    _find_wrk()
    with tempfile.TemporaryDirectory(prefix="credit-bench-", dir=scratch) as name:
        directory = Path(name)
        if file_system(directory) == "tmpfs":
            raise Failed(f"{scratch} is in memory, where nothing is durable: name a disk with --scratch")
        plan = Plan(rounds, seconds, 20_000 if quick else 100_000, 1 if quick else 3)
        length = len(CONTENDERS) * (1 + rounds * seconds) + seconds * (1 + rounds)
        with click.progressbar(
            length=length, label="Under load", file=sys.stderr, hidden=not sys.stderr.isatty()
        ) as bar:
            measured = measure(directory, plan, bar.update)
    click.echo(markdown(measured, LANGUAGES["README.md"]), nl=False)
    if write:
        for file_name, words in LANGUAGES.items():
            write_between_markers(readmes / file_name, markdown(measured, words))
    missed = [target.name for target in targets(measured) if not target.met]
    if missed:
        click.echo(f"Missed: {', '.join(missed)}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="scripts/bench")
