"""`/v1`: on which conditions a write happens. Idempotency-Key, If-Match, dry_run, and what is no parameter."""

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.backend import WRITES, Backend, exchange, new_account, new_openid, prepared, raw_request
from tests.conftest import PATIENCE_S, Service


@pytest.fixture
def backend(service: Service) -> Backend:
    return Backend(service)


@pytest.fixture
def openid(service: Service) -> str:
    return new_account(service)


def code_of(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json().get("code"))


# -- Idempotency-Key -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WRITES)
def test_a_key_makes_each_write_happen_once(service: Service, backend: Backend, path: str) -> None:
    openid = prepared(service, path)
    first = backend.post(openid + path, WRITES[path], key="k1")
    assert first.status_code == 201, first.text
    assert "Idempotent-Replayed" not in first.headers
    version = backend.account(openid)["version"]
    other = Backend(service)  # the key belongs to the account, not to who sends it
    for caller in (backend, other):
        again = caller.post(openid + path, WRITES[path], key="k1")
        assert again.status_code == 201
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.json() == first.json()
    assert backend.account(openid)["version"] == version


def test_a_replay_says_the_credit_of_then(backend: Backend, openid: str) -> None:
    first = backend.write(f"{openid}/spends", {"amount": 10, "reason": "r"}, key="k1")
    backend.spend(openid, 90)
    again = backend.post(f"{openid}/spends", {"amount": 10, "reason": "r"}, key="k1")
    assert again.json() == first
    assert again.json()["credit"] == 90


def test_a_replay_outlives_a_restart_and_whatever_happened_since(new_service: Callable[..., Service]) -> None:
    service = new_service()
    openid, backend = new_account(service), Backend(service)
    first = backend.write(f"{openid}/spends", {"amount": 10, "reason": "r"}, key="k1")
    backend.freeze(openid)
    assert service.stop() == 0
    service.start()
    shop = Backend(service, "spend", "read")
    again = shop.post(f"{openid}/spends", {"amount": 10, "reason": "r"}, key="k1", headers={"If-Match": '"1"'})
    assert again.status_code == 201, "what is recorded is answered, whatever would be decided now"
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first


@pytest.mark.parametrize("path", WRITES)
def test_without_a_key_nothing_is_written(service: Service, backend: Backend, path: str) -> None:
    openid = prepared(service, path)
    version = backend.account(openid)["version"]
    assert code_of(backend.post(openid + path, WRITES[path], key=None)) == (400, "idempotency-key-missing")
    assert backend.account(openid)["version"] == version


@pytest.mark.parametrize(
    "other",
    [
        ("/grants", {"amount": 8, "reason": "gift"}),
        ("/grants", {"amount": 7, "reason": "another"}),
        ("/grants", {"amount": 7, "reason": "gift", "reference": "x"}),
        ("/grants", {"amount": 7, "reason": "gift", "expires_at": "2126-01-01T00:00:00Z"}),
        ("/spends", {"amount": 7, "reason": "gift"}),
        ("/freeze", {"reason": "gift"}),
    ],
)
def test_another_write_under_a_used_key_is_refused(
    backend: Backend, openid: str, other: tuple[str, dict[str, Any]]
) -> None:
    backend.write(f"{openid}/grants", {"amount": 7, "reason": "gift"}, key="k1")
    answer = backend.post(openid + other[0], other[1], key="k1")
    assert code_of(answer) == (422, "key-reused")
    assert (answer.json()["key"], answer.json()["version"]) == ("k1", 3)
    assert backend.account(openid)["version"] == 3


def test_the_same_write_in_other_words_is_the_same(backend: Backend, openid: str) -> None:
    """Order, white space, an explicit null and another offset of the same moment ask for the same thing."""
    body = {"amount": 7, "reason": "gift", "expires_at": "2126-01-01T00:00:00Z"}
    first = backend.write(f"{openid}/grants", body, key="k1")
    for same in (
        {"expires_at": "2126-01-01T08:00:00+08:00", "reason": "gift", "amount": 7, "reference": None},
        {"reason": "gift", "amount": 7, "expires_at": "2126-01-01T00:00:00.000Z"},
    ):
        assert backend.write(f"{openid}/grants", same, key="k1") == first


@pytest.mark.parametrize(
    "bare", ["a", "a b"[:1] + "-b", "x" * 255, "8e03978e-40d5-43e8-bc93-6894a57f9324", "!~", "a,b"]
)
def test_a_key_is_the_same_quoted_and_bare(backend: Backend, openid: str, bare: str) -> None:
    """draft-ietf-httpapi-idempotency-key-header has it quoted; hardly any client does."""
    first = backend.write(f"{openid}/grants", {"amount": 7, "reason": "r"}, key=bare)
    again = backend.post(f"{openid}/grants", {"amount": 7, "reason": "r"}, key=f'"{bare}"')
    assert again.headers.get("Idempotent-Replayed") == "true", again.text
    assert again.json() == first


