"""The torture part `wechat` once, and what its checks say of answers that break a promise."""

import json
from pathlib import Path

import pytest

from tests.torture.raw_http import Answer
from tests.torture.round import Round
from tests.torture.wechat import told, wechat
from tests.torture.wechat_faults import FAULTS, QUICK


def test_a_round_with_a_wechat_that_fails_breaks_no_promise(tmp_path: Path) -> None:
    part = Round("5f1c/wechat/1", tmp_path, 1)
    wechat(part)
    assert part.broken == []
    assert part.tally["faults of WeChat"] >= len(QUICK) + 500
    assert part.tally["refused"] == part.tally["faults of WeChat"]
    assert part.tally["acknowledged"] >= 30
    assert part.tally["refused connections"]
    assert part.tally["clients that left"]
    assert part.tally["logins in a flood"] >= 500
    assert part.tally["reads of bystanders"] >= 50


def answer(status: int, media: str, **said: str) -> Answer:
    return Answer(status, {"content-type": media}, json.dumps(said).encode())


@pytest.mark.parametrize(
    "given",
    [
        None,
        Answer(502, {"content-type": "text/html"}, b"<html>"),
        answer(500, "application/problem+json", code="internal-error"),
        answer(200, "application/json", code="a-new-code", err="?"),
        answer(503, "application/json", code="wechat-busy", err="?"),
    ],
)
def test_a_login_that_is_told_what_is_not_documented_is_seen(given: Answer | None) -> None:
    assert told("/login", given) is None


def test_a_failure_has_the_status_that_is_documented() -> None:
    busy = answer(503, "application/problem+json", code="wechat-busy")
    assert told("/v1/sessions", busy) == (None, "wechat-busy")
    assert told("/v1/sessions", answer(502, "application/problem+json", code="wechat-busy")) is None
    assert told("/login", answer(200, "application/json", code="wechat-busy")) == (None, "wechat-busy")
    assert told("/login", answer(200, "application/json", token="t")) == ("t", None)


def test_every_fault_has_a_name_that_can_be_part_of_a_code() -> None:
    assert all(kind.replace("_", "").isalnum() and kind.isascii() for kind in FAULTS)
