"""`/v1/accounts`, the writes: what each is answered with, how each is refused, and what freezing stops."""

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
import requests

from api.problems import REFUSAL_STATUS
from ledger import errors
from ledger.commands import CheckIn, FreezeAccount, GrantCredit, HoldCredit, RegisterUser
from ledger.committer import microseconds_now
from ledger.errors import Refusal
from ledger.events import MAX_CREDIT
from ledger.statement import rfc3339
from tests.backend import DAY_US, Backend, happened, new_account, new_key, new_openid
from tests.conftest import PATIENCE_S, Service

TOMORROW_US = microseconds_now() + DAY_US
TOMORROW = rfc3339(TOMORROW_US)
NEXT_WEEK_US = microseconds_now() + 7 * DAY_US
NEXT_WEEK = rfc3339(NEXT_WEEK_US)


@pytest.fixture
def backend(service: Service) -> Backend:
    return Backend(service)


@pytest.fixture
def openid(service: Service) -> str:
    """An account of 100 credits that never expire, at version 2."""
    return new_account(service)


def written(backend: Backend, path: str, body: dict[str, Any]) -> tuple[str, dict[str, Any], int, int]:
    """Type, data, version and credit of the event that a write was answered with; all else is checked here."""
    before = microseconds_now()
    answer = backend.post(path, body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert "Idempotent-Replayed" not in answer.headers
    said = answer.json()
    assert set(said) == {"event", "credit", "receipt"}
    event, receipt = said["event"], said["receipt"]
    assert {name: receipt[name] for name in ("version", "hash", "credit")} == {
        name: event[name] for name in ("version", "hash", "credit")
    }
    assert set(event) == {"version", "type", "data", "credit", "recorded_at", "hash"}
    assert event["credit"] == said["credit"]
    assert rfc3339(before) <= event["recorded_at"] <= rfc3339(microseconds_now())
    assert re.fullmatch("[0-9a-f]{64}", event["hash"])
    openid = path.partition("/")[0]
    assert receipt["openid_hash"] == sha256(openid.encode()).hexdigest()
    stored = backend.get(f"{openid}/events", limit=1)
    assert stored.json()["events"] == [event], "the answer is what the log says"
    account = backend.get(openid)
    assert account.headers["ETag"] == f'"{event["version"]}"'
    assert account.json()["head"] == event["hash"]
    assert account.json()["credit"] == said["credit"]
    return event["type"], event["data"], event["version"], said["credit"]


def test_a_grant(backend: Backend, openid: str) -> None:
    assert written(backend, f"{openid}/grants", {"amount": 5, "reason": "开业活动 🎉"}) == (
        "CreditGranted",
        {"amount": 5, "reason": "开业活动 🎉", "actor": backend.actor},
        3,
        105,
    )


def test_a_grant_that_expires_names_its_end_whatever_its_offset(backend: Backend, openid: str) -> None:
    body = {"amount": 7, "reason": "campaign", "reference": "spring", "expires_at": "2126-01-01T08:00:00+08:00"}
    assert written(backend, f"{openid}/grants", body) == (
        "CreditGranted",
        {
            "amount": 7,
            "reason": "campaign",
            "actor": backend.actor,
            "reference": "spring",
            "expires_at_us": 4_922_899_200_000_000,
        },
        3,
        107,
    )
    assert backend.account(openid)["lots"] == [
        {"grant": 3, "credit": 7, "expires_at": "2126-01-01T00:00:00.000000Z"}
    ]


def test_a_spend_says_which_lots_it_used_first_to_expire_first(backend: Backend, openid: str) -> None:
    backend.grant(openid, 5, expires_at=NEXT_WEEK)
    backend.grant(openid, 3, expires_at=TOMORROW)
    assert written(backend, f"{openid}/spends", {"amount": 10, "reason": "order", "reference": "order 7"}) == (
        "CreditSpent",
        {
            "amount": 10,
            "used": [
                {"amount": 3, "grant": 4, "expires_at_us": TOMORROW_US},
                {"amount": 5, "grant": 3, "expires_at_us": NEXT_WEEK_US},
                {"amount": 2},
            ],
            "reason": "order",
            "actor": backend.actor,
            "reference": "order 7",
        },
        5,
        98,
    )


def test_a_hold_is_captured_in_part_and_the_rest_goes_back(backend: Backend, openid: str) -> None:
    body = {"amount": 30, "reason": "order", "reference": "order 7", "deadline": TOMORROW}
    assert written(backend, f"{openid}/holds", body) == (
        "CreditHeld",
        {
            "amount": 30,
            "used": [{"amount": 30}],
            "deadline_us": TOMORROW_US,
            "reason": "order",
            "actor": backend.actor,
            "reference": "order 7",
        },
        3,
        70,
    )
    account = backend.account(openid)
    assert account["held"] == 30
    assert account["holds"] == [
        {"version": 3, "amount": 30, "deadline": TOMORROW, "reference": "order 7"},
    ]
    assert written(backend, f"{openid}/holds/3/capture", {"amount": 20, "reason": "shipped"}) == (
        "HoldCaptured",
        {
            "hold": 3,
            "amount": 20,
            "used": [{"amount": 20}],
            "returned": [{"amount": 10}],
            "reason": "shipped",
            "actor": backend.actor,
            "reference": "order 7",
        },
        4,
        80,
    )
    account = backend.account(openid)
    assert (account["held"], account["spent"], account["holds"]) == (0, 20, [])


def test_a_hold_without_a_deadline_has_seven_days_and_without_an_amount_is_captured_whole(
    backend: Backend, openid: str
) -> None:
    before = microseconds_now()
    backend.hold(openid, 30)
    (hold,) = backend.account(openid)["holds"]
    assert rfc3339(before + 7 * DAY_US) <= hold["deadline"] <= rfc3339(microseconds_now() + 7 * DAY_US)
    kind, data, _, credit = written(backend, f"{openid}/holds/3/capture", {"reason": "shipped"})
    assert (kind, data["amount"], credit) == ("HoldCaptured", 30, 70)
    assert "returned" not in data


def test_a_release(backend: Backend, openid: str) -> None:
    backend.hold(openid, 30, reference="order 7")
    assert written(backend, f"{openid}/holds/3/release", {"reason": "cancelled"}) == (
        "HoldReleased",
        {
            "hold": 3,
            "amount": 30,
            "returned": [{"amount": 30}],
            "reason": "cancelled",
            "actor": backend.actor,
            "reference": "order 7",
        },
        4,
        100,
    )


def test_a_reversal_in_parts_gives_back_to_the_lots_last_used_first(backend: Backend, openid: str) -> None:
    grant = backend.grant(openid, 3, expires_at=TOMORROW)
    spend = backend.spend(openid, 10)
    body = {"spend": spend, "amount": 8, "reason": "refund", "reference": "r1"}
    assert written(backend, f"{openid}/reversals", body) == (
        "SpendReversed",
        {
            "spend": spend,
            "amount": 8,
            "returned": [{"amount": 1, "grant": grant, "expires_at_us": TOMORROW_US}, {"amount": 7}],
            "reason": "refund",
            "actor": backend.actor,
            "reference": "r1",
        },
        5,
        101,
    )
    kind, data, _, credit = written(backend, f"{openid}/reversals", {"spend": spend, "reason": "refund"})
    assert (kind, data["amount"], credit) == ("SpendReversed", 2, 103)
    account = backend.account(openid)
    assert (account["spent"], account["lots"]) == (
        0,
        [{"grant": grant, "credit": 3, "expires_at": TOMORROW}],
    )


def test_a_revocation_takes_what_is_left_and_says_where_the_rest_is(backend: Backend, openid: str) -> None:
    grant = backend.grant(openid, 50, expires_at=TOMORROW, reference="mistake")
    backend.spend(openid, 20)
    backend.hold(openid, 10)
    assert written(backend, f"{openid}/revocations", {"grant": grant, "reason": "wrong person"}) == (
        "GrantRevoked",
        {
            "grant": grant,
            "amount": 20,
            "spent": 20,
            "held": 10,
            "reason": "wrong person",
            "actor": backend.actor,
            "reference": "mistake",
        },
        6,
        100,
    )
    account = backend.account(openid)
    assert (account["granted"], account["revoked"], account["lots"]) == (150, 20, [])


def test_freezing_and_unfreezing(backend: Backend, openid: str) -> None:
    body = {"reason": "chargeback", "reference": "case 9"}
    assert written(backend, f"{openid}/freeze", body) == (
        "AccountFrozen",
        {"reason": "chargeback", "actor": backend.actor, "reference": "case 9"},
        3,
        100,
    )
    assert backend.account(openid)["frozen"] is True
    assert written(backend, f"{openid}/unfreeze", {"reason": "settled"}) == (
        "AccountUnfrozen",
        {"reason": "settled", "actor": backend.actor},
        4,
        100,
    )
    assert backend.account(openid)["frozen"] is False


# -- refusals ------------------------------------------------------------------------------------------


Said = tuple[Any, dict[str, Any]]  # the answer, and the figures that it must have


def _key_reused(backend: Backend, openid: str) -> Said:
    backend.write(f"{openid}/grants", {"amount": 5, "reason": "gift"}, key="k1")
    answer = backend.post(f"{openid}/grants", {"amount": 6, "reason": "gift"}, key="k1")
    return answer, {"key": "k1", "version": 3}


def _account_not_found(backend: Backend, _: str) -> Said:
    nobody = new_openid()
    return backend.post(f"{nobody}/spends", {"amount": 1, "reason": "r"}), {"openid": nobody}


def _version_mismatch(backend: Backend, openid: str) -> Said:
    answer = backend.post(f"{openid}/spends", {"amount": 1, "reason": "r"}, headers={"If-Match": '"1"'})
    return answer, {"version": 2, "expected": 1}


def _account_is_frozen(backend: Backend, openid: str) -> Said:
    backend.freeze(openid)
    plain = Backend(backend.service, "spend")
    return plain.post(f"{openid}/spends", {"amount": 1, "reason": "r"}), {"openid": openid}


def _not_in_future(backend: Backend, openid: str) -> Said:
    body = {"amount": 1, "reason": "r", "expires_at": "2020-01-01T00:00:00Z"}
    answer = backend.post(f"{openid}/grants", body)
    now_us = answer.json()["now_us"]
    assert abs(now_us - microseconds_now()) < 60_000_000
    return answer, {"asked_us": 1_577_836_800_000_000, "now_us": now_us}


def _credit_limit_exceeded(backend: Backend, openid: str) -> Said:
    answer = backend.post(f"{openid}/grants", {"amount": MAX_CREDIT - 99, "reason": "r"})
    return answer, {"granted": 100, "asked": MAX_CREDIT - 99, "limit": MAX_CREDIT}


def _too_many_open(backend: Backend, openid: str) -> Said:
    lots = (GrantCredit(openid, 1, "r", f"lot-{n}", None, TOMORROW_US) for n in range(999))
    happened(backend.service, HoldCredit(openid, 1, "r", "hold"), *lots)
    answer = backend.post(f"{openid}/grants", {"amount": 1, "reason": "r", "expires_at": TOMORROW})
    assert backend.post(f"{openid}/grants", {"amount": 1, "reason": "r"}).status_code == 201, (
        "one that does not"
    )
    return answer, {"open": 1000, "limit": 1000}


def _insufficient_credit(backend: Backend, openid: str) -> Said:
    backend.grant(openid, 30, expires_at=TOMORROW)
    backend.hold(openid, 10)
    answer = backend.post(f"{openid}/spends", {"amount": 121, "reason": "r"})
    return answer, {"available": 120, "held": 10, "asked": 121, "expiring": 20}


def _hold_not_found(backend: Backend, openid: str) -> Said:
    return backend.post(f"{openid}/holds/2/capture", {"reason": "r"}), {"hold": 2}


def _hold_settled(backend: Backend, openid: str) -> Said:
    hold = backend.hold(openid, 10)
    backend.write(f"{openid}/holds/{hold}/release", {"reason": "r"})
    return backend.post(f"{openid}/holds/{hold}/capture", {"reason": "r"}), {"hold": hold}


def _capture_exceeds_hold(backend: Backend, openid: str) -> Said:
    hold = backend.hold(openid, 10)
    answer = backend.post(f"{openid}/holds/{hold}/capture", {"reason": "r", "amount": 11})
    return answer, {"held": 10, "asked": 11}


def _spend_not_found(backend: Backend, openid: str) -> Said:
    return backend.post(f"{openid}/reversals", {"reason": "r", "spend": 2}), {"spend": 2}


def _reversal_exceeds_spend(backend: Backend, openid: str) -> Said:
    spend = backend.spend(openid, 10)
    backend.write(f"{openid}/reversals", {"spend": spend, "amount": 4, "reason": "r"})
    answer = backend.post(f"{openid}/reversals", {"spend": spend, "amount": 7, "reason": "r"})
    return answer, {"spent": 10, "reversed": 4, "asked": 7}


def _grant_not_found(backend: Backend, openid: str) -> Said:
    return backend.post(f"{openid}/revocations", {"reason": "r", "grant": 1}), {"grant": 1}


def _nothing_to_revoke(backend: Backend, openid: str) -> Said:
    backend.write(f"{openid}/revocations", {"grant": 2, "reason": "r"})
    answer = backend.post(f"{openid}/revocations", {"grant": 2, "reason": "r"})
    return answer, {"granted": 100, "revoked": 100}


def _already_frozen(backend: Backend, openid: str) -> Said:
    backend.freeze(openid)
    return backend.post(f"{openid}/freeze", {"reason": "r"}), {"openid": openid}


def _not_frozen(backend: Backend, openid: str) -> Said:
    return backend.post(f"{openid}/unfreeze", {"reason": "r"}), {"openid": openid}


REFUSED: dict[type[Refusal], Callable[[Backend, str], Said]] = {
    errors.KeyReused: _key_reused,
    errors.AccountNotFound: _account_not_found,
    errors.VersionMismatch: _version_mismatch,
    errors.AccountIsFrozen: _account_is_frozen,
    errors.NotInFuture: _not_in_future,
    errors.CreditLimitExceeded: _credit_limit_exceeded,
    errors.TooManyOpen: _too_many_open,
    errors.InsufficientCredit: _insufficient_credit,
    errors.HoldNotFound: _hold_not_found,
    errors.HoldSettled: _hold_settled,
    errors.CaptureExceedsHold: _capture_exceeds_hold,
    errors.SpendNotFound: _spend_not_found,
    errors.ReversalExceedsSpend: _reversal_exceeds_spend,
    errors.GrantNotFound: _grant_not_found,
    errors.NothingToRevoke: _nothing_to_revoke,
    errors.AlreadyFrozen: _already_frozen,
    errors.NotFrozen: _not_frozen,
}
STATUS = {
    "key-reused": 422,
    "account-not-found": 404,
    "version-mismatch": 412,
    "hold-not-found": 404,
    "spend-not-found": 404,
    "grant-not-found": 404,
}


@pytest.mark.parametrize("refusal", REFUSED, ids=lambda refusal: refusal.code)
def test_a_refusal_says_why_with_figures_and_records_nothing(
    backend: Backend, openid: str, refusal: type[Refusal]
) -> None:
    answer, figures = REFUSED[refusal](backend, openid)
    assert answer.status_code == REFUSAL_STATUS[refusal] == STATUS.get(refusal.code, 409)
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem.pop("detail") == refusal(**figures).sentence()
    assert "`" not in answer.text
    assert problem.pop("title")
    assert problem == {"type": "about:blank", "status": answer.status_code, "code": refusal.code, **figures}
    version = backend.account(openid)["version"]
    with requests.Session() as session:
        again = session.send(answer.request, timeout=PATIENCE_S)
    assert (again.status_code, again.json()["code"]) == (answer.status_code, refusal.code), (
        "a refusal is no record"
    )
    assert backend.account(openid)["version"] == version


def test_every_refusal_is_tried_here_or_with_the_check_in() -> None:
    assert set(REFUSED) == set(REFUSAL_STATUS) - {errors.AlreadyCheckedIn}


def test_a_refused_key_stays_free(backend: Backend, openid: str) -> None:
    body = {"amount": 150, "reason": "order"}
    assert backend.post(f"{openid}/spends", body, key="k").status_code == 409
    backend.grant(openid, 50)
    assert backend.write(f"{openid}/spends", body, key="k")["credit"] == 0


def test_the_invariant_holds_over_a_whole_life(backend: Backend, openid: str) -> None:
    backend.grant(openid, 40, expires_at=TOMORROW)
    spend = backend.spend(openid, 60)
    hold = backend.hold(openid, 30)
    backend.write(f"{openid}/holds/{hold}/capture", {"amount": 10, "reason": "r"})
    backend.hold(openid, 5)
    backend.write(f"{openid}/reversals", {"spend": spend, "amount": 15, "reason": "r"})
    backend.write(f"{openid}/revocations", {"grant": 2, "reason": "r"})
    found = backend.account(openid)
    assert {name: found[name] for name in ("credit", "held", "granted", "spent", "expired", "revoked")} == {
        "granted": 140,
        "spent": 55,
        "held": 5,
        "expired": 0,
        "revoked": 80,
        "credit": 0,
    }


# -- frozen --------------------------------------------------------------------------------------------


def _all_writes(hold: int, spend: int) -> dict[str, dict[str, Any]]:
    return {
        "grants": {"amount": 1, "reason": "r"},
        "spends": {"amount": 1, "reason": "r"},
        "holds": {"amount": 1, "reason": "r"},
        f"holds/{hold}/capture": {"reason": "r", "amount": 1},
        f"holds/{hold}/release": {"reason": "r"},
        "reversals": {"spend": spend, "reason": "r", "amount": 1},
        "revocations": {"grant": 2, "reason": "r"},
    }


def test_a_frozen_account_refuses_all_but_reversals(backend: Backend, openid: str) -> None:
    hold, spend = backend.hold(openid, 5), backend.spend(openid, 5)
    backend.freeze(openid)
    shop = Backend(backend.service, "read", "grant", "spend")
    for path, body in _all_writes(hold, spend).items():
        answer = shop.post(f"{openid}/{path}", body)
        if path == "reversals":
            assert answer.status_code == 201, answer.text
        else:
            assert (answer.status_code, answer.json()["code"]) == (409, "account-frozen"), path
    assert shop.account(openid)["frozen"] is True, "and is read as ever"


@pytest.mark.parametrize("number", range(7))
def test_a_frozen_account_takes_everything_from_a_key_that_operates(
    backend: Backend, openid: str, number: int
) -> None:
    hold, spend = backend.hold(openid, 5), backend.spend(openid, 5)
    backend.freeze(openid)
    path, body = list(_all_writes(hold, spend).items())[number]
    operator = Backend(backend.service, "grant", "spend", "operate")
    assert operator.post(f"{openid}/{path}", body).status_code == 201


def test_a_frozen_person_cannot_check_in(service: Service) -> None:
    token = service.login("frozen-person")
    openid = service.openid_of("frozen")
    happened(service, FreezeAccount(openid, "r", "freeze"))
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k"}
    answer = requests.post(f"{service.url}/v1/me/checkin", headers=headers, timeout=PATIENCE_S)
    assert (answer.status_code, answer.json()["code"]) == (409, "account-frozen")
    assert service.get("/v1/me/credit", token).json()["frozen"] is True


def test_credit_goes_on_expiring_while_an_account_is_frozen(service: Service) -> None:
    openid, past_us = new_openid(), microseconds_now() - 10 * DAY_US
    happened(
        service,
        RegisterUser(openid, 100),
        GrantCredit(openid, 7, "r", "k", None, past_us + DAY_US),
        CheckIn(openid, "c", (5,), "1"),
        FreezeAccount(openid, "r", "f"),
        clock_us=lambda: past_us,
    )
    found = Backend(service).account(openid)
    assert (found["credit"], found["expired"], found["frozen"]) == (105, 7, True)


# -- what cannot be asked ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"amount": 0, "reason": "r"},
        {"amount": -1, "reason": "r"},
        {"amount": 1.0, "reason": "r"},
        {"amount": 1.5, "reason": "r"},
        {"amount": True, "reason": "r"},
        {"amount": "1", "reason": "r"},
        {"amount": None, "reason": "r"},
        {"amount": [1], "reason": "r"},
        {"amount": MAX_CREDIT + 1, "reason": "r"},
        {"amount": 2**63, "reason": "r"},
        {"amount": 10**400, "reason": "r"},
        {"reason": "r"},
        {"amount": 1},
        {"amount": 1, "reason": ""},
        {"amount": 1, "reason": None},
        {"amount": 1, "reason": "x" * 201},
        {"amount": 1, "reason": "a\nb"},
        {"amount": 1, "reason": "a\n"},
        {"amount": 1, "reason": "\u0085"},
        {"amount": 1, "reason": "r", "reference": ""},
        {"amount": 1, "reason": "r", "reference": 7},
        {"amount": 1, "reason": "r", "referense": "7"},
        {"amount": 1, "reason": "r", "openid": "another"},
        {"amount": 1, "reason": "r", "key": "k"},
        {"amount": 1, "reason": "r", "expires_at": "tomorrow"},
        {"amount": 1, "reason": "r", "expires_at": "2126-01-01"},
        {"amount": 1, "reason": "r", "expires_at": "2126-01-01T00:00:00"},
        {"amount": 1, "reason": "r", "expires_at": "2126-13-01T00:00:00Z"},
        {"amount": 1, "reason": "r", "expires_at": "2126-01-01T00:00:60Z"},
        {"amount": 1, "reason": "r", "expires_at": 4_922_899_200},
        {"amount": 1, "reason": "r", "expires_at": ""},
        [],
        "grant",
        None,
    ],
)
def test_a_body_that_is_not_a_grant_is_a_422(backend: Backend, openid: str, body: object) -> None:
    answer = backend.post(f"{openid}/grants", body)
    # requests sends nothing at all for None.
    assert (answer.status_code, answer.json()["code"]) in (
        (422, "invalid-body"),
        (415, "not-json"),
    ), answer.text
    assert backend.account(openid)["version"] == 2


