"""Clients who come in crowds and hold on: half-sent requests, and big answers that nobody reads."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from typing import Final

from tests.conftest import Service
from tests.torture.aftermath import Latencies, credit_latencies, expect_ready, expect_unhindered
from tests.torture.raw_http import Connection, request
from tests.torture.round import Round

_HALF_SENT: Final = 1000
_SLOW_READERS: Final = 12
_BIG_ANSWERS: Final = 600
_SMALL_BUFFER: Final = 4096
_LOOK_S: Final = 0.4
# They are let in without waiting for each other's deadline, 20 s; a busy machine takes longer than a second.
_CROWD_S: Final = 60
# The service's own deadline for a body, and what a busy machine may add.
_BODY_DEADLINE_S: Final = 20 + 5
_SOUND: Final = (
    b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
)


class Crowds:
    """While a crowd is there, a bystander with `token` reads his `credit`, as fast as before."""

    def __init__(self, round_: Round, service: Service, token: str, credit: int) -> None:
        self._round = round_
        self._port = service.port
        self._token = token
        self._credit = credit

    async def half_sent(self) -> None:
        """A thousand sockets, each with a part of a head or of a body."""
        before = await self._latencies()
        chance = self._round.random
        async with AsyncExitStack() as crowd:
            begun = time.monotonic()
            for _ in range(_HALF_SENT):
                client = await crowd.enter_async_context(Connection(self._port))
                await client.send(_SOUND[: chance.randrange(len(_SOUND) + 1)])
            took_s = time.monotonic() - begun
            self._round.expect(
                took_s < _CROWD_S, f"{_HALF_SENT} half-sent requests took {took_s:.1f} s to send"
            )
            self._round.tally["half-sent requests"] += _HALF_SENT
            during = await self._latencies()
            await expect_ready(self._round, self._port, "in a crowd of half-sent requests")
        expect_unhindered(self._round, "half-sent requests", before, during)

    async def slow_readers(self) -> None:
        """Each asks for megabytes and reads nothing; then all is there, in order."""
        before = await self._latencies()
        big = b"".join(
            request("GET", "/openapi.json", X_Request_ID=f"big-{number}") for number in range(_BIG_ANSWERS)
        )
        async with AsyncExitStack() as crowd:
            clients = [
                await crowd.enter_async_context(Connection(self._port, _SMALL_BUFFER))
                for _ in range(_SLOW_READERS)
            ]
            for client in clients:
                await client.send(big)
            during = await self._latencies()
            expect_unhindered(self._round, "big answers that nobody reads", before, during)
            self._round.tally["big answers unread"] += _SLOW_READERS * _BIG_ANSWERS
            await self._read_all(clients[0])

    async def _read_all(self, client: Connection) -> None:
        sizes = set()
        for number in range(_BIG_ANSWERS):
            answer = await client.answer_within(60)
            found = None if answer is None else answer.headers.get("x-request-id")
            self._round.expect(found == f"big-{number}", f"big answer {number} was {found}'s")
            if answer is None:
                return
            sizes.add(len(answer.body))
        self._round.expect(len(sizes) == 1, f"the same big answer had {sorted(sizes)} bytes")

    async def slow_senders(self, count: int) -> None:
        """Bodies that come a byte a second: told 408 when their time is up, not when they stop."""
        await asyncio.gather(*(self._send_slowly() for _ in range(count)))

    async def _send_slowly(self) -> None:
        async with Connection(self._port) as client:
            begun = time.monotonic()
            await client.send(_SOUND)
            answer = asyncio.ensure_future(client.answer())
            while not answer.done() and time.monotonic() < begun + _BODY_DEADLINE_S:
                with suppress(ConnectionError):
                    await client.send(b" ")
                await asyncio.wait({answer}, timeout=1)
            answer.cancel()
            told = answer.result() if answer.done() else None
            self._round.tally["bodies a byte a second"] += 1
            self._round.expect(told is not None and told.status == 408, f"a body without end was told {told}")

    async def _latencies(self) -> Latencies:
        return await credit_latencies(self._round, self._port, self._token, self._credit, _LOOK_S)
