"""`as_of` on every read: credit, check-ins and lists as a read at that moment found them."""

import json
import secrets
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

from api.operation import moment_us
from api.settings import read_settings
from ledger.account import day_begins_us, day_of
from ledger.commands import (
    CheckIn,
    Command,
    FreezeAccount,
    GrantCredit,
    HoldCredit,
    RecordLapses,
    RegisterUser,
    SpendCredit,
    UnfreezeAccount,
)
from ledger.committer import microseconds_now
from ledger.statement import rfc3339
from scripts.credit_ledger_events import statement
from tests.backend import DAY_US, SOON_US, Backend, happened, new_account, new_openid
from tests.conftest import PATIENCE_S, Service
from tests.ledger_samples import SINCE_US, committed

LISTS = ("/v1/me/events", "/v1/accounts/{openid}/events")
READS = ("/v1/me/credit", *LISTS, "/v1/accounts/{openid}")


class Person:
    """Somebody with a token, and a backend that may look at his account."""

    def __init__(self, service: Service, registered_us: int | None = None) -> None:
        self.service = service
        user = f"u{secrets.token_hex(6)}"
        self.openid = service.openid_of(user)
        if registered_us is not None:
            self.happened(registered_us, RegisterUser(self.openid, 100))
        self.token = service.login(user)
        self.backend = Backend(service)

    def happened(self, at_us: int, *commands: Command) -> None:
        happened(self.service, *commands, clock_us=lambda: at_us)

    def get(self, path: str, **query: object) -> requests.Response:
        token = self.token if path.startswith("/v1/me") else self.backend.secret
        return self.service.get(path.format(openid=self.openid), token, **query)

    def read(self, path: str, **query: object) -> dict[str, Any]:
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def listed(self, path: str, **query: object) -> list[dict[str, Any]]:
        """All events of a list, page by page; each page's cursor is checked to lead on."""
        found: list[dict[str, Any]] = []
        before: dict[str, object] = {}
        while True:
            page = self.read(path, **query, **before)
            found += page["events"]
            if page["next_before"] is None:
                return found
            assert not before or page["next_before"] < before["before"]
            before = {"before": page["next_before"]}


QUERIES: tuple[dict[str, object], ...] = (
    {},
    {"limit": 2},
    {"limit": 3, "before": 4},
    {"type": "CreditSpent", "limit": 1},
    {"type": "CreditExpired"},
)


def everything(person: Person, **as_of: object) -> dict[str, Any]:
    """What each read answers, with several queries; `limit` and `before` alone in the person's own list."""
    said = {"/v1/me/credit": person.read("/v1/me/credit", **as_of)}
    for path in LISTS:
        for query in QUERIES:
            if path == LISTS[1] or "type" not in query:
                said[f"{path} {query}"] = person.read(path, **query, **as_of)
    return said


def test_every_read_as_of_a_moment_is_what_it_said_then(service: Service) -> None:
    """While lots expire, holds end and much is written, each answer is kept; then each is asked for again."""
    person = Person(service)
    openid, backend = person.openid, person.backend
    said: list[tuple[str, dict[str, Any]]] = []

    def look() -> None:
        found = everything(person)
        moment = found["/v1/me/credit"]["as_of"]
        if person.read("/v1/me/credit") | {"as_of": moment} == found["/v1/me/credit"]:
            said.append((moment, found))  # and nothing lapsed while the reads went on

    look()
    soon = microseconds_now() + SOON_US
    backend.grant(openid, 30, expires_at=rfc3339(soon))
    look()
    backend.spend(openid, 10)
    look()
    soon = max(soon, microseconds_now()) + SOON_US
    backend.hold(openid, 25, deadline=rfc3339(soon))
    look()
    headers = {"Authorization": f"Bearer {person.token}", "Idempotency-Key": "today"}
    assert requests.post(f"{service.url}/v1/me/checkin", headers=headers, timeout=PATIENCE_S).status_code == 201
    look()
    while said[-1][0] < rfc3339(soon):  # the lot expires, then the hold is released, unrecorded
        look()
    backend.freeze(openid)
    look()
    backend.write(f"{openid}/unfreeze", {"reason": "r"})
    backend.spend(openid, 5)
    look()
    assert len({found["/v1/me/credit"]["version"] for _, found in said}) >= 8
    for moment, found in said:
        assert everything(person, as_of=moment) == found


