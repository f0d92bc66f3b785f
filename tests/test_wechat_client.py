"""The WeChat client by itself: what its threads do when nobody waits for them any more."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from api.wechat import LoginFailed, WechatClient
from tests.conftest import PATIENCE_S

CLIENTS = 16  # as many as there are threads that call WeChat


class Trickling(NamedTuple):
    """A server whose head goes on for ever, a byte at a time; `answering` has an entry for each client."""

    url: str
    answering: list[socket.socket]


@pytest.fixture
def trickling_wechat() -> Iterator[Trickling]:
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    ended = threading.Event()
    answering: list[socket.socket] = []

    def trickle(client: socket.socket) -> None:
        try:
            client.sendall(b"HTTP/1.1 200 OK\r\nX-Trickle: ")
            answering.append(client)
            while not ended.wait(0.2):
                client.sendall(b".")
        except OSError:
            client.close()

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=trickle, args=(client,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield Trickling(f"http://127.0.0.1:{listening.getsockname()[1]}", answering)
    ended.set()
    listening.close()


def wait_until_nobody_reads() -> None:
    deadline = time.monotonic() + PATIENCE_S
    while [thread for thread in threading.enumerate() if thread.name.startswith("wechat")]:
        assert time.monotonic() < deadline, "a thread reads on"
        time.sleep(0.05)


def test_clients_that_leave_during_a_login_take_their_threads_with_them(
    trickling_wechat: Trickling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gunicorn cancels the request of a client that left; a thread that reads on would be lost to all."""
    monkeypatch.setattr("api.wechat.DEADLINE_S", 3600.0)  # nothing else frees a thread
    client = WechatClient(trickling_wechat.url, "wx0", "secret")

    async def leave_and_come_back() -> None:
        calls = [asyncio.create_task(client.identify(f"code-{number}")) for number in range(CLIENTS)]
        while len(trickling_wechat.answering) < CLIENTS:
            await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        idle = client._threads
        # Each thread is free again: as many jobs run at once as there are threads.
        meet = threading.Barrier(CLIENTS, timeout=PATIENCE_S)
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(idle, meet.wait) for _ in range(CLIENTS)))

    asyncio.run(leave_and_come_back())
    client.close()
    wait_until_nobody_reads()


def test_a_deadline_frees_the_thread_as_well_as_the_caller(trickling_wechat: Trickling) -> None:
    client = WechatClient(trickling_wechat.url, "wx0", "secret")

    async def identify() -> None:
        with pytest.raises(LoginFailed, match="wechat-unreachable"):
            await client.identify("code")

    asyncio.run(identify())
    client.close()
    wait_until_nobody_reads()


SESSION_KEY = b"MDEyMzQ1Njc4OWFiY2RlZg=="


@pytest.fixture
def wechat_that_says() -> Iterator[Callable[..., tuple[str, list[bytes]]]]:
    """Starts a server that gives the same answer to every request, and keeps what it was sent."""
    listening = socket.create_server(("127.0.0.1", 0))

    def start(body: bytes, *headers: bytes) -> tuple[str, list[bytes]]:
        lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
        answer = b"\r\n".join(lines) + b"\r\n\r\n" + body
        sent: list[bytes] = []

        def serve() -> None:
            try:
                while True:
                    client, _ = listening.accept()
                    with client:
                        while request := client.recv(65536):
                            sent.append(request)
                            client.sendall(answer)
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}", sent

    yield start
    listening.close()


def test_an_answer_that_is_not_utf_8_is_a_bad_answer(
    wechat_that_says: Callable[..., tuple[str, list[bytes]]],
) -> None:
    """msgspec says so with a UnicodeDecodeError, which is no DecodeError: it was a 500."""
    address, _ = wechat_that_says(b'{"openid":"o\xff","session_key":"%s"}' % SESSION_KEY)
    client = WechatClient(address, "wx0", "secret")
    with pytest.raises(LoginFailed, match="wechat-bad-answer"):
        asyncio.run(client.identify("code"))
    client.close()


def test_a_cookie_that_came_with_one_login_does_not_go_out_with_the_next(
    wechat_that_says: Callable[..., tuple[str, list[bytes]]],
) -> None:
    """The jar would also grow with each name that WeChat thinks of, and all of it be sent every time."""
    address, sent = wechat_that_says(
        b'{"openid":"oAlice","session_key":"%s"}' % SESSION_KEY, b"Set-Cookie: whose=alice"
    )
    client = WechatClient(address, "wx0", "secret")
    client._threads = ThreadPoolExecutor(1)  # each thread has a jar of its own
    for code in ("code-1", "code-2"):
        assert asyncio.run(client.identify(code)).openid == "oAlice"
    client.close()
    assert len(sent) == 2
    assert not any(b"cookie" in request.lower() for request in sent)


@pytest.mark.parametrize(
    "body",
    [
        b'{"openid":"oAlice","session_key":"%s","openid":"oBob"}' % SESSION_KEY,
        b'{"errcode":40226,"openid":"oAlice","session_key":"%s","errcode":0}' % SESSION_KEY,
    ],
)
def test_an_answer_that_says_two_things_is_a_bad_answer(
    wechat_that_says: Callable[..., tuple[str, list[bytes]]], body: bytes
) -> None:
    """Of a name that is there twice, one reader takes the first and another the last."""
    address, _ = wechat_that_says(body)
    client = WechatClient(address, "wx0", "secret")
    with pytest.raises(LoginFailed, match="wechat-bad-answer"):
        asyncio.run(client.identify("code"))
    client.close()
