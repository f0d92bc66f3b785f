"""The four routes of the tutorial: their table, and each of its own defects, which this server has not."""

import secrets
import threading
from collections.abc import Callable

import pytest
import requests

from ledger.committer import microseconds_now
from ledger.statement import Reader
from tests.conftest import PATIENCE_S, Sandbox, Service

NOBODY = {"err": "用户不存在，或未登录。"}
# What a client that stored no token sends, and what guesses at JavaScript's insides look like.
NO_TOKENS = ["", "undefined", "null", "__proto__", "constructor", "toString", "0", "1795373553310", "x" * 43]


def test_login_answers_a_token_and_nothing_else(service: Service) -> None:
    answer = service.post_login(f"dev-alice-{secrets.token_hex(8)}")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert list(answer.json()) == ["token"]


@pytest.mark.parametrize("how", ["query", "bearer"])
def test_a_token_is_taken_from_the_query_and_from_the_header(service: Service, how: str) -> None:
    token = service.login("alice")

    def get(path: str) -> object:
        if how == "query":
            return requests.get(service.url + path, {"token": token}, timeout=PATIENCE_S).json()
        return service.get(path, token).json()

    assert get("/checklogin") == {"is_login": True}
    assert get("/credit") == {"credit": 100}


@pytest.mark.parametrize("token", NO_TOKENS)
def test_what_is_not_a_token_is_not_logged_in(service: Service, token: str) -> None:
    for send in ({"params": {"token": token}}, {"headers": {"Authorization": f"Bearer {token}"}}):

        def ask(method: str, path: str, json: object = None) -> object:
            return requests.request(method, service.url + path, json=json, timeout=PATIENCE_S, **send).json()  # noqa: B023

        assert ask("GET", "/checklogin") == {"is_login": False}
        assert ask("GET", "/credit") == NOBODY
        signed = {"rawData": "{}", "signature": "", "encryptedData": "", "iv": ""}
        assert ask("POST", "/userinfo", signed) == NOBODY


def test_without_any_token_nobody_is_logged_in(service: Service) -> None:
    assert service.get("/checklogin").json() == {"is_login": False}
    assert service.get("/credit").json() == NOBODY


def test_the_header_decides_where_both_are_given(service: Service) -> None:
    token = service.login("alice")
    answer = requests.get(
        f"{service.url}/checklogin",
        {"token": token},
        headers={"Authorization": "Bearer undefined"},
        timeout=PATIENCE_S,
    )
    assert answer.json() == {"is_login": False}


def test_a_refused_login_creates_no_account_and_no_shared_user_named_undefined(service: Service) -> None:
    """The tutorial's server gave a token for an errcode, and 100 credits to a user named `undefined`."""
    answer = service.post_login(f"fault-40029-{secrets.token_hex(8)}").json()
    assert "token" not in answer
    reader = Reader(service.data / "ledger.db")
    assert reader.standing("undefined", microseconds_now()) is None
    reader.close()


def test_two_logins_in_one_millisecond_are_two_tokens(service: Service) -> None:
    """The tutorial's tokens were the time in milliseconds: two at once shared one session."""
    tokens: list[str] = []
    users = [f"user{i}" for i in range(16)]
    threads = [threading.Thread(target=lambda user=user: tokens.append(service.login(user))) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(tokens)) == 16
    assert all(len(token) == 43 for token in tokens), "256 bits"


def test_a_restart_keeps_tokens_and_credit(new_service: Callable[..., Service]) -> None:
    service = new_service()
    token = service.login("alice")
    service.grant(service.openid_of("alice"), 23, "survives", "k1")
    assert service.stop() == 0
    service.start()
    assert service.get("/checklogin", token).json() == {"is_login": True}
    assert service.credit(token) == {"credit": 123}


def test_a_token_of_one_worker_works_in_all(new_service: Callable[..., Service]) -> None:
    service = new_service(workers=4)
    token = service.login("alice")
    # A new connection each: whichever worker accepts it.
    assert all(service.credit(token) == {"credit": 100} for _ in range(60))


def test_several_devices_are_logged_in_at_once(service: Service) -> None:
    phone, tablet = service.login("dora"), service.login("dora")
    assert phone != tablet
    assert service.credit(phone) == service.credit(tablet) == {"credit": 100}


def test_users_are_kept_apart(service: Service) -> None:
    one, other = service.login("one"), service.login("other")
    service.grant(service.openid_of("one"), 5, "only one", "k1")
    assert service.credit(one) == {"credit": 105}
    assert service.credit(other) == {"credit": 100}


def test_32_first_logins_at_once_over_4_processes_are_one_registration_and_one_grant(
    new_service: Callable[..., Service], sandbox: Sandbox
) -> None:
    service = new_service(workers=4)
    codes = [sandbox.code("newcomer") for _ in range(32)]
    start = threading.Barrier(32)
    answers: list[dict[str, str]] = []

    def log_in(code: str) -> None:
        start.wait()
        answers.append(service.post_login(code).json())

    threads = [threading.Thread(target=log_in, args=(code,)) for code in codes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("token" in answer for answer in answers), answers
    assert len({answer["token"] for answer in answers}) == 32
    reader = Reader(service.data / "ledger.db")
    events = reader.page(service.openid_of("newcomer"), microseconds_now()).events
    reader.close()
    assert [event.type for event in events] == ["CreditGranted", "UserRegistered"]
    assert service.credit(answers[0]["token"]) == {"credit": 100}


def test_the_signup_grant_is_a_setting(new_service: Callable[..., Service]) -> None:
    service = new_service()
    service.stop()
    service.environ["CREDIT_SIGNUP_GRANT"] = "7"
    service.start()
    assert service.credit(service.login("alice")) == {"credit": 7}
    service.stop()
    service.environ["CREDIT_SIGNUP_GRANT"] = "8"
    service.start()
    assert service.credit(service.login("alice")) == {"credit": 7}, "a grant that was made is a fact"
    assert service.credit(service.login("bob")) == {"credit": 8}
