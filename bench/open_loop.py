"""A load generator whose arrivals do not wait for answers.

Requests are sent when a schedule says so, on whichever connection is free, and latency counts from that
moment: a server that stalls is charged for everybody who came meanwhile. wrk is a closed loop, whose
connections wait while the server does, so it cannot show that. The waiting is done by select(2), because that
is exact to microseconds where epoll as Python has it rounds up to milliseconds.
"""

import re
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from random import Random
from typing import Final, NamedTuple

from bench.machine import Failed

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_PATIENCE_S: Final = 20.0
_RECEIVE_BYTES: Final = 1 << 16


class Exchange(NamedTuple):
    """One request: when it was due and when its answer was whole, seconds from the start, and the answer."""

    due_s: float
    answered_s: float
    status: int
    body: bytes

    @property
    def latency_s(self) -> float:
        return self.answered_s - self.due_s


def poisson(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Moments of arrival, `rate` a second on average and independent of each other, for so long."""
    chance = Random(seed)  # noqa: S311 - when a benchmark sends is no secret
    moment = chance.expovariate(rate)
    while moment < seconds:
        yield moment
        moment += chance.expovariate(rate)


def get(path: str, **headers: str) -> bytes:
    return _request("GET", path, headers, b"")


def post(path: str, body: bytes, **headers: str) -> bytes:
    """A POST of JSON; an underscore in a header's name stands for a hyphen."""
    return _request("POST", path, headers | {"content_type": "application/json"}, body)


def exchange(port: int, due_s: Sequence[float], requests: Sequence[bytes], connections: int) -> list[Exchange]:
    """Send each request to that loopback port when it is due, ascending, and wait for all the answers.

    Where every connection is busy, what is due waits, and that counts. Failed where an answer does not come.
    """
    if len(due_s) != len(requests):
        raise ValueError("a moment for each request, and a request for each moment")
    exchanges: dict[int, Exchange] = {}
    with ExitStack() as stack:
        opened = [_connect(port, stack) for _ in range(min(connections, len(requests)))]
        idle, sent, received = deque(opened), {}, dict.fromkeys(opened, b"")
        coming, begun = 0, time.perf_counter()
        while len(exchanges) < len(requests):
            now = time.perf_counter() - begun
            while coming < len(requests) and due_s[coming] <= now and idle:
                connection = idle.popleft()
                connection.sendall(requests[coming])
                sent[connection] = coming
                coming += 1
            # With no connection free, only an answer changes anything.
            left = max(0.0, due_s[coming] - now) if coming < len(requests) and idle else _PATIENCE_S
            readable = select.select(sent, (), (), left)[0]
            if not readable and left == _PATIENCE_S:
                first = requests[min(sent.values())].partition(b"\r\n")[0].decode()
                raise Failed(
                    f"an open loop waited {_PATIENCE_S:.0f} s for {len(sent)} of {len(requests)} answers, "
                    f"the first of them to {first}"
                )
            for connection in readable:
                received[connection] += _receive(connection)
                answer = _whole(received[connection])
                if answer is not None:
                    which = sent.pop(connection)
                    answered_s = time.perf_counter() - begun
                    exchanges[which] = Exchange(due_s[which], answered_s, *answer)
                    received[connection] = b""
                    idle.append(connection)
    return [exchanges[which] for which in range(len(requests))]


def ask_all(port: int, requests: Sequence[bytes], connections: int = 16) -> list[bytes]:
    """The bodies of the answers to all of them, as fast as they come; Failed where one is no success."""
    exchanges = exchange(port, [0.0] * len(requests), requests, connections)
    for each in exchanges:
        if not 200 <= each.status < 300:
            raise Failed(f"status {each.status}: {each.body[:300]!r}")
    return [each.body for each in exchanges]


def _request(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in named.items()]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _connect(port: int, stack: ExitStack) -> socket.socket:
    try:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), _PATIENCE_S))
    except OSError as error:
        raise Failed(f"no connection to port {port}: {error}") from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _receive(connection: socket.socket) -> bytes:
    try:
        data = connection.recv(_RECEIVE_BYTES)
    except ConnectionError:
        data = b""
    if not data:
        raise Failed("the server closed a connection of the open loop")
    return data


def _whole(data: bytes) -> tuple[int, bytes] | None:
    """Status and body, once all of it is there. No chunks: every server here announces the length."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None
    length = _LENGTH.search(head)
    if length is None:
        raise Failed(f"an answer without a length: {head[:300]!r}")
    return (int(head[9:12]), body) if len(body) >= int(length[1]) else None
