"""`/v1/accounts`: what a backend with an API key reads and does. Each write is one command, answered with its
event and the credit after it, once it is on disk."""

from typing import Any, Final

from api.incoming import (
    CaptureBody,
    FreezeBody,
    GrantBody,
    HoldBody,
    ReleaseBody,
    ReversalBody,
    RevocationBody,
    SpendBody,
    UnfreezeBody,
)
from api.operation import (
    DRY_RUN,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    Parameter,
    Received,
    Resource,
    Responder,
    moment,
    operation,
    whole_number,
)
from api.outgoing import AccountView, EventPage, Written, view_account, view_page, view_written
from api.problems import Problem
from ledger.account import Account
from ledger.commands import (
    CaptureHold,
    Command,
    FreezeAccount,
    GrantCredit,
    HoldCredit,
    ReleaseHold,
    ReverseSpend,
    RevokeGrant,
    SpendCredit,
    Submission,
    UnfreezeAccount,
)
from ledger.committer import microseconds_now
from ledger.errors import AccountNotFound
from ledger.events import EVENT_TYPES
from ledger.refusals import REFUSALS
from ledger.statement import MAX_PAGE

READ: Final = frozenset({"read", "audit"})
GRANT: Final = frozenset({"grant"})
SPEND: Final = frozenset({"spend"})
OPERATE: Final = frozenset({"operate"})
SCOPES: Final = READ | GRANT | SPEND | OPERATE

DEFAULT_PAGE: Final = 20
BEFORE: Final = whole_number(
    "before", "Only events with a version below this: `next_before` of the page before."
)
LIMIT: Final = whole_number("limit", "How many events at most.", MAX_PAGE, DEFAULT_PAGE)
# The link from a page to the one after it; on the last page it is null.
NEXT_PAGE: Final = "$response.body#/next_before"
_TYPE: Final = Parameter(
    "type",
    "query",
    {"type": "string", "enum": sorted(EVENT_TYPES)},
    "Only events of this type. A page then can hold few events, or none, and another still follow.",
    lambda text: text if text in EVENT_TYPES else None,
    "a type of event",
)
AS_OF: Final = moment("as_of", "What a read at this moment found; now without it.")


_VERSION: Final = "$response.body#/event/version"
_OPENID: Final = "$request.path.openid"


def _then(operation_id: str, **parameters: str) -> dict[str, Any]:
    """A link to an operation on the same account: what can be done next."""
    return {"operationId": operation_id, "parameters": {"path.openid": _OPENID} | parameters}


def _correct(operation_id: str, event: str, reason: str) -> dict[str, Any]:
    """A link from a write to what undoes it, whose body has the version of what was written as `event`."""
    return _then(operation_id) | {"requestBody": {event: _VERSION, "reason": reason}}


_ACCOUNT: Final = _then("get_accounts")
_REVERSE: Final = _correct("post_accounts_reversals", "spend", "refund")


async def perform(self: Resource, request: Received[Any], command: Command) -> Written:
    """Hand `command` in as the caller's, on the conditions of the request, and answer its event."""
    dry_run = bool(request.given["dry_run"])
    submission = Submission(command, request.actor, request.operator, request.given.get("If-Match"), dry_run)
    outcome = await self.service.ledger_commits.submit(submission)
    if outcome.replayed:
        request.resp.set_header("Idempotent-Replayed", "true")
    elif dry_run:
        request.resp.status = 200
    return view_written(outcome, dry_run=dry_run)


def present(self: Resource, request: Received[Any], now_us: int) -> Account:
    """The account as it is now; a 400 Problem where `as_of` asks about a moment that has not come."""
    account, at_us = self.service.reader.account(request.openid, now_us), request.given["as_of"]
    if account is None:
        raise AccountNotFound(request.openid)
    if at_us is not None and at_us > max(now_us, account.recorded_at_us):  # the clock may have run back
        raise Problem(400, "invalid-parameter", "as_of must not be in the future.")
    return account


async def past(self: Resource, request: Received[Any]) -> Account:
    """The account as it was at `as_of`."""
    account = await self.service.fold(request.openid, request.given["as_of"])
    if account is None:
        raise AccountNotFound(request.openid)
    return account


def page(self: Resource, request: Received[Any]) -> EventPage:
    """The events that a list's parameters ask for, of which not every list has all."""
    given, now_us = request.given, microseconds_now()
    reader, at_us, until_us, kind = self.service.reader, given["as_of"], given.get("until"), given.get("type")
    if at_us is not None:
        if present(self, request, now_us).registered_at_us > at_us:
            raise AccountNotFound(request.openid)
        # Events never change, and what lapsed has the moment it did: those up to then are what was found.
        until_us = at_us + 1 if until_us is None else min(at_us + 1, until_us)
    found = reader.page(
        request.openid,
        now_us,
        before=given["before"],
        limit=given["limit"] or DEFAULT_PAGE,
        types=frozenset() if kind is None else frozenset({kind}),
        since_us=given.get("since"),
        until_us=until_us,
    )
    if not found.events and reader.standing(request.openid, now_us) is None:
        raise AccountNotFound(request.openid)
    return view_page(found)


