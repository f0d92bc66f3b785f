"""`/v1/sessions`: logging in, and out of one device or of all."""

from functools import partial

from api import access
from api.incoming import LoginBody
from api.login import log_in
from api.operation import NOBODY, USER, Received, Resource, operation
from api.outgoing import SessionView, view_receipt
from api.problems import LOGIN_FAILURES


class Sessions(Resource):
    """`POST /v1/sessions` and `DELETE /v1/sessions`."""

    @operation(
        "Log in: a code of wx.login for a token",
        scopes=NOBODY,
        body=LoginBody,
        answer=SessionView,
        status=201,
        failures={code: status for code, (status, _) in LOGIN_FAILURES.items()},
    )
    async def on_post(self, request: Received[LoginBody]) -> SessionView:
        token, receipt = await log_in(self.service, request.body.code)
        return SessionView(token, view_receipt(receipt))

    @operation("Log out of all devices", scopes=USER, status=204)
    async def on_delete(self, request: Received[None]) -> None:
        await self.service.access_commits.submit(partial(access.close_sessions, openid=request.openid))


class CurrentSession(Resource):
    """`DELETE /v1/sessions/current`."""

    @operation("Log out of this device", scopes=USER, status=204)
    async def on_delete(self, request: Received[None]) -> None:
        if request.session is not None:
            token_hash = request.session.token_hash
            await self.service.access_commits.submit(partial(access.close_session, token_hash=token_hash))
