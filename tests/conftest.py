"""What the tests share: a real service under gunicorn, with the stand-in WeChat beside it.

Everything runs in processes of its own, on free ports, in temporary directories, and is ended by its
process id.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, settings

from bench.machine import free_port
from ledger.commands import GrantCredit, RegisterUser, Submission
from ledger.committer import ledger_committer
from ledger.execute import Outcome
from ledger.schema import create
from ledger.sqlite import Turnstile
from scripts.sandbox_wechat import APPID, SECRET, openid_of


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail where a test was skipped, as CI does")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say loudly, at the very end, what was not tested."""
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []))
    if reasons:
        terminalreporter.section("NOT TESTED", red=True, bold=True)
        for reason, count in reasons.items():
            terminalreporter.line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


ROOT = Path(__file__).resolve().parent.parent
# For what must come, however busy the machine is; nobody waits that long for what comes.
PATIENCE_S = 60
DAY_S = 86_400
# So long before midnight nothing is begun that must end on the same day.
DAY_ENDS_S = 180

# How long an example takes, or the making of one, says how busy the machine is.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


@pytest.fixture
def within_a_day() -> None:
    """For tests that speak of today: they do not begin on one day and end on the next.

    Today is that of Shanghai, where the ledger counts the days, or of this machine's time zone.
    """
    now = time.time()
    for ahead_s in (8 * 3600, time.localtime(now).tm_gmtoff):
        left_s = DAY_S - (now + ahead_s) % DAY_S
        if left_s < DAY_ENDS_S:
            time.sleep(left_s)


class Sandbox:
    """The stand-in WeChat in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.sandbox_wechat"], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def code(self, user: str, age_s: float = 0) -> str:
        answer = requests.get(
            f"{self.url}/sandbox/code", {"user": user, "age_s": str(age_s)}, timeout=PATIENCE_S
        )
        return str(answer.json()["code"])

    def asked(self) -> dict[str, int]:
        """How often WeChat was asked about each code."""
        return dict(requests.get(f"{self.url}/sandbox/calls", timeout=PATIENCE_S).json())

    def calls(self, code: str) -> int:
        return self.asked().get(code, 0)

    def user_info(self, user: str, **profile: str) -> dict[str, str]:
        answer = requests.get(f"{self.url}/sandbox/userinfo", {"user": user, **profile}, timeout=PATIENCE_S)
        # Not answer.json(): text/plain without a charset is Latin-1 to requests, and JSON is UTF-8.
        return dict(json.loads(answer.content))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Service:
    """The service under gunicorn on a free port; `log` is what it wrote to standard error so far."""

    def __init__(self, data: Path, wechat_api: str, *, workers: int = 2, app: str | None = None) -> None:
        self.data = data
        self.log_path = data.with_name(data.name + ".log")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.workers = workers
        self.environ = {
            **os.environ,
            "CREDIT_BIND": f"127.0.0.1:{self.port}",
            "CREDIT_DATA": str(data),
            "CREDIT_WORKERS": str(workers),
            "WECHAT_APPID": APPID,
            "WECHAT_SECRET": SECRET,
            "WECHAT_API": wechat_api,
        }
        self._arguments = [sys.executable, "-m", "gunicorn", "-c", "scripts/gunicorn_conf.py"]
        if app is not None:
            self._arguments.append(app)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until every worker listens: one that is still booting overhears SIGTERM."""
        seen = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self._arguments, env=self.environ, cwd=ROOT, stderr=log, stdout=log, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                ready = requests.get(f"{self.url}/readyz", timeout=2).status_code == 200
            except requests.RequestException:  # on a busy machine it listens long before it answers
                assert self.process.poll() is None, f"the service did not start:\n{self.log}"
                ready = False
            if ready and self.log[seen:].count("ASGI server listening") >= self.workers:
                return
            time.sleep(0.05)
        raise AssertionError(f"the service was not ready in {PATIENCE_S} s:\n{self.log}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send `how` to the master and wait for its end; returns its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            # Workers of a master that was killed see that it is gone, but only after a second.
            subprocess.run(["pkill", "-KILL", "-s", str(self.process.pid)], check=False)

    def worker_pids(self) -> list[int]:
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def wait_for_others(self, gone: Iterable[int]) -> None:
        """Wait until the master has noticed that these workers are gone, and has started all others in their
        place: a worker that was killed is among its children until then."""
        deadline = time.monotonic() + PATIENCE_S
        while len(now := set(self.worker_pids())) < self.workers or now & set(gone):
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @staticmethod
    def openid_of(user: str) -> str:
        return openid_of(user)

    def login(self, user: str) -> str:
        """The token of a new session of the sandbox user `user`."""
        answer = self.post_login(f"dev-{user}-{secrets.token_hex(8)}").json()
        return str(answer["token"])

    def post_login(self, code: object) -> requests.Response:
        return requests.post(f"{self.url}/login", json={"code": code}, timeout=PATIENCE_S)

    def credit(self, token: str) -> dict[str, object]:
        return dict(requests.get(f"{self.url}/credit", {"token": token}, timeout=PATIENCE_S).json())

    def get(self, path: str, token: str | None = None, **query: Any) -> requests.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return requests.get(self.url + path, query, headers=headers, timeout=PATIENCE_S)

    def grant(self, openid: str, amount: int, reason: str, key: str) -> Outcome:
        """Grant credit as the command line does: in this process, beside the running service."""
        committer = ledger_committer(self.data / "ledger.db")
        try:
            (outcome,) = committer.commit(
                [Submission(GrantCredit(openid, amount, reason, key), "operator:tests")]
            )
        finally:
            committer.close()
        assert isinstance(outcome, Outcome), outcome
        return outcome


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    running = Sandbox()
    yield running
    running.stop()


@pytest.fixture
def new_service(tmp_path: Path, sandbox: Sandbox) -> Iterator[Callable[..., Service]]:
    """Starts services of the test's own, each in a new data directory unless told which."""
    started: list[Service] = []

    def start(data: Path | None = None, **options: object) -> Service:
        where = data or tmp_path / f"data{len(started)}"
        running = Service(where, str(options.pop("wechat_api", sandbox.url)), **options)  # type: ignore[arg-type]
        started.append(running)
        running.start()
        return running

    yield start
    for running in started:
        running.stop(signal.SIGKILL)


@pytest.fixture
def unsealed_service(new_service: Callable[..., Service], tmp_path: Path) -> Iterator[Service]:
    """A service that makes no seals by itself: when there is one is for the test to say."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    with closing(Turnstile(data / "sealer.lock")) as duty:
        assert duty.take_if_free()
        yield new_service(data)


@pytest.fixture(scope="session")
def _shared_service(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("service") / "data", sandbox.url)
    running.start()
    yield running
    assert running.stop() == 0, running.log


@pytest.fixture
def service(_shared_service: Service) -> Iterator[Service]:
    """The service that most tests share. No test may leave an unexpected error in its log."""
    seen = len(_shared_service.log)
    yield _shared_service
    if _shared_service.process is None or _shared_service.process.poll() is not None:
        _shared_service.start()
    assert "unexpected error" not in _shared_service.log[seen:], _shared_service.log[seen:]


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    """An empty ledger."""
    path = tmp_path / "ledger.db"
    create(path, APPID)
    return path


def register(path: Path, *openids: str, grant: int = 100) -> None:
    committer = ledger_committer(path)
    committer.commit([Submission(RegisterUser(openid, grant), "rule:signup") for openid in openids])
    committer.close()
