"""What is counted; over all workers where scripts/gunicorn_conf.py set PROMETHEUS_MULTIPROC_DIR."""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
    values,
)

_LATENCY_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

# They would add a second gauge to every count, which nothing here needs.
disable_created_metrics()  # type: ignore[no-untyped-call]

_own = CollectorRegistry()

REQUESTS = Counter(
    "credit_requests", "Requests answered, by route and status", ("method", "route", "status"), registry=_own
)
LATENCY = Histogram(
    "credit_request_seconds",
    "From the request's head to its answer",
    ("route",),
    buckets=_LATENCY_BUCKETS_S,
    registry=_own,
)
BATCH = Histogram(
    "credit_commit_commands",
    "Commands per commit; its count is the number of commits",
    ("file",),
    buckets=_BATCH_BUCKETS,
    registry=_own,
)
REFUSALS = Counter("credit_refusals", "Commands and logins refused, by code", ("code",), registry=_own)
WECHAT_CALLS = Counter(
    "credit_wechat_calls", "Exchanges of a login code, by outcome", ("outcome",), registry=_own
)


def open_files() -> None:
    """Make the files that this process counts in, which otherwise the first count of each kind does."""
    BATCH.labels("ledger")
    WECHAT_CALLS.labels("ok")


def exposition() -> bytes:
    """Everything counted, in Prometheus' text format."""
    if values.ValueClass.__name__ != "MmapedValue":
        return generate_latest(_own)
    everybody = CollectorRegistry()
    multiprocess.MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
    return generate_latest(everybody)
