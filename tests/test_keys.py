"""API keys: what each may do, how one ends, what is kept of it, and the command line that makes them."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import requests

from api import access
from ledger.committer import microseconds_now
from ledger.sqlite import connect
from tests.backend import (
    DAY_US,
    SCOPES,
    WRITES,
    Backend,
    change_access,
    new_account,
    new_api_key,
    new_key,
    prepared,
)
from tests.conftest import PATIENCE_S, ROOT, Service

# Each service route, and the scopes of which one is enough: as documented, not as the code has it.
NEEDS: dict[tuple[str, str], set[str]] = {
    ("GET", ""): {"read", "audit"},
    ("GET", "/events"): {"read", "audit"},
    ("POST", "/grants"): {"grant"},
    ("POST", "/spends"): {"spend"},
    ("POST", "/holds"): {"spend"},
    ("POST", "/holds/3/capture"): {"spend"},
    ("POST", "/holds/3/release"): {"spend"},
    ("POST", "/reversals"): {"spend"},
    ("POST", "/revocations"): {"grant"},
    ("POST", "/freeze"): {"operate"},
    ("POST", "/unfreeze"): {"operate"},
    ("POST", "/v1/grants"): {"grant"},
}
ROUTES = pytest.mark.parametrize(("method", "path"), NEEDS, ids=lambda part: str(part) or "/")
USER_ROUTES = [
    ("GET", "/v1/me"),
    ("PUT", "/v1/me/profile"),
    ("GET", "/v1/me/credit"),
    ("GET", "/v1/me/events"),
    ("POST", "/v1/me/checkin"),
    ("DELETE", "/v1/sessions"),
    ("DELETE", "/v1/sessions/current"),
]


def call(service: Service, method: str, path: str, secret: str | None, openid: str = "") -> requests.Response:
    """A request that would succeed with the right to make it."""
    headers = {"Idempotency-Key": os.urandom(8).hex()}
    if secret is not None:
        headers["Authorization"] = f"Bearer {secret}"
    if path == "/v1/grants":
        line = f'{{"openid":"{openid}","key":"{os.urandom(8).hex()}","amount":1,"reason":"r"}}\n'
        headers["Content-Type"] = "application/x-ndjson"
        return requests.post(service.url + path, data=line, headers=headers, timeout=PATIENCE_S)
    url = service.url + (path if path.startswith("/v1/") else f"/v1/accounts/{openid}{path}")
    body = WRITES.get(path) if method == "POST" else {"nickname": "x"} if method == "PUT" else None
    return requests.request(method, url, json=body, headers=headers, timeout=PATIENCE_S)


@ROUTES
def test_a_scope_opens_what_it_says_and_nothing_else(service: Service, method: str, path: str) -> None:
    for scope in SCOPES:
        openid = prepared(service, path)
        before = Backend(service, "read").account(openid)["version"]
        answer = call(service, method, path, new_key(service, scope), openid)
        if scope in NEEDS[method, path]:
            assert answer.status_code == (200 if method == "GET" or path == "/v1/grants" else 201), answer.text
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "scope-missing")
            assert answer.json()["scope"] == " or ".join(sorted(NEEDS[method, path]))
            assert Backend(service, "read").account(openid)["version"] == before


@ROUTES
def test_all_other_scopes_together_are_not_the_one_that_lacks(service: Service, method: str, path: str) -> None:
    openid = prepared(service, path)
    secret = new_key(service, *(set(SCOPES) - NEEDS[method, path]))
    assert call(service, method, path, secret, openid).status_code == 403


def dead_secrets(service: Service) -> dict[str, str | None]:
    revoked, revoked_secret = new_api_key(service, *SCOPES)
    change_access(service, partial(access.revoke_key, key_id=revoked.id, now_us=microseconds_now()))
    live = new_key(service, *SCOPES)
    last = live[-5]
    return {
        "none": None,
        "empty": "",
        "a user's token": service.login("alice"),
        "expired": new_key(service, *SCOPES, life_us=-1),
        "revoked": revoked_secret,
        "unknown": f"ck_{'0' * 12}_{'A' * 43}",
        "another id": live[:3] + "000000000000" + live[15:],
        "another secret": live[:-5] + ("A" if last != "A" else "B") + live[-4:],
        "cut short": live[:-1],
        "something behind": live + "x",
        "its hash": sha256(live.encode()).hexdigest(),
        "undefined": "undefined",
    }


@ROUTES
def test_whoever_has_no_live_key_is_a_401(service: Service, method: str, path: str) -> None:
    openid = prepared(service, path)
    for what, secret in dead_secrets(service).items():
        answer = call(service, method, path, secret, openid)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid-key"), what
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["Content-Type"] == "application/problem+json"
    account = Backend(service, "read").account(openid)
    assert account["version"] == (5 if path == "/unfreeze" else 4)


@pytest.mark.parametrize(("method", "path"), USER_ROUTES)
def test_a_key_is_no_user(service: Service, method: str, path: str) -> None:
    answer = call(service, method, path, new_key(service, *SCOPES))
    assert (answer.status_code, answer.json()["code"]) == (401, "not-logged-in")


def test_a_key_does_not_log_in_to_the_tutorial(service: Service) -> None:
    secret = new_key(service, *SCOPES)
    assert service.get("/checklogin", secret).json() == {"is_login": False}
    assert "err" in service.credit(secret)


@pytest.mark.parametrize(
    "authorization", ["ck", "Basic {}", "Token {}", "{}", "Bearer {} {}", "Bearer ,{}", "Bearer"]
)
def test_a_key_is_taken_as_a_bearer_only(service: Service, authorization: str) -> None:
    secret = new_key(service, "read")
    headers = {"Authorization": authorization.format(secret, secret)}
    url = f"{service.url}/v1/accounts/{new_account(service)}"
    assert requests.get(url, headers=headers, timeout=PATIENCE_S).status_code == 401
    assert requests.get(url, {"token": secret}, timeout=PATIENCE_S).status_code == 401
    headers = {"Authorization": f"bearer  {secret} "}
    assert requests.get(url, headers=headers, timeout=PATIENCE_S).status_code == 200, (
        "schemes have no case (RFC 9110)"
    )


def test_a_key_ends_when_it_says(service: Service) -> None:
    openid, (key, secret) = new_account(service), new_api_key(service, "read")
    assert call(service, "GET", "", secret, openid).status_code == 200
    ends_at_us = microseconds_now() + 500_000
    with closing(connect(service.data / "access.db")) as connection:
        connection.execute("UPDATE api_key SET expires_at = ? WHERE id = ?", (ends_at_us, key.id))
    while call(service, "GET", "", secret, openid).status_code == 200:
        assert microseconds_now() < ends_at_us + PATIENCE_S * 1_000_000
    assert microseconds_now() >= ends_at_us
    assert call(service, "GET", "", secret, openid).status_code == 401


# -- the command line ----------------------------------------------------------------------------------


COMMAND = [sys.executable, "-c", "from scripts.credit_ledger import main; main()"]


def run(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "CREDIT_DATA": str(data), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*COMMAND, "key", *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def says(data: Path, *arguments: str) -> str:
    done = run(data, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(data: Path, secret: str) -> str:
    """The line of `key list` about a key."""
    (line,) = [line for line in says(data, "list").splitlines() if line.startswith(secret[3:15])]
    return line


def test_a_key_is_made_used_listed_and_revoked_in_all_workers(new_service: Callable[..., Service]) -> None:
    service = new_service(workers=4)
    openid = new_account(service)
    done = run(service.data, "create", "shop 商店", "--scope", "read", "--scope", "spend")
    assert done.returncode == 0, done.stderr
    secret = done.stdout.strip()
    assert re.fullmatch("ck_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", secret), "what a program reads is the key alone"
    key_id = secret[3:15]
    assert f"key {key_id} for shop 商店: read spend, until 20" in done.stderr
    line = listed(service.data, secret)
    assert re.fullmatch(rf"{key_id}  live     20\d\d-\d\d-\d\d  never             read spend +shop 商店", line)

    def read() -> int:  # a connection each: whichever worker accepts it
        return call(service, "GET", "", secret, openid).status_code

    began = time.time()
    assert {read() for _ in range(20)} == {200}
    deadline = time.monotonic() + PATIENCE_S
    while "never" in listed(service.data, secret):
        assert time.monotonic() < deadline, "its last use is not noted"
        time.sleep(0.1)
    used = re.search(r"\d\d-\d\d  (\d{4}-\d\d-\d\d \d\d:\d\d)  ", listed(service.data, secret))
    assert used is not None
    earliest, latest = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) for at in (began, time.time()))
    assert earliest <= used[1] <= latest

    assert says(service.data, "revoke", key_id) == f"key {key_id} is revoked\n"
    assert {read() for _ in range(60)} == {401}, "at once, whichever worker is asked"
    assert "revoked" in listed(service.data, secret)
    assert says(service.data, "revoke", key_id), "again is no error"
    service.stop()
    service.start()
    assert read() == 401


def test_what_is_kept_of_a_key_is_its_hash(new_service: Callable[..., Service]) -> None:
    service = new_service()
    secrets = [says(service.data, "create", "shop", "--scope", "read").strip() for _ in range(3)]
    openid = new_account(service)
    for secret in secrets:
        assert call(service, "GET", "", secret, openid).status_code == 200
        assert call(service, "POST", "/grants", secret, openid).status_code == 403
        assert call(service, "GET", "", secret + "x", openid).status_code == 401
        requests.get(f"{service.url}/v1/accounts/{secret}", timeout=PATIENCE_S)
        requests.get(f"{service.url}/v1/accounts/x?token={secret}", timeout=PATIENCE_S)
        requests.get(f"{service.url}/{secret}", timeout=PATIENCE_S)
    assert service.stop() == 0
    stored = b"".join(path.read_bytes() for path in service.data.rglob("*") if path.is_file())
    everything = says(service.data, "list") + service.log
    assert b"shop" in stored
    for secret in secrets:
        assert secret not in everything
        assert secret.encode() not in stored
        assert secret[16:] not in everything
        assert secret[16:].encode() not in stored
    assert len(set(secrets)) == 3


def test_a_list_says_which_keys_are_over(service: Service) -> None:
    expired, secret = new_api_key(service, "grant", life_us=-1)
    assert re.match(rf"{expired.id}  expired  20", listed(service.data, secret))
    lines = says(service.data, "list").splitlines()
    assert lines[0].split() == ["id", "state", "expires", "last", "used", "(UTC)", "scopes", "name"]


def test_the_days_of_a_key_are_chosen(service: Service) -> None:
    for days, arguments in ((365, ()), (1, ("--days", "1")), (3650, ("--days", "3650"))):
        made = [time.time()]
        secret = says(service.data, "create", "shop", "--scope", "audit", *arguments).strip()
        made.append(time.time())
        ends = [time.strftime("%Y-%m-%d", time.gmtime(at + days * DAY_US / 1e6)) for at in made]
        line = listed(service.data, secret)
        assert ends[0] <= line.split()[2] <= ends[1], line
        assert line.split()[1] == "live"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("create", "shop"), 2, "--scope"),
        (("create", "shop", "--scope", "root"), 2, "'audit', 'grant', 'operate', 'read', 'spend'"),
        (("create", "--scope", "read"), 2, "NAME"),
        (("create", "", "--scope", "read"), 2, "1 to 64 printable"),
        (("create", "x" * 65, "--scope", "read"), 2, "1 to 64 printable"),
        (("create", "a\nb", "--scope", "read"), 2, "1 to 64 printable"),
        (("create", "shop", "--scope", "read", "--days", "0"), 2, "not in the range"),
        (("create", "shop", "--scope", "read", "--days", "3651"), 2, "not in the range"),
        (("revoke",), 2, "ID"),
        (("revoke", "000000000000"), 1, "there is no key 000000000000: see credit-ledger key list"),
        (("frobnicate",), 2, "No such command"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    service: Service, arguments: tuple[str, ...], status: int, said: str
) -> None:
    before = says(service.data, "list")
    done = run(service.data, *arguments)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert says(service.data, "list").count("\n") == before.count("\n")


@pytest.mark.parametrize("arguments", [("create", "shop", "--scope", "read"), ("list",), ("revoke", "0" * 12)])
def test_without_a_database_it_says_where_it_looked(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 1
    assert str(tmp_path / "access.db") in done.stderr
    assert "CREDIT_DATA" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path.name for path in tmp_path.iterdir() if path.suffix == ".db"], "and creates none"


@pytest.mark.parametrize(
    ("arguments", "taught"),
    [
        ((), ("create", "list", "revoke")),
        (("create",), ("--scope", "--days", "only its hash is kept", "credit-ledger key create shop", "365")),
        (("list",), ("last use", "id", "state")),
        (("revoke",), ("all workers", "key list")),
    ],
)
def test_help_teaches(tmp_path: Path, arguments: tuple[str, ...], taught: tuple[str, ...]) -> None:
    shown = " ".join(says(tmp_path, *arguments, "--help").split())
    assert shown.startswith("Usage: credit-ledger key")
    for words in taught:
        assert words in shown
