"""One operation of `/v1`: what it takes, from whom, and what it answers, said once.

The same declaration checks each request and makes /openapi.json, so the document cannot say anything else
than what happens.
"""

import re
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final, Generic, TypeVar, cast

import falcon.asgi
import msgspec

from api import access
from api.bodies import read_json
from api.callers import api_key, bearer
from api.incoming import OPENID, Body, moment_us
from api.problems import Problem
from api.service import Service
from ledger.errors import Refusal
from ledger.events import MAX_CREDIT

BodyT = TypeVar("BodyT")


class Parameter(msgspec.Struct, frozen=True):
    """Something beside the body: `read` makes a value of its text, or None where it is no such thing."""

    name: str
    place: str
    schema: dict[str, Any]
    description: str
    read: Callable[[str], Any]
    must: str
    required: bool = False

    def value(self, req: falcon.asgi.Request) -> Any:
        """The value given, None without one; a 400 Problem for a wrong one, or where it is required."""
        text = self._header(req) if self.place == "header" else req.get_param(self.name)
        if text is None:
            if self.required:
                code = self.name.lower() + "-missing"
                raise Problem(400, code, f"{self.name} is required: {self.must}.")
            return None
        value = self.read(text)
        if value is None:
            raise Problem(400, "invalid-parameter", f"{self.name} must be {self.must}.")
        return value

    def _header(self, req: falcon.asgi.Request) -> str | None:
        text = req.get_header(self.name)
        # Falcon joins what came as several headers with commas, and a key may have one of its own.
        if text is not None and "," in text:
            name = self.name.lower().encode()
            if [given for given, _ in req.scope["headers"]].count(name) > 1:
                raise Problem(400, "invalid-parameter", f"{self.name} may be given once.")
        return text


class Operation(msgspec.Struct, frozen=True):
    """What a responder was declared to be; `scopes` are those of an API key of which one is enough, none of
    them for a user's token, None for anybody."""

    summary: str
    scopes: frozenset[str] | None
    body: type[Body] | None
    answer: Any
    status: int
    parameters: tuple[Parameter, ...]
    refusals: tuple[type[Refusal], ...]
    failures: dict[str, int]
    media: tuple[str, str]
    links: dict[str, dict[str, Any]]


class Received(msgspec.Struct, Generic[BodyT]):
    """A request that passed: who asks, what the path and the parameters say, and the body.

    `openid` is the account it is about: of the path, or the caller's own.
    """

    req: falcon.asgi.Request
    resp: falcon.asgi.Response
    openid: str
    path: dict[str, Any]
    given: dict[str, Any]
    body: BodyT
    key: access.ApiKey | None
    session: access.Session | None

    @property
    def actor(self) -> str:
        return "user" if self.key is None else f"key:{self.key.id}"

    @property
    def operator(self) -> bool:
        return self.key is not None and "operate" in self.key.scopes


NOBODY: Final = None
USER: Final[frozenset[str]] = frozenset()

Responder = Callable[..., Awaitable[None]]


def operation(
    summary: str,
    *,
    scopes: frozenset[str] | None,
    body: type[Body] | None = None,
    answer: Any = None,
    status: int = 200,
    parameters: tuple[Parameter, ...] = (),
    refusals: tuple[type[Refusal], ...] = (),
    failures: dict[str, int] | None = None,
    media: tuple[str, str] = ("application/json", "application/json"),
    links: dict[str, dict[str, Any]] | None = None,
) -> Callable[[Callable[..., Awaitable[Any]]], Responder]:
    """Make a Falcon responder of a method that takes a Received and returns its answer.

    The caller is asked first, then the parameters, then the body is read; whatever is wrong is a Problem.
    """
    declared = Operation(
        summary, scopes, body, answer, status, parameters, refusals, failures or {}, media, links or {}
    )
    reads_json = body is not None and media[0] == falcon.MEDIA_JSON
    decoder: msgspec.json.Decoder[Any] | None = msgspec.json.Decoder(body) if reads_json else None
    queries = frozenset(parameter.name for parameter in parameters if parameter.place == "query")

    def decorate(work: Callable[..., Awaitable[Any]]) -> Responder:
        @wraps(work)
        async def responder(
            self: "Resource", req: falcon.asgi.Request, resp: falcon.asgi.Response, **path: Any
        ) -> None:
            key = api_key(self.service, req, scopes) if scopes else None
            session = bearer(self.service, req) if scopes == USER else None
            if scopes is NOBODY:
                self.service.rates.count_address(req)
            if req.query_string and not queries.issuperset(req.params):
                unknown = min(set(req.params) - queries)
                raise Problem(400, "unknown-parameter", f"{unknown[:80]!r} is no parameter of this path.")
            _read_path(path)
            given = {parameter.name: parameter.value(req) for parameter in parameters}
            content = await read_json(req, decoder) if decoder is not None else None
            openid = path.get("openid", "") if session is None else session.openid
            received: Received[Any] = Received(req, resp, openid, path, given, content, key, session)
            resp.status = status
            answered = await work(self, received)
            if answered is not None:
                resp.content_type = falcon.MEDIA_JSON
                resp.data = msgspec.json.encode(answered)

        responder.operation = declared  # type: ignore[attr-defined]
        return responder

    return decorate


