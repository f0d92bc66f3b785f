"""`/v1/me`: what a person may see and do with his own. Real statuses, problems, Bearer only."""

from functools import partial
from typing import Any

from api import access
from api.accounts import AS_OF, BEFORE, LIMIT, NEXT_PAGE, page, past, perform, present
from api.incoming import ProfileBody
from api.operation import DRY_RUN, IDEMPOTENCY_KEY, IF_MATCH, USER, Received, Resource, operation
from api.outgoing import CheckinView, CreditView, EventPage, Written, view_holds, view_lots
from ledger.account import Account, streak_at
from ledger.commands import CheckIn, user_key
from ledger.committer import microseconds_now
from ledger.errors import AccountNotFound
from ledger.refusals import REFUSALS
from ledger.statement import rfc3339


class Me(Resource):
    """`GET /v1/me`: nickname and picture."""

    @operation("Read the caller's profile", scopes=USER, answer=access.Profile)
    async def on_get(self, request: Received[None]) -> access.Profile:
        return access.profile(self.service.sessions, request.openid)


class MyProfile(Resource):
    """`PUT /v1/me/profile`: choose them."""

    @operation("Choose nickname and avatar", scopes=USER, body=ProfileBody, answer=access.Profile)
    async def on_put(self, request: Received[ProfileBody]) -> Any:
        chosen = access.Profile(request.body.nickname, request.body.avatar)
        change = partial(access.save_profile, openid=request.openid, chosen=chosen)
        return await self.service.access_commits.submit(change)


class MyCredit(Resource):
    """`GET /v1/me/credit`: what can be spent, what is reserved, what expires, and today's check-in."""

    @operation(
        "Read the caller's credit, now or as of a moment",
        scopes=USER,
        answer=CreditView,
        parameters=(AS_OF,),
        # Before the first login; and now, where the ledger was replaced behind the session's back.
        refusals=(AccountNotFound,),
        failures={"busy": 503},
    )
    async def on_get(self, request: Received[None]) -> CreditView:
        now_us, at_us = microseconds_now(), request.given["as_of"]
        account = present(self, request, now_us)
        if at_us is None:
            return self._view(account, max(now_us, account.recorded_at_us))
        return self._view(await past(self, request), at_us)

    def _view(self, account: Account, now_us: int) -> CreditView:
        balance, rewards = account.balance, self.service.settings.checkin.rewards
        checked_in, streak = streak_at(balance, now_us)
        return CreditView(
            account.version,
            balance.credit,
            balance.held,
            balance.frozen,
            view_lots(account),
            view_holds(account),
            CheckinView(checked_in, streak, rewards[min(streak, len(rewards) - 1)]),
            rfc3339(now_us),
        )


class MyEvents(Resource):
    """`GET /v1/me/events`: the statement, by cursor."""

    @operation(
        "List the caller's events, newest first",
        scopes=USER,
        answer=EventPage,
        parameters=(BEFORE, LIMIT, AS_OF),
        refusals=(AccountNotFound,),
        links={"next": {"operationId": "get_me_events", "parameters": {"query.before": NEXT_PAGE}}},
    )
    async def on_get(self, request: Received[None]) -> EventPage:
        return page(self, request)


class MyCheckin(Resource):
    """`POST /v1/me/checkin`: once a day in Shanghai."""

    @operation(
        "Check in for today",
        scopes=USER,
        answer=Written,
        status=201,
        parameters=(IDEMPOTENCY_KEY, IF_MATCH, DRY_RUN),
        refusals=REFUSALS[CheckIn],
    )
    async def on_post(self, request: Received[None]) -> Written:
        rules = self.service.settings.checkin
        key = user_key(request.given["Idempotency-Key"])
        command = CheckIn(request.openid, key, rules.rewards, rules.name)
        return await perform(self, request, command)