@pytest.fixture(scope="module")
def past(_shared_service: Service) -> tuple[Person, list[dict[str, Any]]]:
    """A person with thirty days of events, of which the last lapsed and are not recorded, and all of them."""
    start = microseconds_now() - 60 * DAY_US
    person = Person(_shared_service, start)
    openid = person.openid
    for number in range(15):
        now = start + (number + 1) * 2 * DAY_US
        person.happened(
            now,
            GrantCredit(openid, 10, "gift", f"g{number}", None, now + 5 * DAY_US + 1),
            SpendCredit(openid, 4, "order", f"s{number}"),
            HoldCredit(openid, 3, "order", f"h{number}", None, now + 3 * DAY_US + 1),
        )
    events = person.listed(LISTS[1], limit=100)
    assert [event["version"] for event in events] == list(range(len(events), 0, -1))
    assert len({event["recorded_at"] for event in events}) > 30
    return person, events


@pytest.mark.parametrize("index", [0, 1, 13, 40, -2])
@pytest.mark.parametrize("limit", [3, 100])
@pytest.mark.parametrize("path", LISTS)
def test_a_list_as_of_an_event_begins_with_it(
    past: tuple[Person, list[dict[str, Any]]], path: str, limit: int, index: int
) -> None:
    """Or with the last one of the same moment; and a microsecond before, that moment has not come."""
    person, events = past
    moment = events[index]["recorded_at"]
    there = [event for event in events if event["recorded_at"] <= moment]
    assert person.listed(path, limit=limit, as_of=moment) == there
    earlier_us = moment_us(moment)
    assert earlier_us is not None
    earlier = rfc3339(earlier_us - 1)
    gone = person.get(path, limit=limit, as_of=earlier)
    if earlier < events[-1]["recorded_at"]:
        assert gone.json()["code"] == "account-not-found"
    else:
        listed = person.listed(path, limit=limit, as_of=earlier)
        assert listed == [event for event in events if event["recorded_at"] < moment]


@pytest.mark.parametrize(("since", "until"), [(None, 5), (None, 30), (40, None), (5, None), (50, 10), (20, 30)])
@pytest.mark.parametrize("kind", [None, "CreditSpent", "CreditExpired"])
@pytest.mark.parametrize("limit", [2, 100])
def test_as_of_goes_with_every_other_parameter(
    past: tuple[Person, list[dict[str, Any]]],
    since: int | None,
    until: int | None,
    kind: str | None,
    limit: int,
) -> None:
    person, events = past
    moment = events[20]["recorded_at"]
    query: dict[str, object] = {"limit": limit, "as_of": moment} | ({} if kind is None else {"type": kind})
    expected = [event for event in events if event["recorded_at"] <= moment and kind in (None, event["type"])]
    if since is not None:
        query["since"] = events[since]["recorded_at"]
        expected = [event for event in expected if event["recorded_at"] >= events[since]["recorded_at"]]
    if until is not None:
        query["until"] = events[until]["recorded_at"]
        expected = [event for event in expected if event["recorded_at"] < events[until]["recorded_at"]]
    assert person.listed(LISTS[1], **query) == expected