@pytest.mark.parametrize(
    ("moment", "status"),
    [
        ("0001-01-01T00:00:00+23:59", 409),
        ("1969-12-31T23:59:59Z", 409),
        ("9999-12-31T23:59:59.999999Z", 201),
        ("9999-12-31T23:59:59-23:59", 201),
        ("2126-01-01t00:00:00.123456789z", 201),
    ],
)
def test_the_ends_of_time_are_no_500(backend: Backend, openid: str, moment: str, status: int) -> None:
    answer = backend.post(f"{openid}/grants", {"amount": 1, "reason": "r", "expires_at": moment})
    assert answer.status_code == status, answer.text
    assert backend.account(openid)["credit"] == (101 if status == 201 else 100)


def test_emoji_and_two_hundred_characters_are_welcome(backend: Backend, openid: str) -> None:
    reason = "👨‍👩‍👧" + "积" * 195
    body = {"amount": MAX_CREDIT - 100, "reason": reason}
    assert backend.write(f"{openid}/grants", body)["event"]["data"]["reason"] == reason
    assert backend.account(openid)["credit"] == MAX_CREDIT


@pytest.mark.parametrize(
    "hold", ["0", "-1", "+3", "1_0", "3.0", "٣", "%203", "3%20", "1e1", "x", "9" * 17, "9" * 5000]
)
def test_what_is_no_version_names_no_hold(backend: Backend, openid: str, hold: str) -> None:
    backend.hold(openid, 10)
    for what in ("capture", "release"):
        answer = backend.post(f"{openid}/holds/{hold}/{what}", {"reason": "r"})
        assert answer.status_code in (400, 404, 414), answer.text
        assert answer.headers["Content-Type"].startswith("application/problem+json") or len(hold) > 1000
    assert backend.account(openid)["held"] == 10


