"""`POST /v1/grants`: many lines in, an answer to each out, in order, in flat memory, once however often."""

import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from api import access
from ledger.commands import FreezeAccount, RegisterUser
from ledger.committer import microseconds_now
from ledger.events import MAX_CREDIT
from ledger.sqlite import connect
from ledger.verify import audit
from tests.backend import Backend, change_access, happened, new_account, new_api_key, new_key, new_openid
from tests.conftest import PATIENCE_S, Service

NDJSON = "application/x-ndjson"


@pytest.fixture
def secret(service: Service) -> str:
    return new_key(service, "grant")


def line(openid: str, key: str, amount: int = 1, **more: object) -> bytes:
    return json.dumps({"openid": openid, "key": key, "amount": amount, "reason": "r", **more}).encode()


def post(
    service: Service,
    secret: str,
    body: bytes | Iterator[bytes],
    content_type: str | None = NDJSON,
    **query: object,
) -> requests.Response:
    """Send all of it, then read all of the answers."""
    headers = {"Authorization": f"Bearer {secret}"}
    if content_type is not None:
        headers["Content-Type"] = content_type
    return requests.post(f"{service.url}/v1/grants", data=body, headers=headers, params=query, timeout=60)


def answers_to(service: Service, secret: str, *lines: bytes, **query: object) -> list[dict[str, Any]]:
    answer = post(service, secret, b"\n".join(lines), **query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == NDJSON
    assert answer.text.endswith("\n") or not answer.text
    said = [json.loads(text) for text in answer.text.splitlines()]
    for each in said:  # what a receipt is worth, tests/test_receipts.py says
        receipt = each.pop("receipt", None)
        assert (receipt is not None) == (each["status"] == 201)
        assert receipt is None or (receipt["version"], receipt["credit"]) == (each["version"], each["credit"])
    return said


def test_each_line_is_answered_in_order_and_by_its_number(service: Service, secret: str) -> None:
    one, two, nobody = new_account(service), new_account(service, 0), new_openid()
    frozen = new_account(service)
    happened(service, FreezeAccount(frozen, "r", "f"))
    said = answers_to(
        service,
        secret,
        line(one, "a", 5),  # 1
        b"",
        line(two, "a", 7, expires_at="2126-01-01T00:00:00Z", reference="spring"),
        b"{",
        line(nobody, "a"),  # 5
        b"   ",
        line(one, "a", 5),
        line(one, "a", 6),
        b'["x"]',
        line(one, "b", 0),  # 10
        line(one, "b c"),
        b'{"openid":"x"}',
        line(two, "b", MAX_CREDIT),
        line(frozen, "a"),
        b"\xff\xfe",  # 15
        line(one, "c", 1, extra=1),
        line("not.an.openid", "a"),
        line(one, "d", 2, expires_at="2020-01-01T00:00:00Z"),
        b"[" * 3000,
        line(one, "e", 3) + b"\r",  # 20
        line(two, "c", 1),
    )
    details = {answer["line"]: answer.pop("detail", None) for answer in said}
    assert said == [
        {"line": 1, "status": 201, "openid": one, "version": 3, "credit": 105},
        {"line": 3, "status": 201, "openid": two, "version": 2, "credit": 7},
        {"line": 4, "status": 400, "code": "malformed-json"},
        {"line": 5, "status": 404, "openid": nobody, "code": "account-not-found"},
        {"line": 7, "status": 201, "openid": one, "version": 3, "credit": 105, "replayed": True},
        {"line": 8, "status": 422, "openid": one, "code": "key-reused"},
        {"line": 9, "status": 422, "code": "invalid-body"},
        {"line": 10, "status": 422, "code": "invalid-body"},
        {"line": 11, "status": 422, "code": "invalid-body"},
        {"line": 12, "status": 422, "code": "invalid-body"},
        {"line": 13, "status": 409, "openid": two, "code": "credit-limit-exceeded"},
        {"line": 14, "status": 409, "openid": frozen, "code": "account-frozen"},
        {"line": 15, "status": 400, "code": "malformed-json"},
        {"line": 16, "status": 422, "code": "invalid-body"},
        {"line": 17, "status": 422, "code": "invalid-body"},
        {"line": 18, "status": 409, "openid": one, "code": "not-in-future"},
        {"line": 19, "status": 422, "code": "invalid-body"},
        {"line": 20, "status": 201, "openid": one, "version": 4, "credit": 108},
        {"line": 21, "status": 201, "openid": two, "version": 3, "credit": 8},
    ]
    assert all(bool(details[answer["line"]]) == (answer["status"] >= 400) for answer in said)
    event = Backend(service, "read").events(two)[1]
    assert (event["type"], event["data"]["reference"]) == ("CreditGranted", "spring")


def test_a_line_is_the_same_grant_as_the_single_route_makes(service: Service, secret: str) -> None:
    openid, backend = new_account(service), Backend(service, "grant", "read")
    backend.write(f"{openid}/grants", {"amount": 5, "reason": "r"}, key="k1")
    (answer,) = answers_to(service, secret, line(openid, "k1", 5))
    assert answer["replayed"] is True
    assert backend.account(openid)["version"] == 3


def test_a_key_that_operates_grants_to_the_frozen(service: Service) -> None:
    openid = new_account(service)
    happened(service, FreezeAccount(openid, "r", "f"))
    (answer,) = answers_to(service, new_key(service, "grant", "operate"), line(openid, "a"))
    assert answer["status"] == 201


@pytest.mark.parametrize("body", [b"", b"\n", b"\n\n \n\t\n", b"\r\n"])
def test_nothing_is_answered_with_nothing(service: Service, secret: str, body: bytes) -> None:
    answer = post(service, secret, body)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("pieces", ["whole", "cut"])
def test_a_line_that_is_too_long_is_refused_by_itself(service: Service, secret: str, pieces: str) -> None:
    """However it was cut into pieces on its way; and the lines behind it are taken."""
    openid = new_account(service)
    padding = b" " * (4096 - len(line(openid, "just")))
    lines = [
        line(openid, "a"),
        line(openid, "just") + padding,
        line(openid, "over") + padding + b" ",
        line(openid, "far") + b" " * 300_000,
        b"x" * 200_000,
        line(openid, "z"),
    ]
    body = b"\n".join(lines)
    if pieces == "whole":
        answer = post(service, secret, body)
    else:
        answer = post(service, secret, iter([body[at : at + 1500] for at in range(0, len(body), 1500)]))
    said = [json.loads(text) for text in answer.text.splitlines()]
    assert [(each["line"], each["status"], each.get("code")) for each in said] == [
        (1, 201, None),
        (2, 201, None),
        (3, 413, "line-too-long"),
        (4, 413, "line-too-long"),
        (5, 413, "line-too-long"),
        (6, 201, None),
    ]


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n\n"])
def test_a_hundred_thousand_lines_are_taken(service: Service, secret: str, end: bytes) -> None:
    answer = post(service, secret, b"\n".join([b"0"] * 100_000) + end)
    last = json.loads(answer.text.splitlines()[-1])
    assert (last["line"], last["code"]) == (100_000, "invalid-body")
    assert answer.text.count("\n") == 100_000


@pytest.mark.parametrize("more", [1, 60_000])
def test_more_than_a_hundred_thousand_are_not_and_the_answer_says_where_it_stopped(
    service: Service, secret: str, more: int
) -> None:
    """Also to a client that sends all of it, some megabytes too much, before it reads a word."""
    stream = Stream(service, secret, buffer=65536)

    def send() -> None:
        stream.send([b"0"] * 100_000 + [b" " * 100 + b"0"] * more)
        stream.end()

    sending = threading.Thread(target=send)
    sending.start()
    sending.join(600)
    assert not sending.is_alive(), "the service does not let it send what is too much"
    numbers = [(answer["line"], answer["code"]) for answer in stream.answers()]
    assert numbers[:-1] == [(line, "invalid-body") for line in range(1, 100_001)]
    assert numbers[-1] == (100_001, "too-many-lines")
    stream.hang_up()


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "text/plain", "application/x-www-form-urlencoded"]
)
def test_another_media_type_is_a_415(service: Service, secret: str, content_type: str | None) -> None:
    openid = new_account(service)
    answer = post(service, secret, line(openid, "a"), content_type)
    assert (answer.status_code, answer.json()["code"]) == (415, "not-ndjson")
    assert Backend(service, "read").account(openid)["version"] == 2
    assert post(service, secret, b"", "Application/X-NDJSON; charset=utf-8").status_code == 200


