"""Requests of which one reader sees the end here and another there, with a second request hidden behind it."""

from typing import Final

INNER_ID: Final = "smuggled"
# INNER is the hidden request, SIZE its length; before each stand a method and a path.
_AMBIGUOUS: Final[dict[str, bytes]] = {
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nINNER",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: SIZE\r\n\r\n0\r\n\r\nINNER",
    "two lengths": b"Content-Length: 0\r\nContent-Length: SIZE\r\n\r\nINNER",
    "two equal lengths": b"Content-Length: 0\r\nContent-Length: 0\r\n\r\nINNER",
    "a list of lengths": b"Content-Length: 0, SIZE\r\n\r\nINNER",
    "a length with a sign": b"Content-Length: +0\r\n\r\nINNER",
    "a length with an underscore": b"Content-Length: 0_0\r\n\r\nINNER",
    "a hexadecimal length": b"Content-Length: 0x0\r\n\r\nINNER",
    "a negative length": b"Content-Length: -1\r\n\r\nINNER",
    "a length of 5,000 digits": b"Content-Length: " + b"0" * 5000 + b"\r\n\r\nINNER",
    "an empty length": b"Content-Length:\r\n\r\nINNER",
    "unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\nINNER",
    "chunks twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\nINNER",
    "chunks, then identity": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nINNER",
    "identity": b"Transfer-Encoding: identity\r\n\r\nINNER",
    "gzip alone": b"Transfer-Encoding: gzip\r\n\r\nINNER",
    "a quoted coding": b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\nINNER',
    "a vertical tab": b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\nINNER",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\nINNER",
    "a tab before the colon": b"Content-Length\t: SIZE\r\n\r\nINNER",
    "a space before the name": b"X: y\r\n Content-Length: 0\r\n\r\nINNER",
    "a folded coding": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\nINNER",
    "a bare line feed": b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nINNER",
    "line feeds only": b"Content-Length: 0\n\nINNER",
    "a bare carriage return": b"X: y\rContent-Length: 0\r\n\r\nINNER",
    "NUL in a value": b"X: y\x00\r\n\r\nINNER",
    "NUL in a name": b"X\x00: y\r\n\r\nINNER",
    "no name": b": y\r\n\r\nINNER",
    "no colon": b"Content-Length 0\r\n\r\nINNER",
    "two hosts": b"Host: b\r\n\r\nINNER",
    "two types": b"Content-Type: a/b\r\nContent-Type: c/d\r\n\r\nINNER",
    "a chunk with a sign": b"Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\nINNER",
    "a chunk with 0x": b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\nINNER",
    "a chunk with a space": b"Transfer-Encoding: chunked\r\n\r\n 0\r\n\r\nINNER",
    "a chunk with an underscore": b"Transfer-Encoding: chunked\r\n\r\n0_0\r\n\r\nINNER",
    "an empty chunk size": b"Transfer-Encoding: chunked\r\n\r\n\r\n\r\nINNER",
    "a chunk that ends with a line feed": b"Transfer-Encoding: chunked\r\n\r\n0\n\nINNER",
    "a chunk without its end": b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\nINNER",
    "a chunk with another end": b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\nINNER",
    "a huge chunk": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nINNER",
    "a bare return in an extension": b"Transfer-Encoding: chunked\r\n\r\n0;a=\rb\r\n\r\nINNER",
    "a line feed in an extension": b"Transfer-Encoding: chunked\r\n\r\n0;a=\nb\r\n\r\nINNER",
    "a length in the trailers": b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: SIZE\r\n\r\nINNER",
    "a body": b"Content-Length: SIZE\r\n\r\nINNER",
    "a body that must wait": b"Expect: 100-continue\r\nContent-Length: SIZE\r\n\r\nINNER",
    "a body in a chunk": b"Transfer-Encoding: chunked\r\n\r\nHEXA\r\nINNER\r\n0\r\n\r\n",
    "a chunk with an extension": b'Transfer-Encoding: chunked\r\n\r\nHEXA;a="b;c"\r\nINNER\r\n0\r\n\r\n',
    "a body after an upgrade": b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: SIZE\r\n\r\nINNER",
    "a body after a socket": (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: SIZE\r\n\r\nINNER"
    ),
    "too many headers": b"X: y\r\n" * 200 + b"\r\nINNER",
    "a huge header": b"X: " + b"y" * 20_000 + b"\r\n\r\nINNER",
}
# An unread body, one that is read, one that is refused before it is read, and a method that has none.
_OUTER: Final = ("GET /healthz", "POST /login", "POST /v1/me/checkin", "HEAD /healthz", "DELETE /nowhere")
_LINES: Final[dict[str, bytes]] = {
    "HTTP/1.0 with chunks": b"POST /login HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nINNER",
    "HTTP/0.9": b"GET /healthz\r\n\r\nINNER",
    "HTTP/1.9": b"GET /healthz HTTP/1.9\r\nHost: a\r\n\r\nINNER",
    "a space in the address": b"GET /healthz HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\nINNER",
    "a line feed in the first line": b"GET /healthz\n HTTP/1.1\r\nHost: a\r\n\r\nINNER",
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nINNER",
    "three empty lines": b"\r\n\r\n\r\nINNER",
}


def attempts(inner: bytes) -> dict[str, bytes]:
    """Each attempt by what it tries; `inner` is the request that must not be run."""
    raw = dict(_LINES)
    for outer in _OUTER:
        start = f"{outer} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n".encode()
        raw |= {f"{outer}: {what}": start + rest for what, rest in _AMBIGUOUS.items() if "type" not in what}
    raw |= {"two types": b"POST /login HTTP/1.1\r\nHost: a\r\n" + _AMBIGUOUS["two types"]}
    sizes = {b"SIZE": b"%d" % len(inner), b"HEXA": b"%x" % len(inner)}
    for size, digits in sizes.items():
        raw = {what: attempt.replace(size, digits) for what, attempt in raw.items()}
    return {what: attempt.replace(b"INNER", inner) for what, attempt in raw.items()}
