"""Login: every answer of WeChat, and what becomes of a code."""

import re
import secrets
import threading
from collections.abc import Callable

import pytest
import requests

from api.problems import LOGIN_FAILURES
from tests.backend import new_openid
from tests.conftest import PATIENCE_S, Sandbox, Service, free_port

# Each row of the table of error codes: what WeChat does -> the stable code of the answer.
ANSWERS = {
    "fault-busy": "wechat-busy",
    "fault-40029": "code-invalid",
    "fault-42003": "code-invalid",
    "fault-40163": "code-used",
    "fault-40226": "login-blocked",
    "fault-45011": "login-rate-limited",
    "fault-45009": "wechat-quota",
    "fault-40013": "wechat-misconfigured",
    "fault-40125": "wechat-misconfigured",
    "fault-41002": "wechat-misconfigured",
    "fault-41004": "wechat-misconfigured",
    "fault-41008": "wechat-misconfigured",
    "fault-40164": "wechat-misconfigured",
    "fault-40243": "wechat-misconfigured",
    "fault-99999": "wechat-bad-answer",
    "fault-html": "wechat-bad-answer",
    "fault-empty": "wechat-bad-answer",
    "fault-huge": "wechat-bad-answer",
    "fault-nosession": "wechat-bad-answer",
    "fault-status500": "wechat-bad-answer",
    "fault-redirect": "wechat-bad-answer",
    "fault-drop": "wechat-unreachable",
}


@pytest.mark.parametrize(("what_wechat_does", "code"), ANSWERS.items())
def test_each_failure_of_wechat_has_its_own_code_and_a_sentence_and_no_token(
    service: Service, what_wechat_does: str, code: str
) -> None:
    answer = service.post_login(f"{what_wechat_does}-{secrets.token_hex(8)}")
    assert answer.status_code == 200
    body = answer.json()
    assert body == {"err": LOGIN_FAILURES[code][1], "code": code}
    assert re.search("[\u4e00-\u9fff]", body["err"]), "a user reads Chinese"


def test_an_errcode_of_zero_beside_an_openid_is_a_success(service: Service) -> None:
    token = service.post_login(f"fault-errcode0-{secrets.token_hex(8)}").json()["token"]
    assert service.credit(token) == {"credit": 100}


def test_a_busy_wechat_is_asked_again_at_most_twice(service: Service, sandbox: Sandbox) -> None:
    code = f"fault-busytwice-{secrets.token_hex(8)}"
    assert "token" in service.post_login(code).json()
    assert sandbox.calls(code) == 3
    hopeless = f"fault-busy-{secrets.token_hex(8)}"
    assert service.post_login(hopeless).json()["code"] == "wechat-busy"
    assert sandbox.calls(hopeless) == 3


@pytest.mark.parametrize("what_wechat_does", ["fault-drop", "fault-40029", "fault-html", "fault-45011"])
def test_a_code_that_may_have_been_spent_is_not_asked_about_again(
    service: Service, sandbox: Sandbox, what_wechat_does: str
) -> None:
    code = f"{what_wechat_does}-{secrets.token_hex(8)}"
    service.post_login(code)
    assert sandbox.calls(code) == 1


@pytest.mark.parametrize("what_wechat_does", ["fault-slow", "fault-trickle"])
def test_an_answer_that_never_ends_is_given_up_and_slows_nobody_else(
    service: Service, sandbox: Sandbox, what_wechat_does: str
) -> None:
    """A timeout of requests is per read, so a head that trickles byte by byte would outlive it."""
    token = service.login("patient")
    answers: list[requests.Response] = []
    codes = [f"{what_wechat_does}-{secrets.token_hex(8)}" for _ in range(40)]  # more than call WeChat at once
    hanging = [
        threading.Thread(target=lambda code: answers.append(service.post_login(code)), args=(code,))
        for code in codes
    ]
    for thread in hanging:
        thread.start()
    while not sandbox.asked().keys() & set(codes):
        pass
    reads = 0
    while not answers:
        assert service.credit(token) == {"credit": 100}
        reads += not answers
    for thread in hanging:
        thread.join()
    assert {answer.json()["code"] for answer in answers} == {"wechat-unreachable"}
    assert reads, "a read waited for a login to end"
    # The threads were freed as well, not only their callers: logging in works at once.
    assert "token" in service.post_login(f"dev-patient-{secrets.token_hex(8)}").json()


