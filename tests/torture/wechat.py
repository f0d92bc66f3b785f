"""Fault 4: a WeChat that answers wrong, late, or not at all.

A login ends in time, nobody becomes somebody else, and whoever is logged in notices nothing.
"""

import asyncio
import signal
import time
from typing import Final

import msgspec

from api.problems import LOGIN_FAILURES
from ledger.commands import GrantCredit
from tests.backend import happened
from tests.conftest import Service
from tests.torture.aftermath import (
    MIB,
    Burdens,
    Expected,
    burdens,
    credit_latencies,
    expect_flat,
    expect_ledger,
    expect_quiet,
    expect_ready,
    expect_unhindered,
    settled,
    sound,
)
from tests.torture.faulty_wechat import FaultyWechat, openid_of
from tests.torture.raw_http import Answer, ask, request
from tests.torture.round import Round
from tests.torture.wechat_faults import FAULTS, QUICK, RIGHT, SLOW

_WORKERS: Final = 2
_SIGNUP: Final = 100
_PEOPLE: Final = 8
# What docs/wechat.md allows a login in all, and what it may take more: so much, and so many times as long as
# a line through `cat` took in the worst case, which says how busy the machine is.
_DEADLINE_S: Final = 5.0
_SLACK_S: Final = 3.0
_SLACK_LINES: Final = 10
_AT_ONCE: Final = 8
# So many calls of WeChat at once, and logins that wait for one, has a worker.
_CALLS_PER_WORKER: Final = 16
# Each thread keeps its connection to WeChat for the next login.
_MORE_FILES: Final = _CALLS_PER_WORKER + 8
# Threads that it begins when it first needs them: one for each file that it writes, and one for long reads.
_THREADS_BESIDE: Final = 3
_WAITING_PER_WORKER: Final = 200
_FLOOD: Final = 550
_LEAVE: Final = 50


def wechat(round_: Round) -> None:
    """Log in through a WeChat that fails in every way, in an order of chance, then in a flood of slow ones."""
    stand_in = FaultyWechat()
    service = Service(round_.directory / "data", stand_in.url, workers=_WORKERS)
    service.environ["CREDIT_RATE_LOGIN"] = service.environ["CREDIT_RATE_TOKEN"] = "off"
    try:
        service.start()
        asyncio.run(_Logins(round_, service, stand_in).run())
        round_.expect(service.stop() == 0, "the service did not end well")
    finally:
        service.stop(signal.SIGKILL)
        stand_in.stop()
    expect_quiet(round_, service.log)


class Person(msgspec.Struct):
    """Somebody whose credit nobody else has, so that his token shows that it is his."""

    name: str
    credit: int
    token: str = ""


