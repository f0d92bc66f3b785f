"""Replay while the service writes, killed at any moment, and with another fold than the service's."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests

from ledger.commands import GrantCredit, RegisterUser
from ledger.committer import ledger_committer, microseconds_now
from ledger.projection import PROJECTION
from ledger.replay import replay, undo
from ledger.sqlite import connect
from ledger.statement import rfc3339
from tests.backend import Backend
from tests.conftest import ROOT, Service
from tests.ledger_processes import PATIENCE_S, Program
from tests.ledger_samples import accounts_of, assert_sound, commit_with, log_of

COMMAND = "from scripts.credit_ledger import main; main()"
# As on a large log, where each range is folded in a process of its own.
IN_PROCESSES = f"from ledger import parallel; parallel._WORTH_A_PROCESS = 0; {COMMAND}"
# And it stops itself once a range is written, or some are: whoever looks from outside may come too late.
HALTED = f"""
import os, signal
from ledger import parallel
wait = parallel.wait
def wait_and_halt(*given):
    found = wait(*given)
    if found.done:
        os.kill(os.getpid(), signal.SIGSTOP)
    return found
parallel.wait = wait_and_halt
{IN_PROCESSES}
"""


def start(path: Path, *arguments: str, code: Path = ROOT, command: str = COMMAND) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        env={**os.environ, "CREDIT_DATA": str(path.parent), "PYTHONPATH": str(code)},
        cwd=code,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(path: Path, *arguments: str, code: Path = ROOT) -> tuple[int, str, str]:
    with start(path, *arguments, code=code) as process:
        output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


class Customers:
    """Grants over HTTP from some threads; every answer is kept."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.openids = [service.openid_of(user) for user in ("alice", "bob")]
        for user in ("alice", "bob"):
            service.login(user)
        self.backend = Backend(service, "grant", "read")
        self.answers: list[tuple[str, int, int]] = []
        self.refused: list[tuple[int, str]] = []
        self._stop = threading.Event()

    def grant(self, openid: str, key: str) -> requests.Response:
        url, body = f"{self.service.url}/v1/accounts/{openid}/grants", {"amount": 1, "reason": "r"}
        return requests.post(url, json=body, headers=self.backend.headers(key), timeout=PATIENCE_S)

    def _run(self, openid: str) -> None:
        for number in range(10**6):
            if self._stop.is_set():
                return
            answer = self.grant(openid, f"k{number}")
            if answer.status_code != 201:
                self.refused.append((answer.status_code, answer.text))
            else:
                event = answer.json()["event"]
                self.answers.append((openid, event["version"], event["credit"]))

    @contextmanager
    def busy(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._run, args=(openid,)) for openid in self.openids]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def assert_right(self) -> None:
        """Everybody was answered, by one account that counted up: no swap lost or repeated anything."""
        assert self.refused == []
        for openid in self.openids:
            mine = [(version, credit) for owner, version, credit in self.answers if owner == openid]
            assert mine == [(number, 98 + number) for number in range(3, 3 + len(mine))]


def test_the_service_answers_right_while_rows_are_built_swapped_and_undone(
    new_service: Callable[..., Service],
) -> None:
    service = new_service()
    path = service.data / "ledger.db"
    customers = Customers(service)
    kept = (service.data / "secret.key").read_bytes()
    with customers.busy():
        for arguments in (["--write"], ["--undo"], ["--write"]):
            seen = len(customers.answers)
            status, output, errors = run(path, "replay", *arguments)
            assert status == 0, output + errors
            deadline = time.monotonic() + PATIENCE_S
            while len(customers.answers) < seen + 20:
                assert customers.refused == []
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert service.get("/readyz").status_code == 200
    customers.assert_right()
    assert (service.data / "secret.key").read_bytes() == kept
    for openid in customers.openids:
        mine = [row for row in log_of(path) if row.openid == openid.encode()]
        assert accounts_of(path)[openid.encode()][0] == len(mine)
    assert service.stop() == 0
    assert "unexpected error" not in service.log
    assert_sound(path)


@pytest.fixture
def crowd(ledger_path: Path) -> Path:
    """A ledger of so many accounts that building their rows takes a while."""
    with closing(ledger_committer(ledger_path)) as committer:
        for first in range(0, 6000, 1000):
            openids = [f"o{number:05}" for number in range(first, first + 1000)]
            commit_with(committer, *(RegisterUser(openid, 1) for openid in openids))
            commit_with(committer, *(GrantCredit(openid, 1, "gift", "k1") for openid in openids))
    return ledger_path


