"""HTTP by hand, for requests that no library would send: bytes go out, and every answer that comes is read."""

import asyncio
import json
import socket
import struct
from contextlib import suppress
from typing import Any, Final

import msgspec

# A close that leaves no trace: thousands of connections a second would use up the ports of the machine.
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_LONGEST_LINE: Final = 2**20


class Answer(msgspec.Struct, frozen=True):
    """One answer; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class NotHttp(Exception):
    """What came back is no answer: its beginning, or what it lacks."""


class Connection:
    """One connection to the service; `async with` closes it at once, without a farewell."""

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self._port = port
        self._receive_buffer = receive_buffer

    async def __aenter__(self) -> "Connection":
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        if self._receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        plain.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", self._port))
        except OSError:
            plain.close()
            raise
        self._reader, self._writer = await asyncio.open_connection(sock=plain, limit=_LONGEST_LINE)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def send(self, request: bytes) -> None:
        self._writer.write(request)
        await self._writer.drain()

    async def answer(self, *, to_head: bool = False) -> Answer | None:
        """The next answer; None where the service hung up before there was one, NotHttp where it is none."""
        try:
            return await self._answer(to_head)
        except ConnectionError:
            return None
        except asyncio.IncompleteReadError as error:
            raise NotHttp(f"an answer was cut off: it ends in {error.partial[-80:]!r}") from None
        except ValueError as error:  # of a line that is too long, a number that is none
            raise NotHttp(f"no answer of HTTP: {error}") from None

    async def answer_within(self, seconds: float) -> Answer | None:
        """The next answer; None where there is none in time, too."""
        try:
            async with asyncio.timeout(seconds):
                return await self.answer()
        except TimeoutError:
            return None

    async def _answer(self, to_head: bool) -> Answer | None:
        line = await self._reader.readline()
        if not line:
            return None
        version, _, rest = line.partition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or not line.endswith(b"\r\n"):
            raise NotHttp(f"an answer begins with {line[:80]!r}")
        status, headers = int(rest[:3]), {}
        while (line := await self._reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if status == 100:
            return await self._answer(to_head)
        empty = to_head or status in (101, 204, 304)
        return Answer(status, headers, b"" if empty else await self._body(headers))

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            if "content-length" in headers:
                return await self._reader.readexactly(int(headers["content-length"]))
            return await self._reader.read()
        body = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)
        return body


async def ask(port: int, request: bytes, patience_s: float = 10) -> Answer | None:
    """The first answer to `request` on a connection of its own; TimeoutError where none comes in time."""
    async with asyncio.timeout(patience_s), Connection(port) as connection:
        with suppress(ConnectionError):  # refused before it was sent whole; why, may still be there to read
            await connection.send(request)
        return await connection.answer(to_head=request.startswith(b"HEAD "))


def request(method: str, path: str, body: object = None, **headers: str) -> bytes:
    """A sound request; `body` goes as JSON, and a header `X_Y` as X-Y."""
    lines = [f"{method} {path} HTTP/1.1", "Host: torture"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    content = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content