@pytest.mark.parametrize(
    ("query", "code"), [("dryrun=true", "unknown-parameter"), ("dry_run=1", "invalid-parameter")]
)
def test_a_misspelt_dry_run_grants_nothing(service: Service, secret: str, query: str, code: str) -> None:
    openid = new_account(service)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": NDJSON}
    answer = requests.post(
        f"{service.url}/v1/grants?{query}", data=line(openid, "a"), headers=headers, timeout=PATIENCE_S
    )
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert Backend(service, "read").account(openid)["version"] == 2


def test_a_dry_run_answers_as_the_real_one_and_records_nothing(service: Service, secret: str) -> None:
    openid, nobody = new_account(service), new_openid()
    lines = [line(openid, "a", 5), line(nobody, "a"), b"x", line(openid, "a", 5)]
    said = answers_to(service, secret, *lines, dry_run="true")
    assert [answer["status"] for answer in said] == [200, 404, 400, 200]
    assert said[0] == {"line": 1, "status": 200, "openid": openid, "version": 3, "credit": 105}
    assert Backend(service, "read").account(openid)["version"] == 2
    real = answers_to(service, secret, *lines)
    assert [answer["status"] for answer in real] == [201, 404, 400, 201]
    assert "replayed" not in real[0]
    (dry,) = answers_to(service, secret, line(openid, "a", 5), dry_run="true")
    assert dry == {"line": 1, "status": 201, "openid": openid, "version": 3, "credit": 105, "replayed": True}