def test_wechat_that_cannot_be_reached_is_said_to_be_and_its_address_is_not(
    new_service: Callable[..., Service],
) -> None:
    service = new_service(wechat_api=f"http://127.0.0.1:{free_port()}")
    answer = service.post_login("dev-alice-1").json()
    assert answer["code"] == "wechat-unreachable"
    assert '"attempts":3' in service.log, "no connection was made, so the code was not spent: try again"
    assert "js_code" not in service.log
    assert "secret" not in service.log


def test_a_code_works_once(service: Service, sandbox: Sandbox) -> None:
    code = sandbox.code("once")
    assert "token" in service.post_login(code).json()
    assert service.post_login(code).json()["code"] == "code-used"
    assert sandbox.calls(code) == 1, "WeChat was not asked about a code that was presented before"


def test_a_code_that_failed_once_is_not_asked_about_again(service: Service, sandbox: Sandbox) -> None:
    code = f"fault-40029-{secrets.token_hex(8)}"
    service.post_login(code)
    assert service.post_login(code).json()["code"] == "code-used"
    assert sandbox.calls(code) == 1


def test_a_code_presented_to_all_workers_at_once_reaches_wechat_once(
    service: Service, sandbox: Sandbox
) -> None:
    code = sandbox.code("everywhere")
    answers: list[dict[str, str]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(service.post_login(code).json())) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("token" in answer for answer in answers) == 1
    assert sum(answer.get("code") == "code-used" for answer in answers) == 15
    assert sandbox.calls(code) == 1


def test_a_code_lives_five_minutes(service: Service, sandbox: Sandbox) -> None:
    assert "token" in service.post_login(sandbox.code("young", age_s=299)).json()
    assert service.post_login(sandbox.code("old", age_s=301)).json()["code"] == "code-invalid"


@pytest.mark.parametrize(
    "code", ["", " ", "a b", "x" * 129, "x&grant_type=y", "a\n", "中文", "a%00", "__proto__'", "a/b"]
)
def test_what_cannot_be_a_code_is_refused_without_asking_wechat(
    service: Service, sandbox: Sandbox, code: str
) -> None:
    assert service.post_login(code).json()["code"] == "code-invalid"
    assert sandbox.calls(code) == 0


def test_a_wrong_secret_is_our_fault_and_logged_loudly(
    new_service: Callable[..., Service], sandbox: Sandbox
) -> None:
    service = new_service()
    service.stop()
    service.environ["WECHAT_SECRET"] = "0123456789abcdef-wrong"
    service.start()
    assert service.post_login(sandbox.code("alice")).json()["code"] == "wechat-misconfigured"
    (line,) = [line for line in service.log.splitlines() if "wechat refused" in line]
    assert '"level":"error"' in line
    assert '"errcode":40125' in line
    assert "0123456789abcdef-wrong" not in service.log


# -- /v1/sessions --------------------------------------------------------------------------------------


def post_session(service: Service, body: object, **query: str) -> requests.Response:
    return requests.post(f"{service.url}/v1/sessions", json=body, params=query, timeout=PATIENCE_S)


def delete(service: Service, path: str, token: str | None) -> requests.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return requests.delete(f"{service.url}/v1/sessions{path}", headers=headers, timeout=PATIENCE_S)


def new_user() -> str:
    return "u" + new_openid()[1:9].replace("-", "x")


def is_logged_in(service: Service, token: str) -> set[int]:
    """What each of many connections, so each worker, makes of a token."""
    return {service.get("/v1/me", token).status_code for _ in range(20)}


