"""Requests exactly as they are written, and all of what comes back."""

from http.client import HTTPConnection, HTTPException
from typing import Final

import msgspec

from api.problems import NOT_LOGGED_IN

_TIMEOUT_S: Final = 20.0
# What is another in every answer.
_OWN_HEADERS: Final = ("date", "x-request-id")


class Request(msgspec.Struct, frozen=True):
    """`target` goes on the wire as it is; a header may be there twice."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def with_headers(self, *more: tuple[str, str]) -> "Request":
        return msgspec.structs.replace(self, headers=(*self.headers, *more))

    def with_query(self, query: str) -> "Request":
        joint = "&" if "?" in self.target else "?"
        return msgspec.structs.replace(self, target=self.target + joint + query)

    def at(self, target: str) -> "Request":
        return msgspec.structs.replace(self, target=target)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target[len(self.path) :]


class Answer(msgspec.Struct, frozen=True):
    """Status 0 where the connection was closed without a word."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def comparable(self) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
        """All of it but what is another in every answer."""
        kept = tuple(header for header in self.headers if header[0].lower() not in _OWN_HEADERS)
        return self.status, kept, self.body

    @property
    def whole(self) -> bytes:
        head = "\n".join(f"{name}: {value}" for name, value in self.headers)
        return head.encode() + b"\n\n" + self.body

    @property
    def told(self) -> dict[str, object]:
        """The body as a JSON object; empty where it is none."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}

    def is_refusal(self, name: str) -> bool:
        """Whether this is the refusal that the table calls `name`."""
        if name == "out":
            return self.status == 200 and self.told == {"is_login": False}
        if name == "err":
            return self.status == 200 and self.told == {"err": NOT_LOGGED_IN}
        status = 403 if name == "scope-missing" else 401
        kind = next((value for name, value in self.headers if name.lower() == "content-type"), "")
        return (self.status, kind, self.told.get("code")) == (status, "application/problem+json", name)


def ask(port: int, request: Request) -> Answer:
    """Send it on a connection of its own, to whichever worker takes it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        if not any(name.lower() == "host" for name, _ in request.headers):
            connection.putheader("Host", "127.0.0.1")
        for name, value in request.headers:
            connection.putheader(name, value.encode("latin-1", "replace"))
        if request.body or request.method in ("POST", "PUT", "PATCH"):
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body or None)
        answer = connection.getresponse()
        return Answer(answer.status, tuple(answer.getheaders()), answer.read())
    except (OSError, HTTPException):
        return Answer(0)
    finally:
        connection.close()
