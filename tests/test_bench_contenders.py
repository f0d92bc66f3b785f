"""Each contender does the work that it is measured at: what it answers is there, also after kill -9."""

import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from bench.contender import (
    API_KEY,
    EVENTSOURCING,
    HTTP_CONTENDERS,
    SIGNUP_CREDIT,
    Contender,
    NotInstalled,
    contending,
    installed,
)
from bench.figures import Results
from bench.library import eventsourcing_per_second
from bench.machine import cache_directory, started
from bench.measure import install
from bench.server import Person, Server
from scripts.sandbox_wechat import openid_of
from tests.conftest import PATIENCE_S, Sandbox

Start = Callable[[Contender], AbstractContextManager[Server]]

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")

MEMORY, SQLITE, FASTAPI = HTTP_CONTENDERS
NOBODY = {"err": "用户不存在，或未登录。"}


@pytest.fixture
def start(tmp_path: Path, sandbox: Sandbox) -> Start:
    """Starts a contender; again on the same data."""

    @contextmanager
    def started(contender: Contender) -> Iterator[Server]:
        with contending(contender, cache_directory(), tmp_path, sandbox.url) as server:
            yield server

    return started


def log_in(server: Server, sandbox: Sandbox, user: str) -> str:
    answer = requests.post(f"{server.url}/login", json={"code": sandbox.code(user)}, timeout=PATIENCE_S)
    return str(answer.json()["token"])


def credit(server: Server, token: str) -> Any:
    return requests.get(f"{server.url}/credit", {"token": token}, timeout=PATIENCE_S).json()


def change(server: Server, kind: str, user: str, key: str, amount: int = 5, api_key: str = API_KEY) -> int:
    """The status of a grant or a spend."""
    return requests.post(
        f"{server.url}/v1/accounts/{openid_of(user)}/{kind}",
        json={"amount": amount, "reason": "test"},
        headers={"Authorization": f"Bearer {api_key}", "Idempotency-Key": key},
        timeout=PATIENCE_S,
    ).status_code


def kill(server: Server) -> None:
    os.killpg(server.process.pid, signal.SIGKILL)  # it has a session of its own
    server.process.wait()


def test_the_tutorials_server_does_its_four_routes_and_forgets(start: Start, sandbox: Sandbox) -> None:
    user = f"b{secrets.token_hex(4)}"
    with start(MEMORY) as server:
        token = log_in(server, sandbox, user)
        assert credit(server, token) == {"credit": 100}
        assert credit(server, "nobody") == NOBODY
        asked = requests.get(f"{server.url}/checklogin", {"token": token}, timeout=PATIENCE_S)
        assert asked.json() == {"is_login": True}
        profile = sandbox.user_info(user, nickName="小明")
        sent = requests.post(f"{server.url}/userinfo?token={token}", json=profile, timeout=PATIENCE_S)
        assert sent.json() == {"pass": True}
        wrong = requests.post(
            f"{server.url}/userinfo?token={token}", json=profile | {"signature": "0"}, timeout=PATIENCE_S
        )
        assert wrong.json() == {"pass": False}
        kill(server)
    with start(MEMORY) as server:
        assert credit(server, token) == NOBODY


@pytest.mark.parametrize("contender", [SQLITE, FASTAPI], ids=lambda contender: contender.name)
def test_a_grant_is_counted_once_and_outlives_a_kill(
    contender: Contender, start: Start, sandbox: Sandbox
) -> None:
    user = f"b{secrets.token_hex(4)}"
    with start(contender) as server:
        token = log_in(server, sandbox, user)
        assert credit(server, token) == {"credit": SIGNUP_CREDIT}
        assert credit(server, "nobody") == NOBODY
        assert change(server, "grants", user, "one") == 201
        assert change(server, "grants", user, "one") == 201
        assert change(server, "grants", user, "one", amount=6) == 422
        assert change(server, "grants", user, "two", api_key="wrong") == 401
        assert change(server, "grants", f"no{user}", "one") == 404
        kill(server)
    with start(contender) as server:
        assert credit(server, token) == {"credit": SIGNUP_CREDIT + 5}
        again = log_in(server, sandbox, user)
        assert credit(server, again) == {"credit": SIGNUP_CREDIT + 5}


def test_fastapi_spends_what_there_is_and_no_more(start: Start, sandbox: Sandbox) -> None:
    user = f"b{secrets.token_hex(4)}"
    with start(FASTAPI) as server:
        token = log_in(server, sandbox, user)
        assert change(server, "spends", user, "one") == 201
        assert change(server, "spends", user, "one") == 201
        assert change(server, "spends", user, "all", amount=SIGNUP_CREDIT) == 409
        assert credit(server, token) == {"credit": SIGNUP_CREDIT - 5}


@pytest.mark.parametrize("batch", [1, 20])
def test_eventsourcing_has_every_grant_that_it_counts(batch: int, tmp_path: Path) -> None:
    """Its program adds up the accounts, and the benchmark fails where they do not have what was granted."""
    assert eventsourcing_per_second(tmp_path, batch, 0.1, cache_directory()) > 0
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_installed_is_left_out_and_the_rest_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.contender._version_of", lambda program: "another")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setattr("bench.measure.CONTENDERS", (SQLITE, EVENTSOURCING))
    results = Results({})
    install(tmp_path / "cache", results)
    assert set(results.left_out) == {"express-sqlite", "eventsourcing"}
    assert results.left_out["express-sqlite"] == "npm is not installed"
    assert "pip install failed" in results.left_out["eventsourcing"]
    with pytest.raises(NotInstalled):
        installed(EVENTSOURCING, tmp_path / "cache")


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed: apt-get install wrk")
def test_a_run_too_short_for_an_answer_is_made_again_for_longer(tmp_path: Path) -> None:
    class Slow(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(0.5)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as slow, started(["sleep", "60"]) as process:
        threading.Thread(target=slow.serve_forever, daemon=True).start()
        server = Server("slow", (), slow.server_port, process, tmp_path, tmp_path / "log")
        server.api_key = API_KEY
        server.live_with({"everybody": [Person("u", "openid", "token")]}, tmp_path)
        assert server.load("credit", 0.1, 1).duration_us > 300_000
        slow.shutdown()
