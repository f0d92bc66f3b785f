"""Whatever a client sends: a 4xx problem where it is wrong, never a 500, and the next request is served."""

import json
import secrets
import select
import socket
from collections.abc import Iterator

import pytest
import requests

from tests.backend import SCOPES, exchange, new_key
from tests.conftest import PATIENCE_S, Service

DEEP = b"[" * 30_000 + b"]" * 30_000
# Routes that read a body, and a field of it that is text.
ROUTES = {
    "/login": b"code",
    "/userinfo": b"rawData",
    "/v1/me/profile": b"nickname",
    "/v1/sessions": b"code",
    "/v1/accounts/oSomebody/grants": b"reason",
    "/v1/accounts/oSomebody/holds/3/capture": b"reason",
    "/v1/accounts/oSomebody/freeze": b"reason",
}

# What is wrong with a body, and the status that says so.
BODIES: dict[str, tuple[bytes, int | range]] = {
    "nothing": (b"", 400),
    "not JSON": (b"code=abc", 400),
    "cut off": (b'{"code": "ab', 400),
    "deep arrays": (DEEP, 422),
    "deep objects": (b'{"code":' * 5000 + b"1" + b"}" * 5000, 422),
    "invalid UTF-8": (b'{"code": "\xff\xfe"}', 400),
    "a lone surrogate": (b'{"code": "\\ud800"}', 400),
    "NaN": (b'{"code": NaN}', 400),
    "Infinity": (b'{"code": Infinity}', 400),
    "1e400": (b'{"code": 1e400}', 422),
    "2**63": (b'{"code": 9223372036854775808}', 422),
    "a thousand digits": (b'{"code": ' + b"9" * 1000 + b"}", 422),
    "null": (b"null", 422),
    "true": (b"true", 422),
    "a string": (b'"code"', 422),
    "an array": (b"[]", 422),
    "no field": (b"{}", 422),
    "an unknown field": (b'{"code": "a", "admin": true}', 422),
    "a number for text": (b'{"code": 1}', 422),
    "a list for text": (b'{"code": ["a"]}', 422),
    "null for text": (b'{"code": null}', 422),
    "a byte order mark": (b'\xef\xbb\xbf{"code": "a"}', 400),
    "NUL bytes": (b"\x00" * 20, 400),
    "two values": (b'{"code":"a"}{"code":"b"}', range(400, 423)),
    "64 KiB and more": (b'{"code": "' + b"a" * 65536 + b'"}', 413),
    "a megabyte": (b'{"code": "' + b"a" * 1_000_000 + b'"}', 413),
}


@pytest.fixture(scope="module")
def token(_shared_service: Service) -> str:
    return _shared_service.login("malformed")


def check_problem(answer: requests.Response, status: int | range) -> None:
    expected = status if isinstance(status, range) else (status,)
    assert answer.status_code in expected, f"{answer.status_code} {answer.text}"
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["code"]
    assert problem["title"]
    assert problem["detail"]


@pytest.fixture(scope="module")
def key(_shared_service: Service) -> str:
    return new_key(_shared_service, *SCOPES)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_cannot_be_taken_is_a_4xx_problem(
    service: Service, token: str, key: str, route: str, what: str
) -> None:
    body, status = BODIES[what]
    bearer = key if "accounts" in route else token
    body = body.replace(b'"code"', b'"' + ROUTES[route] + b'"')
    answer = requests.request(
        "PUT" if "profile" in route else "POST",
        service.url + route,
        data=body,
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {bearer}",
            "Idempotency-Key": "k",
        },
        timeout=PATIENCE_S,
    )
    check_problem(answer, status)


