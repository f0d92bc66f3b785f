"""Requests as clients send them, and what each answer says of the outcome."""

import http.client
import json
from typing import Any, Final

import msgspec

from tests.torture.history import ACKNOWLEDGED, REFUSED, UNKNOWN, Call, Outcome, now_ns

_TIMEOUT_S: Final = 2.5


class Request(msgspec.Struct, frozen=True):
    """What a client means to send; under the same key it may be sent again, by anybody.

    Whoever asks for himself, a `user`, shows a token; without one it is the backend, with its API key.
    """

    action: str
    openid: str
    path: str
    user: str
    method: str = "POST"
    body: dict[str, Any] | None = None
    sent_key: str | None = None
    key: str | None = None
    facts: dict[str, Any] = {}


class NotConnected(Exception):
    """Nothing was sent: nobody listens."""


class Wire:
    """One connection to the service, opened anew where it broke. Belongs to one thread."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)

    def send(self, who: str, request: Request, secret: str | None, *, settling: bool = False) -> Call:
        """Send it once and say what came of it; raises NotConnected where it cannot have arrived."""
        headers = {"Content-Type": "application/json"}
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        if request.sent_key is not None:
            headers["Idempotency-Key"] = request.sent_key
        body = b"" if request.body is None else msgspec.json.encode(request.body)
        if self._connection.sock is None:
            try:
                self._connection.connect()
            except OSError as error:
                raise NotConnected(str(error)) from None
        sent_ns = now_ns()
        try:
            self._connection.request(request.method, request.path, body, headers)
            answer = self._connection.getresponse()
            status, text = answer.status, answer.read()
            told = json.loads(text)
        except (OSError, http.client.HTTPException, ValueError):
            self.close()
            status, told = 0, {}
        outcome, code = outcome_of(status, told)
        return call_of(who, request, sent_ns, outcome, code, told, settling=settling)

    def close(self) -> None:
        self._connection.close()


def outcome_of(status: int, told: Any) -> tuple[Outcome, str | None]:
    """What an answer says: 0 stands for none that could be read."""
    if not isinstance(told, dict):
        return UNKNOWN, None
    code = told.get("code")
    if status in (200, 201):
        # The tutorial's routes say no with 200, and with no code where a token is not a live session's.
        return (REFUSED, code or "not-logged-in") if "err" in told else (ACKNOWLEDGED, None)
    if status >= 400 and code not in (None, "outcome-unknown", "not-readable", "internal-error"):
        return REFUSED, code
    return UNKNOWN, code


def call_of(
    who: str,
    request: Request,
    sent_ns: int,
    outcome: Outcome,
    code: str | None,
    told: dict[str, Any],
    *,
    settling: bool = False,
) -> Call:
    """The call as the history keeps it, answered now."""
    event, token = told.get("event", {}), told.get("token")
    return Call(
        who,
        request.action,
        request.openid,
        request.key,
        request.facts,
        sent_ns,
        now_ns(),
        outcome,
        settling,
        code,
        event.get("version", told.get("version")),
        told.get("credit"),
        event.get("hash"),
        token if isinstance(token, str) else None,
        told.get("receipt"),
    )
