"""A deadline for a whole call made with requests, whose own timeout starts anew at every read."""

import random
import socket
import threading
import time
from typing import Any

import requests.adapters
import urllib3


class Call:
    """One call of one thread, which another thread may abort: `with call: session.get(...)`."""

    def __init__(self, deadline_s: float) -> None:
        self._ends = time.monotonic() + deadline_s
        self._aborted = False
        self._socket: socket.socket | None = None
        # The socket is cut only while this call reads from it: afterwards it may carry the thread's next one.
        self._lock = threading.Lock()

    def left_s(self) -> float:
        return 0.0 if self._aborted else self._ends - time.monotonic()

    def pause(self, attempt: int) -> bool:
        """Wait with jitter before another attempt; False where the deadline would pass meanwhile."""
        wait_s = random.uniform(0.1, 0.3) * attempt  # noqa: S311 - jitter, not a secret
        if self.left_s() <= wait_s:
            return False
        time.sleep(wait_s)
        return True

    def abort(self) -> None:
        """End the call now: cut its connection, so that the thread that reads from it wakes up."""
        with self._lock:
            self._aborted = True
            self._cut()

    def __enter__(self) -> None:
        _in_progress.call = self

    def __exit__(self, *_: object) -> None:
        _in_progress.call = None
        with self._lock:
            self._socket = None

    def reads_from(self, used: socket.socket) -> None:
        with self._lock:
            self._socket = used
            if self._aborted:
                self._cut()

    def _cut(self) -> None:
        if self._socket is None:
            return
        try:
            # The plain socket's method: that of a TLS socket first forgets the TLS state that the other
            # thread is using.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            return  # it was closed meanwhile, which is all that was wanted


_in_progress = threading.local()


class _HTTPConnection(urllib3.connection.HTTPConnection):
    def getresponse(self) -> Any:
        _in_progress.call.reads_from(self.sock)
        return super().getresponse()


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    def getresponse(self) -> Any:
        _in_progress.call.reads_from(self.sock)
        return super().getresponse()


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class AbortableAdapter(requests.adapters.HTTPAdapter):
    """Tells the Call in progress which socket an answer is read from. For one thread's session."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
