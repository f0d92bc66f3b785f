"""What is noted of every request: an id, a line in the log, a count and a duration.

No line holds a token, code, secret or session key: queries, bodies and headers are not logged at all.
"""

import re
import secrets
import time
from functools import cache
from typing import Final

import falcon.asgi
import structlog

from api.metrics import LATENCY, REQUESTS
from api.problems import Problem

# Nothing of the form of a token or an API key: an id is logged and answered.
_REQUEST_ID: Final = re.compile(r"(?!(?:ck_[0-9a-f]{12}_)?[A-Za-z0-9_-]{43}\Z)[A-Za-z0-9._-]{1,64}", re.ASCII)
# A token or code that somebody put into the path by mistake has no business in a log.
_SECRET_LIKE: Final = re.compile(r"[A-Za-z0-9_-]{20,}", re.ASCII)
# Nor has whose account it is, in a path that is no route.
_ACCOUNT: Final = re.compile(r"(accounts/+)[^/]+")
_UNMATCHED: Final = "unmatched"
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_HEADERS: Final = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]

log = structlog.get_logger()

# Looked up once for each route and status, of which there are few: a look-up costs more than counting.
_requests = cache(REQUESTS.labels)
_latency = cache(LATENCY.labels)


class Telemetry:
    """Falcon middleware: an id for each request, a line and two counts for each answer."""

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        req.context.started = time.perf_counter()
        given = req.get_header("X-Request-ID")
        known = given is not None and _REQUEST_ID.fullmatch(given)
        req.context.request_id = given if known else secrets.token_hex(8)
        if "//" in req.path or b"%2f" in req.scope.get("raw_path", b"").lower():
            # Falcon would route it as if it were one plain slash, which a proxy's rules for the path may not.
            raise Problem(404, "not-found", "There is nothing at this path.")
        if req.query_string and list in map(type, req.params.values()):
            raise Problem(400, "repeated-parameter", "A query parameter may be given once.")

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, req_succeeded: bool
    ) -> None:
        if "request_id" not in req.context:  # Falcon refused the method before it asked us anything
            req.context.started = time.perf_counter()
            req.context.request_id = secrets.token_hex(8)
        resp.set_headers(_HEADERS)
        resp.set_header("X-Request-ID", req.context.request_id)
        seconds = time.perf_counter() - req.context.started
        route: str = (req.uri_template if resource is not None else None) or _UNMATCHED
        status = resp.status_code
        method = req.method if req.method in _METHODS else "other"
        _requests(method, route, status).inc()
        _latency(route).observe(seconds)
        log.info(
            "request",
            request_id=req.context.request_id,
            method=method,
            # Whose account it is stays out of the log: the template, where there is a name in the path.
            path=route if "{" in route else _ACCOUNT.sub(r"\1...", _SECRET_LIKE.sub("...", req.path))[:200],
            status=status,
            ms=round(seconds * 1000, 2),
        )
