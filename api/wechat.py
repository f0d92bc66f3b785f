"""The WeChat API: a login code is exchanged for the openid and session_key of the person who holds it.

Facts and their sources: docs/wechat.md. Errors come as HTTP 200 with an `errcode`, JSON comes as
text/plain, and nothing that comes back is trusted before its openid and session_key are there.
"""

import asyncio
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import DefaultCookiePolicy
from typing import Final

import msgspec
import requests
import structlog
import urllib3

from api.deadline import AbortableAdapter, Call
from api.metrics import WECHAT_CALLS

log = structlog.get_logger()

DEADLINE_S: Final = 5.0
_CONNECT_TIMEOUT_S: Final = 2.0
_MAX_ANSWER_BYTES: Final = 64 * 1024
_MAX_ATTEMPTS: Final = 3
_CALLS_AT_ONCE: Final = 16
# Those behind this many would wait longer than their deadline anyway.
_MAX_WAITING: Final = 200

# openid: the ledger's own rule. session_key: base64 of 16 bytes.
_OPENID: Final = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
_SESSION_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==", re.ASCII)

_ERRCODE_FAILURES: Final = {
    -1: "wechat-busy",
    40029: "code-invalid",
    42003: "code-invalid",
    40163: "code-used",
    40226: "login-blocked",
    45011: "login-rate-limited",
    45009: "wechat-quota",
} | dict.fromkeys((40013, 40125, 41002, 41004, 41008, 40164, 40243), "wechat-misconfigured")


class LoginFailed(Exception):
    """A login that came to nothing; `code` is stable, `problems.LOGIN_FAILURES` says what it answers."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Identity(msgspec.Struct, frozen=True):
    """Who presented a code. `session_key` never leaves the server; `unionid` may appear at any time."""

    openid: str
    session_key: str
    unionid: str | None

    def __repr__(self) -> str:
        return f"Identity({self.openid!r}, session_key=...)"


class _Answer(msgspec.Struct):
    errcode: int = 0
    errmsg: str = ""
    openid: str = ""
    session_key: str = ""
    unionid: str | None = None


class WechatClient:
    """Calls `jscode2session` in threads of its own, so that a hanging WeChat slows nothing but logins."""

    def __init__(self, address: str, appid: str, secret: str) -> None:
        self._url = f"{address}/sns/jscode2session"
        self._appid = appid
        self._secret = secret
        self._threads = ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="wechat")
        self._local = threading.local()
        self._waiting = 0

    async def identify(self, code: str) -> Identity:
        """Who holds `code`, within 5 s in all, or LoginFailed. The code is spent at WeChat afterwards."""
        if self._waiting >= _MAX_WAITING:
            raise LoginFailed("wechat-busy")
        loop = asyncio.get_running_loop()
        call = Call(DEADLINE_S)
        # A timeout of requests is per read, so an answer that trickles would outlive it: the socket is cut.
        watchdog = loop.call_later(DEADLINE_S, call.abort)
        self._waiting += 1
        try:
            running = loop.run_in_executor(self._threads, self._exchange, code, call)
            identity = await asyncio.wait_for(running, DEADLINE_S + 0.1)
        except TimeoutError:
            WECHAT_CALLS.labels("wechat-unreachable").inc()
            raise LoginFailed("wechat-unreachable") from None
        except LoginFailed as failure:
            WECHAT_CALLS.labels(failure.code).inc()
            raise
        finally:
            # However it ended, also with a client that left: no thread goes on reading for nobody.
            self._waiting -= 1
            watchdog.cancel()
            call.abort()
        WECHAT_CALLS.labels("ok").inc()
        return identity

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _exchange(self, code: str, call: Call) -> Identity:
        """Ask, and ask again only where that cannot spend a code that was already taken."""
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            last = attempt == _MAX_ATTEMPTS
            try:
                return self._ask(code, call)
            except _NotConnected as error:
                if last or not call.pause(attempt):
                    log.warning("wechat unreachable", error=str(error), attempts=attempt)
                    raise LoginFailed("wechat-unreachable") from None
            except LoginFailed as failure:
                if failure.code != "wechat-busy" or last or not call.pause(attempt):
                    raise
        raise AssertionError("unreachable")

    def _ask(self, code: str, call: Call) -> Identity:
        query = {
            "appid": self._appid,
            "secret": self._secret,
            "js_code": code,
            "grant_type": "authorization_code",
        }
        left_s = call.left_s()
        if left_s <= 0:
            raise LoginFailed("wechat-unreachable")
        try:
            with (
                call,
                self._session().get(
                    self._url,
                    params=query,
                    timeout=(min(_CONNECT_TIMEOUT_S, left_s), left_s),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                body = _read(response)
                status = response.status_code
            if call.left_s() <= 0:  # an answer without a length ends where it was cut
                raise LoginFailed("wechat-unreachable")
        # Exceptions of requests carry the whole address and so the AppSecret: only their kind goes on.
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if _never_connected(error):
                raise _NotConnected(type(error).__name__) from None
            log.warning("wechat unreachable", error=type(error).__name__)
            raise LoginFailed("wechat-unreachable") from None
        return _understand(status, body)

    def _session(self) -> requests.Session:
        """This thread's connection pool; requests' sessions are not meant to be shared."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False  # no proxy, no .netrc: the secret goes to WeChat and nowhere else
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # nothing from login to login
            for scheme in ("http://", "https://"):
                session.mount(scheme, AbortableAdapter(pool_connections=1, pool_maxsize=1))
            self._local.session = session
        return session


class _NotConnected(Exception):
    """No connection was made, so the code cannot have been spent."""


def _never_connected(error: Exception) -> bool:
    if isinstance(error, requests.ConnectTimeout | requests.exceptions.SSLError):
        return True
    cause = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    reason = getattr(cause, "reason", None)
    return isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)


def _read(response: requests.Response) -> bytes:
    """The body, or as much of it as shows that it is too long."""
    body = b""
    for piece in response.iter_content(8192):
        body += piece
        if len(body) > _MAX_ANSWER_BYTES:
            break
    return body


def _understand(status: int, body: bytes) -> Identity:
    try:
        json.loads(body, object_pairs_hook=_refuse_repeated)
        answer = msgspec.json.decode(body, type=_Answer)
    except (ValueError, RecursionError):  # a DecodeError is a ValueError too, and so is one of UTF-8
        answer = None
    if status != 200 or answer is None or len(body) > _MAX_ANSWER_BYTES:
        log.warning("wechat answered nonsense", status=status, size=len(body))
        raise LoginFailed("wechat-bad-answer")
    if answer.errcode:
        failure = _ERRCODE_FAILURES.get(answer.errcode, "wechat-bad-answer")
        # errmsg is unstable text, good for its rid only: WeChat's support asks for that.
        level = "error" if failure == "wechat-misconfigured" else "info"
        getattr(log, level)("wechat refused", errcode=answer.errcode, failure=failure, rid=_rid(answer.errmsg))
        raise LoginFailed(failure)
    if not _OPENID.fullmatch(answer.openid) or not _SESSION_KEY.fullmatch(answer.session_key):
        log.warning("wechat answered without a sound openid and session_key")
        raise LoginFailed("wechat-bad-answer")
    return Identity(answer.openid, answer.session_key, answer.unionid)


def _refuse_repeated(pairs: list[tuple[str, object]]) -> None:
    """An answer with two openids names nobody; msgspec would take the last."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")


def _rid(errmsg: str) -> str:
    found = re.search(r"rid: ?([0-9a-f-]{1,64})", errmsg)
    return found[1] if found else ""