# -- many ----------------------------------------------------------------------------------------------


def accounts(service: Service, count: int) -> list[str]:
    openids = [new_openid() for _ in range(count)]
    happened(service, *(RegisterUser(openid, 0) for openid in openids))
    return openids


def campaign(openids: list[str], count: int) -> list[bytes]:
    """So many lines of one credit each, to one account after the other."""
    return [line(openids[number % len(openids)], f"campaign-{number}") for number in range(count)]


def credit_of_all(service: Service) -> tuple[int, int]:
    """What all accounts have, and how many keys were used."""
    connection = connect(service.data / "ledger.db", read_only=True)
    (credit,) = connection.execute("SELECT sum(credit) FROM account").fetchone()
    (keys,) = connection.execute("SELECT count(*) FROM event WHERE key IS NOT NULL").fetchone()
    connection.close()
    return int(credit), int(keys)


def test_run_again_every_line_is_replayed_and_nothing_changes(new_service: Callable[..., Service]) -> None:
    service = new_service()
    secret, openids = new_key(service, "grant"), accounts(service, 50)
    lines = campaign(openids, 3000)
    first = answers_to(service, secret, *lines)
    assert [answer["status"] for answer in first] == [201] * 3000
    assert not any("replayed" in answer for answer in first)
    assert credit_of_all(service) == (3000, 3000)
    again = answers_to(service, secret, *lines)
    assert again == [{**answer, "replayed": True} for answer in first]
    assert credit_of_all(service) == (3000, 3000)
    assert service.stop() == 0
    report = audit(service.data / "ledger.db")
    assert report.good, report.faults


