"""How often somebody may ask: by API key, by token, and by address where nobody is logged in yet."""

import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import falcon
import pytest
import requests

from api.problems import Problem
from api.rates import Rates, address_of
from api.settings import SettingError, read_settings
from tests.backend import Backend, exchange, new_account, raw_request
from tests.conftest import PATIENCE_S, ROOT, Service

SmallRates = Callable[..., Service]


@pytest.fixture
def limited(new_service: Callable[..., Service]) -> SmallRates:
    """Starts a service of one worker (each counts for itself) with these rates, all others off."""

    def start(**rates: str) -> Service:
        service = new_service(workers=1)
        service.stop()
        for name in ("KEY", "TOKEN", "LOGIN"):
            service.environ[f"CREDIT_RATE_{name}"] = rates.get(name.lower(), "off")
        service.start()
        return service

    return start


def assert_limited(answer: requests.Response) -> int:
    """It is a 429 problem that says how long to wait; returns the seconds."""
    assert answer.status_code == 429, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "rate-limited"
    wait_s = int(answer.headers["Retry-After"])
    assert problem["retry_after_s"] == wait_s >= 1
    return wait_s


def until_limited(ask: Callable[[], requests.Response], most: int = 50) -> int:
    """How many requests pass before one is refused."""
    for passed in range(most):
        if ask().status_code == 429:
            return passed
    raise AssertionError(f"{most} passed")


def test_a_key_has_its_rate_and_no_other_key_pays_for_it(limited: SmallRates) -> None:
    service = limited(key="5/minute")
    openid, busy, quiet = new_account(service), Backend(service), Backend(service)
    assert until_limited(lambda: busy.get(openid)) == 5
    for answer in (
        busy.get(openid),
        busy.get(f"{openid}/events"),
        busy.post(f"{openid}/grants", {"amount": 1, "reason": "r"}),
        requests.post(f"{service.url}/v1/grants", headers=busy.headers(), timeout=PATIENCE_S),
    ):
        assert 1 <= assert_limited(answer) <= 61
    assert quiet.account(openid)["version"] == 2, "nothing was written"
    assert requests.get(f"{service.url}/v1/accounts/{openid}", timeout=PATIENCE_S).status_code == 401, (
        "nobody has no rate"
    )


def test_a_refused_scope_counts_too(limited: SmallRates) -> None:
    service = limited(key="3/minute")
    openid, reader = new_account(service), Backend(service, "read")
    assert until_limited(lambda: reader.post(f"{openid}/freeze", {"reason": "r"})) == 3


def test_after_the_wait_that_was_asked_for_it_works_again(limited: SmallRates) -> None:
    service = limited(key="3/2seconds", login="3/2seconds", token="3/2seconds")
    openid, backend, token = new_account(service), Backend(service), service.login("alice")
    time.sleep(2)
    asks: list[Callable[[], requests.Response]] = [
        lambda: backend.get(openid),
        lambda: service.get("/v1/me", token),
        lambda: service.post_login("no code"),
    ]
    for ask in asks:
        for _ in range(2):
            assert until_limited(ask) == 3
            wait_s = assert_limited(ask())
            assert wait_s <= 3
            time.sleep(wait_s)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/me"),
        ("PUT", "/v1/me/profile"),
        ("GET", "/v1/me/credit"),
        ("GET", "/v1/me/events"),
        ("POST", "/v1/me/checkin"),
        ("GET", "/credit"),
        ("GET", "/checklogin"),
        ("GET", "/credit?token={token}"),
        ("POST", "/userinfo"),
        ("DELETE", "/v1/sessions/current"),
        ("DELETE", "/v1/sessions"),
    ],
)
def test_a_token_has_one_rate_for_all_its_routes(token_limited: Service, method: str, path: str) -> None:
    service = token_limited
    busy, quiet = service.login("alice"), service.login("alice")
    for _ in range(5):
        assert service.get("/v1/me/credit", busy).status_code == 200
    headers = {} if "{token}" in path else {"Authorization": f"Bearer {busy}"}
    body = {"rawData": "", "signature": "", "encryptedData": "", "iv": ""} if path == "/userinfo" else None
    address = service.url + path.format(token=busy)
    assert_limited(requests.request(method, address, json=body, headers=headers, timeout=PATIENCE_S))
    assert service.get("/v1/me/credit", quiet).status_code == 200, "another device of the same person"


