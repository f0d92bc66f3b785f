"""Ways to ask for what one may not have: by another path, another method, or a credential in a wrong place."""

import json
import re
from collections.abc import Callable
from random import Random
from typing import Final

import msgspec

from scripts.sandbox_wechat import signed_user_info
from tests.torture.access_http import Request
from tests.torture.access_judge import Person
from tests.torture.access_stage import Scene
from tests.torture.access_table import ROWS

# A request with the trick in it, or None where the trick is none for that scene.
Trick = Callable[[Random, Scene, Request], Request | None]
PathTrick = Callable[[Random, str], str]


def _replaced(random: Random, path: str, pattern: str, change: Callable[[str], str]) -> str:
    """`path` with one of the places that match `pattern` changed."""
    places = list(re.finditer(pattern, path))
    if not places:
        return path
    place = random.choice(places)
    return path[: place.start()] + change(place[0]) + path[place.end() :]


PATHS: Final[dict[str, PathTrick]] = {
    "two slashes": lambda random, path: _replaced(random, path, "/", lambda _: "//"),
    "slash dot slash": lambda random, path: _replaced(random, path, "/", lambda _: "/./"),
    "dot dot": lambda random, path: random.choice(["/healthz/..", "/docs/.", "/..", "/v1/seals/.."]) + path,
    "encoded dots": lambda random, path: (
        random.choice(["/healthz/%2e%2e", "/%2e", "/%2E%2E", "/v1/seals/.%2e"]) + path
    ),
    "dots encoded twice": lambda random, path: "/healthz/%252e%252e" + path,
    "an encoded slash": lambda random, path: (
        path[0] + _replaced(random, path[1:], "/", lambda _: random.choice(["%2f", "%2F"]))
    ),
    "a slash encoded twice": lambda random, path: path[0] + _replaced(random, path[1:], "/", lambda _: "%252f"),
    "an overlong slash": lambda random, path: path[0] + _replaced(random, path[1:], "/", lambda _: "%c0%af"),
    "a backslash": lambda random, path: (
        path[0] + _replaced(random, path[1:], "/", lambda _: random.choice(["\\", "%5c"]))
    ),
    "an encoded letter": lambda random, path: _replaced(random, path, "[a-z0-9]", lambda it: f"%{ord(it):02x}"),
    "capitals": lambda random, path: _replaced(random, path, "[a-z]+", str.upper),
    "something behind": lambda random, path: (
        path
        + random.choice(
            ["/", "/.", "//", "/..", ";x=1", ".json", "%00", "%0a", "%20", "%23", "#x", ".", "%09", "%3f", "/*"]
        )
    ),
    "something within": lambda random, path: _replaced(
        random, path, "(?<=[a-z])/", lambda _: random.choice([";x/", "%00/", "%20/", "/%20", "/;/", "/*/"])
    ),
    "a whole address": lambda random, path: (
        random.choice(["http://127.0.0.1", "http://localhost:80", "https://tests", "http://x@127.0.0.1"]) + path
    ),
}
METHODS: Final = (
    *("GET", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "PUT", "DELETE", "POST"),
    *("PROPFIND", "get", "gEt", "GETX", "_"),
)
OVERRIDES: Final = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
FORWARDED: Final = (
    ("X-Forwarded-For", "127.0.0.1"),
    ("X-Forwarded-For", "127.0.0.1, ::1"),
    ("X-Real-IP", "127.0.0.1"),
    ("Forwarded", "for=127.0.0.1;host=localhost;proto=https"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "localhost"),
    ("X-Forwarded-Prefix", "/healthz"),
    ("X-Forwarded-Port", "443"),
    ("X-Script-Name", "/healthz"),
    ("Host", "localhost"),
    ("Origin", "null"),
    ("Connection", "close, Authorization"),
    ("Accept", "text/xml"),
)
# Headers that somewhere name the user, once a proxy has checked who that is.
NAMED_BY: Final = (
    *("X-WX-OPENID", "X-Openid", "X-User-Id", "X-Forwarded-User", "X-Remote-User", "Remote-User", "From"),
    *("X-Auth-Request-User", "X-Authenticated-User", "X-Consumer-Username", "X-Actor", "X-Scopes"),
)
REROUTED_BY: Final = ("X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X-Forwarded-Uri", "Path-Info")
# Where a credential is not looked for.
WRONG_HEADERS: Final = (
    *("X-API-Key", "X-Token", "X-Access-Token", "X-Auth-Token", "Proxy-Authorization", "Token", "Api-Key"),
    *("X-Forwarded-Authorization", "X-Authorization", "Authorization_", "HTTP_AUTHORIZATION", "X-Request-ID"),
    *("Referer", "User-Agent"),
)
WRONG_SCHEMES: Final = (
    "Basic {}",
    "Token {}",
    "{}",
    "Bearer: {}",
    "Bearer={}",
    "Bearer Bearer {}",
    "Bearer\t{}",
)
QUERIES: Final = (
    "token",
    "access_token",
    "key",
    "api_key",
    "Authorization",
    "authorization",
    "token[]",
    "Token",
)