class _Logins:
    def __init__(self, round_: Round, service: Service, stand_in: FaultyWechat) -> None:
        self._round = round_
        self._service = service
        self._wechat = stand_in
        self._people = [Person(f"person{n}", _SIGNUP + 1000 * n) for n in range(1, _PEOPLE + 1)]
        self._newcomers = 0
        self._codes = 0
        self._slowest: dict[str, float] = {}  # seconds, by what WeChat did

    async def run(self) -> None:
        for person in self._people:
            person.token = await self._right("good", person.name) or ""
        happened(
            self._service,
            *(GrantCredit(openid_of(each.name), each.credit - _SIGNUP, "gift", "g") for each in self._people),
        )
        before = burdens(self._service)
        while True:
            await self._every_fault()
            await self._while_away()
            await self._flood(before)
            if self._round.over:
                break
        self._look(before)

    # -- one login -----------------------------------------------------------------------------------------

    async def _log_in(self, kind: str, user: str) -> tuple[str | None, str | None]:
        """The token, or the failure of a login; whichever route answers it, and within the time allowed."""
        self._codes += 1
        code = f"{kind}-{user}-{self._codes}"
        path = self._round.random.choice(("/login", "/v1/sessions"))
        begun = time.monotonic()
        try:
            answer = await ask(self._service.port, request("POST", path, {"code": code}), 60)
        except TimeoutError:
            answer = None
        took_s = time.monotonic() - begun
        outcome = told(path, answer)
        failure = outcome[1] if outcome else "no answer that is documented"
        self._round.record(code=code, path=path, failure=failure, ms=round(took_s * 1000))
        self._slowest[kind] = max(took_s, self._slowest.get(kind, 0))
        self._round.expect(outcome is not None, f"a login with WeChat's {kind} was answered {answer}")
        return outcome or (None, None)

    async def _right(self, kind: str, user: str) -> str | None:
        """A login that must come to something, and to nobody else's account."""
        token, failure = await self._log_in(kind, user)
        self._round.expect(token is not None, f"a login that WeChat confirms ({kind}) was refused: {failure}")
        self._round.tally["acknowledged"] += token is not None
        return token

    async def _wrong(self, kind: str, user: str, more: frozenset[str] = frozenset()) -> str | None:
        token, failure = await self._log_in(kind, user)
        self._round.tally["faults of WeChat"] += 1
        self._round.tally["refused"] += failure is not None
        self._round.expect(token is None, f"WeChat's {kind} logged in {user}")
        allowed = FAULTS[kind].told | more
        self._round.expect(
            failure is None or failure in allowed,
            f"WeChat's {kind} was called {failure}, not {sorted(allowed)}",
        )
        return failure

    async def _as_himself(self, kind: str) -> None:
        """Somebody logs in again while others fail, and is still who he was."""
        person = self._round.random.choice(self._people)
        token = await self._right(kind, person.name)
        if token is not None:
            await self._owns(token, person.credit, kind)

    async def _newcomer(self) -> None:
        self._newcomers += 1
        token = await self._right("good", f"new{self._newcomers}")
        if token is not None:
            await self._owns(token, _SIGNUP, "good")

    async def _owns(self, token: str, credit: int, kind: str) -> None:
        answer = await sound(self._service.port, request("GET", f"/credit?token={token}"))
        right = answer is not None and answer.body == b'{"credit":%d}' % credit
        self._round.expect(right, f"after WeChat's {kind}, a person with {credit} was answered {answer}")

    # -- what happens in a round ---------------------------------------------------------------------------

    async def _every_fault(self) -> None:
        turn = asyncio.Semaphore(_AT_ONCE)

        async def one(kind: str) -> None:
            async with turn:
                if kind in QUICK:
                    # Of somebody who has credit, or of somebody who then must not have an account.
                    await self._wrong(kind, self._round.random.choice([self._people[0].name, "nobody"]))
                elif kind == "newcomer":
                    await self._newcomer()
                else:
                    await self._as_himself(kind)

        kinds = [*QUICK, *RIGHT, *RIGHT, *["newcomer"] * 8]
        self._round.random.shuffle(kinds)
        await asyncio.gather(*map(one, kinds))
        self._round.expect("/elsewhere/jscode2session" not in self._wechat.asked, "a redirect was followed")
        self._round.expect(not self._wechat.cookies, "WeChat was sent a cookie that came with another login")

    async def _while_away(self) -> None:
        """WeChat refuses every connection."""
        with self._wechat.away():
            await asyncio.gather(*(self._wrong("hang", "nobody") for _ in range(_AT_ONCE)))
        self._round.tally["refused connections"] += _AT_ONCE
        await self._as_himself("good")

    async def _flood(self, before: Burdens) -> None:
        """Many more logins than a worker has threads, each of which WeChat keeps waiting; some leave."""
        bystander = self._people[-1]
        port, token, credit = self._service.port, bystander.token, bystander.credit
        quiet = await credit_latencies(self._round, port, token, credit, 0.4)
        kinds = list(SLOW) + self._round.random.choices(list(SLOW), k=_FLOOD - len(SLOW))
        leaving = [asyncio.create_task(self._leave()) for _ in range(_LEAVE)]
        await asyncio.sleep(0.1)  # so that they wait for WeChat, and not for their turn
        flood = [asyncio.create_task(self._wrong(kind, "nobody", frozenset({"wechat-busy"}))) for kind in kinds]
        busy = await credit_latencies(self._round, port, token, credit, _DEADLINE_S - 1)
        for pid, burden in burdens(self._service).items():
            begun = burden.threads - before[pid].threads
            self._round.expect(
                begun <= _CALLS_PER_WORKER + _THREADS_BESIDE, f"worker {pid} started {begun} threads for logins"
            )
        await expect_ready(self._round, port, "in a flood of logins")
        failures = await asyncio.gather(*flood)
        await asyncio.gather(*leaving)
        self._round.tally["logins in a flood"] += _FLOOD
        expect_unhindered(self._round, "a flood of logins", quiet, busy)
        allowed_s = _DEADLINE_S + _SLACK_S + _SLACK_LINES * max(busy.lines)
        for kind, took_s in self._slowest.items():
            self._round.expect(took_s < allowed_s, f"a login with WeChat's {kind} took {took_s:.1f} s")
        self._slowest.clear()
        late, least = failures.count("wechat-busy"), _FLOOD - _WORKERS * _WAITING_PER_WORKER
        self._round.expect(late >= least, f"{late} of {_FLOOD} logins at once were told to come later")
        # No thread goes on reading for nobody: whoever comes now is not kept waiting.
        await asyncio.gather(*(self._as_himself("good") for _ in range(_AT_ONCE)))

    async def _leave(self) -> None:
        """A client that gives up before the answer; what comes from WeChat would go on for ever."""
        self._codes += 1
        login = request("POST", "/login", {"code": f"drip_head-nobody-{self._codes}"})
        try:
            await ask(self._service.port, login, 0.5)
        except TimeoutError:
            self._round.tally["clients that left"] += 1

    def _look(self, before: Burdens) -> None:
        after = settled(self._service, before, more_files=_MORE_FILES)
        bounds = {"more_memory": 48 * MIB, "more_peak": 96 * MIB, "more_files": _MORE_FILES}
        expect_flat(self._round, before, after, **bounds)
        accounts = len(self._people) + self._newcomers
        expect_ledger(
            self._round,
            self._service.data,
            # A registration is two events: the account, and what it is given.
            Expected(
                events=2 * accounts + len(self._people),
                accounts=accounts,
                outstanding=sum(each.credit for each in self._people) + _SIGNUP * self._newcomers,
            ),
        )


def told(path: str, answer: Answer | None) -> tuple[str | None, str | None] | None:
    """The token or the failure that an answer documents; None where it is neither."""
    if answer is None or answer.headers.get("content-type", "").partition(";")[0] not in (
        "application/json",
        "application/problem+json",
    ):
        return None
    said = answer.json()
    if "token" in said:
        return (said["token"], None) if answer.status == (200 if path == "/login" else 201) else None
    failure = LOGIN_FAILURES.get(said.get("code"))
    if failure is None or answer.status != (200 if path == "/login" else failure[0]):
        return None
    return None, said["code"]
