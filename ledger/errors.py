"""Why the ledger says no.

A `Refusal` is a fact about the command and the account: nothing was written, its key stays free. A
`LedgerFault` is a fact about this process or its disk.
"""

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
class CreditLimitExceeded(Refusal):
    """The credit would no longer be an integer that a JavaScript client reads exactly."""

    code: ClassVar[str] = "credit-limit-exceeded"
    credit: int
    asked: int
    limit: int


class LedgerFault(Exception):
    """The ledger could not do its work; the message says which file and what to do."""


class LedgerUnusable(LedgerFault):
    """The file must not be served: missing, of another schema, of another appid, or on an unfit file system."""


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