def test_a_statement_and_the_credit_of_a_moment_agree(past: tuple[Person, list[dict[str, Any]]]) -> None:
    person, events = past
    for later, event in list(pairwise(events))[::3]:
        if event["recorded_at"] == later["recorded_at"]:
            continue
        credit = person.read("/v1/me/credit", as_of=event["recorded_at"])
        assert (credit["version"], credit["credit"]) == (event["version"], event["credit"])
        account = person.read(READS[-1], as_of=event["recorded_at"])
        for name in ("version", "credit", "held", "frozen", "lots", "holds", "as_of"):
            assert credit[name] == account[name]
        assert sum(hold["amount"] for hold in credit["holds"]) == credit["held"]


def test_the_check_in_of_a_moment_is_that_days(service: Service) -> None:
    """Checked in on three days in a row, then not; a day begins at midnight in Shanghai."""
    first = day_of(microseconds_now()) - 10
    person = Person(service, day_begins_us(first))
    for day in range(3):
        person.happened(
            day_begins_us(first + day) + DAY_US // 2,
            CheckIn(person.openid, f"c{day}", (5, 10, 15), "1"),
        )

    def checkin(moment_us: int) -> tuple[bool, int, int]:
        found = person.read("/v1/me/credit", as_of=rfc3339(moment_us))["checkin"]
        return found["checked_in"], found["streak"], found["next_reward"]

    rewards = read_settings({"WECHAT_APPID": "wx", "WECHAT_SECRET": "s"}).checkin.rewards
    noon = day_begins_us(first) + DAY_US // 2
    assert checkin(noon - 1) == (False, 0, rewards[0])
    assert checkin(noon) == (True, 1, rewards[1])
    assert checkin(day_begins_us(first + 1) - 1) == (True, 1, rewards[1])
    assert checkin(day_begins_us(first + 1)) == (False, 1, rewards[1])
    assert checkin(noon + 2 * DAY_US)[:2] == (True, 3)
    assert checkin(day_begins_us(first + 4) - 1)[:2] == (False, 3)
    assert checkin(day_begins_us(first + 4))[:2] == (False, 0)


def test_frozen_is_as_of_then_too(service: Service) -> None:
    start = microseconds_now() - 9 * DAY_US
    person = Person(service, start)
    person.happened(start + 10, FreezeAccount(person.openid, "asked for", "f"))
    person.happened(start + 20, UnfreezeAccount(person.openid, "settled", "u"))
    frozen = [person.read("/v1/me/credit", as_of=rfc3339(start + after))["frozen"] for after in (9, 10, 19, 20)]
    assert frozen == [False, True, True, False]


def test_what_lapsed_by_then_counts_whether_or_not_it_was_recorded(service: Service) -> None:
    start = microseconds_now() - 9 * DAY_US
    person = Person(service, start)
    person.happened(
        start,
        GrantCredit(person.openid, 30, "gift", "g", None, start + 20),
        HoldCredit(person.openid, 10, "order", "h", None, start + 10),
    )
    answers = []
    for recorded in (False, True):
        if recorded:
            person.happened(start + DAY_US, RecordLapses(person.openid))
            person.happened(start + DAY_US, GrantCredit(person.openid, 1, "later", "later"))
        answers.append(
            [person.read(path, as_of=rfc3339(start + after)) for path in READS for after in (9, 10, 19, 20, 99)]
        )
    assert answers[0] == answers[1]
    assert [answer["credit"] for answer in answers[0][:5]] == [120, 130, 130, 100, 100]
    assert [answer["events"][0]["type"] for answer in answers[0][5:10]] == [
        "CreditHeld", "HoldReleased", "HoldReleased", "CreditExpired", "CreditExpired",
    ]  # fmt: skip


@pytest.mark.parametrize("path", READS)
def test_a_moment_that_has_not_come_and_one_before_the_account_are_told_apart(
    service: Service, path: str
) -> None:
    start = microseconds_now() - 9 * DAY_US
    person = Person(service, start)
    future = person.get(path, as_of=rfc3339(microseconds_now() + 60_000_000))
    assert (future.status_code, future.json()["code"]) == (400, "invalid-parameter")
    assert "future" in future.json()["detail"]
    early = person.get(path, as_of=rfc3339(start - 1))
    assert (early.status_code, early.json()["code"]) == (404, "account-not-found")
    assert person.get(path, as_of=rfc3339(start)).status_code == 200
    for wrong in ("yesterday", "2026-01-01T00:00:00", ""):
        assert person.get(path, as_of=wrong).json()["code"] == "invalid-parameter"


