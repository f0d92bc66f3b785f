"""Who is calling: the token of a request and the session behind it."""

import re
from typing import Final

import falcon.asgi

from api import access
from api.problems import NOT_LOGGED_IN, Problem
from api.service import Service
from ledger.committer import microseconds_now

# What `secrets.token_urlsafe(32)` makes. Whatever else a client stored ("undefined", "null", "") is nobody.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def caller(service: Service, req: falcon.asgi.Request) -> access.Session | None:
    """The session of `Authorization: Bearer` or, without that header, of `?token=`; None for nobody."""
    header = req.get_header("Authorization")
    if header is None:
        token = req.get_param("token") or ""
    else:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            return None
    return _session(service, token.strip(" "))


def bearer(service: Service, req: falcon.asgi.Request) -> access.Session:
    """The session of `Authorization: Bearer`, the only place `/v1` takes a token from, or a 401 Problem."""
    scheme, _, token = (req.get_header("Authorization") or "").partition(" ")
    session = _session(service, token.strip(" ")) if scheme.lower() == "bearer" else None
    if session is None:
        problem = Problem(401, "not-logged-in", NOT_LOGGED_IN)
        problem.headers = {"WWW-Authenticate": "Bearer"}
        raise problem
    return session


def _session(service: Service, token: str) -> access.Session | None:
    if not _TOKEN.fullmatch(token):
        return None
    now_us = microseconds_now()
    session = access.find_session(service.sessions, token, now_us)
    if session is not None and session.stale:
        service.touch_later(session.token_hash, now_us)
    return session
