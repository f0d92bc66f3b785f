"""Login: a code of `wx.login` becomes a session, and a newcomer gets an account."""

import re
from functools import partial
from typing import Final, NamedTuple

from api import access
from api.service import Service
from api.wechat import LoginFailed
from ledger.commands import RegisterUser, Submission
from ledger.committer import microseconds_now
from ledger.seal import SignedReceipt

# A code's length is not documented (samples: 32). What does not fit is not worth a call to WeChat.
_CODE: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


class LoggedIn(NamedTuple):
    """The token of a new session; `receipt` is of what registered a newcomer, and None for everybody else."""

    token: str
    receipt: SignedReceipt | None


async def log_in(service: Service, code: str) -> LoggedIn:
    """A new session for whoever holds `code`, or LoginFailed.

    Whichever step fails, no token exists that leads to no account: the account is on disk before the
    session is. No transaction is open while WeChat is asked.
    """
    if not _CODE.fullmatch(code):
        raise LoginFailed("code-invalid")
    fresh = await service.access_commits.submit(
        partial(access.present_code, code=code, now_us=microseconds_now())
    )
    if not fresh:
        raise LoginFailed("code-used")
    identity = await service.wechat.identify(code)
    receipt = None
    if service.reader.standing(identity.openid, microseconds_now()) is None:
        registration = RegisterUser(identity.openid, service.settings.signup_grant)
        receipt = (await service.ledger_commits.submit(Submission(registration, "rule:signup"))).receipt
    sealed_key = service.vault.seal(identity.openid, identity.session_key)
    token: str = await service.access_commits.submit(
        partial(
            access.open_session,
            openid=identity.openid,
            unionid=identity.unionid,
            sealed_key=sealed_key,
            now_us=microseconds_now(),
        )
    )
    return LoggedIn(token, receipt)
