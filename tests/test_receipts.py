"""Receipts: every write that records something is answered with a signed promise, and only such a one."""

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.merkle import included, leaf_hash
from ledger.note import Verifier, checkpoint_of
from ledger.seal import Receipt, sign_receipts
from scripts import verify_proof
from tests.backend import WRITES, Backend, new_account, new_openid, prepared
from tests.conftest import PATIENCE_S, Service
from tests.sealed import SIGNER


@pytest.fixture(scope="module")
def key(_shared_service: Service) -> Any:
    return verify_proof.read_vkey(_shared_service.get("/v1/seals").json()["vkey"])


@pytest.fixture
def backend(service: Service) -> Backend:
    return Backend(service)


def assert_promises(key: Any, openid: str, answer: dict[str, Any]) -> None:
    """The receipt in `answer` is signed, and is of the event that the answer shows."""
    owed: dict[Any, Any] = {}
    verify_proof.check_receipt(answer, key, owed)
    event = answer["event"]
    account = verify_proof.Account(sha256(openid.encode()).digest())
    assert set(owed) == {(account.key, event["version"])}
    assert owed[account.key, event["version"]][:2] == (bytes.fromhex(event["hash"]), event["credit"])


@pytest.mark.parametrize("path", WRITES)
def test_every_write_is_answered_with_a_receipt(
    service: Service, backend: Backend, key: Any, path: str
) -> None:
    openid = prepared(service, path)
    answer = backend.write(openid + path, WRITES[path])
    assert_promises(key, openid, answer)
    found = backend.events(openid)[0]
    assert (found["version"], found["hash"]) == (answer["receipt"]["version"], answer["receipt"]["hash"])


def test_checking_in_is_answered_with_a_receipt(service: Service, key: Any) -> None:
    headers = {"Authorization": f"Bearer {service.login('receipts')}", "Idempotency-Key": "today"}
    answer = requests.post(f"{service.url}/v1/me/checkin", headers=headers, timeout=PATIENCE_S)
    assert answer.status_code == 201, answer.text
    assert_promises(key, service.openid_of("receipts"), answer.json())


def log_in(service: Service, user: str) -> dict[str, Any]:
    code = f"dev-{user}-{secrets.token_hex(8)}"
    answer = requests.post(f"{service.url}/v1/sessions", json={"code": code}, timeout=PATIENCE_S)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_the_first_login_is_answered_with_the_receipt_of_the_welcome_gift(
    service: Service, backend: Backend, key: Any
) -> None:
    answer = log_in(service, "newcomer")
    openid = service.openid_of("newcomer")
    event = backend.events(openid)[0]
    assert (event["version"], event["type"]) == (2, "CreditGranted")
    assert_promises(key, openid, answer | {"event": event})
    assert set(log_in(service, "newcomer")) == {"token"}, "nothing was recorded"


def test_of_many_first_logins_at_once_the_one_that_registered_has_the_receipt(service: Service) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: log_in(service, "crowd"), range(8)))
    assert [each["receipt"]["version"] for each in answers if "receipt" in each] == [2]


def test_the_tutorials_login_answers_a_token_and_nothing_else(service: Service) -> None:
    answer = service.post_login(f"dev-tutor-{secrets.token_hex(8)}")
    assert set(answer.json()) == {"token"}


def test_a_replay_has_the_same_promise(service: Service, backend: Backend, key: Any) -> None:
    openid = new_account(service)
    body = {"amount": 3, "reason": "gift"}
    first = backend.post(f"{openid}/grants", body, key="k").json()
    backend.spend(openid, 1)
    again = backend.post(f"{openid}/grants", body, key="k")
    assert again.headers["Idempotent-Replayed"] == "true"
    promise = ("openid_hash", "version", "hash", "credit", "recorded_at_us")
    assert [again.json()["receipt"][name] for name in promise] == [first["receipt"][name] for name in promise]
    assert_promises(key, openid, again.json())


def test_a_dry_run_and_a_refusal_promise_nothing(service: Service, backend: Backend) -> None:
    openid = new_account(service)
    dry = backend.post(f"{openid}/grants", {"amount": 3, "reason": "gift"}, dry_run="true")
    assert dry.json()["dry_run"] is True
    assert dry.json().get("receipt") is None
    refused = backend.post(f"{openid}/spends", {"amount": 5000, "reason": "order"})
    assert refused.status_code >= 400
    assert "receipt" not in refused.json()


def test_every_line_of_a_bulk_grant_that_was_recorded_has_its_own(
    service: Service, backend: Backend, key: Any
) -> None:
    openids = [new_account(service) for _ in range(5)]
    lines = [
        {"openid": openid, "amount": 1, "reason": "gift", "key": f"b{n}"} for n, openid in enumerate(openids)
    ]
    lines.append({"openid": new_openid(), "amount": 1, "reason": "gift", "key": "nobody"})
    body = "".join(json.dumps(line) + "\n" for line in lines)
    headers = backend.headers() | {"Content-Type": "application/x-ndjson"}
    answer = requests.post(f"{service.url}/v1/grants", body, headers=headers, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    found = [json.loads(line) for line in answer.text.splitlines()]
    owed: dict[Any, Any] = {}
    for line in found:
        assert ("receipt" in line) == (line["status"] == 201), line
        if "receipt" in line:
            verify_proof.check_receipt(line, key, owed)
    assert sorted(owed) == sorted(
        (verify_proof.Account(sha256(openid.encode()).digest()).key, 3) for openid in openids
    )


RECEIPTS = st.lists(
    st.builds(
        Receipt,
        st.binary(min_size=32, max_size=32),
        st.integers(1, 2**53 - 1),
        st.binary(min_size=32, max_size=32),
        st.integers(0, 2**53 - 1),
        st.integers(0, 2**53 - 1),
    ),
    max_size=9,
    unique=True,
)


@settings(deadline=None, max_examples=30)
@given(RECEIPTS)
def test_each_receipt_of_a_batch_verifies_alone_and_in_no_other_place(receipts: list[Receipt]) -> None:
    signed = sign_receipts(receipts, SIGNER)
    assert [each.receipt for each in signed] == receipts
    for each in signed:
        checkpoint = checkpoint_of(Verifier.of(SIGNER.verifier.vkey).open(each.note))
        assert (checkpoint.origin, checkpoint.size) == (f"{SIGNER.name}/receipts", len(receipts))
        leaf = leaf_hash(each.receipt.entry().encode())
        assert included(leaf, each.place, checkpoint.size, each.path, checkpoint.root)
        for place in range(len(receipts)):
            right = place == each.place
            assert included(leaf, place, checkpoint.size, each.path, checkpoint.root) == right


def test_a_note_over_receipts_is_none_of_the_log_of_seals() -> None:
    """One key signs both: the origin tells them apart, so neither can be shown as the other."""
    (signed,) = sign_receipts([Receipt(bytes(32), 1, bytes(32), 0, 0)], SIGNER)
    vkey = verify_proof.read_vkey(SIGNER.verifier.vkey)
    with pytest.raises(ValueError, match="of the log that it should be of"):
        verify_proof.open_checkpoint(signed.note, vkey, SIGNER.name)