@pytest.mark.parametrize("path", READS)
def test_where_the_clock_ran_back_the_last_event_is_not_in_the_future(service: Service, path: str) -> None:
    person = Person(service, microseconds_now() - DAY_US)
    ahead = microseconds_now() + 3600_000_000
    person.happened(ahead, GrantCredit(person.openid, 1, "gift", "g"))
    assert person.get(path, as_of=rfc3339(ahead)).status_code == 200
    assert person.get(path, as_of=rfc3339(ahead + 1)).status_code == 400


def test_nobody_is_nobody_at_any_moment(service: Service) -> None:
    backend = Backend(service)
    for query in ({}, {"as_of": "2026-01-01T00:00:00Z"}, {"as_of": "2999-01-01T00:00:00Z"}):
        answer = backend.get(new_openid() + "/events", **query)
        assert answer.json()["code"] == "account-not-found"


def test_a_list_that_is_empty_as_of_then_is_empty_and_not_a_404(service: Service) -> None:
    openid = new_account(service)
    backend = Backend(service)
    now = rfc3339(microseconds_now())
    assert backend.get(openid + "/events", as_of=now, type="CreditSpent").json()["events"] == []
    assert backend.get(openid + "/events", as_of=now, since=now).json() == {"events": [], "next_before": None}


# -- the command line --------------------------------------------------------------------------------------


@pytest.fixture
def ledger(ledger_path: Path) -> Path:
    """oAnna's 300 grants of one moment, and a lot that has expired since and is not recorded."""
    committed(
        ledger_path,
        RegisterUser("oAnna", 0),
        GrantCredit("oAnna", 7, "spring", "g", None, SINCE_US + 600),
        clock_us=lambda: SINCE_US,
    )
    grants = [GrantCredit("oAnna", 1, "gift", f"k{number}") for number in range(300)]
    committed(ledger_path, *grants, clock_us=lambda: SINCE_US + 1)
    return ledger_path


def run(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(statement, ["oAnna", *arguments], env={"CREDIT_DATA": str(path.parent)})


def versions(path: Path, moment: int, *arguments: str) -> list[int]:
    done = run(path, "--json", "--as-of", rfc3339(SINCE_US + moment), *arguments)
    assert done.exit_code == 0, done.output
    return [json.loads(line)["version"] for line in done.output.splitlines()]


def test_a_statement_as_of_a_moment_is_all_that_was_there(ledger: Path) -> None:
    assert versions(ledger, 0) == [2, 1]
    assert versions(ledger, 1) == list(range(302, 0, -1)), "page behind page"
    assert versions(ledger, 599) == list(range(302, 0, -1))
    assert versions(ledger, 600) == list(range(303, 0, -1)), "with what lapsed"
    assert versions(ledger, 1, "--before", "290", "--limit", "120") == list(range(289, 169, -1))
    assert run(ledger, "--json").output == run(ledger, "--json", "--as-of", rfc3339(SINCE_US + 600)).output


def test_a_statement_of_no_time_is_refused_in_a_sentence(ledger: Path) -> None:
    early = run(ledger, "--as-of", rfc3339(SINCE_US - 1))
    assert (early.exit_code, "nobody was registered as oAnna by" in early.output) == (1, True)
    late = run(ledger, "--as-of", "2999-01-01T00:00:00Z")
    assert (late.exit_code, "must not be in the future" in late.output) == (1, True)
    wrong = run(ledger, "--as-of", "noon")
    assert (wrong.exit_code, "is not a time with an offset" in wrong.output) == (2, True)