def _by_path(trick: PathTrick) -> Trick:
    return lambda random, scene, request: request.at(trick(random, request.path) + request.query)


def _method(random: Random, scene: Scene, request: Request) -> Request:
    taken = {row.method for row in ROWS if row.path == scene.row.path}
    others = [method for method in METHODS if method not in taken]
    return msgspec.structs.replace(request, method=random.choice(others))


def _method_override(random: Random, scene: Scene, request: Request) -> Request:
    """The right method by a header, whatever the line says."""
    disguised = msgspec.structs.replace(request, method="POST" if request.method == "GET" else "GET")
    if random.random() < 0.3:
        return disguised.with_query(f"_method={request.method}")
    return disguised.with_headers(*((name, request.method) for name in OVERRIDES))


def _named(random: Random, scene: Scene, request: Request) -> Request:
    """Says whose account is meant, in the place of the caller's own."""
    return request.with_headers(*((name, scene.subject.openid) for name in NAMED_BY))


def _named_in_the_query(random: Random, scene: Scene, request: Request) -> Request:
    return request.with_query(f"{random.choice(['openid', 'user', 'account', 'as'])}={scene.subject.openid}")


def _rerouted(random: Random, scene: Scene, request: Request) -> Request:
    disguised = request.at(random.choice(["/healthz", "/docs", "/", "/v1/seals"]))
    return disguised.with_headers(*((name, request.target) for name in REROUTED_BY))


def _shown(request: Request) -> str | None:
    """The Authorization of the request."""
    return next((value for name, value in request.headers if name == "Authorization"), None)


def _with_authorization(request: Request, *values: str) -> Request:
    kept = tuple(header for header in request.headers if header[0] != "Authorization")
    return msgspec.structs.replace(request, headers=kept + tuple(("Authorization", value) for value in values))


def _stolen_twice(random: Random, scene: Scene, request: Request) -> Request:
    """One header or two, of which one alone would open."""
    own, live = _shown(request) or "Bearer undefined", f"Bearer {scene.stolen}"
    both = [own, live]
    random.shuffle(both)
    return (
        _with_authorization(request, ", ".join(both))
        if random.random() < 0.3
        else (_with_authorization(request, *both))
    )


def _stolen_in_the_query(random: Random, scene: Scene, request: Request) -> Request | None:
    """Beside a header that decides, or as one of two."""
    if not scene.row.path.startswith("/v1") and _shown(request) is None:
        own = request.query.removeprefix("?token=")
        first, second = random.sample([own or "undefined", scene.stolen], 2)
        return request.at(f"{request.path}?token={first}&token={second}")
    return request.with_query("&".join(f"{name}={scene.stolen}" for name in QUERIES))


