"""The product as a contender: started as in production, on data made for it, and audited in the end."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import requests
from prometheus_client.parser import text_string_to_metric_families

from bench.machine import Failed, children, cores, free_port, memory_mib, started
from bench.people import copy_grown, populate
from bench.server import Server
from ledger.audit_scan import AuditScan
from ledger.log import BEFORE_ALL, EVERYBODY, LogScan
from ledger.projection import COLUMNS
from ledger.verify import audit
from scripts import sandbox_wechat

PRODUCT: Final = "ledger"
WORKS: Final = (
    "hello-get", "lookups", "credit", "hello-post", "rows", "grant", "login", "login-cold", "spend", "hold",
    "page", "mixed",
)  # fmt: skip
_CREDIT: Final = COLUMNS.index("credit")
# The events by which the log shows each kind of request.
_EVENTS: Final = {
    "grant": "CreditGranted",
    "spend": "CreditSpent",
    "hold": "CreditHeld",
    "capture": "HoldCaptured",
    "register": "UserRegistered",
}


class Bulk(msgspec.Struct):
    """One bulk grant: so many lines in so many seconds, and how much the worker grew meanwhile."""

    lines: int
    seconds: float
    growth_mib: float


class Product(Server):
    """The service with the benchmark's routes, and what only it can do."""

    events: Counter[str]

    def bulk(self, lines: int, openids: list[str]) -> Bulk:
        """One bulk request of so many lines, and how much the worker that answered it grew by it."""
        before = {pid: memory_mib(pid)[0] for pid in children(self.process.pid)}
        seconds = self.send_lines("/v1/grants", lines, openids)
        self.count("grant", lines, lines)
        return Bulk(lines, seconds, max(memory_mib(pid)[0] - mib for pid, mib in before.items()))

    def send_lines(self, path: str, lines: int, openids: list[str]) -> float:
        """How many seconds a bulk grant of so many lines takes at that path, from the first to the last answer;
        Failed where a line was not granted."""
        self._runs += 1
        body = b"".join(
            b'{"openid":"%s","key":"run%d-%d","amount":1,"reason":"benchmark"}\n'
            % (openids[number % len(openids)].encode(), self._runs, number)
            for number in range(lines)
        )
        headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/x-ndjson"}
        start = time.monotonic()
        with requests.post(f"{self.url}{path}", data=body, headers=headers, stream=True, timeout=120) as answer:
            good = sum(b'"status":201' in line for line in answer.iter_lines(chunk_size=65536))
        seconds = time.monotonic() - start
        if good != lines:
            raise Failed(f"of {lines} lines of a bulk grant {good} were granted")
        return seconds

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
        """Call it when the service has stopped: every answered write is in the log, what `everybody` was shown
        is what they have there, and the log is sound."""
        report = audit(self.data / "ledger.db")
        if report.faults:
            raise Failed(f"the ledger is not sound: {report.faults[:3]}")
        written = events_by_type(self.data / "ledger.db") - self.events
        for kind, event in _EVENTS.items():
            least, most = self.least.get(kind, 0), self.most.get(kind, 0)
            if kind == "grant":  # who registers is granted the credit of a new user
                least, most = least + self.least.get("register", 0), most + self.most.get("register", 0)
            if not least <= written[event] <= most:
                raise Failed(f"{least} to {most} of {kind} were answered, {written[event]} are in the log")
        with AuditScan(self.data / "ledger.db") as scan:
            openids = {openid.encode() for openid in self.openids}
            credit = sum(row[_CREDIT] for openid, row in scan.account_rows() if openid in openids)
        if credit != credit_shown:
            raise Failed(f"people were shown {credit_shown} credits and have {credit}")
        odd = [line for line in self.log_path.read_bytes().splitlines() if b'"level":"info"' not in line]
        if odd:
            raise Failed(f"the service logged {len(odd)} lines that are not info, the first: {odd[0]!r}")


def events_by_type(path: Path) -> Counter[str]:
    """How many events of each type are in a ledger that nobody in this process serves."""
    counted: Counter[str] = Counter()
    after = BEFORE_ALL
    with LogScan(path) as scan:
        while rows := scan.event_rows(after, EVERYBODY):
            counted.update(row[3].decode() for row in rows)
            after = rows[-1][0]
    return counted


@contextmanager
def wechat() -> Iterator[str]:
    """The address of the sandbox, in a process of its own, that every contender asks in WeChat's place."""
    command = [sys.executable, "-P", "-m", "scripts.sandbox_wechat"]
    with started(command, stdout=subprocess.PIPE, text=True) as sandbox:
        assert sandbox.stdout is not None  # noqa: S101 - for the type checker: it was asked for above
        yield sandbox.stdout.readline().strip()


@contextmanager
def producing(directory: Path, wechat_api: str, people: int, long_events: int) -> Iterator[Product]:
    """The service with new data in `directory`, until the block is left."""
    environ = service_environ(directory / "data", wechat_api)
    groups, api_key = populate(environ, people, long_events)
    events = events_by_type(directory / "data" / "ledger.db")
    with _serving(directory, environ) as product:
        product.events = events
        product.api_key = api_key
        product.live_with(groups, directory)
        yield product


@contextmanager
def producing_grown(directory: Path, wechat_api: str, events: int, cache: Path) -> Iterator[Product]:
    """The service on a copy of a ledger of so many events."""
    environ = service_environ(directory / "data", wechat_api)
    everybody, api_key = copy_grown(environ, events, cache)
    with _serving(directory, environ) as product:
        product.api_key = api_key
        product.live_with({"everybody": everybody}, directory)
        yield product


@contextmanager
def restarting(product_directory: Path, wechat_api: str) -> Iterator[Product]:
    """The service on the data that is in `product_directory` already."""
    with _serving(product_directory, service_environ(product_directory / "data", wechat_api)) as product:
        yield product


@contextmanager
def _serving(directory: Path, environ: dict[str, str]) -> Iterator[Product]:
    port = int(environ["CREDIT_BIND"].rpartition(":")[2])
    command = [sys.executable, "-P", "-m", "gunicorn", "-c", "scripts/gunicorn_conf.py"]
    command.append("bench.app:from_environment()")
    with (
        (directory / "service.log").open("ab") as log,
        started(command, environ, stdout=log, stderr=log) as process,
    ):
        product = Product(PRODUCT, WORKS, port, process, directory / "data", Path(log.name))
        product.wait_until_it_answers()
        yield product


def service_environ(data: Path, wechat_api: str) -> dict[str, str]:
    return {
        "CREDIT_BIND": f"127.0.0.1:{free_port()}",
        "CREDIT_DATA": str(data),
        "CREDIT_WORKERS": str(cores()),
        "WECHAT_APPID": sandbox_wechat.APPID,
        "WECHAT_SECRET": sandbox_wechat.SECRET,
        "WECHAT_API": wechat_api,
        **{f"CREDIT_RATE_{who}": "off" for who in ("KEY", "TOKEN", "LOGIN")},  # one key, one address
    }