@pytest.mark.parametrize("hold", ["007", "0003", "03"])
def test_a_hold_has_one_address(backend: Backend, openid: str, hold: str) -> None:
    """The same thing under two addresses is what rules of proxies are got round with."""
    backend.hold(openid, 10)
    answer = backend.post(f"{openid}/holds/{hold}/capture", {"reason": "r"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert backend.account(openid)["held"] == 10


@pytest.mark.parametrize(
    "name", ["a b", "a%20b", "中文", "%00", "a%0a", "a.b", "x" * 129, "a'b", "%ff", "{openid}"]
)
def test_what_cannot_be_an_openid_is_a_404(backend: Backend, name: str) -> None:
    """Only with a key that may ask: without one it is a 401 like everything else (tests/test_keys.py)."""
    for answer in (
        backend.get(f"{name}"),
        backend.get(f"{name}/events"),
        backend.post(f"{name}/grants", {"amount": 1, "reason": "r"}),
    ):
        assert answer.status_code == 404, answer.text
        assert answer.json()["code"] == "not-found"


def test_keys_and_accounts_are_kept_apart(backend: Backend, service: Service) -> None:
    """The same idempotency key on two accounts is two keys, whichever API key sends it."""
    one, two = new_account(service), new_account(service)
    for openid in (one, two):
        assert backend.write(f"{openid}/grants", {"amount": 5, "reason": "r"}, key="same")["credit"] == 105
    other = Backend(service)
    again = other.post(f"{one}/grants", {"amount": 5, "reason": "r"}, key="same")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["event"]["data"]["actor"] == backend.actor, "who was first"
    assert new_key(service, "read") != new_key(service, "read")