BAD_KEYS = {
    "too long": b"x" * 256,
    "too long inside quotes": b'"' + b"x" * 256 + b'"',
    "empty": b"",
    "empty quotes": b'""',
    "a space": b"a b",
    "a tab": b"a\tb",
    "UTF-8": "键".encode(),
    "Latin-1": b"\xe4",
    "delete": b"a\x7f",
}


@pytest.mark.parametrize("what", BAD_KEYS)
def test_what_is_no_key_is_a_400(backend: Backend, openid: str, what: str) -> None:
    headers = [
        ("Authorization", f"Bearer {backend.secret}"),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", BAD_KEYS[what].decode("latin-1")),
    ]
    body = b'{"amount":1,"reason":"r"}'
    status, said = exchange(
        backend.service, raw_request("POST", f"/v1/accounts/{openid}/grants", headers, body)
    )
    assert status == 400, said
    assert backend.account(openid)["version"] == 2


@pytest.mark.parametrize("values", [("k1", "k2"), ("k1", "k1")])
@pytest.mark.parametrize("name", ["Idempotency-Key", "idempotency-key"])
def test_two_keys_are_none(backend: Backend, openid: str, name: str, values: tuple[str, str]) -> None:
    """Joined by a comma they would be a third key, under which the retry with one of them lands again."""
    headers = [
        ("Authorization", f"Bearer {backend.secret}"),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", values[0]),
        (name, values[1]),
    ]
    body = b'{"amount":1,"reason":"r"}'
    status, said = exchange(
        backend.service, raw_request("POST", f"/v1/accounts/{openid}/grants", headers, body)
    )
    assert (status, json.loads(said)["code"]) == (400, "invalid-parameter")
    assert backend.account(openid)["version"] == 2


# -- If-Match ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WRITES)
def test_a_write_can_be_made_to_depend_on_the_version_that_was_read(
    service: Service, backend: Backend, path: str
) -> None:
    openid = prepared(service, path)
    etag = backend.get(openid).headers["ETag"]
    version = int(etag.strip('"'))
    for wrong in (version - 1, version + 1, 10**14):
        answer = backend.post(openid + path, WRITES[path], headers={"If-Match": f'"{wrong}"'})
        assert code_of(answer) == (412, "version-mismatch")
        assert (answer.json()["version"], answer.json()["expected"]) == (version, wrong)
    assert backend.account(openid)["version"] == version
    answer = backend.post(openid + path, WRITES[path], headers={"If-Match": etag})
    assert answer.status_code == 201, answer.text
    assert answer.json()["event"]["version"] == version + 1


@pytest.mark.parametrize(
    "value",
    [
        "2",
        "*",
        'W/"2"',
        '"2", "3"',
        '"02"',
        '"0"',
        '"-1"',
        '" 2"',
        '""',
        '"x"',
        "'2'",
        '"2',
        '"9007199254740993000"',
        "",
    ],
)
def test_what_is_no_etag_of_ours_is_a_400_and_never_ignored(backend: Backend, openid: str, value: str) -> None:
    answer = backend.post(f"{openid}/spends", {"amount": 1, "reason": "r"}, headers={"If-Match": value})
    assert code_of(answer) == (400, "invalid-parameter")
    assert backend.account(openid)["version"] == 2


def test_of_many_that_read_the_same_version_one_gets_through(backend: Backend, openid: str) -> None:
    answers = [
        backend.post(f"{openid}/spends", {"amount": 1, "reason": "r"}, headers={"If-Match": '"2"'})
        for _ in range(5)
    ]
    assert [answer.status_code for answer in answers] == [201, 412, 412, 412, 412]


# -- dry_run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WRITES)
def test_a_dry_run_decides_as_the_real_one_and_records_nothing(
    service: Service, backend: Backend, path: str
) -> None:
    openid = prepared(service, path)
    before = backend.account(openid)
    dry = backend.post(openid + path, WRITES[path], key="k1", dry_run="true")
    assert dry.status_code == 200
    after = backend.account(openid)
    assert {**after, "as_of": None} == {**before, "as_of": None}
    real = backend.post(openid + path, WRITES[path], key="k1", dry_run="false")
    assert real.status_code == 201, "the key of a dry run stays free"
    assert "Idempotent-Replayed" not in real.headers
    expected, said = real.json(), dry.json()
    assert said.pop("dry_run") is True
    assert said["event"].pop("hash") is None
    assert "dry_run" not in expected
    assert expected.pop("receipt")["version"] == expected["event"]["version"], "a dry run gets none"
    expected["event"].pop("hash")
    assert said["event"].pop("recorded_at") <= expected["event"].pop("recorded_at")
    assert said == expected


def test_a_dry_run_is_refused_as_the_real_one(backend: Backend, openid: str) -> None:
    for path, body in (("spends", {"amount": 101, "reason": "r"}), ("unfreeze", {"reason": "r"})):
        real = backend.post(f"{openid}/{path}", body)
        dry = backend.post(f"{openid}/{path}", body, dry_run="true")
        assert dry.status_code == real.status_code == 409
        assert dry.json() == real.json()


