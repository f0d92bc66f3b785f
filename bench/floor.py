"""The floor of three works: the least that any code does for them in this app that keeps no account in memory.

Hello world does nothing. What lies between it and the floor is SQLite's share; what lies between the floor and
the product's own routes is what the product does besides: decide, chain, sign, answer, and check before it.
"""

import asyncio
import os
from collections import deque
from hashlib import sha256
from itertools import count
from typing import Any, Final

import falcon.asgi
import msgspec

from api.bodies import read_json
from api.bulk import NDJSON
from api.group_commit import GroupCommit
from api.incoming import GrantBody, GrantLine
from api.service import Service
from bench.limits import FIND_CREDIT, FIND_KEY, FIND_SESSION, BareTables, Rows
from ledger.committer import Committer, microseconds_now
from ledger.schema import open_ledger
from ledger.sqlite import Cursor, turnstile_path

_grant_body: Final = msgspec.json.Decoder(GrantBody)
_grant_line: Final = msgspec.json.Decoder(GrantLine)
# As many lines as the product hands in together.
_LINES_AT_ONCE: Final = 512
_BATCHES_UNDER_WAY: Final = 2
_ACCOUNTS: Final = 1000
_FACTS: Final = '{"actor":"key:0123456789ab","amount":1,"reason":"benchmark"}'


class Lookups:
    """`/bench/lookups`: whose token it is and what that person has, each one look-up."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._accounts: Cursor | None = None

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        if self._accounts is None:  # in the worker, behind the fork
            self._accounts = open_ledger(self._service.settings.ledger_path, read_only=True).cursor()
        digest = _digest(req.get_param("token"))
        (openid,) = self._service.session_lookups.execute(FIND_SESSION, (digest,)).fetchone()
        (credit,) = self._accounts.execute(FIND_CREDIT, (openid,)).fetchone()
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode({"credit": credit})


class BareRows:
    """The rows of grants, committed as the product's are, in groups, by one process at a time.

    Nothing is looked up for them, decided, hashed or signed, and the file is no ledger.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._commits: GroupCommit[Rows, Any] | None = None
        self._numbers = count()

    def check_key(self, req: falcon.asgi.Request) -> None:
        key_hash = _digest((req.get_header("Authorization") or "").removeprefix("Bearer "))
        if self._service.session_lookups.execute(FIND_KEY, (key_hash,)).fetchone() is None:
            raise falcon.HTTPUnauthorized

    def rows_of(self, amount: int, key: str) -> tuple[int, Rows]:
        """The number of a grant, and rows of the size that its are."""
        number = next(self._numbers)
        return number, _rows_of(number, amount, key)

    def commits(self) -> GroupCommit[Rows, Any]:
        if self._commits is None:
            path = self._service.settings.data / "bench.db"
            committer = Committer(lambda: BareTables(path), BareTables.add, turnstile_path(path))
            self._commits = GroupCommit("bench", committer, lambda: None)
        return self._commits


class BareGrants:
    """`/bench/rows`: whose key it is, and the rows of a grant, on disk when it answers."""

    def __init__(self, rows: BareRows) -> None:
        self._rows = rows

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        self._rows.check_key(req)
        grant = await read_json(req, _grant_body)
        number, rows = self._rows.rows_of(grant.amount, req.get_header("Idempotency-Key") or "")
        await self._rows.commits().submit(rows)
        resp.status = falcon.HTTP_201
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode({"version": number})


class BareLines:
    """`/bench/lines`: the same for every line of a bulk grant, in batches as large as the product's, a few of
    which are on their way while the next lines are read.

    The answers, a number and a status each, wait in memory until all lines are read: whoever sends them reads
    nothing before.
    """

    def __init__(self, rows: BareRows) -> None:
        self._rows = rows

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        self._rows.check_key(req)
        left, answers = b"", b""
        under_way: deque[asyncio.Future[bytes]] = deque()
        async for piece in req.stream:
            *lines, left = (left + piece).split(b"\n")
            for start in range(0, len(lines), _LINES_AT_ONCE):
                under_way.append(asyncio.ensure_future(self._take(lines[start : start + _LINES_AT_ONCE])))
                if len(under_way) > _BATCHES_UNDER_WAY:
                    answers += await under_way.popleft()
        resp.content_type = NDJSON
        resp.data = answers + b"".join(await asyncio.gather(*under_way))

    async def _take(self, lines: list[bytes]) -> bytes:
        grants = [_grant_line.decode(line) for line in lines]
        numbered = [self._rows.rows_of(grant.amount, grant.key) for grant in grants]
        await self._rows.commits().submit_all([rows for _, rows in numbered])
        return b"".join(b'{"line":%d,"status":201}\n' % number for number, _ in numbered)


def _rows_of(number: int, amount: int, key: str) -> Rows:
    """Of the size of a grant's; versions tell apart what the workers wrote, and have gaps."""
    openid, version, now_us, digest = (
        f"o{number % _ACCOUNTS:027}",
        (os.getpid() << 32) + number,
        microseconds_now(),
        _digest(key),
    )
    event = (openid, version, "CreditGranted", _FACTS, amount, key, digest, now_us, digest)
    account = (version, digest, now_us, now_us, amount, 0, amount, *(0,) * 6, None, None, None, openid)
    return event, account


def _digest(text: str | None) -> bytes:
    return sha256((text or "").encode()).digest()
