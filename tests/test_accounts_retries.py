"""Whatever breaks between a request and its answer: sent again under the same key, it lands once. And races."""

import itertools
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.backend import WRITES, Backend, new_account, new_openid, prepared, raw_request, unproved
from tests.conftest import PATIENCE_S, Service

pytestmark = pytest.mark.usefixtures("within_a_day")

CHECKIN = "/v1/me/checkin"


class Write:
    """One write over HTTP, under one key, however often: its bytes, and what it comes to."""

    def __init__(self, service: Service, path: str) -> None:
        self.service, self.path = service, path
        self.backend = Backend(service)
        if path == CHECKIN:
            user = f"u{new_openid()[1:9]}".replace("-", "x")
            self.secret, self.openid, self.target = service.login(user), service.openid_of(user), path
        else:
            self.openid = prepared(service, path)
            self.secret, self.target = self.backend.secret, f"/v1/accounts/{self.openid}{path}"
        self.before = self.version()

    def version(self) -> int:
        return int(self.backend.account(self.openid)["version"])

    def request(self) -> bytes:
        headers = [("Authorization", f"Bearer {self.secret}"), ("Idempotency-Key", "k1")]
        body = b""
        if self.path != CHECKIN:
            headers.append(("Content-Type", "application/json"))
            body = json.dumps(WRITES[self.path]).encode()
        return raw_request("POST", self.target, headers, body)

    def send_and_hang_up(self, request: bytes, *, reset: bool = False, after_s: float = 0) -> None:
        """Send bytes and close without reading; `reset` says so with an RST."""
        with socket.create_connection(("127.0.0.1", self.service.port), timeout=PATIENCE_S) as client:
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client.sendall(request)
            time.sleep(after_s)

    def retry(self) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.secret}", "Idempotency-Key": "k1"}
        body = None if self.path == CHECKIN else WRITES[self.path]
        return requests.post(self.service.url + self.target, json=body, headers=headers, timeout=PATIENCE_S)

    def assert_landed_once(self) -> None:
        answers = [self.retry(), self.retry()]
        assert [answer.status_code for answer in answers] == [201, 201], answers[0].text
        assert answers[0].json() == answers[1].json()
        assert answers[1].headers["Idempotent-Replayed"] == "true"
        recorded = 2 if self.path == CHECKIN else 1  # a check-in is two events: the day, and what it earns
        assert self.version() == self.before + recorded
        assert answers[0].json()["event"]["version"] == self.before + recorded


@pytest.fixture(params=[*WRITES, CHECKIN])
def write(request: pytest.FixtureRequest, service: Service) -> Write:
    return Write(service, request.param)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_write_whose_answer_nobody_read_lands_once(write: Write, reset: bool) -> None:
    for after_s in (0, 0, 0.002, 0.02):
        write.send_and_hang_up(write.request(), reset=reset, after_s=after_s)
    write.assert_landed_once()


def test_a_write_that_broke_off_on_the_way_lands_once(write: Write) -> None:
    whole = write.request()
    head = whole.index(b"\r\n\r\n") + 4
    for cut in {10, head - 2, head, (head + len(whole)) // 2, len(whole) - 1} - {len(whole)}:
        write.send_and_hang_up(whole[:cut])
        write.send_and_hang_up(whole[:cut], reset=True)
    time.sleep(0.1)
    assert write.version() == write.before, "half of a request is none"
    write.assert_landed_once()


def test_a_write_sent_many_times_at_once_lands_once(write: Write) -> None:
    answers: list[requests.Response] = []
    at_once(12, lambda _: answers.append(write.retry()))
    assert {answer.status_code for answer in answers} == {201}
    assert len({unproved(answer) for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    write.assert_landed_once()


def test_a_write_that_met_kill_9_lands_once(new_service: Callable[..., Service]) -> None:
    """The worker dies with the request in its hands, recorded or not; the next one answers the retry."""
    service = new_service()
    for path, after_s in zip(WRITES, itertools.cycle((0.0005, 0.003, 0.01)), strict=False):
        write = Write(service, path)
        victims = service.worker_pids()
        write.send_and_hang_up(write.request(), after_s=after_s)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        service.wait_for_others(victims)
        wait_until_served(service)
        write.assert_landed_once()


def wait_until_served(service: Service) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if service.get("/readyz").status_code == 200:
                return
        except requests.RequestException:
            time.sleep(0.02)
    raise AssertionError(service.log)


def at_once(count: int, work: Callable[[int], Any]) -> None:
    """Run `work` in so many threads that start together."""
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_of_20_spends_of_10_on_100_credits_over_4_workers_exactly_10_succeed(
    new_service: Callable[..., Service],
) -> None:
    service = new_service(workers=4)
    backend = Backend(service)
    for _ in range(3):
        openid = new_account(service)
        answers: list[requests.Response] = []
        body = {"amount": 10, "reason": "order"}
        at_once(20, lambda _: answers.append(backend.post(f"{openid}/spends", body)))  # noqa: B023
        assert Counter(answer.status_code for answer in answers) == {201: 10, 409: 10}
        refused = [answer.json() for answer in answers if answer.status_code == 409]
        assert {problem["code"] for problem in refused} == {"insufficient-credit"}
        assert {(problem["available"], problem["asked"]) for problem in refused} == {(0, 10)}
        credits = sorted(answer.json()["credit"] for answer in answers if answer.status_code == 201)
        assert credits == list(range(0, 100, 10))
        account = backend.account(openid)
        assert (account["credit"], account["spent"], account["version"]) == (0, 100, 12)


def check_in(service: Service, token: str, key: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    return requests.post(service.url + CHECKIN, headers=headers, timeout=PATIENCE_S)


def test_twenty_taps_earn_once(new_service: Callable[..., Service]) -> None:
    service = new_service(workers=4)
    token = service.login("alice")
    answers: list[requests.Response] = []
    at_once(20, lambda number: answers.append(check_in(service, token, f"tap-{number}")))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 19}
    assert {answer.json().get("code") for answer in answers} == {None, "already-checked-in"}
    assert service.credit(token) == {"credit": 105}


def test_one_tap_that_is_sent_twenty_times_is_answered_twenty_times(
    new_service: Callable[..., Service],
) -> None:
    service = new_service(workers=4)
    token = service.login("alice")
    answers: list[requests.Response] = []
    at_once(20, lambda _: answers.append(check_in(service, token, "tap")))
    assert Counter(answer.status_code for answer in answers) == {201: 20}
    assert len({unproved(answer) for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 19
    assert service.credit(token) == {"credit": 105}


def test_two_captures_of_one_hold_spend_it_once(service: Service) -> None:
    backend, openid = Backend(service), new_account(service)
    hold = backend.hold(openid, 40)
    answers: list[requests.Response] = []
    ends = ["capture", "release"] * 5
    at_once(10, lambda n: answers.append(backend.post(f"{openid}/holds/{hold}/{ends[n]}", {"reason": "r"})))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 9}
    account = backend.account(openid)
    assert account["held"] == 0
    assert account["credit"] + account["spent"] == 100


def test_reversals_at_once_never_give_back_more_than_was_spent(service: Service) -> None:
    backend, openid = Backend(service), new_account(service)
    spend = backend.spend(openid, 50)
    answers: list[requests.Response] = []
    body = {"spend": spend, "amount": 20, "reason": "refund"}
    at_once(8, lambda _: answers.append(backend.post(f"{openid}/reversals", body)))
    assert Counter(answer.status_code for answer in answers) == {201: 2, 409: 6}
    assert backend.account(openid)["spent"] == 10