def test_a_dry_run_under_a_used_key_is_the_recorded_answer(backend: Backend, openid: str) -> None:
    first = backend.write(f"{openid}/spends", {"amount": 1, "reason": "r"}, key="k1")
    again = backend.post(f"{openid}/spends", {"amount": 1, "reason": "r"}, key="k1", dry_run="true")
    assert again.status_code == 201
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first
    another = backend.post(f"{openid}/spends", {"amount": 2, "reason": "r"}, key="k1", dry_run="true")
    assert code_of(another) == (422, "key-reused")


def test_a_dry_run_needs_an_account_a_key_and_the_scope(backend: Backend, openid: str) -> None:
    body = {"amount": 1, "reason": "r"}
    assert backend.post(f"{new_openid()}/spends", body, dry_run="true").status_code == 404
    assert backend.post(f"{openid}/spends", body, key=None, dry_run="true").status_code == 400
    assert Backend(backend.service, "read").post(f"{openid}/spends", body, dry_run="true").status_code == 403


# -- parameters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("dryrun=true", "unknown-parameter"),
        ("dry-run=true", "unknown-parameter"),
        ("DRY_RUN=true", "unknown-parameter"),
        ("dry_run=true&x=1", "unknown-parameter"),
        ("token=x", "unknown-parameter"),
        ("=true", "unknown-parameter"),
        ("dry_run=True", "invalid-parameter"),
        ("dry_run=1", "invalid-parameter"),
        ("dry_run=yes", "invalid-parameter"),
        ("dry_run=", "invalid-parameter"),
        ("dry_run", "invalid-parameter"),
        ("dry_run=true%20", "invalid-parameter"),
        ("dry_run=true,false", "invalid-parameter"),
        ("dry_run=true&dry_run=true", "repeated-parameter"),
        ("dry_run=false&dry_run=true", "repeated-parameter"),
    ],
)
def test_a_misspelt_dry_run_never_spends(backend: Backend, openid: str, query: str, code: str) -> None:
    answer = backend.post(f"{openid}/spends?{query}", {"amount": 1, "reason": "r"})
    assert code_of(answer) == (400, code)
    assert backend.account(openid)["version"] == 2


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("?as_off=2026-01-01T00:00:00Z", "unknown-parameter"),
        ("?dry_run=true", "unknown-parameter"),
        ("?as_of=yesterday", "invalid-parameter"),
        ("?as_of=", "invalid-parameter"),
        ("?as_of=2026-01-01", "invalid-parameter"),
        ("?as_of=2026-01-01T00:00:00", "invalid-parameter"),
        ("?as_of=1767225600", "invalid-parameter"),
        ("?as_of=2026-01-01T00:00:00+00:00", "invalid-parameter"),  # an unescaped + is a space
        ("?as_of=9999-12-31T23:59:59Z", "invalid-parameter"),
        ("?as_of=2026-01-01T00:00:00Z&as_of=2026-01-02T00:00:00Z", "repeated-parameter"),
        ("/events?limit=0", "invalid-parameter"),
        ("/events?limit=101", "invalid-parameter"),
        ("/events?limit=010", "invalid-parameter"),
        ("/events?before=0", "invalid-parameter"),
        ("/events?before=99999999999999999", "invalid-parameter"),
        ("/events?type=creditgranted", "invalid-parameter"),
        ("/events?type=", "invalid-parameter"),
        ("/events?type=CreditGranted&type=CreditSpent", "repeated-parameter"),
        ("/events?since=now", "invalid-parameter"),
        ("/events?until=now", "invalid-parameter"),
        ("/events?offset=20", "unknown-parameter"),
        ("/events?page=2", "unknown-parameter"),
    ],
)
def test_a_read_is_not_guessed_at(backend: Backend, openid: str, path: str, code: str) -> None:
    assert code_of(backend.get(openid + path)) == (400, code)


@pytest.mark.parametrize("what", ["authentication", "the path", "a parameter", "the body"])
def test_what_is_wrong_is_said_in_this_order(backend: Backend, openid: str, what: str) -> None:
    """Nobody who may not ask learns what would be wrong with the question."""
    wrong = ["authentication", "the path", "a parameter", "the body"]
    wrong = wrong[wrong.index(what) :]
    secret = secrets.token_hex(8) if "authentication" in wrong else backend.secret
    name = "not.an.openid" if "the path" in wrong else openid
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    if "a parameter" not in wrong:
        headers["Idempotency-Key"] = "k"
    url = f"{backend.service.url}/v1/accounts/{name}/grants"
    answer = requests.post(url, data=b"{", headers=headers, timeout=PATIENCE_S)
    assert (
        answer.status_code
        == {"authentication": 401, "the path": 404, "a parameter": 400, "the body": 400}[what]
    )
    assert (
        answer.json()["code"]
        == {
            "authentication": "invalid-key",
            "the path": "not-found",
            "a parameter": "idempotency-key-missing",
            "the body": "malformed-json",
        }[what]
    )
