"""Logs: one JSON object a line, on standard error, for this service's own lines and for gunicorn's."""

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
