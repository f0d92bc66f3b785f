"""Who is calling: the token or API key of a request and what stands behind it."""

import re
from typing import Final

import falcon.asgi

from api import access
from api.problems import NOT_LOGGED_IN, Problem
from api.service import Service
from ledger.committer import microseconds_now

# What `secrets.token_urlsafe(32)` makes. Whatever else a client stored ("undefined", "null", "") is nobody.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
NO_LIVE_KEY: Final = "No live API key: unknown, expired, or revoked."
_KEY: Final = re.compile(r"ck_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", re.ASCII)


def caller(service: Service, req: falcon.asgi.Request) -> access.Session | None:
    """The session of `Authorization: Bearer` or, without that header, of `?token=`; None for nobody."""
    header = req.get_header("Authorization")
    if header is None:
        return _session(service, (req.get_param("token") or "").strip(" "))
    return _session(service, _bearer(req))


def bearer(service: Service, req: falcon.asgi.Request) -> access.Session:
    """The session of `Authorization: Bearer`, the only place `/v1` takes a token from, or a 401 Problem."""
    session = _session(service, _bearer(req))
    if session is None:
        raise _unauthorized("not-logged-in", NOT_LOGGED_IN)
    return session


def api_key(service: Service, req: falcon.asgi.Request, scopes: frozenset[str]) -> access.ApiKey:
    """The live API key of `Authorization: Bearer` that has one of `scopes`, or a 401 or 403 Problem."""
    now_us = microseconds_now()
    key = live_key(service, req)
    if key is None:
        raise _unauthorized("invalid-key", NO_LIVE_KEY)
    service.rates.count_key(key.id)
    if now_us - (key.last_used_at_us or 0) > access.KEY_TOUCH_INTERVAL_US:
        service.touch_key_later(key.id, now_us)
    if not scopes & key.scopes:
        wanted = " or ".join(sorted(scopes))
        raise Problem(403, "scope-missing", f"The API key lacks the scope {wanted}.", scope=wanted)
    return key


def live_key(service: Service, req: falcon.asgi.Request) -> access.ApiKey | None:
    """The API key of `Authorization: Bearer` where it is live now; None for another or for none."""
    given = _bearer(req)
    key = access.find_key(service.session_lookups, given) if _KEY.fullmatch(given) else None
    return key if key is not None and key.is_live(microseconds_now()) else None


def _bearer(req: falcon.asgi.Request) -> str:
    scheme, _, credentials = (req.get_header("Authorization") or "").partition(" ")
    return credentials.strip(" ") if scheme.lower() == "bearer" else ""


def _unauthorized(code: str, detail: str) -> Problem:
    problem = Problem(401, code, detail)
    problem.headers = {"WWW-Authenticate": "Bearer"}
    return problem


def _session(service: Service, token: str) -> access.Session | None:
    if not _TOKEN.fullmatch(token):
        return None
    now_us = microseconds_now()
    session = access.find_session(service.session_lookups, token, now_us)
    if session is not None:
        service.rates.count_token(session.token_hash)
        if session.stale:
            service.touch_later(session.token_hash, now_us)
    return session
