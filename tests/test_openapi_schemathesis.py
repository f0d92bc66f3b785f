"""schemathesis against the running service: every operation of /openapi.json, with data that is right and data
that is wrong, and from one to the next over the document's links. All its checks are on.

What it cannot know of the service stands in tests/schemathesis_hooks.py.
"""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from api import access
from ledger.commands import (
    Command,
    FreezeAccount,
    GrantCredit,
    HoldCredit,
    RegisterUser,
    SpendCredit,
    Submission,
)
from ledger.committer import ledger_committer, microseconds_now
from ledger.statement import rfc3339
from tests.conftest import PATIENCE_S, ROOT, Sandbox, Service

pytest.importorskip("schemathesis", reason="the API was NOT tested by schemathesis: it is missing")

FAR_US = 4 * 10**15  # in the year 2096
LIVE, FROZEN = 3000, 500
# All but `max_response_time`, which is off without a figure, and what needs a file of several identities.
CHECKS = {
    "allow_header_conformance",
    "content_type_conformance",
    "ensure_resource_availability",
    "ignored_auth",
    "missing_required_header",
    "negative_data_rejection",
    "not_a_server_error",
    "object_level_authorization",
    "positive_data_acceptance",
    "response_headers_conformance",
    "response_schema_conformance",
    "status_code_conformance",
    "unsupported_method",
    "use_after_free",
}
CONFIG = """\
seed = 1
continue-on-failure = true
request-timeout = 20

[warnings]
fail-on = true

[generation]
deterministic = true
database = "none"
max-examples = 15

# Stricter than the defaults: 401 and 403 are no answer to what is right, and nothing wrong is a conflict.
# What is right by its schema can still be refused for what is in the ledger: 404, 409, 412.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 404, 409, 412]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 404, 405, 415, 422]
[checks.missing_required_header]
expected-statuses = [400, 401]

[phases.stateful]
max-steps = 10
[phases.stateful.generation]
mode = "positive"
max-examples = 40
# Only the links that the document has, none that schemathesis infers.
[phases.stateful.inference]
algorithms = []

[auth.openapi.token]
bearer = "{token}"
[auth.openapi.key]
bearer = "{key}"

# Whether a code of wx.login is one, WeChat alone knows.
[[operations]]
include-operation-id = "post_sessions"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", 401]
"""
# What undoes or ends what, by itself: with all the other operations beside them, chains of three are rare.
CHAINS = "^post_accounts_(grants|spends|holds|rev|freeze|unfreeze)"


class Call(NamedTuple):
    """One request that schemathesis made: `link` is the one it came over, `parent` the request before it."""

    id: str
    operation: str
    positive: bool
    status: int
    body: Any
    link: str | None
    parent: str | None


class Run(NamedTuple):
    output: str
    statuses: list[int]
    calls: dict[str, Call]
    checks: set[str]
    document: dict[str, Any]
    log: str


def history(openid: str) -> list[Command]:
    """What every account went through: a grant as event 3, a spend as 4, a hold as 5."""
    return [
        RegisterUser(openid, 100),
        GrantCredit(openid, 1000, "seed", "grant", None, FAR_US),
        SpendCredit(openid, 500, "seed", "spend"),
        HoldCredit(openid, 100, "seed", "hold", None, FAR_US),
    ]


def commit(path: Path, commands: list[Command]) -> None:
    committer = ledger_committer(path)
    for start in range(0, len(commands), 500):
        committer.commit([Submission(command, "rule:seed") for command in commands[start : start + 500]])
    committer.close()


def seed(service: Service) -> dict[str, Any]:
    """Accounts to be used up one by one, credentials with every right, and what the hooks must know of them."""
    live = [f"o-live-{number}" for number in range(LIVE)]
    frozen = [f"o-frozen-{number}" for number in range(FROZEN)]
    commands = [command for openid in live + frozen for command in history(openid)]
    commit(
        service.data / "ledger.db", commands + [FreezeAccount(openid, "seed", "freeze") for openid in frozen]
    )
    now_us = microseconds_now()
    committer = access.access_committer(service.data / "access.db")
    scopes = frozenset({"read", "grant", "spend", "operate", "audit"})
    create = partial(access.create_key, name="st", scopes=scopes, now_us=now_us, expires_at_us=FAR_US)
    ((_, key),) = committer.commit([create])
    committer.close()
    return {
        "url": service.url,
        "token": service.login("st"),
        "key": key,
        "live": live,
        "frozen": frozen,
        "events": {"grant": 3, "spend": 4, "hold": 5},
        "seeded_at": rfc3339(now_us),
    }


