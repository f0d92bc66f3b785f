"""What operators live on: health, metrics, logs, starting, stopping, and refusing to start."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from ledger.sqlite import connect
from scripts.sandbox_wechat import SECRET
from tests.backend import Backend, exchange, new_account, new_key, raw_request
from tests.conftest import PATIENCE_S, ROOT, Sandbox, Service


def test_health_and_readiness_are_said(service: Service) -> None:
    assert service.get("/healthz").json() == {"status": "up"}
    assert service.get("/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize("name", ["ledger.db", "access.db"])
def test_it_is_not_ready_while_a_database_cannot_be_written(
    new_service: Callable[..., Service], name: str
) -> None:
    service = new_service(workers=1)
    blocker = connect(service.data / name)
    blocker.execute("BEGIN IMMEDIATE")
    answer = service.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["code"] == "not-ready"
    assert service.get("/healthz").status_code == 200
    blocker.execute("ROLLBACK")
    blocker.close()
    deadline = time.monotonic() + PATIENCE_S
    while service.get("/readyz").status_code != 200:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("name", ["ledger.db", "access.db"])
def test_it_is_not_ready_when_the_schema_became_another(new_service: Callable[..., Service], name: str) -> None:
    service = new_service()
    other = connect(service.data / name)
    (version,) = other.execute("PRAGMA user_version").fetchone()
    other.execute("PRAGMA user_version=99")
    assert service.get("/readyz").status_code == 503
    other.execute(f"PRAGMA user_version={version}")
    other.close()
    assert service.get("/readyz").status_code == 200


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    total = 0.0
    for line in text.splitlines():
        sample = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if sample and sample[1] == name:
            found = dict(re.findall(r'(\w+)="([^"]*)"', sample[2] or ""))
            if all(found.get(key) == value for key, value in labels.items()):
                total += float(sample[3])
    return total


def test_metrics_are_sums_over_all_workers(new_service: Callable[..., Service]) -> None:
    service = new_service(workers=4)
    token = service.login("alice")
    service.post_login(f"fault-45011-{secrets.token_hex(4)}")
    for _ in range(80):
        service.credit(token)  # a connection each, so that every worker gets some
    text = service.get("/metrics").text
    assert metric(text, "credit_requests_total", route="/credit", status="200", method="GET") == 80
    assert metric(text, "credit_request_seconds_count", route="/credit") == 80
    assert metric(text, "credit_request_seconds_bucket", route="/credit", le="+Inf") == 80
    assert metric(text, "credit_wechat_calls_total", outcome="ok") == 1
    assert metric(text, "credit_wechat_calls_total", outcome="login-rate-limited") == 1
    assert metric(text, "credit_refusals_total", code="login-rate-limited") == 1
    assert metric(text, "credit_commit_commands_count", file="ledger") == 1, "one commit registered alice"
    assert metric(text, "credit_commit_commands_sum", file="ledger") == 1
    killed = service.worker_pids()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    service.wait_for_others(killed)
    text = service.get("/metrics").text
    assert metric(text, "credit_requests_total", route="/credit") == 80, "what a dead worker counted stays"


def test_metrics_leave_no_files_behind(new_service: Callable[..., Service]) -> None:
    service = new_service()
    assert list((service.data / "metrics").iterdir())
    service.stop()
    assert not list((service.data / "metrics").iterdir())
    service.start()
    service.stop(signal.SIGKILL)
    assert list((service.data / "metrics").iterdir()), "kill -9 leaves them"
    service.start()
    assert len(list((service.data / "metrics").iterdir())) == 1, "and the next start removes them"


def test_every_log_line_is_json_and_a_request_has_its_id(service: Service) -> None:
    seen = len(service.log)
    answer = requests.get(
        f"{service.url}/credit?token=x", headers={"X-Request-ID": "from-the-proxy.1"}, timeout=PATIENCE_S
    )
    assert answer.headers["X-Request-ID"] == "from-the-proxy.1"
    generated = service.get("/credit").headers["X-Request-ID"]
    forged = requests.get(f"{service.url}/credit", headers={"X-Request-ID": 'a"b c'}, timeout=PATIENCE_S)
    assert forged.headers["X-Request-ID"] != 'a"b c'
    lines = [json.loads(line) for line in service.log[seen:].splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "from-the-proxy.1"]
    assert line["path"] == "/credit"
    assert line["status"] == 200
    assert generated in {line.get("request_id") for line in lines}
    assert all(json.loads(line)["timestamp"] for line in service.log.splitlines())


def test_no_secret_is_ever_logged(new_service: Callable[..., Service], sandbox: Sandbox) -> None:
    service = new_service()
    code, failing = sandbox.code("alice"), f"fault-drop-{secrets.token_hex(8)}"
    token = service.post_login(code).json()["token"]
    service.post_login(code)
    service.post_login(failing)
    service.post_login(f"{failing}&secret=x")
    service.credit(token)
    requests.post(
        f"{service.url}/userinfo?token={token}",
        json=sandbox.user_info("alice", nickName="x"),
        timeout=PATIENCE_S,
    )
    requests.get(f"{service.url}/nowhere?token={token}&token={token}", timeout=PATIENCE_S)
    requests.get(f"{service.url}/credit%3Ftoken={token}", timeout=PATIENCE_S)
    requests.get(
        f"{service.url}/{'far.' * 46}{token}", timeout=PATIENCE_S
    )  # what is logged of a path ends within it
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(f"GET /credit?token={token} HTTP/9.9\r\nBroken {token}\r\n\r\n".encode())
        client.recv(1000)
    session_key = requests.get(
        f"{sandbox.url}/sandbox/session_key", {"user": "alice"}, timeout=PATIENCE_S
    ).json()
    service.stop()
    assert len(service.log.splitlines()) > 10
    for secret in (token, code, failing, SECRET, session_key["session_key"]):
        assert secret not in service.log
    assert token[:10] not in service.log


def test_a_credential_is_taken_for_no_id_of_a_request(service: Service) -> None:
    """A client that sends its token in the wrong header must not find it in the log."""
    seen = len(service.log)
    token, key = service.login("alice"), new_key(service, "read")
    for credential in (token, key):
        answer = requests.get(f"{service.url}/credit", headers={"X-Request-ID": credential}, timeout=PATIENCE_S)
        assert len(answer.headers["X-Request-ID"]) == 16, "one of our own"
        assert credential not in service.log[seen:]
    for usual in ("a" * 64, token + "x", "0c6a4f0e-6f0c-4a5e-9b0a-2c3d4e5f6a7b"):
        answer = requests.get(f"{service.url}/credit", headers={"X-Request-ID": usual}, timeout=PATIENCE_S)
        assert answer.headers["X-Request-ID"] == usual


def test_no_openid_and_no_key_of_a_path_is_ever_logged(new_service: Callable[..., Service]) -> None:
    """Whose account it is, the log does not say; not of a path that is no route either."""
    service = new_service()
    backend, openid = Backend(service), new_account(service)
    key = f"idempotency-{secrets.token_hex(8)}"
    backend.grant(openid, 5)
    backend.write(f"{openid}/spends", {"amount": 1, "reason": "r", "reference": "order-7-secret"}, key=key)
    backend.events(openid, limit=1)
    backend.account(openid)
    assert backend.post(f"{openid}/holds/2/capture", {"reason": "r"}).status_code == 404
    paths = [
        f"/v1/accounts/{openid}/nothing",
        f"/v1/accounts/{openid}/",
        f"/v1/accounts//{openid}",
        f"//v1/accounts/{openid}",
        f"/v1/accounts/{openid}/grants/",
        f"/v1/accounts/{openid}%2fgrants",
        f"/v2/accounts/{openid}",
        f"/v1/accounts/{openid}.",
        f"/v1/accounts/%20{openid}/events?token={openid}",
    ]
    for path in paths:
        for secret in (backend.secret, None):
            headers = [] if secret is None else [("Authorization", f"Bearer {secret}")]
            assert exchange(service, raw_request("GET", path, headers))[0] in (400, 401, 404), path
    requests.delete(f"{service.url}/v1/accounts/{openid}", headers=backend.headers(), timeout=PATIENCE_S)
    line = f'{{"openid":"{openid}","key":"{key}-2","amount":1,"reason":"r"}}'
    headers = {**backend.headers(), "Content-Type": "application/x-ndjson"}
    for body in (line, line + "x", "{"):
        requests.post(f"{service.url}/v1/grants", data=body, headers=headers, timeout=PATIENCE_S)
    service.stop()
    lines = [json.loads(each) for each in service.log.splitlines()]
    assert "/v1/accounts/{openid}/spends" in {each.get("path") for each in lines}
    assert len([each for each in lines if each.get("event") == "request"]) >= 25
    for secret in (openid, key, backend.secret, backend.secret[16:], "order-7-secret"):
        assert secret not in service.log


def test_sigterm_loses_no_answered_request_and_finishes_what_is_in_flight(
    new_service: Callable[..., Service],
) -> None:
    service = new_service()
    openid, backend = new_account(service), Backend(service, "grant")
    answered: list[str] = []
    broken: list[str] = []

    def grant(thread: int) -> None:
        with requests.Session() as session:
            for number in range(100_000):
                key = f"{thread}-{number}"
                url, body = f"{service.url}/v1/accounts/{openid}/grants", {"amount": 1, "reason": "r"}
                try:
                    answer = session.post(url, json=body, headers=backend.headers(key), timeout=PATIENCE_S)
                except requests.ConnectionError:
                    broken.append(key)
                    return
                assert answer.status_code == 201, answer.text
                answered.append(key)

    threads = [threading.Thread(target=grant, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while len(answered) <= 50:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert service.stop() == 0
    for thread in threads:
        thread.join()
    keys = recorded_keys(service)
    assert set(answered) <= keys
    assert len(keys - set(answered)) <= len(broken)


def recorded_keys(service: Service) -> set[str]:
    connection = connect(service.data / "ledger.db", read_only=True)
    keys = [key for (key,) in connection.execute("SELECT key FROM event WHERE key IS NOT NULL")]
    connection.close()
    assert len(set(keys)) == len(keys)
    return set(keys)


def test_an_idle_connection_does_not_hold_up_the_end(new_service: Callable[..., Service]) -> None:
    service = new_service()
    with requests.Session() as session:
        session.get(f"{service.url}/healthz", timeout=PATIENCE_S)
        started = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - started < 20, "not the 30 s for which it could have idled on"


def start_and_fail(service: Service) -> str:
    """What the service says on a start that is refused."""
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "scripts/gunicorn_conf.py"],
        env=service.environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def _used_data(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Path:
    """A data directory that was served from once."""
    service = Service(tmp_path_factory.mktemp("used") / "data", sandbox.url)
    service.start()
    service.login("alice")
    assert service.stop() == 0
    return service.data


@pytest.fixture
def stopped(_used_data: Path, tmp_path: Path, sandbox: Sandbox) -> Service:
    """A service that was not started yet, with a copy of that directory."""
    return Service(Path(shutil.copytree(_used_data, tmp_path / "data")), sandbox.url)


@pytest.mark.parametrize("name", ["WECHAT_APPID", "WECHAT_SECRET"])
def test_it_refuses_to_start_without_its_wechat_settings(stopped: Service, name: str) -> None:
    del stopped.environ[name]
    assert name in start_and_fail(stopped)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CREDIT_WORKERS", "0"),
        ("CREDIT_WORKERS", "many"),
        ("CREDIT_SIGNUP_GRANT", "-1"),
        ("CREDIT_SIGNUP_GRANT", "9007199254740992"),
        ("CREDIT_SIGNUP_GRANT", "1.5"),
        ("CREDIT_BIND", "3000"),
        ("CREDIT_BIND", "nonsense port"),
        ("WECHAT_API", "api.weixin.qq.com"),
        ("WECHAT_API", "http://api.weixin.qq.com"),
        ("WECHAT_API", "http://[bad"),
        ("WECHAT_API", "https://api.weixin.qq.com:99999"),
        ("WECHAT_SECRET", "with a space"),
        ("CREDIT_BIND", "127.0.0.1:99999"),
        ("CREDIT_DATA", "/proc/nowhere"),
        ("CREDIT_RATE_KEY", "fast"),
        ("CREDIT_RATE_TOKEN", "0/minute"),
        ("CREDIT_RATE_LOGIN", "1/second;5/minute"),
        ("CREDIT_CHECKIN", "5,5,20"),
    ],
)
def test_it_refuses_to_start_on_a_wrong_setting_and_names_it(stopped: Service, name: str, value: str) -> None:
    stopped.environ[name] = value
    assert name in start_and_fail(stopped)


def test_it_refuses_to_start_on_the_ledger_of_another_appid(stopped: Service) -> None:
    stopped.environ["WECHAT_APPID"] = "wx1111111111111111"
    said = start_and_fail(stopped)
    assert "wx1111111111111111" in said
    assert "ledger.db" in said
    assert stopped.environ["WECHAT_SECRET"] not in said


@pytest.mark.parametrize("name", ["ledger.db", "access.db"])
def test_it_refuses_to_start_on_an_unknown_schema(stopped: Service, name: str) -> None:
    connection = connect(stopped.data / name)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    said = start_and_fail(stopped)
    assert name in said
    assert "99" in said


@pytest.mark.parametrize("name", ["ledger.db", "access.db"])
def test_it_refuses_to_start_on_a_file_that_is_no_database(stopped: Service, name: str) -> None:
    for suffix in ("-wal", "-shm"):
        (stopped.data / (name + suffix)).unlink(missing_ok=True)
    (stopped.data / name).write_bytes(b"not a database, but somebody's notes" * 100)
    assert name in start_and_fail(stopped)


def _remove(path: Path) -> None:
    path.unlink()


def _open_to_all(path: Path) -> None:
    path.chmod(0o644)


def _garble(path: Path) -> None:
    path.write_text("not hexadecimal")


def _shorten(path: Path) -> None:
    path.write_text("00ff")


def _replace(path: Path) -> None:
    path.write_text("11" * 32)


def _make_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [_remove, _open_to_all, _garble, _shorten, _replace, _make_a_directory])
def test_it_refuses_to_start_without_a_sound_secret_key(
    stopped: Service, damage: Callable[[Path], None]
) -> None:
    damage(stopped.data / "secret.key")
    assert "secret.key" in start_and_fail(stopped)


def test_what_it_makes_is_for_its_own_eyes(stopped: Service) -> None:
    assert stopped.data.stat().st_mode & 0o777 == 0o700
    for name in ("ledger.db", "access.db", "secret.key"):
        assert (stopped.data / name).stat().st_mode & 0o777 == 0o600
