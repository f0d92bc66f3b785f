"""Malformed requests one by one, with the statuses that each may be answered; 0 is being hung up on."""

from collections.abc import Iterable, Iterator

from tests.test_malformed import BODIES, RAW, ROUTES
from tests.torture.hostile_requests import Owner

# To be hung up on is an answer too where a body is longer than anybody reads.
_NONSENSE = frozenset((0, *range(200, 300), *range(400, 500)))
_QUERIES = {
    "/credit?token=a&token=b": 400,
    "/checklogin?token=&token=": 400,
    "/healthz?a=1&a=2": 400,
    "//credit": 404,
    "/v1//me": 404,
    "/v1%2Fme": 404,
    "/credit%00": 404,
    "/credit/": 404,
    "/../credit": 404,
    "/%ff%fe": 404,
}
_TYPES = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "", "json")
_LARGEST_CHUNK = 16_000


def listed(owner: Owner) -> Iterator[tuple[str, bytes, Iterable[int]]]:
    """What it is, the bytes, and the statuses that are right."""
    for route, field in ROUTES.items():
        bearer = owner.key if "accounts" in route else owner.token
        method = "PUT" if "profile" in route else "POST"
        for what, (body, status) in BODIES.items():
            body = body.replace(b'"code"', b'"' + field + b'"')
            statuses = (status,) if isinstance(status, int) else status
            lengths = {
                "": b"Content-Length: %d\r\n\r\n" % len(body) + body,
                " in chunks": b"Transfer-Encoding: chunked\r\n\r\n" + _chunks(body),
            }
            for how, rest in lengths.items():
                yield f"{route}: {what}{how}", _head(method, route, bearer) + rest, statuses
        for media_type in _TYPES:
            rest = b"Content-Length: 2\r\n\r\n{}"
            yield f"{route} as {media_type!r}", _head(method, route, bearer, media_type) + rest, (415,)
    for address, status in _QUERIES.items():
        yield address, f"GET {address} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), (status,)
    for what, raw in RAW.items():
        yield what, raw, _NONSENSE


def _head(method: str, route: str, bearer: str, media_type: str = "application/json") -> bytes:
    return (
        f"{method} {route} HTTP/1.1\r\nHost: a\r\nContent-Type: {media_type}\r\n"
        f"Authorization: Bearer {bearer}\r\nIdempotency-Key: k\r\n"
    ).encode()


def _chunks(body: bytes) -> bytes:
    pieces = [body[start : start + _LARGEST_CHUNK] for start in range(0, len(body), _LARGEST_CHUNK)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
