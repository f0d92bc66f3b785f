"""How this service says no: one table from each refusal to its status, one shape on the wire (RFC 9457)."""

from typing import Any, Final

import falcon
import falcon.asgi
import msgspec
import structlog

from api.metrics import REFUSALS
from api.wechat import LoginFailed
from ledger import errors
from ledger.errors import CorruptEvent, InvalidCommand, LedgerUnusable, NotCommitted, OutcomeUnknown, Refusal
from ledger.sqlite import SqliteError, is_of_the_file

log = structlog.get_logger()

PROBLEM_JSON: Final = "application/problem+json"
NOT_LOGGED_IN: Final = "用户不存在，或未登录。"

REFUSAL_STATUS: Final[dict[type[Refusal], int]] = {
    errors.KeyReused: 422,
    errors.AccountNotFound: 404,
    errors.VersionMismatch: 412,
    errors.AccountIsFrozen: 409,
    errors.NotInFuture: 409,
    errors.CreditLimitExceeded: 409,
    errors.TooManyOpen: 409,
    errors.InsufficientCredit: 409,
    errors.HoldNotFound: 404,
    errors.HoldSettled: 409,
    errors.CaptureExceedsHold: 409,
    errors.SpendNotFound: 404,
    errors.ReversalExceedsSpend: 409,
    errors.GrantNotFound: 404,
    errors.NothingToRevoke: 409,
    errors.AlreadyFrozen: 409,
    errors.NotFrozen: 409,
    errors.AlreadyCheckedIn: 409,
}

# Failure code -> status where real ones are used, and the sentence a user is shown.
LOGIN_FAILURES: Final[dict[str, tuple[int, str]]] = {
    "code-invalid": (401, "登录凭证无效或已过期，请重试。"),
    "code-used": (401, "登录凭证已被使用，请重试。"),
    "login-blocked": (403, "该微信账号存在安全风险，暂时无法登录。"),
    "login-rate-limited": (429, "登录太频繁，请一分钟后再试。"),
    "wechat-busy": (503, "微信系统繁忙，请稍后再试。"),
    "wechat-quota": (503, "今日登录人数已达上限，请明天再试。"),
    "wechat-misconfigured": (502, "服务配置有误，暂时无法登录，请联系客服。"),
    "wechat-bad-answer": (502, "微信返回异常，请稍后再试。"),
    "wechat-unreachable": (503, "暂时连接不上微信，请稍后再试。"),
    "not-committed": (503, "服务器繁忙，请稍后再试。"),
    "outcome-unknown": (503, "服务器繁忙，请稍后再试。"),
}

_CODES: Final = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 413: "body-too-large"}

NOT_READABLE: Final = "A file of the service is damaged or cannot be read: its operator has to see to it."


class ProblemBody(msgspec.Struct):
    """What is answered where something is refused (RFC 9457): beside these, the refusal's own figures."""

    type: str
    title: str
    status: int
    detail: str
    code: str


class Problem(falcon.HTTPError):
    """A 4xx or 5xx answer with a stable `code`; `detail` says what was wrong and what would be right."""

    def __init__(self, status: int, code: str, detail: str, **figures: Any) -> None:
        super().__init__(status, description=detail)
        self.problem_code = code
        self.figures = figures


def problem(status: int, code: str, detail: str, figures: dict[str, Any]) -> bytes:
    title = falcon.code_to_http_status(status).partition(" ")[2]
    return msgspec.json.encode(
        {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code, **figures}
    )


def write_problem(resp: falcon.Response, status: int, code: str, detail: str, figures: dict[str, Any]) -> None:
    resp.status = status
    resp.content_type = PROBLEM_JSON
    resp.data = problem(status, code, detail, figures)


