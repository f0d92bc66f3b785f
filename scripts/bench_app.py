"""The product's app with benchmark-only routes beside its own; scripts/bench runs it, nothing else ships it.

The hello-world routes are what the product's are measured against, so they go through the same middleware
and read the same body. `/bench/grant` gives credit to anybody who asks.
"""

from typing import Any, Final

import falcon.asgi
import msgspec

from api.app import create_app
from api.bodies import read_json
from api.logs import configure_logs
from api.service import Service
from api.settings import read_settings
from ledger.commands import GrantCredit, Submission


class GrantBody(msgspec.Struct, forbid_unknown_fields=True):
    """A grant as it comes over the wire."""

    openid: str
    amount: int
    reason: str
    key: str


class GrantAnswer(msgspec.Struct):
    """What the account has after the grant."""

    credit: int
    version: int


_grant_body: Final = msgspec.json.Decoder(GrantBody)


class Hello:
    """`/bench/hello`: the least that a route can do; a POST reads and checks a grant and grants nothing."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.content_type = falcon.MEDIA_JSON
        resp.data = b'{"hello":"world"}'

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        await read_json(req, _grant_body)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = b'{"hello":"world"}'


class Grant:
    """`POST /bench/grant`: a grant through group commit, answered once it is on disk."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        body = await read_json(req, _grant_body)
        command = GrantCredit(body.openid, body.amount, body.reason, body.key)
        outcome = await self._service.ledger_commits.submit(Submission(command, "benchmark"))
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(GrantAnswer(outcome.credit, outcome.version))


def from_environment() -> falcon.asgi.App[Any, Any]:
    """What gunicorn loads in place of `api.app:from_environment()`."""
    configure_logs()
    service = Service(read_settings())
    app = create_app(service)
    app.add_route("/bench/hello", Hello())
    app.add_route("/bench/grant", Grant(service))
    return app
