"""Logs as JSON, one object a line on standard error, and what is noted of every request.

No line holds a token, code, secret or session key: queries, bodies and headers are not logged at all.
"""

import re
import secrets
import sys
import time
from collections.abc import MutableMapping
from typing import Any, Final

import falcon.asgi
import msgspec
import structlog

from api.metrics import LATENCY, REQUESTS
from api.problems import Problem

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_UNMATCHED: Final = "unmatched"
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_encoder = msgspec.json.Encoder(enc_hook=repr)

log = structlog.get_logger()


def _render_bytes(logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
    return _encoder.encode(event)


def _render_text(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    return _encoder.encode(event).decode()


_PROCESSORS: Final[list[Any]] = [
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,  # without the values of variables, which may be secrets
]


def configure_logs() -> None:
    """Send this process's structlog lines to standard error as JSON."""
    structlog.configure(
        processors=[*_PROCESSORS, _render_bytes],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )


def standard_logging() -> dict[str, Any]:
    """A `logging.config` dictionary that gives gunicorn's own lines the same form."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render_text],
                "foreign_pre_chain": _PROCESSORS,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False}},
    }


class Telemetry:
    """Falcon middleware: an id for each request, a line and two counts for each answer."""

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        req.context.started = time.perf_counter()
        given = req.get_header("X-Request-ID")
        known = given is not None and _REQUEST_ID.fullmatch(given)
        req.context.request_id = given if known else secrets.token_hex(8)
        if "//" in req.path:
            # Falcon would route it as if the slash were one, which a proxy's rules for the path may not.
            raise Problem(404, "not-found", "There is nothing at this path.")
        if req.query_string and any(isinstance(value, list) for value in req.params.values()):
            raise Problem(400, "repeated-parameter", "A query parameter may be given once.")

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, req_succeeded: bool
    ) -> None:
        resp.set_headers(_HEADERS)
        resp.set_header("X-Request-ID", req.context.request_id)
        seconds = time.perf_counter() - req.context.started
        route = (req.uri_template if resource is not None else None) or _UNMATCHED
        status = resp.status_code
        method = req.method if req.method in _METHODS else "other"
        REQUESTS.labels(method, route, status).inc()
        LATENCY.labels(route).observe(seconds)
        log.info(
            "request",
            request_id=req.context.request_id,
            method=method,
            path=req.path[:200],
            status=status,
            ms=round(seconds * 1000, 2),
        )


_HEADERS: Final = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]