def half(world: dict[str, Any], number: int) -> dict[str, Any]:
    """What each of two runs gets: accounts that the other one does not touch, and keys that it does not use."""
    unused = {kind: world[kind][number::2] for kind in ("live", "frozen")}
    return world | unused | {"first_number": 1 + number * 1_000_000}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Run]:
    place = tmp_path_factory.mktemp("schemathesis")
    service = Service(place / "data", sandbox.url)
    service.environ |= dict.fromkeys(("CREDIT_RATE_KEY", "CREDIT_RATE_TOKEN", "CREDIT_RATE_LOGIN"), "off")
    service.start()
    try:
        world = seed(service)
        config = CONFIG.replace("{token}", world["token"]).replace("{key}", world["key"])
        (place / "schemathesis.toml").write_text(config)
        document = requests.get(f"{service.url}/openapi.json", timeout=PATIENCE_S).json()
        whole = schemathesis(place, half(world, 0))
        chains = schemathesis(
            place, half(world, 1), "--phases", "stateful", "--include-operation-id-regex", CHAINS
        )
        calls, checks = read(place, document)
        output = "\n".join(done.stdout + done.stderr for done in (whole, chains))
        yield Run(output, [whole.returncode, chains.returncode], calls, checks, document, service.log)
    finally:
        service.stop()


def schemathesis(place: Path, world: dict[str, Any], *options: str) -> "subprocess.CompletedProcess[str]":
    """Run it, and add what it did to report.ndjson."""
    (place / "world.json").write_text(json.dumps(world))
    command = [Path(sys.executable).with_name("st"), "--config-file", "schemathesis.toml"]
    command += [
        "run",
        f"{world['url']}/openapi.json",
        "--report",
        "ndjson",
        "--report-ndjson-path",
        "latest.ndjson",
    ]
    environ = {
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks",
        "SCHEMATHESIS_WORLD": str(place / "world.json"),
    }
    done = subprocess.run(
        [*command, *options], cwd=place, env=os.environ | environ, capture_output=True, text=True, timeout=1800
    )
    with (place / "report.ndjson").open("ab") as report:
        report.write((place / "latest.ndjson").read_bytes())
    return done


def read(place: Path, document: dict[str, Any]) -> tuple[dict[str, Call], set[str]]:
    names = {
        f"{method.upper()} {path}": operation["operationId"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    calls, checks = {}, set()
    for line in (place / "report.ndjson").read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for number, case in recorder.get("cases", {}).items():
            made, transition = case["value"], case.get("transition")
            answer = recorder.get("interactions", {}).get(number, {}).get("response")
            name = names.get(f"{made['method']} {made['path']}")
            if answer is None or name is None or "meta" not in made:
                continue
            link = transition["id"] if transition and case["is_transition_applied"] else None
            positive = made["meta"]["generation"]["mode"] == "positive"
            parent, body = case.get("parent_id"), made.get("body")
            calls[number] = Call(number, name, positive, answer["status_code"], body, link, parent)
        checks |= {check["name"] for done in recorder.get("checks", {}).values() for check in done}
    return calls, checks


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def test_nothing_that_schemathesis_knows_to_check_fails(run: Run) -> None:
    assert run.statuses == [0, 0], run.output
    assert "unexpected error" not in run.log
    tested = re.search(r"Selected: (\d+)/(\d+)\s+Tested: (\d+)", run.output)
    assert tested is not None, run.output
    assert set(tested.groups()) == {str(len(operations(run.document)))}


def test_all_checks_were_made(run: Run) -> None:
    assert run.checks >= CHECKS, run.output


def test_every_operation_did_what_it_is_for(run: Run) -> None:
    """A run in which all is refused would pass as well."""
    done = {call.operation for call in run.calls.values() if call.positive and call.status < 300}
    assert done == {operation["operationId"] for operation in operations(run.document)}


def test_wrong_bodies_were_refused_for_what_is_wrong_with_them(run: Run) -> None:
    """And not before, for an account that does not exist or a header that is wrong too."""
    refused: dict[str, set[int]] = defaultdict(set)
    for call in run.calls.values():
        if not call.positive:
            refused[call.operation].add(call.status)
    json_bodies = {
        operation["operationId"]
        for operation in operations(run.document)
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    assert {operation for operation in json_bodies if not {415, 422} <= refused[operation]} == set()


def test_links_were_followed_to_what_they_promise(run: Run) -> None:
    followed = {
        (run.calls[call.parent].operation, call.operation)
        for call in run.calls.values()
        if call.link is not None and call.parent in run.calls and call.status in (200, 201)
    }
    assert followed >= {
        ("get_accounts", "get_accounts_events"),
        ("get_accounts", "post_accounts_freeze"),
        ("get_accounts", "post_accounts_grants"),
        ("get_accounts", "post_accounts_holds"),
        ("get_accounts", "post_accounts_spends"),
        ("post_accounts_freeze", "post_accounts_unfreeze"),
        ("post_accounts_grants", "post_accounts_revocations"),
        ("post_accounts_holds", "get_accounts"),
        ("post_accounts_holds", "post_accounts_holds_capture"),
        ("post_accounts_holds", "post_accounts_holds_release"),
        ("post_accounts_spends", "post_accounts_reversals"),
    }


def test_a_purchase_was_made_and_undone_over_links_alone(run: Run) -> None:
    """Hold, capture, reverse: each from what the one before it answered."""
    for call in run.calls.values():
        chain = []
        step: Call | None = call
        while step is not None and step.status == 201:
            chain.append(step.operation)
            step = run.calls.get(step.parent or "") if step.link else None
        if chain[:3] == ["post_accounts_reversals", "post_accounts_holds_capture", "post_accounts_holds"]:
            return
    pytest.fail(f"no hold was captured and the capture reversed over links:\n{run.output}")
