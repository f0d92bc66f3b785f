"""`/v1/me`: credit, statement and profile of whoever holds the token."""

import secrets

import pytest
import requests

from ledger.committer import microseconds_now
from ledger.statement import rfc3339
from tests.conftest import Service


def test_the_statement_is_paged_by_cursor_newest_first(service: Service) -> None:
    user = f"u{secrets.token_hex(4)}"
    token = service.login(user)
    for number in range(45):
        service.grant(service.openid_of(user), number + 1, f"grant {number}", f"k{number}")
    versions, before, pages = [], None, 0
    while True:
        query = {} if before is None else {"before": before}
        page = service.get("/v1/me/events", token, limit=20, **query).json()
        versions += [event["version"] for event in page["events"]]
        pages += 1
        before = page["next_before"]
        if before is None:
            break
    assert versions == list(range(47, 0, -1))
    assert pages == 3


def test_an_event_says_what_why_when_and_the_credit_after_it(service: Service) -> None:
    user = f"u{secrets.token_hex(4)}"
    token = service.login(user)
    before = rfc3339(microseconds_now())
    service.grant(service.openid_of(user), 5, "开业活动 🎉", "k")
    (event, *_) = service.get("/v1/me/events", token, limit=1).json()["events"]
    recorded_at = event.pop("recorded_at")
    assert event == {
        "version": 3,
        "type": "CreditGranted",
        "data": {"amount": 5, "reason": "开业活动 🎉"},
        "credit": 105,
    }
    assert before <= recorded_at <= rfc3339(microseconds_now())
    assert service.get("/v1/me/credit", token).json() == {"version": 3, "credit": 105}


def test_a_page_that_ends_at_the_first_event_has_no_next(service: Service) -> None:
    token = service.login(f"u{secrets.token_hex(4)}")
    assert service.get("/v1/me/events", token, limit=2).json()["next_before"] is None
    assert service.get("/v1/me/events", token, limit=1).json()["next_before"] == 2
    assert service.get("/v1/me/events", token, before=1).json() == {"events": [], "next_before": None}


def test_the_default_page_is_twenty_and_the_largest_a_hundred(service: Service) -> None:
    user = f"u{secrets.token_hex(4)}"
    token = service.login(user)
    for number in range(110):
        service.grant(service.openid_of(user), 1, "many", f"k{number}")
    assert len(service.get("/v1/me/events", token).json()["events"]) == 20
    assert len(service.get("/v1/me/events", token, limit=100).json()["events"]) == 100


@pytest.mark.parametrize("path", ["/v1/me", "/v1/me/credit", "/v1/me/events"])
def test_without_a_bearer_token_it_is_a_401_problem(service: Service, path: str) -> None:
    token = service.login("alice")
    for answer in (
        service.get(path),
        service.get(path, "undefined"),
        requests.get(service.url + path, {"token": token}, timeout=5),  # an address is no place for a token
    ):
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json()["code"] == "not-logged-in"


def test_a_profile_is_chosen_by_its_person(service: Service) -> None:
    token = service.login(f"u{secrets.token_hex(4)}")
    assert service.get("/v1/me", token).json() == {"nickname": None, "avatar": None}
    picture = "data:image/png;base64," + "A" * 30_000
    assert put(service, token, {"nickname": "小明👨‍👩‍👧", "avatar": picture}).json() == {
        "nickname": "小明👨‍👩‍👧",
        "avatar": picture,
    }
    assert put(service, token, {"nickname": "小红"}).json() == {"nickname": "小红", "avatar": picture}
    assert service.get("/v1/me", token).json()["nickname"] == "小红"


@pytest.mark.parametrize(
    "body",
    [
        {"nickname": ""},
        {"nickname": "x" * 33},
        {"nickname": "a\nb"},
        {"nickname": "a\n"},
        {"nickname": "a\x7f"},
        {"nickname": None},
        {"avatar": "https://a"},
        {"nickname": "a", "avatar": ""},
        {"nickname": "a", "avatar": "http://plain.example/a.png"},
        {"nickname": "a", "avatar": "javascript:alert(1)"},
        {"nickname": "a", "avatar": "data:text/html;base64,AAAA"},
        {"nickname": "a", "avatar": "data:image/svg+xml;base64,AAAA"},
        {"nickname": "a", "avatar": "https://a b"},
        {"nickname": "a", "avatar": "https://" + "a" * 40_000},
        {"nickname": "a", "openid": "bob"},
    ],
)
def test_a_profile_that_cannot_be_is_refused_and_the_old_one_stays(
    service: Service, body: dict[str, object]
) -> None:
    token = service.login(f"u{secrets.token_hex(4)}")
    put(service, token, {"nickname": "before"})
    assert put(service, token, body).status_code == 422
    assert service.get("/v1/me", token).json() == {"nickname": "before", "avatar": None}


def put(service: Service, token: str, body: dict[str, object]) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.put(f"{service.url}/v1/me/profile", json=body, headers=headers, timeout=5)