def install(app: falcon.asgi.App[Any, Any]) -> None:
    """Make every error that leaves a resource of `app` a problem."""
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(falcon.HTTPError, _http_error)
    app.add_error_handler(Refusal, _refused)
    app.add_error_handler(InvalidCommand, _invalid)
    app.add_error_handler(LoginFailed, _login_failed)
    app.add_error_handler(NotCommitted, _not_written)
    app.add_error_handler(OutcomeUnknown, _not_written)
    for kind in (LedgerUnusable, CorruptEvent, SqliteError):
        app.add_error_handler(kind, _not_read)


def unreadable(error: Exception) -> str | None:
    """What the operator must know where a file is damaged or cannot be read; None for any other error."""
    match error:
        case LedgerUnusable():
            return str(error)
        case CorruptEvent():  # it may name the account, which is not logged
            return "an event or account row in ledger.db is damaged: see credit-ledger audit"
        case SqliteError() if is_of_the_file(error):
            return (
                f"ledger.db or access.db cannot be read: {error}: see credit-ledger audit, and restore what is "
                "damaged from a backup"
            )
    return None


def fault_code(fault: NotCommitted | OutcomeUnknown) -> str:
    return "outcome-unknown" if isinstance(fault, OutcomeUnknown) else "not-committed"


async def _http_error(
    req: falcon.Request,
    resp: falcon.Response | None,
    error: falcon.HTTPError,
    params: dict[str, Any],
    ws: falcon.asgi.WebSocket | None = None,
) -> None:
    status = error.status_code
    if resp is None:  # somebody asked for a WebSocket, and nothing here is one
        if ws is not None:
            await ws.close(3000 + status)
        return
    resp.set_headers(error.headers or {})
    if isinstance(error, Problem):
        code, figures = error.problem_code, error.figures
    else:
        code, figures = _CODES.get(status, "bad-request"), {}
    detail = error.description or _DETAILS.get(status, error.title or "")
    write_problem(resp, status, code, detail, figures)


_DETAILS: Final = {
    404: "There is nothing at this path.",
    405: "This path does not take this method; Allow says which it does.",
}


async def _refused(
    req: falcon.Request, resp: falcon.Response, refusal: Refusal, params: dict[str, Any]
) -> None:
    REFUSALS.labels(refusal.code).inc()
    status = REFUSAL_STATUS[type(refusal)]
    write_problem(resp, status, refusal.code, refusal.sentence(), refusal.figures())


async def _invalid(
    req: falcon.Request, resp: falcon.Response, error: InvalidCommand, params: dict[str, Any]
) -> None:
    write_problem(resp, 422, "invalid-command", str(error), {})


async def _login_failed(
    req: falcon.Request, resp: falcon.Response, failure: LoginFailed, params: dict[str, Any]
) -> None:
    status, sentence = LOGIN_FAILURES[failure.code]
    if status == 429:
        resp.set_header("Retry-After", "60")  # WeChat counts by the minute
    write_problem(resp, status, failure.code, sentence, {})


async def _not_written(
    req: falcon.Request, resp: falcon.Response, fault: NotCommitted | OutcomeUnknown, params: dict[str, Any]
) -> None:
    log.error("not written", error=str(fault), request_id=req.context.request_id)
    resp.set_header("Retry-After", "1")
    write_problem(resp, 503, fault_code(fault), "Try again with the same key; it lands once.", {})


async def _not_read(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]
) -> None:
    why = unreadable(error)
    if why is None:
        await _unexpected(req, resp, error, params)
        return
    log.error("not read", error=why, request_id=req.context.request_id)
    resp.set_header("Retry-After", "60")  # somebody must see to it first
    write_problem(resp, 503, "not-readable", NOT_READABLE, {})


async def _unexpected(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]
) -> None:
    # The edge of the process: whatever nobody foresaw is logged whole and answered with nothing.
    request_id = req.context.get("request_id")  # none yet where a method was refused before all else
    log.error("unexpected error", request_id=request_id, exc_info=error)
    detail = "This is our fault; the log has the details under the request's id."
    write_problem(resp, 500, "internal-error", detail, {"request_id": request_id})