@pytest.fixture(scope="module")
def token_limited(tmp_path_factory: pytest.TempPathFactory, sandbox: Any) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("limited") / "data", sandbox.url, workers=1)
    running.environ |= {"CREDIT_RATE_TOKEN": "5/minute", "CREDIT_RATE_LOGIN": "off"}
    running.start()
    yield running
    running.stop()


def test_nobodys_tokens_are_not_counted(limited: SmallRates) -> None:
    """They are looked up, found to be nobody's, and need no memory."""
    service = limited(token="2/minute")
    for _ in range(10):
        assert service.get("/v1/me", secrets.token_urlsafe(32)).status_code == 401
        assert service.get("/checklogin", "undefined").json() == {"is_login": False}


def log_in(service: Service, path: str, forwarded: str | None) -> requests.Response:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    code = f"dev-alice-{secrets.token_hex(8)}"
    return requests.post(service.url + path, json={"code": code}, headers=headers, timeout=PATIENCE_S)


def test_an_address_has_one_rate_for_both_ways_to_log_in(limited: SmallRates) -> None:
    """The proxy on this host says who its client is, in the last entry; what stands before it anybody wrote."""
    service = limited(login="4/minute")
    for number, path in enumerate(("/login", "/v1/sessions", "/login", "/v1/sessions")):
        forged = f"198.51.100.{number}, 203.0.113.9"
        assert log_in(service, path, forged).status_code in (200, 201)
    for path in ("/login", "/v1/sessions"):
        assert_limited(log_in(service, path, "198.51.100.77, 203.0.113.9"))
        assert_limited(log_in(service, path, "203.0.113.9"))
        assert log_in(service, path, "203.0.113.9, 198.51.100.1").status_code in (200, 201)
        assert log_in(service, path, None).status_code in (200, 201), "the proxy's own address is another"
    service.stop()
    assert "203.0.113.9" not in service.log


def test_whoever_comes_from_elsewhere_cannot_choose_his_address(limited: SmallRates) -> None:
    own = _own_address()
    service = limited()
    service.stop()
    service.environ |= {"CREDIT_BIND": f"0.0.0.0:{service.port}", "CREDIT_RATE_LOGIN": "4/minute"}
    service.start()

    def try_from_elsewhere(number: int) -> int:
        headers = [("Content-Type", "application/json"), ("X-Forwarded-For", f"198.51.100.{number}")]
        return exchange(service, raw_request("POST", "/login", headers, b'{"code":"-"}'), own)[0]

    assert [try_from_elsewhere(number) for number in range(6)] == [200, 200, 200, 200, 429, 429]


def _own_address() -> str:
    """An address of this machine that is not loopback."""
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
    addresses = [address for address in found if "." in address]
    if not addresses:
        pytest.skip("this machine has no address but loopback: a peer from elsewhere could NOT be had")
    return addresses[0]


def test_a_proxy_at_a_unix_socket_says_who_its_client_is(limited: SmallRates, tmp_path: Path) -> None:
    service = limited(login="2/minute")
    service.stop()
    path = tmp_path / "s"
    service.environ["CREDIT_BIND"] = f"unix:{path}"
    started = subprocess.Popen(
        service._arguments,
        env=service.environ,
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        with socket.socket(socket.AF_UNIX) as client:
            while client.connect_ex(str(path)) != 0:  # it is there before anybody listens
                assert time.monotonic() < deadline
                time.sleep(0.05)

        def ask(forwarded: str) -> int:
            headers = [("Content-Type", "application/json"), ("X-Forwarded-For", forwarded)]
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE_S)
                client.connect(str(path))
                client.sendall(raw_request("POST", "/login", headers, b'{"code":"-"}'))
                return int(client.recv(65536).split(b" ", 2)[1])

        assert [ask("203.0.113.9") for _ in range(4)] == [200, 200, 429, 429]
        assert ask("203.0.113.10") == 200
    finally:
        started.terminate()
        started.wait(PATIENCE_S)


def test_off_is_off(limited: SmallRates) -> None:
    service = limited()
    openid, backend, token = new_account(service), Backend(service), service.login("alice")
    with requests.Session() as session:
        for _ in range(700):
            answer = session.post(f"{service.url}/login", json={"code": "-"}, timeout=PATIENCE_S)
            assert answer.status_code == 200
    assert backend.account(openid)
    assert service.credit(token) == {"credit": 100}


