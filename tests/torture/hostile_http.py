"""Fault 6: requests that are malformed, ambiguous, endless or half-sent, thousands of them.

Each is refused or answered and never a 500; none leaves an event that was not answered for, and whoever sends
sound requests meanwhile is served as before.
"""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ledger.commands import GrantCredit
from ledger.committer import microseconds_now
from ledger.statement import Reader
from tests.backend import SCOPES, happened, new_key
from tests.conftest import Service
from tests.torture.aftermath import (
    MIB,
    Expected,
    burdens,
    expect_flat,
    expect_ledger,
    expect_quiet,
    expect_ready,
    settled,
)
from tests.torture.answers import Books, what_is_wrong
from tests.torture.crowds import Crowds
from tests.torture.faulty_wechat import FaultyWechat, openid_of
from tests.torture.hostile_requests import Hostile, Hostility, Owner
from tests.torture.malformed import listed
from tests.torture.raw_http import Answer, Connection, NotHttp, ask, request
from tests.torture.round import Round
from tests.torture.smuggling import INNER_ID, attempts

_WORKERS: Final = 2
_SIGNUP: Final = 100
_ENOUGH: Final = 10**9
_CLIENTS: Final = 48
# Whoever sent a whole request has his answer by then; one that is not whole never has.
_PATIENCE_S: Final = 5.0
# Of a request that is sure to be answered, or hung up on.
_LONG_PATIENCE_S: Final = 60.0
_SHORT_PATIENCE_S: Final = 0.02
_QUIET_S: Final = 0.15
_WARM_UP: Final = 400
_SLOW_SENDERS: Final = 4
_ATTACKER: Final = "attacker"
_BYSTANDER: Final = "bystander"


def hostile_http(round_: Round, *, wait_for_the_slow: bool = True) -> None:
    """What is listed, then crowds of half-sent requests and slow readers, then a storm from chance.

    Bodies that come a byte a second meet their deadline after 20 s, which may be after the round.
    """
    stand_in = FaultyWechat()
    service = Service(round_.directory / "data", stand_in.url, workers=_WORKERS)
    for rate in ("LOGIN", "TOKEN", "KEY"):
        service.environ[f"CREDIT_RATE_{rate}"] = "off"
    try:
        service.start()
        asyncio.run(_Attack(round_, service).run(wait_for_the_slow))
        round_.expect(service.stop() == 0, "the service did not end well")
    finally:
        service.stop(signal.SIGKILL)
        stand_in.stop()
    expect_quiet(round_, service.log)