def state_of(path: Path) -> tuple[str, int] | None:
    """What a replay has done so far: the state, and how many ranges are written."""
    with closing(connect(path, read_only=True)) as connection:
        row = connection.execute("SELECT state FROM replay").fetchone()
        (done,) = connection.execute("SELECT count(*) FROM replay_range WHERE events IS NOT NULL").fetchone()
        return None if row is None else (row[0], done)


def kill(process: subprocess.Popen[str]) -> None:
    """As the kernel does that is out of memory: its children are left to themselves, and end."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    children = listed.read_text().split() if listed.exists() else []
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "a worker outlived the replay that started it"
        time.sleep(0.02)


def test_killed_at_any_moment_a_replay_is_gone_on_with_and_ends_right(crowd: Path) -> None:
    """Once where a range is known to be written, then wherever it happens to be."""
    with Program("grant-until-told", crowd, "o00001", "busy") as writer:
        assert writer.read() == "ready"
        writer.go()
        process = start(crowd, "replay", "--write", command=HALTED)
        stopped_or_ended = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert stopped_or_ended is not None
        assert stopped_or_ended.si_code == os.CLD_STOPPED
        kill(process)
        assert state_of(crowd) in [("building", done) for done in (1, 2, 3, 4)]
        process = start(crowd, "replay", "--write", "--json")
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        found = json.loads(output)
        assert 0 < found["resumed"] < 18_000 < found["events"]
        assert (found["written"], found["differences"], found["accounts"]) == (True, [], 6000)

        chance = random.Random(4)
        for _ in range(3):
            process = start(crowd, "replay", "--write", command=IN_PROCESSES)
            time.sleep(chance.uniform(0.5, 2))
            kill(process)
            writer.read()
            writer.drain()
        status, output, errors = run(crowd, "replay", "--write")
        assert status == 0, output + errors
        assert ": 0 rows differ" in output
        assert writer.stop() == 0
    assert replay(crowd).differences == []
    undo(crowd)
    assert replay(crowd).differences == []
    assert_sound(crowd)


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """The code as it is, but for a fold that counts streaks in hundreds."""
    code = tmp_path / "next"
    for package in ("ledger", "api", "scripts"):
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    projection = code / "ledger" / "projection.py"
    text = projection.read_text()
    for old, new in (
        (f"PROJECTION: Final = {PROJECTION}", f"PROJECTION: Final = {PROJECTION + 1}"),
        ("        balance.streak,", "        balance.streak + 100,"),
        ("            streak,\n", "            streak - 100,\n"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    projection.write_text(text)
    return code


def test_rows_of_another_fold_are_swapped_in_beside_the_service_and_undone(
    new_service: Callable[..., Service], next_release: Path
) -> None:
    """The next release builds its rows: this one's service writes nothing into them, and says what to do."""
    service = new_service()
    path = service.data / "ledger.db"
    customers = Customers(service)
    alice = customers.openids[0]
    assert customers.grant(alice, "before").status_code == 201
    status, _, errors = run(path, "grant", alice, "1", "--reason", "r", "--key", "early", code=next_release)
    assert (status, "credit-ledger replay --write" in errors) == (1, True)

    status, output, errors = run(path, "replay", "--write", code=next_release)
    assert status == 0, errors
    assert f"were of projection {PROJECTION}, are live, of projection {PROJECTION + 1}" in output
    # Each worker, also one that opens the file only now.
    refused = [customers.grant(alice, "meanwhile") for _ in range(20)]
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(503, "not-committed")}
    past = customers.backend.get(alice, as_of=rfc3339(microseconds_now()))
    assert (past.status_code, past.json()["code"]) == (503, "busy")
    assert service.get("/readyz").status_code == 503
    assert run(path, "replay", "--undo", code=next_release)[0] == 1, "that takes the release that they are of"
    status, output, errors = run(
        path, "grant", alice, "1", "--reason", "r", "--key", "after", code=next_release
    )
    assert status == 0, errors
    assert streaks_of(path) == {100}
    assert run(path, "audit", code=next_release)[0] == 0

    undo(path)
    assert streaks_of(path) == {0}
    answer = customers.grant(alice, "meanwhile")
    assert (answer.status_code, answer.json()["event"]["credit"]) == (201, 103)
    assert service.get("/readyz").status_code == 200
    assert_sound(path)
    assert run(path, "replay", "--undo", code=next_release)[0] == 0, "undoing the undo"
    assert streaks_of(path) == {100}


def streaks_of(path: Path) -> set[int]:
    """Of the live rows, whichever fold they are of."""
    with closing(connect(path, read_only=True)) as connection:
        return {streak for (streak,) in connection.execute("SELECT streak FROM account")}
