"""`/v1/accounts`, the reads: an account now and then, and its events by cursor, type and time."""

import itertools
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ledger.commands import CheckIn, GrantCredit, HoldCredit, RegisterUser, SpendCredit
from ledger.committer import microseconds_now
from ledger.statement import MAX_LOOK, rfc3339
from tests.backend import DAY_US, SOON_US, Backend, happened, new_account, new_openid
from tests.conftest import Service


@pytest.fixture
def backend(service: Service) -> Backend:
    return Backend(service, "read", "grant", "spend")


def test_an_account_says_everything_it_is(service: Service, backend: Backend) -> None:
    openid = new_openid()
    registered, ends = microseconds_now() - 9 * DAY_US, microseconds_now() + 9 * DAY_US
    happened(
        service,
        RegisterUser(openid, 100),
        GrantCredit(openid, 20, "r", "k1", None, ends),
        SpendCredit(openid, 5, "r", "k2"),
        HoldCredit(openid, 18, "r", "k3", "order 7", ends),
        clock_us=lambda: registered,
    )
    answer = backend.get(openid)
    account = answer.json()
    head = backend.events(openid)[0]["hash"]
    assert account.pop("as_of") == rfc3339(registered), "the last event's moment: what lapsed since is one too"
    assert account == {
        "openid": openid,
        "version": 5,
        "head": head,
        "credit": 97,
        "held": 18,
        "granted": 120,
        "spent": 5,
        "expired": 0,
        "revoked": 0,
        "frozen": False,
        "lots": [],
        "holds": [{"version": 5, "amount": 18, "deadline": rfc3339(ends), "reference": "order 7"}],
        "registered_at": rfc3339(registered),
    }
    assert answer.headers["ETag"] == '"5"'
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["", "/events", "?as_of=2026-01-01T00:00:00Z", "/events?limit=1"])
def test_nobody_is_a_404_that_says_whom(backend: Backend, path: str) -> None:
    nobody = new_openid()
    answer = backend.get(nobody + path)
    assert (answer.status_code, answer.json()["code"]) == (404, "account-not-found")
    assert answer.json()["openid"] == nobody


# -- as_of ---------------------------------------------------------------------------------------------


def test_as_of_is_what_a_live_read_said_then(backend: Backend, service: Service) -> None:
    """Every answer of a live read is kept and asked for again, by its own as_of, after much else happened."""
    openid = new_account(service)
    said: list[dict[str, Any]] = []

    def look() -> None:
        said.append(backend.account(openid))

    look()
    soon = microseconds_now() + SOON_US
    backend.grant(openid, 30, expires_at=rfc3339(soon))
    look()
    spend = backend.spend(openid, 10)
    look()
    soon = max(soon, microseconds_now()) + SOON_US
    hold = backend.hold(openid, 25, deadline=rfc3339(soon))
    look()
    backend.hold(openid, 5, reference="order 7")
    look()
    while said[-1]["as_of"] < rfc3339(soon):  # the lot expires, then the hold is released, unrecorded
        look()
    backend.write(f"{openid}/reversals", {"spend": spend, "reason": "r"})
    look()
    backend.write(f"{openid}/revocations", {"grant": 2, "reason": "r"})
    look()
    refused = backend.post(f"{openid}/holds/{hold}/capture", {"reason": "r"})
    assert refused.json()["code"] == "hold-settled"

    assert len({account["version"] for account in said}) >= 8
    for account in said:
        assert backend.account(openid, as_of=account["as_of"]) == account
    last = microseconds_now()
    assert "ETag" not in backend.get(openid, as_of=rfc3339(last)).headers, (
        "a version of then is not for If-Match"
    )