@pytest.mark.parametrize("size", [70_000, 900_000])
def test_a_chunked_body_is_counted_while_it_is_read(service: Service, size: int) -> None:
    """It announces no length, so only counting can end it."""

    def pieces() -> Iterator[bytes]:
        yield b'{"code": "'
        for _ in range(size // 1000):
            yield b"a" * 1000
        yield b'"}'

    answer = requests.post(
        f"{service.url}/login", data=pieces(), headers={"Content-Type": "application/json"}, timeout=PATIENCE_S
    )
    check_problem(answer, 413)


def test_a_body_without_end_is_cut_off(service: Service) -> None:
    """Up to a megabyte is read so that the answer arrives; whoever goes on sending is hung up on."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as client:
        client.sendall(b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n")
        client.sendall(b"Content-Length: 1000000000\r\n\r\n")
        sent = 0
        try:
            while sent < 50_000_000:
                sent += client.send(b"a" * 65536)
        except ConnectionError:
            pass
    assert sent < 50_000_000
    assert service.get("/healthz").status_code == 200


def test_a_chunked_body_of_a_fair_size_is_taken(service: Service) -> None:
    body = json.dumps({"code": f"dev-chunky-{secrets.token_hex(8)}"}).encode()
    answer = requests.post(
        f"{service.url}/login",
        data=iter([body[:5], body[5:]]),
        headers={"Content-Type": "application/json; charset=utf-8"},
        timeout=PATIENCE_S,
    )
    assert "token" in answer.json()


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_body_that_does_not_say_it_is_json_is_refused(service: Service, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    check_problem(
        requests.post(f"{service.url}/login", data=b'{"code":"a"}', headers=headers, timeout=PATIENCE_S), 415
    )


@pytest.mark.parametrize(
    "path",
    [
        "/credit?token=a&token=b",
        "/checklogin?token=&token=",
        "/v1/me/events?limit=1&limit=2",
        "/healthz?a=1&a=2",
    ],
)
def test_a_query_parameter_may_be_given_once(service: Service, path: str) -> None:
    check_problem(requests.get(service.url + path, timeout=PATIENCE_S), 400)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("//credit", 404),
        ("/v1//me", 404),
        ("/%2fcredit", 404),
        ("/v1%2Fme", 404),
        ("/credit/", 404),
        ("/CREDIT", 404),
        ("/credit%00", 404),
        ("/../credit", 404),
        ("/%ff%fe", 404),
        ("/nothing/here", 404),
        ("/data/ledger.db", 404),
        ("/v1/me/events?limit=0", 401),
    ],
)
def test_a_path_is_what_it_says(service: Service, path: str, status: int) -> None:
    session = requests.Session()
    request = requests.Request("GET", service.url).prepare()
    request.url = service.url + path  # as it is, without requests tidying it
    check_problem(session.send(request, timeout=PATIENCE_S), status)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST", "TRACE", "PROPFIND", "BREW"])
def test_another_method_is_a_4xx_problem(service: Service, method: str) -> None:
    check_problem(requests.request(method, f"{service.url}/credit", timeout=PATIENCE_S), range(400, 406))


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=-1", "limit=1.0", "limit=abc", "limit=", "limit=%D9%A3", "before=0",
     "before=99999999999999999999999999", "before=9223372036854775808", "limit=1e2", "limit=%2010"],
)  # fmt: skip
def test_a_page_that_cannot_be_is_a_problem(service: Service, token: str, query: str) -> None:
    check_problem(service.get(f"/v1/me/events?{query}", token), 400)


@pytest.mark.parametrize("accept", ["text/xml", "application/xml", "text/html", "nonsense", "*/*;q=x"])
def test_an_error_is_a_json_problem_whatever_is_asked_for(service: Service, accept: str) -> None:
    check_problem(requests.get(f"{service.url}/nowhere", headers={"Accept": accept}, timeout=PATIENCE_S), 404)


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Basic YTpi",
        "bearer undefined",
        "Bearer \xff\xfe",
        "Token x",
        "Bearer a b c",
        "," * 4000,
    ],
)
def test_a_strange_authorization_is_nobody(service: Service, header: str) -> None:
    headers = {"Authorization": header.encode("latin-1")}
    answer = requests.get(f"{service.url}/checklogin", headers=headers, timeout=PATIENCE_S)
    assert answer.json() == {"is_login": False}
    check_problem(requests.get(f"{service.url}/v1/me/credit", headers=headers, timeout=PATIENCE_S), 401)


RAW = {
    "a method that is Falcon's own": b"WEBSOCKET /credit HTTP/1.1\r\nHost: a\r\n\r\n",
    "a length of 5,000 digits": b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: "
    + b"9" * 5000
    + b"\r\n\r\n",
    "garbage": b"\x00\xff\x00\xff garbage\r\n\r\n",
    "no version": b"GET /credit\r\n\r\n",
    "a huge head": b"GET /credit HTTP/1.1\r\nHost: a\r\n" + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET /credit HTTP/1.1\r\nHost: a\r\n" + b"X-A: a\r\n" * 5000 + b"\r\n",
    "two lengths": b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
    "length and chunks": (
        b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "a negative length": b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "a bad chunk": (
        b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"
    ),
    "a folded header": b"GET /credit HTTP/1.1\r\nHost: a\r\nX-A: a\r\n b\r\n\r\n",
    "a bare line feed in a header": b"GET /credit HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n",
    "a tab in the path": b"GET /cre\tdit HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"GET /credit HTTP/1.1\r\n\r\n",
    "a long path": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "bytes in the query": b"GET /credit?token=\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an absolute address": b"GET http://elsewhere.example/credit HTTP/1.1\r\nHost: a\r\n\r\n",
    "a websocket": (
        b"GET /credit HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ),
}


@pytest.mark.parametrize("what", RAW)
def test_malformed_http_is_never_a_500_and_the_next_client_is_served(service: Service, what: str) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as client:
        client.sendall(RAW[what])
        client.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := client.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass  # hanging up on nonsense is an answer too
    status = answer.split(b" ", 2)[1][:1] if answer.startswith(b"HTTP/") else b""
    assert status in (b"", b"2", b"4"), answer[:500]
    assert service.get("/healthz").status_code == 200


def test_a_length_that_python_makes_no_number_of_is_refused_without_an_alarm(service: Service) -> None:
    """gunicorn's parser died of it: no answer, and a traceback in the log for each such request."""
    seen = len(service.log)
    request = b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"0" * 5000 + b"\r\n\r\n"
    assert exchange(service, request)[0] == 431
    assert "Fatal error" not in service.log[seen:]


def test_a_body_that_never_comes_is_answered_408(service: Service) -> None:
    """Falcon takes it for a client that left and says nothing, of which gunicorn makes a 500."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as client:
        client.sendall(
            b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        )
        head, _, body = client.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert json.loads(body)["code"] == "body-timeout"


def test_half_sent_requests_keep_nobody_waiting(service: Service) -> None:
    """A thread for each connection would be used up by these; the event loop is not."""
    token = service.login("unhindered")
    head = b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    half_sent = []
    try:
        for number in range(200):
            client = socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S)
            client.sendall(b"GET /cre" if number % 2 else head + b"{")
            half_sent.append(client)
        assert service.credit(token) == {"credit": 100}
        assert select.select(half_sent[-2:], [], [], 0)[0] == [], "it waited until their time was up"
    finally:
        for client in half_sent:
            client.close()
