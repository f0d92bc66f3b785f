"""Why each command can be refused, in order of precedence: the first that is true is the answer.

KeyReused comes before all else because a key is looked up before the account is; VersionMismatch is for a
Submission with an `expected_version`; AccountIsFrozen for one that is not an operator's.
"""

from typing import Final

from ledger.commands import (
    CaptureHold,
    CheckIn,
    Command,
    FreezeAccount,
    GrantCredit,
    HoldCredit,
    RecordLapses,
    RegisterUser,
    ReleaseHold,
    ReverseSpend,
    RevokeGrant,
    SpendCredit,
    UnfreezeAccount,
)
from ledger.errors import (
    AccountIsFrozen,
    AccountNotFound,
    AlreadyCheckedIn,
    AlreadyFrozen,
    CaptureExceedsHold,
    CreditLimitExceeded,
    GrantNotFound,
    HoldNotFound,
    HoldSettled,
    InsufficientCredit,
    KeyReused,
    NotFrozen,
    NothingToRevoke,
    NotInFuture,
    Refusal,
    ReversalExceedsSpend,
    SpendNotFound,
    TooManyOpen,
    VersionMismatch,
)

_FIRST: Final = (KeyReused, AccountNotFound, VersionMismatch)
REFUSALS: Final[dict[type[Command], tuple[type[Refusal], ...]]] = {
    RegisterUser: (),
    GrantCredit: (*_FIRST, AccountIsFrozen, NotInFuture, CreditLimitExceeded, TooManyOpen),
    SpendCredit: (*_FIRST, AccountIsFrozen, InsufficientCredit),
    HoldCredit: (*_FIRST, AccountIsFrozen, NotInFuture, InsufficientCredit, TooManyOpen),
    CaptureHold: (*_FIRST, AccountIsFrozen, HoldNotFound, HoldSettled, CaptureExceedsHold),
    ReleaseHold: (*_FIRST, AccountIsFrozen, HoldNotFound, HoldSettled),
    ReverseSpend: (*_FIRST, SpendNotFound, ReversalExceedsSpend, TooManyOpen),
    RevokeGrant: (*_FIRST, AccountIsFrozen, GrantNotFound, NothingToRevoke),
    FreezeAccount: (*_FIRST, AlreadyFrozen),
    UnfreezeAccount: (*_FIRST, NotFrozen),
    CheckIn: (*_FIRST, AccountIsFrozen, AlreadyCheckedIn, CreditLimitExceeded),
    RecordLapses: (AccountNotFound, VersionMismatch),
}