def test_as_of_is_what_a_read_said_in_the_middle_of_writes(backend: Backend, service: Service) -> None:
    """An event has its time before it is on disk: a read in between must not be dated behind it."""
    openid = new_account(service)
    said: list[dict[str, Any]] = []
    with ThreadPoolExecutor(3) as writers, ThreadPoolExecutor(2) as readers:
        writes = [writers.submit(backend.grant, openid, 1) for _ in range(200)]
        while not all(write.done() for write in writes):
            said += [each.result() for each in [readers.submit(backend.account, openid) for _ in range(2)]]
    assert len({account["version"] for account in said}) > 10
    for account in {account["version"]: account for account in said}.values():
        assert backend.account(openid, as_of=account["as_of"]) == account


def test_as_of_counts_what_had_lapsed_by_then_and_nothing_else(backend: Backend, service: Service) -> None:
    """The deadline and the end themselves are already past; a microsecond before they are not."""
    openid, start = new_openid(), microseconds_now() - 10 * DAY_US
    happened(
        service,
        RegisterUser(openid, 0),
        GrantCredit(openid, 30, "r", "k1", None, start + 3 * DAY_US),
        HoldCredit(openid, 10, "r", "k2", None, start + 2 * DAY_US),
        clock_us=lambda: start,
    )

    def at(moment_us: int) -> tuple[int, int, int, int]:
        account = backend.account(openid, as_of=rfc3339(moment_us))
        return account["version"], account["credit"], account["held"], account["expired"]

    assert at(start) == (3, 20, 10, 0)
    assert at(start + 2 * DAY_US - 1) == (3, 20, 10, 0)
    assert at(start + 2 * DAY_US) == (4, 30, 0, 0)
    assert at(start + 3 * DAY_US - 1) == (4, 30, 0, 0)
    assert at(start + 3 * DAY_US) == (5, 0, 0, 30)
    assert backend.get(openid, as_of=rfc3339(start - 1)).status_code == 404, "nobody was registered yet"
    with_offset = rfc3339(start + 2 * DAY_US)[:-1] + "+00:00"
    assert backend.account(openid, as_of=with_offset)["credit"] == 30


def test_a_moment_that_has_not_come_cannot_be_asked_about(backend: Backend, service: Service) -> None:
    openid = new_account(service)
    answer = backend.get(openid, as_of=rfc3339(microseconds_now() + 60_000_000))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-parameter")
    assert "future" in answer.json()["detail"]


# -- events --------------------------------------------------------------------------------------------


TYPES = ("CreditGranted", "CreditSpent", "CreditHeld", "HoldReleased", "CreditExpired", "CheckedIn")


