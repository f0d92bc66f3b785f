"""`/v1/me`: what a person may see and change of his own. Real statuses, problems, Bearer only."""

from functools import partial
from typing import Annotated, Final

import falcon.asgi
import msgspec

from api import access
from api.bodies import read_json
from api.callers import bearer
from api.problems import Problem
from api.service import Service
from ledger.statement import MAX_PAGE, Entry, Standing, rfc3339

_DEFAULT_PAGE: Final = 20

# `(?!\n)` because `$` alone lets a line feed through at the end.
_Nickname = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,32}$(?!\n)")]
_Avatar = Annotated[
    str,
    msgspec.Meta(
        max_length=40_000,
        pattern=r"^(https://[\x21-\x7e]+|data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2})$(?!\n)",
    ),
]


class ProfileBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a person chose: `avatar` an https address or a small picture as a `data:` URL; None keeps it."""

    nickname: _Nickname
    avatar: _Avatar | None = None


class EventView(msgspec.Struct):
    """One line of a statement as it goes over the wire; `recorded_at` is RFC 3339 in UTC."""

    version: int
    type: str
    data: msgspec.Raw
    credit: int
    recorded_at: str


class Page(msgspec.Struct):
    """Events, newest first; `next_before` asks for those before them and is None where there are none."""

    events: list[EventView]
    next_before: int | None


_profile_body: Final = msgspec.json.Decoder(ProfileBody)


class Me:
    """`GET /v1/me`: nickname and picture."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        session = bearer(self._service, req)
        _answer(resp, access.profile(self._service.sessions, session.openid))


class MyProfile:
    """`PUT /v1/me/profile`: choose them."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_put(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        session = bearer(self._service, req)
        body = await read_json(req, _profile_body)
        chosen = access.Profile(body.nickname, body.avatar)
        change = partial(access.save_profile, openid=session.openid, chosen=chosen)
        _answer(resp, await self._service.access_commits.submit(change))


class MyCredit:
    """`GET /v1/me/credit`: what can be spent, and after which event that was so."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        session = bearer(self._service, req)
        _answer(resp, self._service.reader.standing(session.openid) or Standing(0, 0))


class MyEvents:
    """`GET /v1/me/events`: the statement, by cursor."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        session = bearer(self._service, req)
        before = _count(req, "before", 2**53 - 1)
        limit = _count(req, "limit", MAX_PAGE) or _DEFAULT_PAGE
        entries = self._service.reader.page(session.openid, before=before, limit=limit)
        more = bool(entries) and entries[-1].version > 1
        _answer(resp, Page([_view(entry) for entry in entries], entries[-1].version if more else None))


def _view(entry: Entry) -> EventView:
    return EventView(entry.version, entry.type, entry.data, entry.credit, rfc3339(entry.recorded_at_us))


def _count(req: falcon.asgi.Request, name: str, most: int) -> int | None:
    """A query parameter from 1 to `most`, or None where it is not given."""
    text = req.get_param(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and 1 <= int(text) <= most):
        raise Problem(400, "invalid-parameter", f"{name} must be an integer from 1 to {most}.")
    return int(text)


def _answer(resp: falcon.asgi.Response, answer: msgspec.Struct) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = msgspec.json.encode(answer)
