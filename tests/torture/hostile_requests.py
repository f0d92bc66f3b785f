"""Requests that were sound before chance got at them: bits flipped, pieces cut, moved, doubled, replaced."""

import re
from random import Random
from typing import Final, NamedTuple

from tests.backend import WRITES

_LENGTH: Final = re.compile(rb"^content-length:[ \t]*([0-9]{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)

# What parsers stumble over, wherever it stands.
_STRANGE: Final = (
    b"\x00", b"\r\n", b"\n", b"\r", b" ", b"\t", b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"%00",
    b"%2e%2e%2f", b"%ff", b"%", b"//", b"..;", b"?", b"&", b"#", b":", b";", b'"', b"\\", b"{", b"}", b"[",
    b"]", b",", b"null", b"true", b"NaN", b"Infinity", b"-0", b"1e400", b"1e-400", b"0.1",
    b"9223372036854775808", b"9007199254740992", b"9" * 400, b"-1", b"0", b"00", b"0x10", b"1_0", "٣".encode(),
    "张".encode(), "😀".encode(), b"\\ud800", b"\\u0000", b"\xef\xbb\xbf", b"\\n", b"'; --", b"${7*7}", b"%s%n",
    b"[" * 3000, b'{"a":' * 3000, b"a" * 9000, b"X: y\r\n" * 150, b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Host: b\r\n", b"HTTP/1.0",
)  # fmt: skip
_HEADERS: Final = (
    b"Content-Type: text/plain", b"Content-Type: application/xml",
    b"Content-Type: multipart/form-data; boundary=a", b"Content-Type: application/json; charset=utf-16",
    b"Content-Type: APPLICATION/JSON;;;", b"Content-Type:", b"Content-Encoding: gzip", b"Content-Encoding: br",
    b"Accept: text/html;q=x", b"Accept: " + b"*/*," * 900, b"Authorization: Bearer \xff",
    b"Authorization: Basic Og==", b"Authorization: Bearer " + b"a" * 8000, b"Idempotency-Key: \xff",
    b"Idempotency-Key: " + b"k" * 256, b'If-Match: "0"', b"If-Match: *", b'If-Match: W/"3"',
    b"If-None-Match: *", b"X-Request-ID: \x01", b"X-Request-ID: " + b"r" * 65,
    b"X-Forwarded-For: ::ffff:1.2.3.4, x", b"Range: bytes=0-0,-1", b"TE: trailers",
    b"Cookie: " + b"a=b;" * 999, b"Origin: null", b"Upgrade: h2c", b"Forwarded: for=unknown",
    b"X-HTTP-Method-Override: DELETE", b"Date: tomorrow", b"Expect: 200-maybe",
)  # fmt: skip
_QUERIES: Final = (
    b"token=a&token=b", b"limit=0", b"limit=1&limit=2", b"limit=1e9", b"limit=-1", b"limit=%D9%A3", b"limit=",
    b"before=99999999999999999999", b"type=Nothing", b"as_of=yesterday", b"as_of=0001-01-01T00:00:00Z",
    b"as_of=9999-12-31T23:59:59%2B23:59", b"dry_run=1", b"dry_run=true&dry_run=false", b"%00=%00", b"a[b]=c",
    b"=", b"&&&", b"token=%ff%fe", b"token=" + b"a" * 8000, b"limit=1;limit=2", b"after=1&after=2",
    b"token=\xff",
)  # fmt: skip


class Owner(NamedTuple):
    """Whose credentials the requests have. All that they write is in his own account."""

    openid: str
    token: str
    key: str


class Hostile(NamedTuple):
    """A request, and what was done to it."""

    kind: str
    raw: bytes

    @property
    def may_write(self) -> int:
        """How many events it may leave that nobody was told of, where it had no answer.

        None where its head or body is cut short; but the lines of a bulk grant are taken as they come.
        """
        head, end, body = self.raw.partition(b"\r\n\r\n")
        if b"ndjson" in head:
            return 2
        length = _LENGTH.search(head)
        return int(bool(end) and (length is None or len(body) >= int(length[1])))


class Hostility:
    """An endless number of them, all from one source of chance."""

    def __init__(self, chance: Random, owner: Owner) -> None:
        self._chance = chance
        self._owner = owner
        self._made = 0
        self._kinds = {
            "flipped": self._flip, "spliced": self._splice, "dropped": self._drop, "doubled": self._double,
            "inserted": self._insert, "header": self._header, "query": self._query, "line": self._line,
        }  # fmt: skip

    def next(self) -> Hostile:
        sound = self.sound()
        if self._chance.random() < 0.1:
            return Hostile("cut", sound[: self._chance.randrange(len(sound))])
        kind = self._chance.choice(list(self._kinds))
        return Hostile(kind, self._kinds[kind](sound))

    def sound(self) -> bytes:
        """A request as it should be, with a key of its own."""
        self._made += 1
        path, bearer, body, media = self._chance.choice(self._choices())
        method, _, path = path.partition(" ")
        lines = [f"{method} {path} HTTP/1.1", "Host: torture"]
        lines += [f"Authorization: Bearer {bearer}"] if bearer else []
        if body is not None:
            lines += [f"Content-Type: {media}", f"Idempotency-Key: h{self._made}"]
            lines += [f"Content-Length: {len(body.encode())}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or "").encode()

    def _choices(self) -> list[tuple[str, str, str | None, str]]:
        openid, token, key = self._owner
        path, body = self._chance.choice(list(WRITES.items()))
        account, json, made = f"/v1/accounts/{openid}", "application/json", self._made
        written = str(body).replace("'", '"')
        line = f'{{"openid":"{openid}","key":"b{made}","amount":1,"reason":"gift"}}\n'
        signed = '{"rawData":"{}","signature":"aa","encryptedData":"bb==","iv":"cc=="}'
        return [
            *[(f"POST {account}{path}", key, written, json)] * 6,
            (f"GET /credit?token={token}", "", None, ""),
            (f"GET /checklogin?token={token}", "", None, ""),
            ("GET /v1/me/events?limit=3&before=9", token, None, ""),
            ("GET /v1/me/credit?as_of=2026-01-01T00:00:00Z", token, None, ""),
            ("PUT /v1/me/profile", token, '{"nickname":"小明","avatar":"https://a.example/b.png"}', json),
            ("POST /v1/me/checkin", token, "", json),
            ("POST /login", "", f'{{"code":"none-{made}"}}', json),
            ("POST /v1/sessions", "", f'{{"code":"none-{made}"}}', json),
            ("POST /userinfo", token, signed, json),
            ("POST /v1/grants", key, line * 2, "application/x-ndjson"),
            (f"GET {account}", key, None, ""),
            (f"GET {account}/events?limit=5&type=CreditGranted", key, None, ""),
            (f"GET {account}/proof", key, None, ""),
            ("GET /v1/me/proof?after=1", token, None, ""),
            ("GET /v1/seals", "", None, ""),
            ("GET /v1/seals/1/consistency/2", "", None, ""),
            ("GET /healthz", "", None, ""),
        ]

    # -- what is done to a request -------------------------------------------------------------------------

    def _flip(self, sound: bytes) -> bytes:
        flipped = bytearray(sound)
        for _ in range(self._chance.choice((1, 1, 2, 8))):
            flipped[self._chance.randrange(len(flipped))] ^= 1 << self._chance.randrange(8)
        return bytes(flipped)

    def _splice(self, sound: bytes) -> bytes:
        other = self.sound()
        return sound[: self._chance.randrange(len(sound))] + other[self._chance.randrange(1, len(other)) :]

    def _drop(self, sound: bytes) -> bytes:
        start, end = self._span(sound)
        return sound[:start] + sound[end:]

    def _double(self, sound: bytes) -> bytes:
        start, end = self._span(sound)
        return sound[:end] + sound[start:end] * self._chance.choice((1, 2, 50)) + sound[end:]

    def _insert(self, sound: bytes) -> bytes:
        start, end = self._span(sound)
        if self._chance.random() < 0.5:
            end = start
        return sound[:start] + self._chance.choice(_STRANGE) + sound[end:]

    def _header(self, sound: bytes) -> bytes:
        """One more header, or another instead of the one of that name."""
        header = self._chance.choice(_HEADERS)
        head, _, body = sound.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        if self._chance.random() < 0.7:
            name = header.partition(b":")[0]
            lines = [line for line in lines if line.partition(b":")[0] != name]
        return b"\r\n".join([*lines, header]) + b"\r\n\r\n" + body

    def _query(self, sound: bytes) -> bytes:
        address = sound.split(b" ", 2)[1]
        joint = b"&" if b"?" in address else b"?"
        return sound.replace(address, address + joint + self._chance.choice(_QUERIES), 1)

    def _line(self, sound: bytes) -> bytes:
        """The body replaced by something strange, with a length that is right."""
        head, _, _ = sound.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        body = self._insert(b'{"amount": 1, "reason": "gift", "code": "none"}') * self._chance.choice(
            (1, 1, 2, 3)
        )
        return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body

    def _span(self, sound: bytes) -> tuple[int, int]:
        start = self._chance.randrange(len(sound))
        return start, min(start + self._chance.choice((1, 2, 4, 30)), len(sound))