@pytest.fixture(scope="module")
def busy(_shared_service: Service) -> tuple[str, list[dict[str, Any]]]:
    """An account of many kinds of events over sixty days, and all of them, newest first."""
    openid, start = new_openid(), microseconds_now() - 60 * DAY_US
    clock = itertools.count(start, 7 * DAY_US // 10)  # 81 commands, so all of it is in the past
    commands: list[Any] = [RegisterUser(openid, 100)]
    for number in range(20):
        now = start + number * 28 * DAY_US // 10
        commands += [
            GrantCredit(openid, 10, "r", f"g{number}", None, now + 9 * DAY_US),
            SpendCredit(openid, 4, "r", f"s{number}"),
            HoldCredit(openid, 3, "r", f"h{number}", None, now + 5 * DAY_US),
            CheckIn(openid, f"c{number}", (1,), "1"),
        ]
    happened(_shared_service, *commands, clock_us=lambda: next(clock))
    events = Backend(_shared_service, "audit").events(openid, limit=100)
    assert [event["version"] for event in events] == list(range(len(events), 0, -1))
    assert len(events) > 100
    return openid, events


@pytest.mark.parametrize("limit", [1, 3, 20, 100])
def test_pages_neither_skip_nor_repeat(
    backend: Backend, busy: tuple[str, list[dict[str, Any]]], limit: int
) -> None:
    openid, everything = busy
    assert backend.events(openid, limit=limit) == everything
    page = backend.get(f"{openid}/events", limit=limit).json()
    assert len(page["events"]) == min(limit, len(everything))
    assert page["next_before"] == everything[min(limit, len(everything)) - 1]["version"]


def test_a_page_has_twenty_unless_told_otherwise(
    backend: Backend, busy: tuple[str, list[dict[str, Any]]]
) -> None:
    assert backend.get(f"{busy[0]}/events").json()["events"] == busy[1][:20]


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("kind", TYPES)
def test_a_filter_by_type_leaves_the_others_out(
    backend: Backend, busy: tuple[str, list[dict[str, Any]]], kind: str, limit: int
) -> None:
    openid, everything = busy
    expected = [event for event in everything if event["type"] == kind]
    assert expected
    assert backend.events(openid, type=kind, limit=limit) == expected


@pytest.mark.parametrize(("since", "until"), [(40, None), (None, 40), (100, 13), (41, 40), (40, 40), (13, 100)])
@pytest.mark.parametrize("kind", [None, "CreditSpent"])
@pytest.mark.parametrize("limit", [2, 100])
def test_a_filter_by_time_takes_the_first_moment_and_not_the_last(
    backend: Backend,
    busy: tuple[str, list[dict[str, Any]]],
    since: int | None,
    until: int | None,
    kind: str | None,
    limit: int,
) -> None:
    openid, everything = busy
    query: dict[str, object] = {"limit": limit} | ({} if kind is None else {"type": kind})
    expected = [event for event in everything if kind in (None, event["type"])]
    if since is not None:
        query["since"] = moment = everything[since]["recorded_at"]
        expected = [event for event in expected if event["recorded_at"] >= moment]
    if until is not None:
        query["until"] = moment = everything[until]["recorded_at"]
        expected = [event for event in expected if event["recorded_at"] < moment]
    assert backend.events(openid, **query) == expected


def test_what_is_recorded_between_two_pages_moves_none_of_them(backend: Backend, service: Service) -> None:
    openid = new_account(service)
    for _ in range(6):
        backend.spend(openid, 1)
    first = backend.get(f"{openid}/events", limit=4).json()
    for _ in range(5):
        backend.spend(openid, 1)
    second = backend.get(f"{openid}/events", limit=4, before=first["next_before"]).json()
    assert [event["version"] for event in first["events"] + second["events"]] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert second["next_before"] is None


def test_a_rare_type_is_found_behind_thousands_of_others_page_by_page(
    backend: Backend, service: Service
) -> None:
    """One request looks at a bounded number of events, so empty pages lead on to the rare event."""
    openid = new_openid()
    count = 2 * MAX_LOOK + 100
    happened(
        service,
        RegisterUser(openid, 0),
        GrantCredit(openid, 5, "r", "first"),
        SpendCredit(openid, 1, "r", "rare"),
        *(GrantCredit(openid, 1, "r", secrets.token_hex(6)) for _ in range(count)),
    )
    page = backend.get(f"{openid}/events", type="CreditSpent").json()
    assert page["events"] == []
    assert page["next_before"] == count + 3 - MAX_LOOK + 1
    (event,) = backend.events(openid, type="CreditSpent")
    assert event["version"] == 3


def test_what_lapsed_is_in_the_list_whether_or_not_it_was_recorded(backend: Backend, service: Service) -> None:
    openid, start = new_openid(), microseconds_now() - 5 * DAY_US
    happened(
        service,
        RegisterUser(openid, 0),
        GrantCredit(openid, 30, "r", "k1", None, start + DAY_US),
        clock_us=lambda: start,
    )
    events = backend.events(openid, limit=1)
    assert [event["type"] for event in events] == ["CreditExpired", "CreditGranted", "UserRegistered"]
    assert events[0]["recorded_at"] == rfc3339(start + DAY_US)
    assert backend.account(openid)["version"] == 3
    assert backend.get(openid).headers["ETag"] == '"3"'
    backend.grant(openid, 1)
    assert backend.events(openid)[1:] == events, "recorded now, and not a byte of it is another"
