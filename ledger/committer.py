"""Group commit: many commands in one durable transaction, one process at a time."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from ledger.commands import Submission
from ledger.errors import LedgerFault, LedgerUnusable, NotCommitted, OutcomeUnknown, Refusal
from ledger.execute import Outcome, execute
from ledger.log import Log
from ledger.sqlite import Turnstile, WritableFile, turnstile_path

StoreT = TypeVar("StoreT", bound=WritableFile)
CommandT = TypeVar("CommandT")
OutcomeT = TypeVar("OutcomeT")
ResultT = TypeVar("ResultT")


class Committer(Generic[StoreT, CommandT, OutcomeT]):
    """Runs lists of commands against one file, each list in one transaction.

    Belongs to the thread that calls `commit` first, and opens the file then; never share one, never open
    one before a fork. `turnstile` names the lock file that all writers of that file queue at.
    """

    def __init__(
        self,
        open_store: Callable[[], StoreT],
        perform: Callable[[StoreT, CommandT], OutcomeT],
        turnstile: Path,
    ) -> None:
        self._open_store = open_store
        self._perform = perform
        self._turnstile_path = turnstile
        self._turnstile: Turnstile | None = None
        self._store: StoreT | None = None
        self._disk_failure: OutcomeUnknown | None = None

    def commit(self, commands: Sequence[CommandT]) -> list[OutcomeT | Exception]:
        """Commit a list that is known already, as `commit_when_free` does."""
        return self.commit_when_free(lambda: commands)

    def commit_when_free(self, take: Callable[[], Sequence[CommandT]]) -> list[OutcomeT | Exception]:
        """Take commands once no other process writes, and commit them as one batch.

        What arrives while this process waits at the turnstile so becomes part of the batch. Performs the
        commands in order and returns, in the same order, what each came to, once all is on disk. A Refusal
        stands in its own place and touches nobody else. An unexpected error rolls the whole batch back and
        its commands run again one by one, so that only the culprit's place holds the error. Raises
        NotCommitted (nothing was written) or OutcomeUnknown (the commit itself answered an error); after a
        failure of the disk every later call raises NotCommitted, because this process must end.
        """
        if self._turnstile is None:
            self._turnstile = Turnstile(self._turnstile_path)
        with self._turnstile:
            commands = take()
            try:
                return self._transaction(commands)
            except (NotCommitted, OutcomeUnknown):
                raise
            except Exception as error:  # noqa: BLE001 - one command's bug must not fail its neighbours
                if len(commands) == 1:
                    return [error]
                return [outcome for command in commands for outcome in self._alone(command)]

    def probe(self) -> None:
        """Write to the file without changing it, and commit; raises what a commit would."""
        if self._turnstile is None:
            self._turnstile = Turnstile(self._turnstile_path)
        with self._turnstile:
            self._in_transaction(lambda store: store.rewrite_head())

    def close(self) -> None:
        if self._store is not None and self._turnstile is not None:
            with self._turnstile:  # closing the last connection checkpoints
                self._store.close()
            self._store = None
        if self._turnstile is not None:
            self._turnstile.close()
            self._turnstile = None

    def _alone(self, command: CommandT) -> list[OutcomeT | Exception]:
        try:
            return self._transaction([command])
        except LedgerFault as fault:
            return [fault]
        except Exception as error:  # noqa: BLE001 - this is the culprit, and it is told so
            return [error]

    def _transaction(self, commands: Sequence[CommandT]) -> list[OutcomeT | Exception]:
        return self._in_transaction(lambda store: [self._attempt(store, command) for command in commands])

    def _in_transaction(self, work: Callable[[StoreT], ResultT]) -> ResultT:
        if self._disk_failure is not None:
            raise NotCommitted(f"this process stopped writing after a disk failure: {self._disk_failure}")
        if self._store is None:
            try:
                self._store = self._open_store()
            except LedgerUnusable as unusable:
                # Such as where a replay has swapped in rows of another fold, and this is the first write.
                raise NotCommitted(str(unusable)) from unusable
        store = self._store
        store.begin()
        try:
            result = work(store)
            store.commit()
        except OutcomeUnknown as unknown:
            # What this connection believes about the file may be wrong now; the next batch opens another.
            self._store = None
            store.close()
            if unknown.disk_failed:
                self._disk_failure = unknown
            raise
        except BaseException:
            store.rollback()
            raise
        return result

    def _attempt(self, store: StoreT, command: CommandT) -> OutcomeT | Exception:
        try:
            return self._perform(store, command)
        except Refusal as refusal:
            return refusal


def microseconds_now() -> int:
    """The time of day as the log keeps it: microseconds since 1970, UTC."""
    return time.time_ns() // 1000


def ledger_committer(
    path: Path, *, appid: str | None = None, clock_us: Callable[[], int] = microseconds_now
) -> Committer[Log, Submission, Outcome]:
    """The committer of the ledger at `path`; its turnstile is the file `ledger.lock` beside it."""
    return Committer(
        lambda: Log(path, appid=appid),
        lambda log, submission: execute(log, submission, clock_us()),
        turnstile_path(path),
    )
