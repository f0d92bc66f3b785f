"""The torture part `hostile-http` once, and what its checks say of answers and ledgers that break a promise."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.conftest import register
from tests.torture.aftermath import (
    MIB,
    Burden,
    Expected,
    Latencies,
    expect_flat,
    expect_ledger,
    expect_quiet,
    expect_unhindered,
)
from tests.torture.answers import Books, what_is_wrong
from tests.torture.hostile_http import hostile_http
from tests.torture.hostile_requests import Hostile, Hostility, Owner
from tests.torture.raw_http import Answer, NotHttp, ask
from tests.torture.round import Round

PROBLEM = {"content-type": "application/problem+json"}
GET = b"GET /credit HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def part(tmp_path: Path) -> Round:
    return Round("5f1c/hostile-http/1", tmp_path, 1)


def test_a_round_of_hostile_requests_breaks_no_promise(part: Round) -> None:
    hostile_http(part, wait_for_the_slow=False)
    assert part.broken == []
    assert part.tally["generated requests"] >= 400
    assert part.tally["half-sent requests"] == 1000
    assert part.tally["acknowledged"] >= 50
    assert part.tally["refused"] >= 500
    assert part.tally["unknown"] <= part.tally["acknowledged"] / 4
    for what in ("listed requests", "smuggling attempts", "pipelined requests", "big answers unread"):
        assert part.tally[what] >= 50, what


def test_hostile_requests_come_from_the_seed_and_are_of_every_kind() -> None:
    owner = Owner("oA", "t" * 43, "ck_" + "0" * 12 + "_" + "k" * 43)
    one, same, other = (Hostility(Random(seed), owner) for seed in (1, 1, 2))
    made = [one.next() for _ in range(500)]
    assert made == [same.next() for _ in range(500)]
    assert made != [other.next() for _ in range(500)]
    assert len({hostile.kind for hostile in made}) == 9
    assert {hostile.may_write for hostile in made} == {0, 1, 2}


@pytest.mark.parametrize(
    ("raw", "may_write"),
    [
        (GET, 1),
        (GET[:-1], 0),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", 0),
        (b"POST / HTTP/1.1\r\ncontent-length:3\r\n\r\nabc", 1),
        (b"POST / HTTP/1.1\r\nContent-Type: application/x-ndjson\r\nContent-Length: 9\r\n\r\n{}", 2),
    ],
)
def test_a_request_that_is_cut_short_may_write_nothing(raw: bytes, may_write: int) -> None:
    assert Hostile("", raw).may_write == may_write


def problem(status: int, says: int | None = None, code: str = "c", **headers: str) -> Answer:
    said = {"status": says or status, "code": code, "title": "t", "detail": "d"}
    return Answer(status, PROBLEM | headers, json.dumps(said).encode())


@pytest.mark.parametrize(
    "answer",
    [
        problem(500),
        problem(503),
        Answer(501, {}, b""),
        Answer(302, {"location": "/"}, b""),
        Answer(422, {"content-type": "text/html"}, b""),
        Answer(422, PROBLEM, b"not JSON"),
        problem(422, says=400),
        problem(422, code=""),
    ],
)
def test_an_answer_that_breaks_a_promise_is_seen(answer: Answer) -> None:
    assert what_is_wrong(GET, answer)


@pytest.mark.parametrize(
    "answer", [Answer(200, {}, b""), problem(404), Answer(431, {}, b""), problem(503, **{"retry-after": "1"})]
)
def test_an_answer_that_may_be_given_is_passed(answer: Answer) -> None:
    assert what_is_wrong(GET, answer) is None


def written(version: int, **headers: str) -> Answer:
    return Answer(201, headers, json.dumps({"event": {"version": version}}).encode())


def test_the_books_see_what_was_written_for_nobody_or_answered_twice() -> None:
    books = Books(version=3)
    for answer in (written(4), written(5), Answer(201, {}, b'{"event": {"version": 6}, "dry_run": true}')):
        books.enter(answer)
    books.enter(written(4, **{"idempotent-replayed": "true"}))
    lines = b'{"line":1,"status":201,"version":6}\n{"line":2,"status":201,"version":6,"replayed":true}\n'
    books.enter(Answer(200, {"content-type": "application/x-ndjson"}, lines))
    assert books.wrong(6) == []
    assert "answered to nobody" in books.wrong(7)[0]
    assert "ends at 5" in books.wrong(5)[0]
    books.unknown = 1
    assert books.wrong(7) == []
    books.enter(written(5))
    assert "two requests" in books.wrong(6)[0]


def test_an_event_that_was_not_answered_for_is_seen(part: Round, ledger_path: Path) -> None:
    register(ledger_path, "oAlice", "oBob")
    expect_ledger(part, ledger_path.parent, Expected(events=4, accounts=2, outstanding=200))
    assert part.broken == []
    expect_ledger(part, ledger_path.parent, Expected(events=2, accounts=1, outstanding=100))
    assert len(part.broken) == 3


def test_a_worker_that_grew_or_died_is_seen(part: Round) -> None:
    was = Burden(resident=60 * MIB, peak=60 * MIB, descriptors=40, threads=5)
    bound = {"more_memory": 10 * MIB, "more_peak": 20 * MIB}
    for now in (
        {1: Burden(71 * MIB, 71 * MIB, 40, 5)},
        {1: Burden(60 * MIB, 90 * MIB, 40, 5)},
        {1: Burden(60 * MIB, 60 * MIB, 100, 5)},
        {2: was},
    ):
        before = len(part.broken)
        expect_flat(part, {1: was}, now, **bound)
        assert len(part.broken) == before + 1
    expect_flat(part, {1: was}, {1: Burden(69 * MIB, 70 * MIB, 45, 9)}, **bound)
    assert len(part.broken) == 4


def test_a_bystander_who_waits_and_a_log_with_an_alarm_are_seen(part: Round) -> None:
    quiet, lines = Latencies([0.002] * 9, [0.0001] * 9), [0.0001] * 9
    expect_unhindered(part, "a crowd", quiet, Latencies([0.04] * 9, lines))
    expect_unhindered(part, "a crowd on a machine that does more", quiet, Latencies([0.06] * 9, [0.001] * 9))
    expect_quiet(part, '{"event":"request","status":404}')
    assert part.broken == []
    expect_unhindered(part, "a crowd", quiet, Latencies([0.06] * 9, lines))
    expect_quiet(part, '{"event":"unexpected error"}')
    assert len(part.broken) == 2


@pytest.fixture
def server_that_says() -> Iterator[Callable[[bytes], int]]:
    """Starts a server that answers one request with these bytes and hangs up; returns its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def start(answer: bytes) -> int:
        def serve() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return int(listening.getsockname()[1])

    yield start
    listening.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense",
        b"HTTP/1.1 200",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    ],
)
def test_an_answer_that_is_none_is_seen(server_that_says: Callable[[bytes], int], raw: bytes) -> None:
    with pytest.raises(NotHttp):
        asyncio.run(ask(server_that_says(raw), GET))


def test_an_answer_is_read_with_a_length_in_chunks_and_to_the_end(
    server_that_says: Callable[[bytes], int],
) -> None:
    chunks = b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
    for rest in (b"Content-Length: 3\r\n\r\nabc", chunks, b"\r\nabc"):
        answer = asyncio.run(ask(server_that_says(b"HTTP/1.1 200 OK\r\n" + rest), GET))
        assert answer is not None
        assert (answer.status, answer.body) == (200, b"abc")
    assert asyncio.run(ask(server_that_says(b""), GET)) is None