def _stolen_elsewhere(random: Random, scene: Scene, request: Request) -> Request:
    live = scene.stolen
    match random.randrange(4):
        case 0:
            return request.with_headers(
                ("Cookie", f"token={live}; session={live}; Authorization=Bearer {live}")
            )
        case 1:
            shown = random.choice([live, f"Bearer {live}"])
            return request.with_headers(*((name, shown) for name in WRONG_HEADERS))
        case 2:
            return _with_authorization(request, random.choice(WRONG_SCHEMES).format(live))
    return _in_the_body(request, token=live)


def _stolen_in_the_path(random: Random, scene: Scene, request: Request) -> Request:
    """A path is what a log has: what somebody puts there by mistake must not be read in it."""
    live = scene.stolen
    form = random.choice(
        ["{path}/{live}", "/{live}{path}", "/accounts/{live}", "/v1/accounts/{live}", "/{live}"]
    )
    return request.at(form.format(path=request.path, live=live) + request.query)


def _in_the_body(request: Request, **more: str) -> Request:
    try:
        body = msgspec.json.decode(request.body or b"{}", type=dict[str, object])
    except msgspec.DecodeError:
        return request
    return msgspec.structs.replace(request, body=json.dumps(body | more).encode())


def _upgrade(random: Random, scene: Scene, request: Request) -> Request:
    return request.with_headers(
        ("Connection", "Upgrade"),
        ("Upgrade", random.choice(["websocket", "h2c"])),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    )


def _profile_of_another(random: Random, scene: Scene, request: Request) -> Request | None:
    """Signed with the caller's own session key, and about somebody else."""
    if scene.row.path != "/userinfo" or scene.caller != "other":
        return None
    return _profile(request, scene.subject, scene.owner, scene.owner)


def _profile_by_another(random: Random, scene: Scene, request: Request) -> Request | None:
    """About the caller, and signed with another's session key."""
    if scene.row.path != "/userinfo" or scene.caller != "other":
        return None
    return _profile(request, scene.owner, scene.owner, scene.subject)


def _profile(request: Request, about: Person, encrypts: Person, signs: Person) -> Request:
    profile = {"nickName": "stolen"}
    signed = signed_user_info(about.name, encrypts.session_key, profile)
    signed["signature"] = signed_user_info(about.name, signs.session_key, profile)["signature"]
    return msgspec.structs.replace(request, body=json.dumps(signed).encode())


TRICKS: Final[dict[str, Trick]] = {
    **{name: _by_path(trick) for name, trick in PATHS.items()},
    "another method": _method,
    "a method by header": _method_override,
    "a header of proxies": lambda random, scene, request: request.with_headers(random.choice(FORWARDED)),
    "another's name": _named,
    "another's name in the query": _named_in_the_query,
    "another's name in the body": lambda random, scene, request: _in_the_body(
        request, openid=scene.subject.openid
    ),
    "another path by header": _rerouted,
    "two credentials": _stolen_twice,
    "a stolen credential in the query": _stolen_in_the_query,
    "a stolen credential in a wrong place": _stolen_elsewhere,
    "a stolen credential in the path": _stolen_in_the_path,
    "an upgrade": _upgrade,
    "a profile of another": _profile_of_another,
    "a profile by another": _profile_by_another,
}


# What somebody with a token of his own tries first.
_FOR_OTHERS: Final = ("another's name", "a profile of another", "a profile by another")


def tricks_for(random: Random, scene: Scene, request: Request) -> dict[str, Request]:
    """Tricks that are some for this scene: the name of each, and the request with it."""
    names = [random.choice(list(TRICKS)), *(_FOR_OTHERS if scene.caller == "other" else ())]
    if scene.caller == "nobody" or not scene.row.path.startswith("/v1"):
        names.append("a stolen credential in the query")
    if scene.row.writes and scene.caller in scene.row.may:
        names.append("a method by header")
    found = {name: TRICKS[name](random, scene, request) for name in names}
    return {name: each for name, each in found.items() if each is not None and each != request}
