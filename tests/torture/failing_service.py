"""The whole service on a disk that fails under it, or fills up: clients send until each key is settled."""

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import requests

from api.settings import read_settings
from api.startup import prepare
from ledger.sqlite import connect
from ledger.verify import audit
from tests.backend import Backend, new_account
from tests.conftest import Sandbox, Service
from tests.test_full_disk import fill
from tests.torture.round import CannotRun, Round

_CLIENTS: Final = 4
_KEYS: Final = 15
_PATIENCE_S: Final = 30
_DISK_BYTES: Final = 24 * 2**20
# What docs/operations.md tells operators to keep beside the files, for a disk of this size.
RESERVE_BYTES: Final = 4 * 2**20


class Client(threading.Thread):
    """Grants one credit under each of its keys, again and again until it is acknowledged.

    The key at which patience ends is the last.
    """

    def __init__(self, backend: Backend, openid: str, keys: list[str]) -> None:
        super().__init__(daemon=True)
        self._url = f"{backend.service.url}/v1/accounts/{openid}/grants"
        self._backend = backend
        self._keys = keys
        self.told: dict[str, list[str]] = {key: [] for key in keys}
        self.versions: dict[str, int] = {}

    def run(self) -> None:
        for key in self._keys:
            deadline = time.monotonic() + _PATIENCE_S
            while key not in self.versions:
                if time.monotonic() >= deadline:
                    return
                self.told[key].append(self._try(key))
                if key not in self.versions:
                    time.sleep(0.1)

    def _try(self, key: str) -> str:
        body = {"amount": 1, "reason": "torture"}
        try:
            answer = requests.post(self._url, json=body, headers=self._backend.headers(key), timeout=10)
            told = answer.json()
        except requests.RequestException:
            return "no answer"
        if answer.status_code != 201:
            return str(told["code"])
        self.versions[key] = told["event"]["version"]
        return "replayed" if answer.headers.get("Idempotent-Replayed") == "true" else "acknowledged"


class Clients:
    """Some of them at once, and what they were told."""

    def __init__(self, service: Service) -> None:
        self.openid = new_account(service)
        backend = Backend(service, "grant")
        self._all = [
            Client(backend, self.openid, [f"{number}-{key}" for key in range(_KEYS)])
            for number in range(_CLIENTS)
        ]
        for client in self._all:
            client.start()

    @property
    def told(self) -> dict[str, list[str]]:
        return {key: told for client in self._all for key, told in client.told.items()}

    @property
    def versions(self) -> dict[str, int]:
        return {key: version for client in self._all for key, version in client.versions.items()}

    def count(self, *answers: str) -> int:
        return sum(answer in answers for told in list(self.told.values()) for answer in list(told))

    def wait_for(self, count: int, *answers: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while self.count(*answers) < count and time.monotonic() < deadline:
            time.sleep(0.02)

    def finish(self) -> None:
        for client in self._all:
            client.join()


def failing_service(round: Round, number: int) -> None:
    """The sync `number` of each worker fails; the one that the master starts in its place has its own."""
    report = round.directory / "strace"
    with _sandbox() as sandbox:
        service = Service(round.directory / "data", sandbox.url, workers=round.random.choice((1, 2)))
        prepare(read_settings(service.environ))
        service._arguments = [
            "strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", str(report), "-e", "trace=fsync,fdatasync",
            "-e", f"inject=fsync,fdatasync:error=EIO:when={number}", *service._arguments,
        ]  # fmt: skip
        try:
            service.start()
            clients = Clients(service)
            clients.finish()
        finally:
            service.stop(signal.SIGKILL)
        failed = report.read_text().count("(INJECTED)")
        round.tally["syncs of a service that failed"] += failed
        round.walked["syncs of a service that failed: number"].add(number)
        if clients.count("outcome-unknown"):
            why = "the disk failed: this worker ends"
            round.expect(why in service.log, "the service did not say that its disk failed")
        judge(round, clients, service.data / "ledger.db", f"sync {number} of each worker failed")


def full_disk(round: Round) -> None:
    """One small disk after another, at least one."""
    with _sandbox() as sandbox:
        while not round.tally["disks filled"] or not (round.over or round.broken):
            fill_a_disk(round, sandbox)


def fill_a_disk(round: Round, sandbox: Sandbox) -> None:
    """The disk fills up under load, and the service is killed on it; the operator deletes the reserve file."""
    round.tally["disks filled"] += 1
    with _small_disk(round.directory / f"disk-{round.tally['disks filled']}") as disk:
        service = Service(disk / "data", sandbox.url)
        try:
            service.start()
            _keep_a_reserve(service.data / "reserve")
            clients = Clients(service)
            clients.wait_for(round.random.randrange(1, _KEYS), "acknowledged")
            fill(disk)
            clients.wait_for(8, "outcome-unknown", "not-committed")
            service.stop(signal.SIGKILL)
            (service.data / "reserve").unlink(missing_ok=True)
            try:
                service.start()
            except AssertionError as why:
                round.expect(False, f"the service does not start after the reserve was deleted: {why}")
                return
            clients.finish()
            service.stop()
        finally:
            service.stop(signal.SIGKILL)
        judge(round, clients, service.data / "ledger.db", "the disk was full")


def judge(round: Round, clients: Clients, path: Path, fault: str) -> None:
    """Hold what the clients were told against the log."""
    for key, told in clients.told.items():
        round.record(openid=clients.openid, key=key, told=told, version=clients.versions.get(key))
        round.tally["acknowledged"] += told[-1:] in (["acknowledged"], ["replayed"])
        round.tally["unknown"] += told.count("outcome-unknown") + told.count("no answer")
        round.tally["not committed"] += told.count("not-committed")
    for promise in broken_promises(clients.openid, clients.told, clients.versions, path):
        round.expect(False, f"{fault}: {promise}")


def broken_promises(
    openid: str, told: dict[str, list[str]], versions: dict[str, int], path: Path
) -> Iterator[str]:
    connection = connect(path, read_only=True)
    rows = connection.execute(
        "SELECT key, version FROM event WHERE openid = ? AND key IS NOT NULL", (openid,)
    ).fetchall()
    connection.close()
    found = dict(rows)
    times = Counter(key for key, _ in rows)
    sent = {key: answers for key, answers in told.items() if answers}
    for key, answers in sent.items():
        if key not in versions:
            yield f"{key} was not settled in {_PATIENCE_S} s, the last answers were {answers[-3:]}"
        elif (times[key], found.get(key)) != (1, versions[key]):
            yield f"{key} was acknowledged as version {versions[key]} and is there {times[key]} times"
        if answers[-1:] == ["replayed"] and not {"outcome-unknown", "no answer"} & set(answers):
            yield f"{key} was told not to be committed, and was: {answers}"
        if strange := set(answers) - _ANSWERS:
            yield f"{key} was answered {strange}"
    if strangers := found.keys() - sent.keys():
        yield f"nobody sent {sorted(strangers)}"
    for fault in audit(path).faults:
        yield f"the audit found: {fault}"


_ANSWERS: Final = {"acknowledged", "replayed", "outcome-unknown", "not-committed", "no answer"}


@contextmanager
def _small_disk(disk: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        raise CannotRun("a small file system takes root to mount")
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        raise CannotRun(f"a small file system could not be mounted: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@contextmanager
def _sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox()
    try:
        yield sandbox
    finally:
        sandbox.stop()


def _keep_a_reserve(path: Path) -> None:
    if RESERVE_BYTES:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
