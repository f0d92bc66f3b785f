"""Receipts: what is committed together is signed together, and each answer takes its own proof along."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ledger.commands import Submission
from ledger.committer import Committer
from ledger.execute import Outcome
from ledger.note import Signer
from ledger.seal import Receipt, SignedReceipt, sign_receipts
from ledger.seal_file import SealFile
from ledger.sums import account_key


class Receipted(Outcome, frozen=True):
    """An outcome with the receipt of its last event; None where nothing was recorded."""

    receipt: SignedReceipt | None = None


class ReceiptingCommitter:
    """The ledger's committer, and a receipt for each event that was asked for, once all of it is on disk.

    Belongs to one thread, as the committer does.
    """

    def __init__(self, committer: Committer[Any, Submission, Outcome], signer: Signer, seals: Path) -> None:
        self._committer = committer
        self._signer = signer
        self._seals_path = seals
        self._seals: SealFile | None = None
        self.probe = committer.probe

    def close(self) -> None:
        if self._seals is not None:
            self._seals.close()
        self._committer.close()

    def commit_when_free(self, take: Callable[[], Sequence[Submission]]) -> list[Receipted | Exception]:
        taken: list[Submission] = []
        sealed_at_us = 0

        def noting() -> list[Submission]:
            nonlocal sealed_at_us
            sealed_at_us = self._sealed_at_us()
            taken[:] = take()
            return taken

        outcomes = self._committer.commit_when_free(noting)
        owed = [_receipt(*pair, sealed_at_us) for pair in zip(taken, outcomes, strict=True)]
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

    def _sealed_at_us(self) -> int:
        if self._seals is None:
            self._seals = SealFile(self._seals_path)
        last = self._seals.last()
        return 0 if last is None else last.seal.sealed_at_us


def _receipt(submission: Submission, outcome: Outcome | Exception, sealed_at_us: int) -> Receipt | None:
    """The receipt of what was recorded; None where nothing was, and while the clock is behind the last seal:
    that one would seem to break the promise."""
    if isinstance(outcome, Exception) or not outcome.events:
        return None
    if submission.dry_run and not outcome.replayed:
        return None
    event = outcome.events[-1]
    if event.recorded_at_us < sealed_at_us and not outcome.replayed:
        return None
    return Receipt(
        account_key(event.openid.encode()), event.version, event.hash, event.credit, event.recorded_at_us
    )
