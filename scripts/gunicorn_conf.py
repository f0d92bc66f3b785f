"""Settings of gunicorn: `gunicorn -c scripts/gunicorn_conf.py`. The product's own come from the environment."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from api.logs import standard_logging
from api.settings import SettingError, read_settings
from api.startup import prepare
from ledger.errors import LedgerUnusable

try:
    _settings = read_settings()
except SettingError as error:
    sys.exit(f"credit-ledger cannot start: {error}")

wsgi_app = "api.app:from_environment()"
worker_class = "asgi"
asgi_loop = "uvloop"
asgi_lifespan = "on"
http_parser = "python"
control_socket_disable = True
bind = [_settings.bind]
workers = _settings.workers
backlog = 2048
keepalive = 30
# Python makes no number of more than 4,300 digits; of a Content-Length that long, gunicorn's parser dies.
limit_request_field_size = 4096
# This kind of worker has no limit of connections but its descriptors, and a head may come as slowly as it
# likes: the proxy in front (docs/examples) is what times those out.
# Longer than the longest request, a login that waits 5 s for WeChat: then what is open is closed.
graceful_timeout = 10
logconfig_dict = standard_logging()
proc_name = "credit-ledger"


class _WithoutAccessLog(Logger):  # type: ignore[misc]
    """gunicorn's log. Given a logging dictionary it makes up an access line for each request and drops it
    (ours come from api/telemetry.py): a third of what a small request costs."""

    access_log_enabled = False


logger_class = _WithoutAccessLog

# Each worker counts in files of its own; a master that died without tidying left a directory named by its pid.
_metrics = _settings.data / "metrics"
_mine = _metrics / str(os.getpid())
# prometheus-client looks at it once, when it is imported, which only the workers do.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_mine)


def on_starting(server: Any) -> None:
    """Make and check the data before any worker is forked; leaves nothing open for one to inherit."""
    try:
        prepare(_settings)
    except LedgerUnusable as error:
        sys.exit(f"credit-ledger cannot start: {error}")
    for left in _metrics.glob("*"):
        if not Path(f"/proc/{left.name}").exists():
            shutil.rmtree(left, ignore_errors=True)
    _mine.mkdir(parents=True, exist_ok=True)


def post_worker_init(worker: Any) -> None:
    """Allocate the worker's counter files whole: on a full disk, writing to a hole in one would kill it."""
    from api.metrics import open_files

    open_files()
    for counters in _mine.glob(f"*_{os.getpid()}.db"):
        with counters.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def child_exit(server: Any, worker: Any) -> None:
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid, str(_mine))  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    shutil.rmtree(_mine, ignore_errors=True)
