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
# Deep where nobody looks: a parser goes all the way down to skip it.
_DEEP = b'{"unknown": ' + b"[" * 5000 + b"]" * 5000 + b"}"
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
            head = _head(method, route, bearer)
            yield f"{route}: {what}", _whole(head, body), statuses
            yield f"{route}: {what} in chunks", head + _chunks(body), statuses
        yield f"{route}: deep and unknown", _whole(_head(method, route, bearer), _DEEP), (400, 422)
        for media_type in _TYPES:
            yield f"{route} as {media_type!r}", _whole(_head(method, route, bearer, media_type), b"{}"), (415,)
    head = _head("POST", "/v1/me/checkin", owner.token)
    yield "two keys", _whole(head + b"Idempotency-Key: another\r\n", b""), (400,)
    for address, status in _QUERIES.items():
        yield address, f"GET {address} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), (status,)
    for what, raw in RAW.items():
        yield what, raw, _NONSENSE


def _head(method: str, route: str, bearer: str, media_type: str = "application/json") -> bytes:
    return (
        f"{method} {route} HTTP/1.1\r\nHost: a\r\nContent-Type: {media_type}\r\n"
        f"Authorization: Bearer {bearer}\r\nIdempotency-Key: k\r\n"
    ).encode()


def _whole(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _chunks(body: bytes) -> bytes:
    pieces = [body[start : start + _LARGEST_CHUNK] for start in range(0, len(body), _LARGEST_CHUNK)]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"
