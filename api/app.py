"""The application: routes, and what surrounds each of them."""

from typing import Any

import falcon.asgi

from api import me, operations, problems, tutorial
from api.logs import configure_logs
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

    app.add_route("/v1/me", me.Me(service))
    app.add_route("/v1/me/profile", me.MyProfile(service))
    app.add_route("/v1/me/credit", me.MyCredit(service))
    app.add_route("/v1/me/events", me.MyEvents(service))

    app.add_route("/healthz", operations.Healthz())
    app.add_route("/readyz", operations.Readyz(service))
    app.add_route("/metrics", operations.Metrics())
    return app


def from_environment() -> falcon.asgi.App[Any, Any]:
    """What gunicorn loads. There is no falling back to a sandbox here: a setting that lacks is an error."""
    configure_logs()
    return create_app(Service(read_settings()))