class Stream:
    """A bulk request by hand: sends when told, reads when told."""

    def __init__(self, service: Service, secret: str, buffer: int | None = None) -> None:
        self.client = socket.socket()
        if buffer is not None:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.client.settimeout(PATIENCE_S)
        self.client.connect(("127.0.0.1", service.port))
        self.client.sendall(
            f"POST /v1/grants HTTP/1.1\r\nHost: tests\r\nAuthorization: Bearer {secret}\r\n"
            f"Content-Type: {NDJSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        self._file = self.client.makefile("rb")
        self._in_body = False

    def send(self, lines: list[bytes]) -> None:
        for at in range(0, len(lines), 500):
            piece = b"".join(each + b"\n" for each in lines[at : at + 500])
            self.client.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")

    def end(self) -> None:
        self.client.sendall(b"0\r\n\r\n")

    def answers(self) -> Iterator[dict[str, Any]]:
        """The answers as they come, to the end of the response."""
        left = b""
        for piece in self._pieces():
            *whole, left = (left + piece).split(b"\n")
            for each in whole:
                yield json.loads(each)
        assert not left

    def _pieces(self) -> Iterator[bytes]:
        if not self._in_body:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                got = self._file.readline()
                assert got, head
                head += got
            assert head.startswith(b"HTTP/1.1 200"), head
            self._in_body = True
        while size := int(self._file.readline() or b"0", 16):
            piece = self._file.read(size)
            self._file.readline()
            yield piece

    def hang_up(self) -> None:
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._file.close()
        self.client.close()


def test_answers_come_while_lines_are_still_being_sent(service: Service, secret: str) -> None:
    openids = accounts(service, 5)
    lines = campaign(openids, 4000)
    stream = Stream(service, secret)
    stream.send(lines[:3000])
    answers = stream.answers()
    first = [next(answers) for _ in range(500)]
    assert [answer["line"] for answer in first] == list(range(1, 501))
    stream.send(lines[3000:])
    stream.end()
    assert [answer["line"] for answer in answers] == list(range(501, 4001))
    stream.hang_up()


def test_a_client_may_wait_for_each_answer_before_it_sends_the_next_line(service: Service, secret: str) -> None:
    openid = new_account(service)
    stream = Stream(service, secret)
    answers = stream.answers()
    for number in range(1, 6):
        stream.send([line(openid, f"k{number}")])
        answer = next(answers)
        # Had it waited for lines that nobody was going to send, the second would be a 408.
        assert (answer["line"], answer["status"], answer["credit"]) == (number, 201, 100 + number)
    stream.end()
    assert list(answers) == []
    stream.hang_up()


def test_a_key_that_is_revoked_grants_no_further_line(service: Service) -> None:
    """Also on a stream that was opened before."""
    openid = new_account(service)
    key, secret = new_api_key(service, "grant")
    stream = Stream(service, secret)
    answers = stream.answers()
    stream.send([line(openid, "before")])
    assert next(answers)["status"] == 201
    change_access(service, partial(access.revoke_key, key_id=key.id, now_us=microseconds_now()))
    stream.send([line(openid, "after 1"), line(openid, "after2")])
    stream.end()
    assert [(answer["line"], answer["status"], answer["code"]) for answer in answers] == [
        (2, 401, "invalid-key")
    ]
    assert Backend(service).account(openid)["credit"] == 101
    stream.hang_up()


def resident(pid: int) -> float:
    """MiB of memory that a process has to itself or shares."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(each for each in status.splitlines() if each.startswith("VmRSS")).split()[1]) / 1024


@pytest.mark.parametrize(
    ("client", "count"), [("reads while it sends", 100_000), ("sends everything first", 60_000)]
)
def test_a_hundred_thousand_lines_take_no_more_memory_than_a_few(
    new_service: Callable[..., Service], client: str, count: int
) -> None:
    """The answers, megabytes, fit in no socket's buffers: who reads late must not stop the service."""
    service = new_service(workers=1)
    secret, openids = new_key(service, "grant"), accounts(service, 100)
    (pid,) = service.worker_pids()
    answers_to(service, secret, *campaign(openids, 5000))
    before, most, done = resident(pid), 0.0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.05):
            most = max(most, resident(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    stream = Stream(service, secret, buffer=65536)
    lines = campaign(openids, count)

    def send() -> None:
        stream.send(lines)
        stream.end()

    try:
        sending = threading.Thread(target=send)
        sending.start()
        if client == "sends everything first":
            sending.join(600)
            assert not sending.is_alive(), "the service does not read on while nobody reads its answers"
        size = number = 0
        for number, answer in enumerate(stream.answers(), 1):
            assert (answer["line"], answer["status"]) == (number, 201)
            size += len(json.dumps(answer)) - 7
        assert number == count
        sending.join(600)
    finally:
        done.set()
        watching.join()
        stream.hang_up()
    assert size > 5_000_000
    assert credit_of_all(service) == (count, count)
    assert most - before < 20, f"{before:.0f} MiB before, up to {most:.0f} while it ran"
    assert service.stop() == 0


def test_a_client_that_hangs_up_runs_it_again_and_every_key_lands_once(
    new_service: Callable[..., Service],
) -> None:
    service = new_service()
    secret, openids = new_key(service, "grant"), accounts(service, 20)
    lines = campaign(openids, 6000)
    answered: list[dict[str, Any]] = []
    for sent, read in ((6000, 700), (3500, 10), (2000, 0)):
        stream = Stream(service, secret)
        stream.send(lines[:sent])
        answers = stream.answers()
        answered += [next(answers) for _ in range(read)]
        stream.hang_up()
    last = answers_to(service, secret, *lines)
    assert [answer["status"] for answer in last] == [201] * 6000
    by_line = {answer["line"]: answer["version"] for answer in last}
    assert all(by_line[answer["line"]] == answer["version"] for answer in answered), "what was answered was so"
    assert all(answer["replayed"] for answer in last[:700])
    assert credit_of_all(service) == (6000, 6000)
    assert "unexpected error" not in service.log
    assert service.get("/healthz").status_code == 200


def test_a_worker_that_is_killed_loses_no_answered_line(new_service: Callable[..., Service]) -> None:
    service = new_service(workers=1)
    secret, openids = new_key(service, "grant"), accounts(service, 20)
    lines = campaign(openids, 20_000)
    stream = Stream(service, secret)
    # The last line is not sent: however fast it is, it is not done when it is killed.
    sending = threading.Thread(target=lambda: _until_broken(lambda: stream.send(lines[:-1])))
    sending.start()
    answers = stream.answers()
    answered = [next(answers) for _ in range(1500)]
    (pid,) = service.worker_pids()
    os.kill(pid, signal.SIGKILL)
    with suppress(OSError, ValueError, AssertionError):  # it broke off somewhere
        answered += answers
    sending.join()
    assert 1500 <= len(answered) < 20_000
    deadline = time.monotonic() + PATIENCE_S
    while service.worker_pids() in ([], [pid]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    last = answers_to(service, secret, *lines)
    assert [answer["status"] for answer in last] == [201] * 20_000
    assert all(last[n].get("replayed") for n in range(len(answered))), "an answered line was lost"
    assert [answer["version"] for answer in answered] == [answer["version"] for answer in last[: len(answered)]]
    assert credit_of_all(service) == (20_000, 20_000)


def _until_broken(work: Callable[[], None]) -> None:
    try:
        work()
    except OSError:
        return


def test_half_a_line_is_no_line(service: Service, secret: str) -> None:
    """The client is gone in the middle of a line; what stands there must not be taken for all of it."""
    openid = new_account(service)
    whole = line(openid, "a", 100_000)
    for cut in range(1, len(whole), 9):
        stream = Stream(service, secret)
        piece = line(openid, "before") + b"\n" + whole[:cut]
        stream.client.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        stream.hang_up() if cut % 2 else stream.client.close()
    time.sleep(0.3)
    events = Backend(service, "read").events(openid)
    assert [event["data"].get("amount") for event in events if event["type"] == "CreditGranted"] in (
        [1, 100],
        [100],
    )


def test_two_at_once_and_single_grants_between_them_are_all_served(service: Service, secret: str) -> None:
    openids, backend = accounts(service, 10), Backend(service)
    results: dict[str, list[int]] = {}

    def run(name: str) -> None:
        lines = [line(openids[n % 10], f"{name}-{n}") for n in range(4000)]
        results[name] = [answer["status"] for answer in answers_to(service, secret, *lines)]

    threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    granted = 0
    while any(thread.is_alive() for thread in threads):
        backend.grant(openids[0], 1, reference=secrets.token_hex(4))
        granted += 1
    for thread in threads:
        thread.join()
    assert results == {"a": [201] * 4000, "b": [201] * 4000}
    assert granted > 3, "a single grant waits for a commit or two, not for the whole of a bulk request"


def test_a_line_without_end_takes_no_memory(new_service: Callable[..., Service]) -> None:
    service = new_service(workers=1)
    secret, openid = new_key(service, "grant"), new_account(service)
    (pid,) = service.worker_pids()
    answers_to(service, secret, line(openid, "a"))
    before = resident(pid)
    stream = Stream(service, secret)
    for _ in range(1000):
        stream.client.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    assert resident(pid) - before < 20
    stream.send([b"", line(openid, "b")])
    stream.end()
    assert [(answer["line"], answer["status"]) for answer in stream.answers()] == [(1, 413), (2, 201)]
    stream.hang_up()


def test_a_client_that_stops_sending_is_told_where(service: Service, secret: str) -> None:
    """After 20 s; what it had sent is granted and answered."""
    openid = new_account(service)
    stream = Stream(service, secret)
    stream.send([line(openid, "a"), line(openid, "b")])
    started = time.monotonic()
    said = [(answer["line"], answer["status"], answer.get("code")) for answer in stream.answers()]
    assert said == [(1, 201, None), (2, 201, None), (3, 408, "body-timeout")]
    assert time.monotonic() - started > 15
    stream.hang_up()