class Resource:
    """What every resource of `/v1` has: the service."""

    def __init__(self, service: Service) -> None:
        self.service = service


def declared(responder: object) -> Operation:
    """The declaration of a responder that `operation` made."""
    return cast(Operation, responder.operation)  # type: ignore[attr-defined]


def _read_path(path: dict[str, Any]) -> None:
    """Put what the path says in the place of its text; a 404 Problem where nothing could have that name."""
    for name, text in path.items():
        value = (text if _OPENID.search(text) else None) if name == "openid" else integer(MAX_CREDIT)(text)
        if value is None:
            raise Problem(404, "not-found", "There is nothing at this path.")
        path[name] = value


# -- parameters ----------------------------------------------------------------------------------------


_OPENID: Final = re.compile(OPENID)
_INTEGER: Final = re.compile("[1-9][0-9]{0,15}")
# Of these two, what is checked is what the document says.
_KEY: Final = r"^[\x21-\x7e]{1,255}$"
_ETAG: Final = '^"[1-9][0-9]{0,14}"$'
_is_key: Final = re.compile(_KEY).fullmatch
_is_etag: Final = re.compile(_ETAG).fullmatch


def _key(text: str) -> str | None:
    if len(text) >= 2 and text[0] == text[-1] == '"' and not {'"', "\\"} & set(text[1:-1]):
        text = text[1:-1]  # draft-ietf-httpapi-idempotency-key-header: a quoted string of structured fields
    return text if _is_key(text) else None


def _etag(text: str) -> int | None:
    return int(text[1:-1]) if _is_etag(text) else None


def integer(most: int) -> Callable[[str], int | None]:
    """Reads an integer from 1 to `most` in the one form that it has: no leading zeros, ASCII digits."""

    def read(text: str) -> int | None:
        return int(text) if _INTEGER.fullmatch(text) and int(text) <= most else None

    return read


IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key",
    "header",
    {"type": "string", "pattern": _KEY},
    "Makes it happen once, however often it is sent: keys are per account and never expire.",
    _key,
    "1 to 255 visible ASCII characters, quoted or bare",
    required=True,
)
IF_MATCH: Final = Parameter(
    "If-Match",
    "header",
    {"type": "string", "pattern": _ETAG, "examples": ['"12"']},
    "The account's version as its ETag gave it: refused with 412 when the account went on since.",
    _etag,
    'an ETag like "12"',
)
DRY_RUN: Final = Parameter(
    "dry_run",
    "query",
    {"type": "boolean", "default": False},
    "Decide and answer, and record nothing.",
    lambda text: {"true": True, "false": False}.get(text),
    "true or false",
)


def whole_number(name: str, description: str, most: int = MAX_CREDIT, default: int | None = None) -> Parameter:
    """A query parameter that is an integer from 1 to `most`."""
    schema: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": most}
    if default is not None:
        schema["default"] = default
    return Parameter(name, "query", schema, description, integer(most), f"an integer from 1 to {most}")


def moment(name: str, description: str) -> Parameter:
    """A query parameter that is a time."""
    schema = {"type": "string", "format": "date-time"}
    return Parameter(name, "query", schema, description, moment_us, "a time as RFC 3339 has it, with an offset")
