"""Who may do what: the one table that the part `access` holds against a running service."""

from collections.abc import Iterable
from typing import Final

import falcon.inspect
import msgspec

from api.app import create_app
from api.service import Service
from api.settings import read_settings
from scripts.sandbox_wechat import APPID, SECRET

# `other` and `own` have a live token: of somebody else, and of the person whom the request is about.
TOKENS: Final = ("nobody", "malformed", "guessed", "expired", "logged-out", "erased", "other", "own")
# A live key without any scope, and with exactly one.
SCOPES: Final = ("audit", "grant", "operate", "read", "spend")
LIVE_KEYS: Final = ("no-scope", *SCOPES)
# Dead ones had every scope.
DEAD_KEYS: Final = ("guessed-key", "expired-key", "revoked-key")
CALLERS: Final = (*TOKENS, *LIVE_KEYS, *DEAD_KEYS)

# may: who is answered `status`, `user` for each token's owner about himself alone; key, rest: what a live key
# that may not is told, and everybody else (see access_judge.REFUSALS); does: what is seen to have happened.
TABLE: Final = """
method  path                                            may         status  does    key            rest
POST    /login                                          anybody     200     token   -              -
GET     /checklogin                                     user        200     in      out            out
GET     /credit                                         user        200     shows   err            err
POST    /userinfo                                       user        200     name    err            err
POST    /v1/sessions                                    anybody     201     token   -              -
DELETE  /v1/sessions                                    user        204     leaves  not-logged-in  not-logged-in
DELETE  /v1/sessions/current                            user        204     leaves  not-logged-in  not-logged-in
GET     /v1/me                                          user        200     shows   not-logged-in  not-logged-in
PUT     /v1/me/profile                                  user        200     name    not-logged-in  not-logged-in
GET     /v1/me/credit                                   user        200     shows   not-logged-in  not-logged-in
GET     /v1/me/events                                   user        200     shows   not-logged-in  not-logged-in
POST    /v1/me/checkin                                  user        201     events  not-logged-in  not-logged-in
GET     /v1/me/proof                                    user        200     shows   not-logged-in  not-logged-in
GET     /v1/accounts/{openid}                           read,audit  200     shows   scope-missing  invalid-key
GET     /v1/accounts/{openid}/events                    read,audit  200     shows   scope-missing  invalid-key
GET     /v1/accounts/{openid}/proof                     read,audit  200     shows   scope-missing  invalid-key
POST    /v1/accounts/{openid}/grants                    grant       201     event   scope-missing  invalid-key
POST    /v1/accounts/{openid}/spends                    spend       201     event   scope-missing  invalid-key
POST    /v1/accounts/{openid}/holds                     spend       201     event   scope-missing  invalid-key
POST    /v1/accounts/{openid}/holds/{hold}/capture      spend       201     event   scope-missing  invalid-key
POST    /v1/accounts/{openid}/holds/{hold}/release      spend       201     event   scope-missing  invalid-key
POST    /v1/accounts/{openid}/reversals                 spend       201     event   scope-missing  invalid-key
POST    /v1/accounts/{openid}/revocations               grant       201     event   scope-missing  invalid-key
POST    /v1/accounts/{openid}/freeze                    operate     201     event   scope-missing  invalid-key
POST    /v1/accounts/{openid}/unfreeze                  operate     201     event   scope-missing  invalid-key
POST    /v1/grants                                      grant       200     event   scope-missing  invalid-key
GET     /v1/seals                                       anybody     200     -       -              -
GET     /v1/seals/{seal}                                anybody     200     -       -              -
GET     /v1/seals/{seal}/consistency/{later}            anybody     200     -       -              -
GET     /openapi.json                                   anybody     200     -       -              -
GET     /docs                                           anybody     200     -       -              -
GET     /healthz                                        anybody     200     -       -              -
HEAD    /healthz                                        anybody     200     -       -              -
GET     /readyz                                         anybody     200     -       -              -
GET     /metrics                                        anybody     200     -       -              -
"""

YES: Final = "yes"


class Row(msgspec.Struct, frozen=True):
    """One route of the table."""

    method: str
    path: str
    may: frozenset[str]
    status: int
    does: str
    key: str
    rest: str

    @property
    def route(self) -> str:
        return f"{self.method} {self.path}"

    def answer_to(self, caller: str) -> str:
        """`yes`, or the name of the refusal."""
        if caller in self.may:
            return YES
        return self.key if caller in LIVE_KEYS else self.rest

    @property
    def writes(self) -> bool:
        return self.does in ("event", "events", "leaves", "name")

    @property
    def scopes(self) -> frozenset[str]:
        """Of which a key needs one; none where a key opens nothing or everybody may."""
        return frozenset() if "nobody" in self.may else self.may & set(SCOPES)


def _row(line: str) -> Row:
    method, path, may, status, does, key, rest = line.split()
    named = {"anybody": CALLERS, "user": ("other", "own")}.get(may, may.split(","))
    return Row(method, path, frozenset(named), int(status), does, key, rest)


ROWS: Final = [_row(line) for line in TABLE.strip().splitlines()[1:]]


def served() -> set[str]:
    """Every route that the application has, as `GET /v1/me`; whatever serves without one, by its own name."""
    app = create_app(Service(read_settings({"WECHAT_APPID": APPID, "WECHAT_SECRET": SECRET})))
    beside = [*falcon.inspect.inspect_sinks(app), *falcon.inspect.inspect_static_routes(app)]
    return {
        f"{method.method} {route.path}"
        for route in falcon.inspect.inspect_routes(app)
        for method in route.methods
        if not method.internal
    } | {str(each) for each in beside}


def documented(document: dict[str, dict[str, dict[str, object]]]) -> set[str]:
    """Every route of an OpenAPI document."""
    return {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}


def left_out(found: Iterable[str]) -> list[str]:
    """What is wrong with the table, given the routes that there are."""
    there, listed = set(found), {row.route for row in ROWS}
    return [f"{route} is in no row of the table" for route in sorted(there - listed)] + [
        f"{route} is in the table and nowhere else" for route in sorted(listed - there)
    ]
