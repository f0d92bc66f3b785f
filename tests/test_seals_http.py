"""Seals and proofs of a real service: it seals by itself, and what it answers convinces the verifier."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from ledger.commands import GrantCredit
from ledger.seal import seal_of
from tests.backend import Backend, happened, new_account, new_key
from tests.conftest import PATIENCE_S, ROOT, Service

VERIFIER = ROOT / "scripts" / "verify_proof.py"


def until(check: Callable[[], Any]) -> Any:
    """What `check` answers as soon as it is anything."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {PATIENCE_S} s")


def seals(service: Service, **query: object) -> list[dict[str, Any]]:
    answer = service.get("/v1/seals", **query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["seals"])


def seal_now(service: Service) -> None:
    """What an operator does who does not want to wait a minute."""
    command = [sys.executable, "-m", "scripts.credit_ledger", "seal"]
    subprocess.run(command, check=True, capture_output=True, env=service.environ, cwd=ROOT)


def proof(service: Service, path: str, secret: str) -> list[dict[str, Any]]:
    """All pages of a proof."""
    pages: list[dict[str, Any]] = []
    while not pages or pages[-1]["next_after"] is not None:
        after = {"after": pages[-1]["next_after"]} if pages else {}
        answer = service.get(path, secret, **after)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json())
    return pages


def verified(directory: Path, *arguments: object) -> str:
    """What the verifier says, run alone in an empty directory; it must verify."""
    directory.mkdir(exist_ok=True)
    words = []
    for number, argument in enumerate(arguments):
        if isinstance(argument, dict):
            (directory / f"{number}.json").write_text(json.dumps(argument))
            argument = f"{number}.json"
        words.append(str(argument))
    command = [sys.executable, "-I", str(VERIFIER), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=directory, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_service_seals_by_itself_and_its_proofs_are_verified_offline(
    new_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = new_service()
    backend = Backend(service)
    vkey = service.get("/v1/seals").json()["vkey"]
    token = service.login("anna")
    anna = service.openid_of("anna")
    receipt = backend.write(f"{anna}/grants", {"amount": 9, "reason": "gift"})
    others = [new_account(service) for _ in range(9)]
    # The first try, soon after the start, may have been too early to find anything.
    assert service.stop() == 0, service.log
    service.start()
    first = until(lambda: seals(service))[-1]
    assert seal_of(first["entry"]).number == first["number"] == 1
    seal_now(service)

    pages = proof(service, "/v1/me/proof", token)
    arguments = ("--openid", anna, "--vkey", vkey, "--receipt", receipt)
    said = verified(tmp_path / "empty", "proof", *pages, *arguments)
    assert "3 events without a gap come to 109 credits" in said
    text = json.dumps(pages)
    assert not [openid for openid in (anna, *others) if openid in text]
    assert pages == proof(service, f"/v1/accounts/{anna}/proof", backend.secret)

    happened(service, *(GrantCredit(anna, 1, "gift", f"k{number}") for number in range(1100)))
    seal_now(service)
    pages = proof(service, "/v1/me/proof", token)
    assert [len(page["events"]) for page in pages] == [1000, 103]
    verified(tmp_path / "empty", "proof", pages[1], pages[0], *arguments)

    newest = seals(service)[0]["number"]
    found = service.get(f"/v1/seals/1/consistency/{newest}").json()
    verified(tmp_path / "empty", "consistency", found, "--vkey", vkey)
    verified(tmp_path / "empty", "seal", service.get(f"/v1/seals/{newest}").json(), "--vkey", vkey)
    assert service.stop() == 0, service.log


def test_an_account_that_is_not_sealed_yet_has_no_proof(unsealed_service: Service) -> None:
    new_account(unsealed_service)
    seal_now(unsealed_service)
    fresh, backend = new_account(unsealed_service), Backend(unsealed_service)
    answer = backend.get(f"{fresh}/proof")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-sealed")


def test_an_export_of_a_service_is_verified(new_service: Callable[..., Service], tmp_path: Path) -> None:
    service = new_service()
    for _ in range(2):
        new_account(service)
        seal_now(service)
    vkey = service.get("/v1/seals").json()["vkey"]
    command = [sys.executable, "-m", "scripts.credit_ledger", "export", str(tmp_path / "export.ndjson")]
    subprocess.run(command, check=True, capture_output=True, env=service.environ, cwd=ROOT)
    said = verified(tmp_path / "empty", "export", tmp_path / "export.ndjson", "--vkey", vkey)
    assert "4 events of 2 accounts" in said


def test_seals_are_for_everybody_and_proofs_are_not(service: Service) -> None:
    openid = new_account(service)
    seal_now(service)
    assert service.get("/v1/seals").status_code == 200
    assert service.get("/v1/seals/1").status_code == 200
    assert service.get("/v1/seals/1/consistency/1").status_code == 200
    assert service.get("/v1/me/proof").status_code == 401
    assert service.get(f"/v1/accounts/{openid}/proof").status_code == 401
    assert service.get(f"/v1/accounts/{openid}/proof", new_key(service, "grant")).status_code == 403
    assert service.get(f"/v1/accounts/{openid}/proof", service.login("bo")).status_code in (401, 403)


def test_seals_come_newest_first_a_page_at_a_time(service: Service) -> None:
    for _ in range(3):
        new_account(service)
        seal_now(service)
    numbers, before = [], None
    while before is None or before["before"] is not None:
        page = service.get("/v1/seals", limit=2, **(before or {})).json()
        numbers += [seal["number"] for seal in page["seals"]]
        before = {"before": page["next_before"]}
    assert numbers == list(range(numbers[0], 0, -1))


@pytest.mark.parametrize(
    "path", ["/v1/seals/999999", "/v1/seals/1/consistency/999999", "/v1/seals/2/consistency/1"]
)
def test_a_seal_that_is_not_there_is_404(service: Service, path: str) -> None:
    new_account(service)
    seal_now(service)
    new_account(service)
    seal_now(service)
    answer = service.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "seal-not-found")


@pytest.mark.parametrize(
    "query", [{"after": 0}, {"after": -1}, {"after": "x"}, {"after": 2**53}, {"before": 1}, {"limit": 1}]
)
def test_a_proof_takes_nothing_but_a_version_behind_which_to_go_on(
    service: Service, query: dict[str, Any]
) -> None:
    backend = Backend(service)
    openid = new_account(service)
    seal_now(service)
    assert backend.get(f"{openid}/proof", **query).status_code == 400


def test_an_account_that_does_not_exist_is_404(service: Service) -> None:
    answer = Backend(service).get("oNobody-nobody-nobody-nobody/proof")
    assert (answer.status_code, answer.json()["code"]) == (404, "account-not-found")


def test_the_duty_to_seal_passes_on_when_a_worker_is_killed(new_service: Callable[..., Service]) -> None:
    """The one that takes its place begins with a seal, as every worker does soon after its start."""
    service = new_service(workers=1)
    new_account(service)
    seal_now(service)
    new_account(service)
    (worker,) = service.worker_pids()
    os.kill(worker, signal.SIGKILL)

    def sealed_since() -> bool:
        try:
            return seals(service)[0]["events"] == 4
        except requests.RequestException:
            return False  # nobody listens between the two workers

    until(sealed_since)