def _write(
    summary: str, scopes: frozenset[str], body: type[Any], command: type[Command], **links: dict[str, Any]
) -> Responder:
    """The responder of a POST whose `body` makes a `command`."""

    @operation(
        summary,
        scopes=scopes,
        body=body,
        answer=Written,
        status=201,
        parameters=(IDEMPOTENCY_KEY, IF_MATCH, DRY_RUN),
        refusals=REFUSALS[command],
        links=links | {"account": _ACCOUNT},
    )
    async def on_post(self: Resource, request: Received[Any]) -> Written:
        key = request.given["Idempotency-Key"]
        return await perform(self, request, request.body.command(key=key, **request.path))

    return on_post


class AccountResource(Resource):
    """`GET /v1/accounts/{openid}`."""

    @operation(
        "Read an account, now or as of a moment",
        scopes=READ,
        answer=AccountView,
        parameters=(AS_OF,),
        refusals=(AccountNotFound,),
        failures={"busy": 503},
        links={
            "events": _then("get_accounts_events"),
            "grant": _then("post_accounts_grants"),
            "spend": _then("post_accounts_spends"),
            "hold": _then("post_accounts_holds"),
            "freeze": _then("post_accounts_freeze"),
        },
    )
    async def on_get(self, request: Received[None]) -> AccountView:
        account, at_us = present(self, request, microseconds_now()), request.given["as_of"]
        if at_us is None:
            request.resp.set_header("ETag", f'"{account.version}"')
            # Not now: an event that is on its way to the disk already has its time, and is not in this answer.
            return view_account(account, account.recorded_at_us)
        return view_account(await past(self, request), at_us)


class AccountEvents(Resource):
    """`GET /v1/accounts/{openid}/events`."""

    @operation(
        "List an account's events, newest first",
        scopes=READ,
        answer=EventPage,
        parameters=(
            BEFORE,
            LIMIT,
            _TYPE,
            moment("since", "Only events recorded at this moment or later."),
            moment("until", "Only events recorded before this moment."),
            AS_OF,
        ),
        refusals=(AccountNotFound,),
        links={"next": _then("get_accounts_events", **{"query.before": NEXT_PAGE})},
    )
    async def on_get(self, request: Received[None]) -> EventPage:
        return page(self, request)


class Grants(Resource):
    """`POST /v1/accounts/{openid}/grants`."""

    on_post = _write(
        "Grant credit",
        GRANT,
        GrantBody,
        GrantCredit,
        revoke=_correct("post_accounts_revocations", "grant", "granted by mistake"),
    )


class Spends(Resource):
    """`POST /v1/accounts/{openid}/spends`."""

    on_post = _write("Spend credit", SPEND, SpendBody, SpendCredit, reverse=_REVERSE)


class Holds(Resource):
    """`POST /v1/accounts/{openid}/holds`."""

    on_post = _write(
        "Hold credit",
        SPEND,
        HoldBody,
        HoldCredit,
        capture=_then("post_accounts_holds_capture", **{"path.hold": _VERSION}),
        release=_then("post_accounts_holds_release", **{"path.hold": _VERSION}),
    )


class Capture(Resource):
    """`POST /v1/accounts/{openid}/holds/{hold}/capture`."""

    on_post = _write("Capture a hold, all of it or a part", SPEND, CaptureBody, CaptureHold, reverse=_REVERSE)


class Release(Resource):
    """`POST /v1/accounts/{openid}/holds/{hold}/release`."""

    on_post = _write("Release a hold", SPEND, ReleaseBody, ReleaseHold)


class Reversals(Resource):
    """`POST /v1/accounts/{openid}/reversals`."""

    on_post = _write("Reverse a spend or a capture, in full or in parts", SPEND, ReversalBody, ReverseSpend)


class Revocations(Resource):
    """`POST /v1/accounts/{openid}/revocations`."""

    on_post = _write("Revoke what is left of a grant", GRANT, RevocationBody, RevokeGrant)


class Freeze(Resource):
    """`POST /v1/accounts/{openid}/freeze`."""

    on_post = _write(
        "Freeze an account", OPERATE, FreezeBody, FreezeAccount, unfreeze=_then("post_accounts_unfreeze")
    )


class Unfreeze(Resource):
    """`POST /v1/accounts/{openid}/unfreeze`."""

    on_post = _write("Unfreeze an account", OPERATE, UnfreezeBody, UnfreezeAccount)
