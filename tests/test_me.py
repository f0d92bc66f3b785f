"""`/v1/me`: credit, statement and profile of whoever holds the token."""

import re
import secrets
from collections.abc import Callable

import pytest
import requests

from api.problems import REFUSAL_STATUS
from ledger.commands import CheckIn, GrantCredit, HoldCredit, RegisterUser
from ledger.committer import microseconds_now
from ledger.errors import AlreadyCheckedIn
from ledger.statement import rfc3339
from tests.backend import DAY_US, Backend, exchange, happened, new_openid, raw_request
from tests.conftest import PATIENCE_S, Service

pytestmark = pytest.mark.usefixtures("within_a_day")


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
    recorded_at, digest = event.pop("recorded_at"), event.pop("hash")
    assert event == {
        "version": 3,
        "type": "CreditGranted",
        "data": {"actor": "operator:tests", "amount": 5, "reason": "开业活动 🎉"},
        "credit": 105,
    }
    assert before <= recorded_at <= rfc3339(microseconds_now())
    assert re.fullmatch("[0-9a-f]{64}", digest)
    credit = service.get("/v1/me/credit", token).json()
    as_of = credit.pop("as_of")
    assert recorded_at <= as_of <= rfc3339(microseconds_now())
    assert credit == {
        "version": 3,
        "credit": 105,
        "held": 0,
        "frozen": False,
        "lots": [],
        "holds": [],
        "checkin": {"checked_in": False, "streak": 0, "next_reward": 5},
    }


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
        requests.get(
            service.url + path, {"token": token}, timeout=PATIENCE_S
        ),  # an address is no place for a token
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
    return requests.put(f"{service.url}/v1/me/profile", json=body, headers=headers, timeout=PATIENCE_S)


def test_what_expires_and_what_is_held_is_shown(service: Service) -> None:
    user = f"u{secrets.token_hex(4)}"
    token, openid = service.login(user), service.openid_of(user)
    ends = microseconds_now() + DAY_US
    happened(
        service,
        GrantCredit(openid, 30, "r", "g", None, ends),
        HoldCredit(openid, 10, "r", "h", "order 7", ends + 1),
    )
    credit = service.get("/v1/me/credit", token).json()
    assert (credit["credit"], credit["held"], credit["version"]) == (120, 10, 4)
    assert credit["lots"] == [{"grant": 3, "credit": 20, "expires_at": rfc3339(ends)}]
    assert credit["holds"] == [
        {"version": 4, "amount": 10, "deadline": rfc3339(ends + 1), "reference": "order 7"}
    ]


# -- checking in ---------------------------------------------------------------------------------------


def check_in(service: Service, token: str, key: str | None = None, **query: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key or secrets.token_hex(8)}
    return requests.post(f"{service.url}/v1/me/checkin", params=query, headers=headers, timeout=PATIENCE_S)


def shanghai_day() -> int:
    """Days since 1970 in Asia/Shanghai, eight hours ahead."""
    return (microseconds_now() + 8 * 3_600_000_000) // DAY_US


def checked_in_on(service: Service, *days_ago: int, rewards: tuple[int, ...] = (5, 5, 5, 5, 5, 5, 20)) -> str:
    """The token of a new user who checked in at noon so many days ago, the longest ago first."""
    user = f"u{secrets.token_hex(4)}"
    openid = service.openid_of(user)
    noon = shanghai_day() * DAY_US + 4 * 3_600_000_000
    happened(service, RegisterUser(openid, 100), clock_us=lambda: noon - 400 * DAY_US)
    for ago in days_ago:
        command = CheckIn(openid, f"day-{ago}", rewards, "old")
        happened(service, command, clock_us=lambda at=noon - ago * DAY_US: at)  # type: ignore[misc]
    return service.login(user)


def test_a_check_in_earns_and_is_two_events(service: Service) -> None:
    token = service.login(f"u{secrets.token_hex(4)}")
    answer = check_in(service, token, "tap")
    assert answer.status_code == 201
    event, receipt = answer.json()["event"], answer.json()["receipt"]
    assert answer.json() == {"event": event, "credit": 105, "receipt": receipt}
    assert (receipt["version"], receipt["hash"], receipt["credit"]) == (4, event["hash"], 105)
    assert {**event, "recorded_at": "", "hash": ""} == {
        "version": 4,
        "type": "CreditGranted",
        "data": {"amount": 5, "reason": "checkin", "actor": "rule:checkin/1"},
        "credit": 105,
        "recorded_at": "",
        "hash": "",
    }
    granted, checked_in, *_ = service.get("/v1/me/events", token).json()["events"]
    assert granted == event
    assert (checked_in["type"], checked_in["data"]) == (
        "CheckedIn",
        {"day": shanghai_day(), "streak": 1, "rules": "1"},
    )
    assert service.get("/v1/me/credit", token).json()["checkin"] == {
        "checked_in": True,
        "streak": 1,
        "next_reward": 5,
    }
    again = check_in(service, token, "tap")
    assert (again.status_code, again.json()) == (201, answer.json())
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_second_check_in_of_a_day_is_refused_and_says_when_the_next_is(service: Service) -> None:
    token = service.login(f"u{secrets.token_hex(4)}")
    assert check_in(service, token).status_code == 201
    answer = check_in(service, token)
    assert answer.status_code == REFUSAL_STATUS[AlreadyCheckedIn] == 409
    problem = answer.json()
    assert problem["code"] == "already-checked-in"
    assert problem["streak"] == 1
    assert problem["next_us"] == (shanghai_day() + 1) * DAY_US - 8 * 3_600_000_000
    assert service.credit(token) == {"credit": 105}


