"""What a serving process holds: its files, its committers, and its way to WeChat."""

import asyncio
import os
import signal
from functools import partial
from typing import Any, Final

import structlog

from api import access
from api.group_commit import GroupCommit
from api.settings import Settings
from api.vault import Vault, open_vault
from api.wechat import WechatClient
from ledger.commands import Command
from ledger.committer import ledger_committer
from ledger.errors import LedgerFault
from ledger.execute import Outcome
from ledger.sqlite import Connection
from ledger.statement import Reader

log = structlog.get_logger()

_PROBE_TIMEOUT_S: Final = 2.0


class Service:
    """Everything a resource needs. Opens nothing until `start`, which runs in the worker, after the fork."""

    settings: Settings
    ledger_commits: GroupCommit[Command, Outcome]
    access_commits: GroupCommit[access.Change, Any]
    reader: Reader
    sessions: Connection
    vault: Vault
    wechat: WechatClient

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._tasks: set[asyncio.Task[Any]] = set()

    async def process_startup(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        settings = self.settings
        self.vault = open_vault(settings.secret_key_path)
        self.reader = Reader(settings.ledger_path, appid=settings.appid)
        self.sessions = access.open_access(settings.access_path, read_only=True)
        self.ledger_commits = GroupCommit(
            "ledger", ledger_committer(settings.ledger_path, appid=settings.appid), _end_this_process
        )
        self.access_commits = GroupCommit(
            "access", access.access_committer(settings.access_path), _end_this_process
        )
        self.wechat = WechatClient(settings.wechat_api, settings.appid, settings.secret)

    async def process_shutdown(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        self.wechat.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_PROBE_TIMEOUT_S)
        await self.ledger_commits.close()
        await self.access_commits.close()
        self.reader.close()
        self.sessions.close()

    async def check(self) -> None:
        """Raise LedgerFault or TimeoutError unless both files can be written and are of the known schema."""
        self.reader.check_schema()
        access.check_schema(self.sessions, self.settings.access_path)
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            await self.ledger_commits.probe()
            await self.access_commits.probe()

    def touch_later(self, token_hash: bytes, now_us: int) -> None:
        """Note that a session was used, without making its request wait for the disk."""
        change = partial(access.touch_session, token_hash=token_hash, now_us=now_us)
        task = asyncio.get_running_loop().create_task(self._touch(change))
        self._tasks.add(task)  # the loop keeps no reference of its own
        task.add_done_callback(self._tasks.discard)

    async def _touch(self, change: access.Change) -> None:
        try:
            await self.access_commits.submit(change)
        except LedgerFault as fault:
            log.warning("session not touched", error=str(fault))


def _end_this_process() -> None:
    """Stop serving and let the supervisor start a process anew: what this one believes may not be on disk."""
    log.critical("the disk failed: this worker ends")
    os.kill(os.getpid(), signal.SIGTERM)
