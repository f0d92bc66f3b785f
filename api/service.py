"""What a serving process holds: its files, its committers, and its way to WeChat."""

import asyncio
import gc
import os
import secrets
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
import structlog

from api import access
from api.group_commit import GroupCommit
from api.problems import Problem
from api.rates import Rates
from api.receipts import Receipted, ReceiptingCommitter
from api.sealing import seal_every_minute
from api.settings import Settings
from api.vault import Vault, open_signer, open_vault
from api.wechat import WechatClient
from ledger.account import Account
from ledger.commands import RecordLapses, Submission
from ledger.committer import ledger_committer, microseconds_now
from ledger.directory import share
from ledger.errors import LedgerFault, OtherProjection
from ledger.events import Recorded
from ledger.merkle import inclusion_path
from ledger.seal import origin_of
from ledger.seal_file import Sealed, SealFile
from ledger.sqlite import Connection, Cursor, SqliteError
from ledger.statement import BEFORE_ALL_DUE, Reader
from ledger.sums import account_key

log = structlog.get_logger()

_PROBE_TIMEOUT_S: Final = 2.0
# The first sweep comes soon after the start, and not in all workers at once.
_FIRST_SWEEP_S: Final = 30
_SWEEP_INTERVAL_S: Final = 3600
# So many accounts a commit: one can have a thousand rows to write, and others wait for it.
_SWEPT_AT_ONCE: Final = 20
_MAX_ASIDES_WAITING: Final = 16


ResultT = TypeVar("ResultT")


class Proof(msgspec.Struct, frozen=True):
    """An account in the last seal, that seal's place in the log of seals, and what is asked of its events."""

    vkey: str
    sealed: Sealed
    inclusion: list[bytes]
    events: list[Recorded]


