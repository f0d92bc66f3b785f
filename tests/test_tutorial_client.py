"""The tutorial's client under Node: this server replaces the tutorial's, and the client must not notice."""

import json
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Sandbox, Service

RUN = Path(__file__).parent / "tutorial" / "run.js"
NOBODY = "用户不存在，或未登录。"

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")


def run(service: Service, sandbox: Sandbox, code: str, stored: str | None = None, user: str = "tutor") -> Any:
    arguments = ["node", str(RUN), service.url, sandbox.url, user, code]
    if stored is not None:
        arguments.append(stored)
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_logs_in_at_launch_reads_100_credits_and_sends_its_profile(
    service: Service, sandbox: Sandbox
) -> None:
    user = f"t{secrets.token_hex(4)}"
    told = run(service, sandbox, sandbox.code(user), user=user)
    assert told["log"] == ["is_login: false", 'credit: {"credit":100}', 'userinfo: {"pass":true}']
    assert len(told["token"]) == 43
    assert set(told["statuses"]) == {200}


def test_a_stored_token_is_good_at_the_next_launch(service: Service, sandbox: Sandbox) -> None:
    user = f"t{secrets.token_hex(4)}"
    first = run(service, sandbox, sandbox.code(user), user=user)
    unused = sandbox.code(user)
    again = run(service, sandbox, unused, stored=first["token"], user=user)
    assert again["log"][:2] == ["is_login: true", 'credit: {"credit":100}']
    assert again["token"] == first["token"]
    assert sandbox.calls(unused) == 0, "it did not log in again"


@pytest.mark.parametrize("stored", ["undefined", "null", "__proto__", "1795373553310"])
def test_a_token_that_is_none_makes_it_log_in(service: Service, sandbox: Sandbox, stored: str) -> None:
    user = f"t{secrets.token_hex(4)}"
    told = run(service, sandbox, sandbox.code(user), stored=stored, user=user)
    assert told["log"][:2] == ["is_login: false", 'credit: {"credit":100}']


@pytest.mark.parametrize("code", ["fault-40029-x", "fault-40226-x", "fault-busy-x", "fault-html-x"])
def test_a_refused_login_leaves_it_logged_out(service: Service, sandbox: Sandbox, code: str) -> None:
    """It stores the token it did not get as `undefined`, and then asks for the credit of that."""
    told = run(service, sandbox, f"{code}{secrets.token_hex(4)}")
    assert told["token"] == "undefined"
    assert told["log"][1:] == [f'credit: {{"err":"{NOBODY}"}}', f'userinfo: {{"err":"{NOBODY}"}}']
    assert set(told["statuses"]) == {200}
    relaunched = run(service, sandbox, f"{code}{secrets.token_hex(4)}", stored="undefined")
    assert relaunched["log"][0] == "is_login: false"


def test_a_login_without_any_code_is_a_problem_and_no_login(service: Service, sandbox: Sandbox) -> None:
    told = run(service, sandbox, "undefined")
    assert told["token"] == "undefined"
    assert told["statuses"][0] == 422
