"""Why the ledger says no.

A `Refusal` is a fact about the command and the account: nothing was written, its key stays free. A
`LedgerFault` is a fact about this process or its disk.
"""

import re
from dataclasses import dataclass, fields
from typing import ClassVar


class InvalidCommand(ValueError):
    """A command that cannot be formed: a wrong type or a value outside its range."""


@dataclass
class Refusal(Exception):
    """A command that was understood and refused.

    `code` is stable and for machines; the fields of a subclass are its figures; `retry_helps` says whether
    the same command can succeed later without anybody changing it.
    """

    code: ClassVar[str]
    retry_helps: ClassVar[bool] = False

    def figures(self) -> dict[str, int | str]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def sentence(self) -> str:
        """Why, for people: the docstring, with the figures in the places of their names."""
        figures = self.figures()
        return re.sub(r"`(\w+)`", lambda name: str(figures[name[1]]), (self.__doc__ or "").strip())

    def __str__(self) -> str:
        return f"{self.code}: " + ", ".join(f"{name} {value}" for name, value in self.figures().items())


@dataclass
class KeyReused(Refusal):
    """The idempotency key was already used for another command, recorded as event `version`."""

    code: ClassVar[str] = "key-reused"
    key: str
    version: int


@dataclass
class AccountNotFound(Refusal):
    """Nobody registered under this openid."""

    code: ClassVar[str] = "account-not-found"
    retry_helps: ClassVar[bool] = True
    openid: str


@dataclass
class VersionMismatch(Refusal):
    """The account went on since it was read: it is at `version`, the caller expected another."""

    code: ClassVar[str] = "version-mismatch"
    version: int
    expected: int


@dataclass
class AccountIsFrozen(Refusal):
    """The account is frozen: only reversals, and operators, get through."""

    code: ClassVar[str] = "account-frozen"
    openid: str


@dataclass
class NotInFuture(Refusal):
    """The moment asked for has passed already."""

    code: ClassVar[str] = "not-in-future"
    asked_us: int
    now_us: int


@dataclass
class CreditLimitExceeded(Refusal):
    """All that the account was ever granted would no longer be an integer that JavaScript reads exactly."""

    code: ClassVar[str] = "credit-limit-exceeded"
    granted: int
    asked: int
    limit: int


@dataclass
class TooManyOpen(Refusal):
    """The account has as many unused expiring grants and open holds as one may have."""

    code: ClassVar[str] = "too-many-open"
    retry_helps: ClassVar[bool] = True
    open: int
    limit: int


@dataclass
class InsufficientCredit(Refusal):
    """The account can spend `available`, of which `expiring` has an end; `held` is reserved."""

    code: ClassVar[str] = "insufficient-credit"
    available: int
    held: int
    asked: int
    expiring: int


@dataclass
class HoldNotFound(Refusal):
    """No event of this account with that version is a hold."""

    code: ClassVar[str] = "hold-not-found"
    hold: int


@dataclass
class HoldSettled(Refusal):
    """The hold was captured or released already, or its deadline has passed."""

    code: ClassVar[str] = "hold-settled"
    hold: int


@dataclass
class CaptureExceedsHold(Refusal):
    """More was to be captured than is held."""

    code: ClassVar[str] = "capture-exceeds-hold"
    held: int
    asked: int


@dataclass
class SpendNotFound(Refusal):
    """No event of this account with that version spent anything."""

    code: ClassVar[str] = "spend-not-found"
    spend: int


@dataclass
class ReversalExceedsSpend(Refusal):
    """More was to be given back than was spent: `reversed` of `spent` is given back already."""

    code: ClassVar[str] = "reversal-exceeds-spend"
    spent: int
    reversed: int
    asked: int


@dataclass
class GrantNotFound(Refusal):
    """No event of this account with that version granted anything."""

    code: ClassVar[str] = "grant-not-found"
    grant: int


@dataclass
class NothingToRevoke(Refusal):
    """Nothing of the grant is left to take: of `granted`, `revoked` was taken back before."""

    code: ClassVar[str] = "nothing-to-revoke"
    retry_helps: ClassVar[bool] = True
    granted: int
    revoked: int


@dataclass
class AlreadyFrozen(Refusal):
    """The account is frozen already."""

    code: ClassVar[str] = "already-frozen"
    openid: str


@dataclass
class NotFrozen(Refusal):
    """The account is not frozen."""

    code: ClassVar[str] = "not-frozen"
    openid: str


@dataclass
class AlreadyCheckedIn(Refusal):
    """Checked in already today, by the calendar of Shanghai."""

    code: ClassVar[str] = "already-checked-in"
    retry_helps: ClassVar[bool] = True
    streak: int
    next_us: int


class LedgerFault(Exception):
    """The ledger could not do its work; the message says which file and what to do."""


class LedgerUnusable(LedgerFault):
    """The file must not be served: missing, of another schema, of another appid, or on an unfit file system."""


class OtherProjection(LedgerUnusable):
    """The account rows are of another fold than this release's: one of the two is being changed over to."""


class NotCommitted(LedgerFault):
    """Nothing was written: the ledger was busy or closed. The same command may be sent again."""


class OutcomeUnknown(LedgerFault):
    """COMMIT returned an error: the events may be on disk, or may appear after a crash.

    Send the same command with the same key again: it lands once, whichever it was. `disk_failed` is true
    after an I/O error, when this process must not write again.
    """

    def __init__(self, message: str, *, disk_failed: bool) -> None:
        super().__init__(message)
        self.disk_failed = disk_failed


class CorruptEvent(LedgerFault):
    """A stored event that the code that reads it did not write."""
