"""The four routes of the tutorial, as its mini-program calls them.

Where something is wrong with the login they answer 200 with `err`: `wx.request` hands every status to
`success`, and the desktop client hands 401 to `fail`. A request that cannot be read is a 4xx problem here too.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

import falcon.asgi
import msgspec

from api import access
from api.bodies import read_json
from api.callers import caller
from api.login import log_in
from api.metrics import REFUSALS
from api.problems import LOGIN_FAILURES, NOT_LOGGED_IN, fault_code
from api.service import Service
from api.userdata import ANONYMOUS_NICKNAME, BadUserData, UserInfo, decrypt, is_signed
from api.wechat import LoginFailed
from ledger.committer import microseconds_now
from ledger.errors import NotCommitted, OutcomeUnknown


class LoginBody(msgspec.Struct, forbid_unknown_fields=True):
    code: str


class UserInfoBody(msgspec.Struct, forbid_unknown_fields=True):
    """What `wx.getUserInfo` answered, as it is."""

    raw_data: str = msgspec.field(name="rawData")
    signature: str
    encrypted_data: str = msgspec.field(name="encryptedData")
    iv: str


_login_body: Final = msgspec.json.Decoder(LoginBody)
_user_info_body: Final = msgspec.json.Decoder(UserInfoBody)
_NOBODY: Final = {"err": NOT_LOGGED_IN}


class Login:
    """`POST /login`: a code for a token."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        self._service.rates.count_address(req)
        body = await read_json(req, _login_body)
        try:
            token, _ = await log_in(self._service, body.code)
        except LoginFailed as failure:
            _answer(resp, _refusal(failure.code))
        except (NotCommitted, OutcomeUnknown) as fault:
            _answer(resp, _refusal(fault_code(fault)))
        else:
            _answer(resp, {"token": token})


class CheckLogin:
    """`GET /checklogin`: whether the token is a live session's."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        _answer(resp, {"is_login": caller(self._service, req) is not None})


class Credit:
    """`GET /credit`: what the caller can spend."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        session = caller(self._service, req)
        standing = (
            None if session is None else self._service.reader.standing(session.openid, microseconds_now())
        )
        _answer(resp, _NOBODY if standing is None else {"credit": standing.credit})


class UserInfoRoute:
    """`POST /userinfo`: a signed profile is checked, decrypted, and its nickname and picture kept."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        body = await read_json(req, _user_info_body)
        session = caller(self._service, req)
        if session is None:
            _answer(resp, _NOBODY)
            return
        session_key = self._signing_key(session.openid, body)
        if session_key is None:
            # The most reported trouble of all: the client's data is of another session key than ours. Its
            # own code tells the client to log in again and retry.
            _answer(resp, {"pass": False, "code": "session-key-stale"})
            return
        try:
            info = decrypt(body.encrypted_data, body.iv, session_key, self._service.settings.appid)
            if info.openid not in (None, session.openid):
                raise BadUserData("the profile is another person's")
        except BadUserData:
            _answer(resp, {"pass": False, "code": "userinfo-invalid"})
            return
        await self._keep(session.openid, info)
        _answer(resp, {"pass": True})

    def _signing_key(self, openid: str, body: UserInfoBody) -> str | None:
        """The session key that signed the data: the latest, or for a few minutes the one before it."""
        vault = self._service.vault
        for sealed in access.sealed_keys(self._service.sessions, openid, microseconds_now()):
            session_key = vault.unseal(openid, sealed)
            if is_signed(body.raw_data, body.signature, session_key):
                return session_key
        return None

    async def _keep(self, openid: str, info: UserInfo) -> None:
        if not info.nickname or info.nickname == ANONYMOUS_NICKNAME:
            return  # never in the place of a name that the person chose
        chosen = access.Profile(info.nickname, info.avatar or None)
        await self._service.access_commits.submit(partial(access.save_profile, openid=openid, chosen=chosen))


def _refusal(code: str) -> dict[str, str]:
    REFUSALS.labels(code).inc()
    return {"err": LOGIN_FAILURES[code][1], "code": code}


def _answer(resp: falcon.asgi.Response, answer: Mapping[str, object]) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = msgspec.json.encode(answer)