# -- whose request it is -------------------------------------------------------------------------------


def asked(client: tuple[str, int] | None, forwarded: str | None) -> str:
    """`address_of` a request from that peer, as Falcon hands it on."""
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    request = SimpleNamespace(scope={"client": client}, get_header=headers.get)
    return address_of(cast(falcon.asgi.Request, request))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.9.9.9", "203.0.113.9", "203.0.113.9"),
        ("::1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1,203.0.113.9 ", "203.0.113.9"),
        ("127.0.0.1", "rubbish, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9, rubbish", "unknown"),
        ("127.0.0.1", "203.0.113.9,", "127.0.0.1"),
        ("127.0.0.1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6", "203.0.113.9", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", None, "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", None, "2001:db8:1:3::/64"),
        ("fe80::1%eth0", None, "fe80::/64"),
        # A socket that takes IPv4 and IPv6 names a peer of IPv4 so; they are not one network of 2**64.
        ("::ffff:192.0.2.1", None, "192.0.2.1"),
        ("::ffff:192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ("::ffff:127.0.0.1", "203.0.113.9", "203.0.113.9"),
        (None, "203.0.113.9", "203.0.113.9"),
        (None, None, "unknown"),
    ],
)
def test_an_address_is_the_peers_or_what_a_proxy_here_says(
    peer: str | None, forwarded: str | None, address: str
) -> None:
    assert asked(None if peer is None else (peer, 1), forwarded) == address


def test_windows_forget_what_is_over_and_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("api.rates.time.time", lambda: now)
    monkeypatch.setattr("api.rates._MAX_COUNTED", 100)
    rates = Rates(read_settings(SETTINGS | {"CREDIT_RATE_KEY": "3/10seconds"}))

    def is_let_through(key_id: str) -> bool:
        try:
            rates.count_key(key_id)
        except Problem:
            return False
        return True

    assert [is_let_through("a") for _ in range(4)] == [True, True, True, False]
    now = 1009.0
    assert not is_let_through("a")
    now = 1010.0
    assert is_let_through("a"), "a window ends"
    for number in range(99):
        assert is_let_through(f"old {number}")
    now = 1015.0
    assert [is_let_through("a") for _ in range(3)] == [True, True, False]
    now = 1020.0
    assert is_let_through("new")
    assert len(rates._windows) == 1, "what is over is forgotten when there is no more room"
    for number in range(1000):
        assert is_let_through(f"flood {number}")
        assert len(rates._windows) <= 100


# -- settings ------------------------------------------------------------------------------------------


SETTINGS = {"WECHAT_APPID": "wx1", "WECHAT_SECRET": "s"}
NAMES = ("CREDIT_RATE_KEY", "CREDIT_RATE_TOKEN", "CREDIT_RATE_LOGIN")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value",
    [
        "60",
        "fast",
        "-1/minute",
        "0/minute",
        "60/fortnight",
        "1.5/second",
        "60/minute;1/second",
        "60/minute,1/hour",
        "OFF ",
    ],
)
def test_a_wrong_rate_is_an_error_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name):
        read_settings(SETTINGS | {name: value})


@pytest.mark.parametrize("name", NAMES)
def test_a_rate_is_so_many_per_time_or_off(name: str) -> None:
    field = name.removeprefix("CREDIT_").lower()
    assert getattr(read_settings(SETTINGS | {name: "off"}), field) is None
    rate = getattr(read_settings(SETTINGS | {name: "3/2seconds"}), field)
    assert (rate.amount, rate.get_expiry()) == (3, 2)
    assert (
        getattr(read_settings(SETTINGS | {name: ""}), field)
        == getattr(read_settings(SETTINGS), field)
        is not None
    )


@pytest.mark.parametrize(
    "value",
    [
        "5",
        "5,5",
        "1:",
        ":5",
        "1:0",
        "1:-1",
        "1:5,",
        "1:5,,5",
        "1:5.5",
        "1:9007199254740992",
        "a b:5",
        "x" * 33 + ":5",
        "1:5 ",
    ],
)
def test_a_wrong_check_in_table_is_an_error_that_names_the_variable(value: str) -> None:
    with pytest.raises(SettingError, match="CREDIT_CHECKIN"):
        read_settings(SETTINGS | {"CREDIT_CHECKIN": value})