@pytest.mark.parametrize(
    ("days_ago", "streak", "reward"),
    [
        ((), 1, 5),
        ((1,), 2, 5),
        ((2,), 1, 5),
        ((3, 2), 1, 5),
        ((6, 5, 4, 3, 2, 1), 7, 20),
        ((9, 8, 7, 6, 5, 4, 3, 2, 1), 10, 20),
        ((9, 8, 7, 5, 4, 3, 2, 1), 6, 5),
        ((365, 1), 2, 5),
    ],
)
def test_a_streak_is_days_in_a_row(
    service: Service, days_ago: tuple[int, ...], streak: int, reward: int
) -> None:
    token = checked_in_on(service, *days_ago)
    before = service.get("/v1/me/credit", token).json()
    assert before["checkin"] == {"checked_in": False, "streak": streak - 1, "next_reward": reward}
    answer = check_in(service, token).json()
    assert answer["event"]["data"]["amount"] == reward
    assert answer["credit"] == before["credit"] + reward
    event = service.get("/v1/me/events", token, limit=2).json()["events"][1]
    assert event["data"] == {"day": shanghai_day(), "streak": streak, "rules": "1"}
    assert service.get("/v1/me/credit", token).json()["checkin"]["streak"] == streak


def test_the_table_of_rewards_is_a_setting_and_what_was_earned_stays(
    new_service: Callable[..., Service],
) -> None:
    service = new_service()
    service.stop()
    service.environ["CREDIT_CHECKIN"] = "spring-2027:1,2,1000"
    service.start()
    token = checked_in_on(service, 2, 1)
    assert service.get("/v1/me/credit", token).json()["checkin"]["next_reward"] == 1000
    answer = check_in(service, token, "tap")
    assert answer.json()["event"]["data"]["actor"] == "rule:checkin/spring-2027"
    assert answer.json()["credit"] == 1110
    service.stop()
    service.environ["CREDIT_CHECKIN"] = "summer:7"
    service.start()
    again = check_in(service, token, "tap")
    assert (again.status_code, again.json()) == (201, answer.json()), (
        "the same tap, whatever the table is today"
    )
    assert service.credit(token) == {"credit": 1110}


def test_a_dry_run_says_what_a_check_in_would_earn(service: Service) -> None:
    token = checked_in_on(service, 1)
    before = service.get("/v1/me/credit", token).json()
    dry = check_in(service, token, "tap", dry_run="true")
    assert dry.status_code == 200
    assert (dry.json()["dry_run"], dry.json()["event"]["hash"]) == (True, None)
    assert {**service.get("/v1/me/credit", token).json(), "as_of": ""} == {**before, "as_of": ""}
    real = check_in(service, token, "tap")
    assert real.status_code == 201
    assert real.json()["event"]["data"] == dry.json()["event"]["data"]
    assert real.json()["credit"] == dry.json()["credit"]
    assert check_in(service, token, dry_run="true").status_code == 409


@pytest.mark.parametrize(
    ("headers", "query", "code"),
    [
        ([], {}, "idempotency-key-missing"),
        ([("Idempotency-Key", "a b")], {}, "invalid-parameter"),
        ([("Idempotency-Key", "a"), ("Idempotency-Key", "b")], {}, "invalid-parameter"),
        ([("Idempotency-Key", "a")], {"dryrun": "true"}, "unknown-parameter"),
        ([("Idempotency-Key", "a")], {"dry_run": "TRUE"}, "invalid-parameter"),
    ],
)
def test_a_check_in_that_is_not_said_clearly_is_a_400(
    service: Service, headers: list[tuple[str, str]], query: dict[str, str], code: str
) -> None:
    token = service.login(f"u{secrets.token_hex(4)}")
    request = raw_request("POST", "/v1/me/checkin", [("Authorization", f"Bearer {token}"), *headers], **query)
    status, body = exchange(service, request)
    assert status == 400
    assert code.encode() in body
    assert service.credit(token) == {"credit": 100}


def test_a_key_is_the_persons_own(service: Service) -> None:
    """A backend's keys are for the same account: a person's cannot take one that it used, or is going to."""
    user = f"u{secrets.token_hex(4)}"
    token, openid = service.login(user), service.openid_of(user)
    backend = Backend(service)
    granted = backend.write(f"{openid}/grants", {"amount": 1, "reason": "r"}, key="k")
    answer = check_in(service, token, "k")
    assert answer.status_code == 201
    assert check_in(service, token, "k").headers["Idempotent-Replayed"] == "true"
    assert backend.write(f"{openid}/grants", {"amount": 1, "reason": "r"}, key="k") == granted
    assert check_in(service, token, "next").json()["code"] == "already-checked-in"
    assert backend.write(f"{openid}/grants", {"amount": 2, "reason": "r"}, key="next")["credit"] == 108
    other = service.login(f"u{secrets.token_hex(4)}")
    assert check_in(service, other, "k").status_code == 201


def test_of_the_statement_only_ones_own_is_seen(service: Service) -> None:
    token = service.login(f"u{secrets.token_hex(4)}")
    stranger = new_openid()
    happened(service, RegisterUser(stranger, 5))
    for query in ("openid", "type", "as_of"):
        assert service.get("/v1/me/events", token, **{query: stranger}).status_code == 400
        assert service.get("/v1/me/credit", token, **{query: stranger}).status_code == 400