class Service:
    """Everything a resource needs. Opens nothing until `start`, which runs in the worker, after the fork."""

    settings: Settings
    ledger_commits: GroupCommit[Submission, Receipted]
    access_commits: GroupCommit[access.Change, Any]
    reader: Reader
    seals: SealFile
    sessions: Connection
    session_lookups: Cursor
    vault: Vault
    wechat: WechatClient
    rates: Rates

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._tasks: set[asyncio.Task[Any]] = set()
        self._aside_thread = ThreadPoolExecutor(1, thread_name_prefix="aside")
        self._asides_waiting = 0

    async def process_startup(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        settings = self.settings
        self._in_use = share(settings.data)
        self.vault = open_vault(settings.secret_key_path)
        self.reader = Reader(settings.ledger_path, appid=settings.appid)
        self.sessions = access.open_access(settings.access_path, read_only=True)
        self.session_lookups = self.sessions.cursor()
        self.seals = SealFile(settings.seals_path)
        signer = open_signer(settings.signing_key_path, origin_of(settings.appid))
        committer = ledger_committer(settings.ledger_path, appid=settings.appid)
        receipting = ReceiptingCommitter(committer, signer, settings.seals_path, settings.ledger_path)
        self.ledger_commits = GroupCommit("ledger", receipting, _end_this_process)
        self.access_commits = GroupCommit(
            "access", access.access_committer(settings.access_path), _end_this_process
        )
        self.wechat = WechatClient(settings.wechat_api, settings.appid, settings.secret)
        self.rates = Rates(settings)
        loop = asyncio.get_running_loop()
        self._background = [
            loop.create_task(self._sweep_hourly()),
            loop.create_task(seal_every_minute(settings.data)),
        ]
        # What is there by now stays: the collector need not look through all of it again and again.
        gc.collect()
        gc.freeze()

    async def process_shutdown(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        self.wechat.close()
        for task in self._background:
            task.cancel()
        await asyncio.wait(self._background)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_PROBE_TIMEOUT_S)
        await self.ledger_commits.close()
        await self.access_commits.close()
        self._aside_thread.shutdown(cancel_futures=True)
        self.reader.close()
        self.seals.close()
        self.sessions.close()
        os.close(self._in_use)

    async def check(self) -> None:
        """Raise LedgerFault or TimeoutError unless both files can be written and are of the known schema."""
        self.reader.check_schema()
        access.check_schema(self.sessions, self.settings.access_path)
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            await self.ledger_commits.probe()
            await self.access_commits.probe()

    async def fold(self, openid: str, at_us: int) -> Account | None:
        """`Reader.account_as_of`, off the loop: an account of 100,000 events takes a second."""
        return await self._aside(partial(self._fold, openid, at_us))

    def _fold(self, openid: str, at_us: int) -> Account | None:
        with closing(Reader(self.settings.ledger_path, appid=self.settings.appid)) as reader:
            return reader.account_as_of(openid, at_us)

    async def prove(self, openid: str, after: int, limit: int) -> Proof | None:
        """The proof of an account in the last seal, with up to `limit` events behind version `after`."""
        return await self._aside(partial(self._prove, openid, after, limit))

    def _prove(self, openid: str, after: int, limit: int) -> Proof | None:
        with (
            closing(SealFile(self.settings.seals_path)) as seals,
            closing(Reader(self.settings.ledger_path, appid=self.settings.appid)) as reader,
        ):
            sealed = seals.sealed(account_key(openid.encode()))
            if sealed is None:
                return None
            size = sealed.stored.seal.number
            inclusion = inclusion_path(size - 1, size, seals.subtree)
            events = reader.chain(openid, after, sealed.leaf.version, limit)
            return Proof(seals.vkey(), sealed, inclusion, events)

    async def _aside(self, work: Callable[[], ResultT]) -> ResultT:
        """Run long reads in a thread, one after another, and a 503 Problem where many wait.

        What takes long must not slow what does not.
        """
        if self._asides_waiting >= _MAX_ASIDES_WAITING:
            raise _busy("Too many long reads are waiting; try again.")
        self._asides_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._aside_thread, work)
        except OtherProjection as other:  # a replay has swapped in rows that the next release works with
            log.error("not read", error=str(other))
            raise _busy("The ledger is being changed over; try again.") from None
        finally:
            self._asides_waiting -= 1

    def touch_later(self, token_hash: bytes, now_us: int) -> None:
        """Note that a session was used, without making its request wait for the disk."""
        self._write_later(partial(access.touch_session, token_hash=token_hash, now_us=now_us))

    def touch_key_later(self, key_id: str, now_us: int) -> None:
        """Note that an API key was used, in the same way."""
        self._write_later(partial(access.touch_key, key_id=key_id, now_us=now_us))

    def _write_later(self, change: access.Change) -> None:
        task = asyncio.get_running_loop().create_task(self._touch(change))
        self._tasks.add(task)  # the loop keeps no reference of its own
        task.add_done_callback(self._tasks.discard)

    async def _touch(self, change: access.Change) -> None:
        try:
            await self.access_commits.submit(change)
        except LedgerFault as fault:
            log.warning("last use not noted", error=str(fault))

    async def _sweep_hourly(self) -> None:
        """Record what lapsed, in one worker or another. No answer needs it; the log then says it too."""
        await asyncio.sleep(_FIRST_SWEEP_S + secrets.randbelow(_FIRST_SWEEP_S))
        while True:
            try:
                recorded = await self._sweep()
            except (LedgerFault, SqliteError) as fault:
                log.warning("not swept", error=str(fault))  # the next one is in an hour
            else:
                if recorded:
                    log.info("swept", accounts=recorded)
            await asyncio.sleep(_SWEEP_INTERVAL_S)

    async def _sweep(self) -> int:
        now_us, last, count = microseconds_now(), BEFORE_ALL_DUE, 0
        while due := self.reader.due(now_us, last, _SWEPT_AT_ONCE):
            last = due[-1]
            commands = [Submission(RecordLapses(openid), "rule:sweep") for _, openid in due]
            for outcome in await self.ledger_commits.submit_all(commands):
                if isinstance(outcome, Exception):
                    log.error("not swept", exc_info=outcome)
                else:
                    count += 1
        return count


def _busy(detail: str) -> Problem:
    problem = Problem(503, "busy", detail)
    problem.headers = {"Retry-After": "1"}
    return problem


def _end_this_process() -> None:
    """Stop serving and let the supervisor start a process anew: what this one believes may not be on disk."""
    log.critical("the disk failed: this worker ends")
    os.kill(os.getpid(), signal.SIGTERM)