class _Attack:
    """One attacker with a token and a key of his own account, and a bystander."""

    def __init__(self, round_: Round, service: Service) -> None:
        self._round = round_
        self._service = service
        self._openids = openid_of(_ATTACKER), openid_of(_BYSTANDER)
        tokens = [service.post_login(f"good-{name}-1").json()["token"] for name in (_ATTACKER, _BYSTANDER)]
        happened(service, GrantCredit(self._openids[0], _ENOUGH, "gift", "enough"))
        self._owner = Owner(self._openids[0], tokens[0], new_key(service, *SCOPES))
        self._bystander = tokens[1]
        self._books = Books(version=3)
        self._hostility = Hostility(round_.random, self._owner)
        self._crowds = Crowds(round_, service, self._bystander, _SIGNUP)

    async def run(self, wait_for_the_slow: bool) -> None:
        slow = asyncio.create_task(self._crowds.slow_senders(_SLOW_SENDERS))
        await self._listed()
        await self._smuggle()
        await self._storm(lambda made: made < _WARM_UP)
        before = burdens(self._service)
        await self._pipeline()
        await self._crowds.half_sent()
        await self._crowds.slow_readers()
        await self._storm(lambda made: not self._round.over)
        if not wait_for_the_slow:
            slow.cancel()
        with suppress(asyncio.CancelledError):
            await slow
        await expect_ready(self._round, self._service.port, "after all of it")
        after = settled(self._service, before)
        expect_flat(self._round, before, after, more_memory=64 * MIB, more_peak=96 * MIB)
        self._look()

    # -- what is sent --------------------------------------------------------------------------------------

    async def _listed(self) -> None:
        """Each malformed request of a list, with the statuses that are right for it."""
        for what, raw, statuses in listed(self._owner):
            answer = await self._exchange(Hostile(what, raw), None if 0 in statuses else _LONG_PATIENCE_S)
            self._round.tally["listed requests"] += 1
            status = 0 if answer is None else answer.status
            self._round.expect(status in statuses, f"{what}: answered {status}, not {sorted(statuses)}")

    async def _smuggle(self) -> None:
        inner = request(
            "POST",
            f"/v1/accounts/{self._owner.openid}/grants",
            {"amount": 7, "reason": "smuggled"},
            Authorization=f"Bearer {self._owner.key}",
            Idempotency_Key=INNER_ID,
            X_Request_ID=INNER_ID,
        )
        turn = asyncio.Semaphore(_CLIENTS)

        async def attempt(what: str, raw: bytes) -> None:
            async with turn, Connection(self._service.port) as connection:
                await connection.send(raw)
                count = 0
                try:
                    while True:
                        async with asyncio.timeout(_QUIET_S):
                            answer = await connection.answer(to_head=raw.startswith(b"HEAD") and not count)
                        if answer is None:
                            break
                        count += 1
                        self._judge(Hostile(what, raw), answer)
                        hidden = answer.headers.get("x-request-id") == INNER_ID
                        self._round.expect(not hidden, f"a smuggled request was run: {what}")
                except (TimeoutError, NotHttp):
                    pass  # it waits for more, or the socket speaks no HTTP any longer
                self._round.tally["smuggling attempts"] += 1
                self._round.expect(count <= 1, f"{count} answers to one request: {what}")

        await asyncio.gather(*(attempt(what, raw) for what, raw in attempts(inner).items()))

    async def _pipeline(self) -> None:
        """Many sound requests in one go, cut into packets by chance: one answer each, in their order."""
        chance = self._round.random
        for _ in range(5):
            sound = [self._hostility.sound() for _ in range(chance.randrange(2, 60))]
            named = [
                each.replace(b"\r\n", b"\r\nX-Request-ID: pipe-%d\r\n" % n, 1) for n, each in enumerate(sound)
            ]
            stream = b"".join(named)
            async with Connection(self._service.port) as connection:
                while stream:
                    size = chance.choice((1, 7, 100, 5000))
                    await connection.send(stream[:size])
                    stream = stream[size:]
                for number, raw in enumerate(named):
                    answer = await connection.answer_within(_LONG_PATIENCE_S)
                    found = None if answer is None else answer.headers.get("x-request-id")
                    self._round.expect(
                        found == f"pipe-{number}", f"answer {number} of a pipeline was {found}'s"
                    )
                    if answer is None:
                        break
                    self._judge(Hostile("pipelined", raw), answer)
                    self._round.tally["pipelined requests"] += 1

    async def _storm(self, goes_on: Callable[[int], bool]) -> None:
        """Generated requests, as long as it `goes_on` after so many."""
        made = 0

        async def client() -> None:
            nonlocal made
            while goes_on(made):
                made += 1
                await self._exchange(self._hostility.next())

        await asyncio.gather(*(client() for _ in range(_CLIENTS)))
        self._round.tally["generated requests"] += made

    # -- what comes back -----------------------------------------------------------------------------------

    async def _exchange(self, hostile: Hostile, patience_s: float | None = None) -> Answer | None:
        if patience_s is None:
            patience_s = _PATIENCE_S if hostile.may_write else _SHORT_PATIENCE_S
        try:
            answer = await ask(self._service.port, hostile.raw, patience_s)
        except TimeoutError:
            self._round.tally["never ended" if not hostile.may_write else "unknown"] += 1
            self._books.unknown += hostile.may_write
            return None
        except NotHttp as problem:
            self._round.expect(False, f"{hostile.kind}: {problem}")
            return None
        except ConnectionError as error:
            self._round.expect(False, f"the service takes no connection: {error}")
            return None
        if answer is None:
            self._round.tally["hung up on"] += 1
            self._books.unknown += hostile.may_write
            return None
        self._judge(hostile, answer)
        return answer

    def _judge(self, hostile: Hostile, answer: Answer) -> None:
        wrong = what_is_wrong(hostile.raw, answer)
        self._round.expect(wrong is None, f"{hostile.kind}: {wrong}; sent {hostile.raw[:400]!r}")
        self._round.tally["acknowledged" if answer.status < 300 else "refused"] += 1
        self._books.enter(answer)

    def _look(self) -> None:
        """Every event of the attacker's was answered for, and nobody else has any."""
        reader = Reader(self._service.data / "ledger.db")
        try:
            attacker = reader.account(self._openids[0], microseconds_now())
            bystander = reader.account(self._openids[1], microseconds_now())
        finally:
            reader.close()
        assert attacker is not None
        assert bystander is not None
        for wrong in self._books.wrong(attacker.version):
            self._round.expect(False, wrong)
        self._round.expect(
            (bystander.version, bystander.balance.credit) == (2, _SIGNUP), f"the bystander's: {bystander}"
        )
        outstanding = attacker.balance.credit + _SIGNUP
        expect_ledger(self._round, self._service.data, Expected(attacker.version + 2, 2, outstanding))
