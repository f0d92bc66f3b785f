"""The open loop counts from the moment a request was due, and pairs each answer with its own request."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import mean

import pytest

from bench.figures import percentile
from bench.machine import Failed
from bench.open_loop import ask_all, exchange, get, poisson, post

Answer = Callable[[socket.socket, bytes], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], int]]:
    """Serves one connection after the other on a port, each request by a function of the test's."""
    listeners: list[socket.socket] = []

    def start(answer: Answer) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def work() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while request := connection.recv(65536):
                        answer(connection, request)

        threading.Thread(target=work, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def echo(connection: socket.socket, request: bytes) -> None:
    """Answers with the path that was asked for."""
    path = request.split(b" ")[1]
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))


def test_the_nearest_rank_is_the_percentile() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert [percentile(hundred, share) for share in (0.5, 0.99, 0.999, 1)] == [50, 99, 100, 100]
    assert percentile([7.0], 0.5) == percentile([7.0], 0.999) == 7
    assert percentile([1.0, 2.0, 3.0], 0.001) == 1


def test_arrivals_are_independent_and_come_at_the_rate_asked_for() -> None:
    moments = list(poisson(1000, 20, seed=1))
    assert moments == sorted(moments)
    assert moments[-1] < 20
    assert moments == list(poisson(1000, 20, seed=1))
    assert moments != list(poisson(1000, 20, seed=2))
    assert len(moments) == pytest.approx(20_000, rel=0.03)
    gaps = [b - a for a, b in pairwise(moments)]
    assert mean(gaps) == pytest.approx(0.001, rel=0.03)
    # Of exponential gaps a share of 1/e is longer than the mean; of even ones none would be.
    assert sum(gap > 0.001 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)


def test_each_answer_belongs_to_its_request(serve: Callable[[Answer], int]) -> None:
    port = serve(echo)
    paths = [f"/{number}" for number in range(50)]
    assert ask_all(port, [get(path) for path in paths], connections=1) == [path.encode() for path in paths]


def test_a_stall_is_charged_to_everybody_who_came_meanwhile(serve: Callable[[Answer], int]) -> None:
    """A closed loop would have sent one request into the stall and counted one slow answer."""
    stall_s, gap_s = 0.4, 0.01

    def stalling(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"GET /5 "):
            time.sleep(stall_s)
        echo(connection, request)

    due = [number * gap_s for number in range(30)]
    exchanges = exchange(serve(stalling), due, [get(f"/{number}") for number in range(30)], connections=1)
    assert [each.due_s for each in exchanges] == due
    for behind, each in enumerate(exchanges[5:]):
        assert each.latency_s >= stall_s - behind * gap_s - 0.005


def test_nothing_is_sent_before_it_is_due(serve: Callable[[Answer], int]) -> None:
    came: list[float] = []

    def noting(connection: socket.socket, request: bytes) -> None:
        came.append(time.perf_counter())
        echo(connection, request)

    due = [0.0, 0.15, 0.3]
    port, begun = serve(noting), time.perf_counter()
    exchange(port, due, [get("/")] * 3, connections=1)
    assert [at - begun >= wait for at, wait in zip(came, due, strict=True)] == [True] * 3


def test_an_answer_may_come_in_pieces(serve: Callable[[Answer], int]) -> None:
    def dribble(connection: socket.socket, _: bytes) -> None:
        for byte in b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy":
            connection.sendall(bytes([byte]))

    (answer,) = exchange(serve(dribble), [0.0], [post("/", b"{}", idempotency_key="k")], connections=4)
    assert (answer.status, answer.body) == (503, b"busy")


def test_a_header_and_a_body_are_sent_as_http_has_them(serve: Callable[[Answer], int]) -> None:
    seen: list[bytes] = []

    def noting(connection: socket.socket, request: bytes) -> None:
        seen.append(request)
        echo(connection, request)

    exchange(serve(noting), [0.0], [post("/a", b"{}", idempotency_key="k")], connections=1)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a HTTP/1.1\r\n")
    assert {b"idempotency-key: k", b"content-type: application/json", b"content-length: 2"} <= set(
        head.split(b"\r\n")
    )
    assert body == b"{}"


@pytest.mark.parametrize(
    "answer",
    [
        lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n"),
        lambda connection, _: connection.shutdown(socket.SHUT_RDWR),
    ],
    ids=["no length", "closed"],
)
def test_an_answer_that_never_comes_whole_fails(answer: Answer, serve: Callable[[Answer], int]) -> None:
    with pytest.raises(Failed):
        exchange(serve(answer), [0.0], [get("/")], connections=1)


def test_an_answer_that_is_no_success_fails_whoever_needs_it(serve: Callable[[Answer], int]) -> None:
    refuse = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(Failed, match="401"):
        ask_all(serve(lambda connection, _: connection.sendall(refuse)), [get("/")])
