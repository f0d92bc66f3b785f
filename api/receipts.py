"""Receipts: what is committed together is signed together, and each answer takes its own proof along."""

from collections.abc import Callable, Sequence
from typing import Any

from ledger.commands import Submission
from ledger.committer import Committer
from ledger.execute import Outcome
from ledger.note import Signer
from ledger.seal import Receipt, SignedReceipt, sign_receipts
from ledger.sums import account_key


class Receipted(Outcome, frozen=True):
    """An outcome with the receipt of its last event; None where nothing was recorded."""

    receipt: SignedReceipt | None = None


class ReceiptingCommitter:
    """The ledger's committer, and a receipt for each event that was asked for, once all of it is on disk."""

    def __init__(self, committer: Committer[Any, Submission, Outcome], signer: Signer) -> None:
        self._committer = committer
        self._signer = signer
        self.probe = committer.probe
        self.close = committer.close

    def commit_when_free(self, take: Callable[[], Sequence[Submission]]) -> list[Receipted | Exception]:
        taken: list[Submission] = []

        def noting() -> list[Submission]:
            taken[:] = take()
            return taken

        outcomes = self._committer.commit_when_free(noting)
        owed = [_receipt(*pair) for pair in zip(taken, outcomes, strict=True)]
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


def _receipt(submission: Submission, outcome: Outcome | Exception) -> Receipt | None:
    """The receipt of what was recorded; None where nothing was."""
    if isinstance(outcome, Exception) or not outcome.events:
        return None
    if submission.dry_run and not outcome.replayed:
        return None
    event = outcome.events[-1]
    return Receipt(
        account_key(event.openid.encode()), event.version, event.hash, event.credit, event.recorded_at_us
    )
