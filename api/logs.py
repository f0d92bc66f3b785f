"""Logs: one JSON object a line, on standard error, for this service's own lines and for gunicorn's."""

import os
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import msgspec
import structlog

_encoder = msgspec.json.Encoder(enc_hook=repr)


def _render_bytes(logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
    return _encoder.encode(event)


def _render_text(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    return _encoder.encode(event).decode()


_PROCESSORS: Final[list[Any]] = [
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,  # without the values of variables, which may be secrets
]


class _StandardError:
    """What structlog writes lines to. A line that cannot be written, on a full disk or into a pipe that nobody
    reads any more, is lost: it must not turn an answer into an error."""

    def __init__(self, *_: Any) -> None:
        self._descriptor = sys.stderr.fileno()

    def msg(self, line: bytes) -> None:
        try:
            os.write(self._descriptor, line + b"\n")
        except OSError:
            return

    debug = info = warning = error = critical = msg


def configure_logs() -> None:
    """Send this process's structlog lines to standard error as JSON."""
    structlog.configure(
        processors=[*_PROCESSORS, _render_bytes],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=_StandardError,
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
