"""What operators ask: is it up, is it ready, what did it do."""

import falcon.asgi
import structlog
from prometheus_client import CONTENT_TYPE_LATEST

from api.metrics import exposition
from api.problems import Problem
from api.service import Service
from ledger.errors import LedgerFault
from ledger.sqlite import UNREADABLE

log = structlog.get_logger()


class Healthz:
    """`GET /healthz`: the process answers. A full disk must not get it killed, so nothing is looked at."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.content_type = falcon.MEDIA_JSON
        resp.data = b'{"status":"up"}'

    on_head = on_get


class Readyz:
    """`GET /readyz`: both databases can be written and are of the schema that this release knows."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        try:
            await self._service.check()
        except (LedgerFault, TimeoutError, *UNREADABLE) as fault:
            log.error("not ready", error=str(fault) or "no answer from the disk in time")
            raise Problem(503, "not-ready", "A database cannot be written now; the log says which.") from None
        resp.content_type = falcon.MEDIA_JSON
        resp.data = b'{"status":"ready"}'


class Metrics:
    """`GET /metrics`: counts over all workers, for Prometheus. Keep it from the public in the proxy."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = exposition()
