"""A stand-in WeChat whose answer is what the code asks for: sound, wrong in one of many ways, late, or none.

A code is `KIND-USER-NUMBER`. A kind in `RIGHT` logs in the person named USER, one in `FAULTS` must log in
nobody, and any other is answered as a code that does not exist.
"""

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import parse_qs, urlsplit

from tests.torture.wechat_faults import FAULTS, RIGHT, Conversation, answered

_REQUEST_BYTES: Final = 65536


def openid_of(user: str) -> str:
    return "o" + user.ljust(27, "x")


class FaultyWechat:
    """Listens on a loopback port, with a thread for each connection.

    `asked` counts the requests by path, `cookies` those that held one.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.asked: Counter[str] = Counter()
        self.cookies = 0
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._port = int(self._listening.getsockname()[1])
        self.url = f"http://127.0.0.1:{self._port}"
        self._accept()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Refuses connections meanwhile, and drops those that are there."""
        self._close()
        yield
        self._listening = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        self._accept()

    def stop(self) -> None:
        self._ended.set()
        self._close()

    def _close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listening.close()
        with self._lock:
            for client in self._open:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        threading.Thread(target=self._serve, args=(self._listening,), daemon=True).start()

    def _serve(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(client,), daemon=True).start()

    def _converse(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        try:
            with client:
                while request := client.recv(_REQUEST_BYTES):
                    while b"\r\n\r\n" not in request:
                        request += client.recv(_REQUEST_BYTES)
                    self._exchange(client, request)
        except OSError:
            return  # it was hung up on, by one side or the other
        finally:
            with self._lock:
                self._open.discard(client)

    def _exchange(self, client: socket.socket, request: bytes) -> None:
        address = request.split(b" ", 2)[1].decode("latin-1")
        parts = urlsplit(address)
        code = parse_qs(parts.query).get("js_code", [""])[0]
        with self._lock:
            self.asked[parts.path] += 1
            self.cookies += b"\r\ncookie:" in request.lower()
        kind, user, *_ = (*code.split("-"), "")
        talk = Conversation(client, openid_of(user), address, self._ended)
        if kind in RIGHT:
            RIGHT[kind](talk)
        elif kind in FAULTS:
            FAULTS[kind].act(talk)
        else:
            client.sendall(answered(json.dumps({"errcode": 40029, "errmsg": "invalid code"}).encode()))
