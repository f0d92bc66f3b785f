"""The product's app with benchmark-only routes beside its own; the benchmark runs it, nothing else does.

They are what the product's are measured against, so they go through the same middleware and read the same body.
"""

from typing import Any, Final

import falcon.asgi
import msgspec

from api.app import AnswerTheSilent, create_app
from api.bodies import read_json
from api.incoming import GrantBody
from api.logs import configure_logs
from api.service import Service
from api.settings import read_settings
from bench.floor import BareGrants, BareLines, BareRows, Lookups

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


def from_environment() -> AnswerTheSilent:
    """What gunicorn loads in place of `api.app:from_environment()`."""
    configure_logs()
    service = Service(read_settings())
    app: falcon.asgi.App[Any, Any] = create_app(service)
    app.add_route("/bench/hello", Hello())
    app.add_route("/bench/lookups", Lookups(service))
    rows = BareRows(service)
    app.add_route("/bench/rows", BareGrants(rows))
    app.add_route("/bench/lines", BareLines(rows))
    return AnswerTheSilent(app)
