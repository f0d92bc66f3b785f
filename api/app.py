"""The application: routes, and what surrounds each of them."""

from typing import Any

import falcon.asgi

from api import operations, problems, tutorial
from api.docs_page import Docs
from api.logs import configure_logs
from api.metrics import REQUESTS
from api.openapi import OpenApi
from api.routes import ROUTES
from api.service import Service
from api.settings import read_settings
from api.telemetry import Telemetry


def create_app(service: Service) -> falcon.asgi.App[Any, Any]:
    """The ASGI application. It opens its files at lifespan startup, so it can be made before a fork."""
    middleware: list[Any] = [Telemetry(), service]
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App(middleware=middleware)
    app.resp_options.xml_error_serialization = False
    problems.install(app)

    app.add_route("/login", tutorial.Login(service))
    app.add_route("/checklogin", tutorial.CheckLogin(service))
    app.add_route("/credit", tutorial.Credit(service))
    app.add_route("/userinfo", tutorial.UserInfoRoute(service))

    for path, resource in ROUTES.items():
        app.add_route(path, resource(service))
    app.add_route("/openapi.json", OpenApi())
    app.add_route("/docs", Docs())

    app.add_route("/healthz", operations.Healthz())
    app.add_route("/readyz", operations.Readyz(service))
    app.add_route("/metrics", operations.Metrics())
    return app


class AnswerTheSilent:
    """Answers 408 where the application answered nothing.

    A body that was announced and never sent reaches Falcon as a client that left, so it says nothing, and
    gunicorn makes a 500 of that.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        answered = False

        async def noting(message: dict[str, Any]) -> None:
            nonlocal answered
            answered = True
            await send(message)

        await self._app(scope, receive, noting)
        if scope["type"] == "http" and not answered:
            REQUESTS.labels("other", "unmatched", 408).inc()
            body = problems.problem(408, "body-timeout", "The body did not come in time.", {})
            headers = [
                (b"content-type", problems.PROBLEM_JSON.encode()),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            await send({"type": "http.response.start", "status": 408, "headers": headers})
            await send({"type": "http.response.body", "body": body})


def from_environment() -> AnswerTheSilent:
    """What gunicorn loads. There is no falling back to a sandbox here: a setting that lacks is an error."""
    configure_logs()
    return AnswerTheSilent(create_app(Service(read_settings())))