def test_a_code_becomes_a_session(service: Service) -> None:
    user = new_user()
    answer = post_session(service, {"code": f"dev-{user}-1"})
    assert answer.status_code == 201
    assert list(answer.json()) == ["token", "receipt"]
    assert re.fullmatch("[A-Za-z0-9_-]{43}", answer.json()["token"])
    assert service.get("/v1/me/credit", answer.json()["token"]).json()["credit"] == 100
    assert service.credit(answer.json()["token"]) == {"credit": 100}, "and the tutorial's routes take it too"


STATUSES = {
    "code-invalid": 401,
    "code-used": 401,
    "login-blocked": 403,
    "login-rate-limited": 429,
    "wechat-busy": 503,
    "wechat-quota": 503,
    "wechat-misconfigured": 502,
    "wechat-bad-answer": 502,
    "wechat-unreachable": 503,
}


@pytest.mark.parametrize(("what_wechat_does", "code"), ANSWERS.items())
def test_each_failure_of_wechat_has_a_status_of_its_own(
    service: Service, what_wechat_does: str, code: str
) -> None:
    answer = post_session(service, {"code": f"{what_wechat_does}-{secrets.token_hex(8)}"})
    assert answer.status_code == STATUSES[code]
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["status"]) == (code, STATUSES[code])
    assert problem["detail"] == LOGIN_FAILURES[code][1]
    assert "token" not in problem


def test_a_code_works_once_whichever_route_it_was_presented_to(service: Service, sandbox: Sandbox) -> None:
    code = sandbox.code("both")
    assert "token" in post_session(service, {"code": code}).json()
    assert service.post_login(code).json()["code"] == "code-used"
    code = sandbox.code("both")
    assert "token" in service.post_login(code).json()
    answer = post_session(service, {"code": code})
    assert (answer.status_code, answer.json()["code"]) == (401, "code-used")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"code": ""},
        {"code": "a b"},
        {"code": "x" * 129},
        {"code": "a\n"},
        {"code": 1},
        {"code": "a", "x": 1},
    ],
)
def test_what_cannot_be_a_login_is_a_422(service: Service, body: object) -> None:
    answer = post_session(service, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-body")


def test_a_query_is_no_part_of_a_login(service: Service) -> None:
    answer = post_session(service, {"code": "dev-alice-q"}, code="dev-alice-q")
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown-parameter")


def test_logging_out_ends_this_device_in_all_workers_and_no_other(new_service: Callable[..., Service]) -> None:
    service = new_service(workers=4)
    phone, tablet, somebody = service.login("alice"), service.login("alice"), service.login("bob")
    assert delete(service, "/current", None).status_code == 401
    answer = delete(service, "/current", phone)
    assert (answer.status_code, answer.content) == (204, b"")
    assert is_logged_in(service, phone) == {401}
    assert service.get("/checklogin", phone).json() == {"is_login": False}
    assert "err" in service.credit(phone)
    assert is_logged_in(service, tablet) == is_logged_in(service, somebody) == {200}
    assert delete(service, "/current", phone).status_code == 401, "nobody is logged in by it any more"

    laptop = service.login("alice")
    assert delete(service, "", tablet).status_code == 204
    assert is_logged_in(service, tablet) == is_logged_in(service, laptop) == {401}
    assert is_logged_in(service, somebody) == {200}, "all devices of one person"
    service.stop()
    service.start()
    assert is_logged_in(service, tablet) == {401}
    assert service.credit(service.login("alice")) == {"credit": 100}, "the credit stays"


def test_many_that_log_out_at_once_all_do(service: Service) -> None:
    user = new_user()
    tokens = [service.login(user) for _ in range(8)]
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda token=token: answers.append(delete(service, "/current", token).status_code)
        )
        for token in tokens[1:]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [204] * 7
    assert [service.get("/v1/me", token).status_code for token in tokens] == [200] + [401] * 7
