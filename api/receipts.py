"""Receipts: what is committed together is signed together, and each answer takes its own proof along."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from ledger.commands import Submission
from ledger.committer import Committer
from ledger.errors import LedgerUnusable
from ledger.events import Recorded
from ledger.execute import Outcome
from ledger.note import Signer
from ledger.seal import Receipt, SignedReceipt, sign_receipts
from ledger.seal_file import SealFile
from ledger.sqlite import SqliteError
from ledger.statement import Reader
from ledger.sums import account_key

log = structlog.get_logger()

# A receipt promises that every seal made so long after its event, or later, has it.
_PROMISED_US: Final = 60_000_000


class Receipted(Outcome, frozen=True):
    """An outcome with the receipt of its last event; None where nothing was recorded."""

    receipt: SignedReceipt | None = None


class ReceiptingCommitter:
    """The ledger's committer, and a receipt for each event that was asked for, once all of it is on disk.

    Belongs to one thread, as the committer does.
    """

    def __init__(
        self, committer: Committer[Any, Submission, Outcome], signer: Signer, seals: Path, ledger: Path
    ) -> None:
        self._committer = committer
        self._signer = signer
        self._seals_path = seals
        self._seals: SealFile | None = None
        self._ledger_path = ledger
        self._reader: Reader | None = None
        # Of the seal that was looked up last: whatever is due from behind the first moment up to the second is
        # due in it, and it goes up to that position. A bulk grant that is sent again asks for one, mostly.
        self._due = (0, 0, 0)
        self.probe = committer.probe

    def close(self) -> None:
        for file in (self._seals, self._reader):
            if file is not None:
                file.close()
        self._committer.close()

    def commit_when_free(self, take: Callable[[], Sequence[Submission]]) -> list[Receipted | Exception]:
        taken: list[Submission] = []
        sealed_at_us: int | None = None

        def noting() -> list[Submission]:
            nonlocal sealed_at_us
            sealed_at_us = self._sealed_at_us()
            taken[:] = take()
            return taken

        outcomes = self._committer.commit_when_free(noting)
        owed = [self._receipt(*pair, sealed_at_us) for pair in zip(taken, outcomes, strict=True)]
        signed = iter(sign_receipts([receipt for receipt in owed if receipt is not None], self._signer))
        return [
            Receipted(
                outcome.openid,
                outcome.version,
                outcome.credit,
                outcome.events,
                outcome.replayed,
                None if receipt is None else next(signed),
            )
            if isinstance(outcome, Outcome)
            else outcome
            for outcome, receipt in zip(outcomes, owed, strict=True)
        ]

    def _sealed_at_us(self) -> int | None:
        """When the last seal was made; None where that cannot be read: credit does not wait for seals.db."""
        try:
            if self._seals is None:
                self._seals = SealFile(self._seals_path)
            last = self._seals.last()
        except (LedgerUnusable, SqliteError) as error:
            log.error("no receipts", error=str(error))
            if self._seals is not None:
                self._seals.close()
                self._seals = None
            return None
        return 0 if last is None else last.seal.sealed_at_us

    def _receipt(
        self, submission: Submission, outcome: Outcome | Exception, sealed_at_us: int | None
    ) -> Receipt | None:
        """The receipt of what was recorded; None where nothing was, and where a seal would seem to break the
        promise: one that is younger than the event, and was made before it. Then the clock was put back."""
        if isinstance(outcome, Exception) or not outcome.events or sealed_at_us is None:
            return None
        if submission.dry_run and not outcome.replayed:
            return None
        event = outcome.events[-1]
        if event.recorded_at_us < sealed_at_us and not (
            outcome.replayed and self._is_kept(event, sealed_at_us)
        ):
            return None
        return Receipt(
            account_key(event.openid.encode()), event.version, event.hash, event.credit, event.recorded_at_us
        )

    def _is_kept(self, event: Recorded, sealed_at_us: int) -> bool:
        """Whether the first seal that the event is due in, if it was made, has it; then all later ones do.

        Where that cannot be read, nothing is promised: the event is on disk, and its answer must not fail."""
        due_us = event.recorded_at_us + _PROMISED_US
        if due_us > sealed_at_us:
            return True
        try:
            after_us, until_us, position = self._due
            if not after_us < due_us <= until_us and self._seals is not None:
                self._due = after_us, until_us, position = self._seals.first_since(due_us)
            if self._reader is None:
                self._reader = Reader(self._ledger_path)
            return self._reader.is_recorded_by(event.openid, event.version, position)
        except (LedgerUnusable, SqliteError):
            return False
