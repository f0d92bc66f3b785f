"""Group commit on the event loop: what arrives while one batch is on its way to the disk makes the next one."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, Protocol, TypeVar

from api.metrics import BATCH
from ledger.errors import NotCommitted, OutcomeUnknown

_MAX_BATCH: Final = 512
# A commit costs as much as some twenty commands, so a batch waits for company while the loop brings any: until
# this many turns of it brought nobody, or so many wait that more would save nothing. A turn is microseconds.
_QUIET_TURNS: Final = 10
_ENOUGH: Final = 64
# About a second's work; whoever would wait longer is better told so at once.
_MAX_WAITING: Final = 4096

CommandT = TypeVar("CommandT")
OutcomeT = TypeVar("OutcomeT")
_Handed = TypeVar("_Handed", contravariant=True)
# Commands that were handed in together, and who waits for what they come to.
_Waiting = tuple[Sequence[CommandT], asyncio.Future[list[OutcomeT | Exception]]]


class Commits(Protocol[_Handed, OutcomeT]):
    """What commits a batch: `ledger.committer.Committer`, or what stands before it."""

    def commit_when_free(self, take: Callable[[], Sequence[_Handed]]) -> list[OutcomeT | Exception]: ...
    def probe(self) -> None: ...
    def close(self) -> None: ...


class GroupCommit(Generic[CommandT, OutcomeT]):
    """Hands batches of commands to a committer in one thread of its own, one batch at a time.

    The loop is woken once per batch. `on_disk_failure` is called when the process must not write again.
    """

    def __init__(
        self, name: str, committer: Commits[CommandT, OutcomeT], on_disk_failure: Callable[[], None]
    ) -> None:
        self._committer = committer
        self._on_disk_failure = on_disk_failure
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        # Filled by the loop, emptied by the thread: append and popleft of a deque need no lock.
        self._waiting: deque[_Waiting[CommandT, OutcomeT]] = deque()
        self._running = False
        self._batch_size = BATCH.labels(name)

    async def submit(self, command: CommandT) -> OutcomeT:
        """What `command` came to, once it is on disk; raises its Refusal, NotCommitted or OutcomeUnknown."""
        (outcome,) = await self.submit_all((command,))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def submit_all(self, commands: Sequence[CommandT]) -> list[OutcomeT | Exception]:
        """What each of `commands` came to, in order; they are committed together, and perhaps with others."""
        if len(self._waiting) >= _MAX_WAITING:
            raise NotCommitted(f"{_MAX_WAITING} are waiting already")
        future: asyncio.Future[list[OutcomeT | Exception]] = asyncio.get_running_loop().create_future()
        self._waiting.append((commands, future))
        if not self._running:
            self._running = True
            self._gather(0, _QUIET_TURNS)
        return await future

    async def probe(self) -> None:
        """Commit a change that changes nothing; raises where that cannot be done."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._committer.probe)

    async def close(self) -> None:
        """Wait for what was submitted, then close the file."""
        while self._running:
            await asyncio.sleep(0.01)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._committer.close)
        self._thread.shutdown()

    def _gather(self, seen: int, quiet_turns: int) -> None:
        """Start the next batch, now or a turn of the loop later; `seen` were waiting a turn ago."""
        waiting = len(self._waiting)
        if waiting > seen:
            quiet_turns = _QUIET_TURNS
        if waiting >= _ENOUGH or not quiet_turns:
            self._start()
        else:
            asyncio.get_running_loop().call_soon(self._gather, waiting, quiet_turns - 1)

    def _start(self) -> None:
        batch: list[_Waiting[CommandT, OutcomeT]] = []
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._commit, batch)
        running.add_done_callback(lambda done: self._finish(batch, done))

    def _commit(self, batch: list[_Waiting[CommandT, OutcomeT]]) -> list[OutcomeT | Exception]:
        """In the thread: fill `batch` when it is this process's turn, and commit it."""

        def take() -> list[CommandT]:
            taken: list[CommandT] = []
            while self._waiting and len(taken) < _MAX_BATCH:
                batch.append(self._waiting.popleft())
                taken += batch[-1][0]
            self._batch_size.observe(len(taken))
            return taken

        return self._committer.commit_when_free(take)

    def _finish(
        self,
        batch: list[_Waiting[CommandT, OutcomeT]],
        done: asyncio.Future[list[OutcomeT | Exception]],
    ) -> None:
        failure = done.exception()
        if failure is not None and not batch:  # it failed before its turn came: everybody waiting is told
            batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        outcomes: list[OutcomeT | Exception] = [] if failure is not None else done.result()
        place = 0
        for commands, future in batch:
            theirs = outcomes[place : place + len(commands)]
            place += len(commands)
            if future.cancelled():
                continue  # its client went away; the command is on disk all the same
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(theirs)
        if any(isinstance(fault, OutcomeUnknown) and fault.disk_failed for fault in (failure, *outcomes)):
            self._on_disk_failure()
        self._running = bool(self._waiting)
        if self._waiting:
            self._gather(0, _QUIET_TURNS)
