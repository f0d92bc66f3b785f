"""The rules: which events a command leads to today. What was decided once is never decided again."""

from typing import Final

from ledger.account import DAY_US, Account, Balance, day_begins_us, day_of, streak_at
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
    Submission,
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
    NotFrozen,
    NothingToRevoke,
    NotInFuture,
    ReversalExceedsSpend,
    SpendNotFound,
    TooManyOpen,
    VersionMismatch,
)
from ledger.events import (
    MAX_CREDIT,
    AccountFrozen,
    AccountUnfrozen,
    CheckedIn,
    CreditGranted,
    CreditHeld,
    CreditSpent,
    Event,
    GrantRevoked,
    HoldCaptured,
    HoldReleased,
    Parts,
    SpendReversed,
    Subject,
    UserRegistered,
)
from ledger.lots import first_to_expire, split, still_good

# Everything that reads or writes an account costs as much as it has open lots and holds; so that has a bound.
MAX_OPEN: Final = 1000
_OF_FROZEN: Final = (ReverseSpend, FreezeAccount, UnfreezeAccount)
DEFAULT_HOLD_US: Final = 7 * DAY_US


def decide(account: Account, submission: Submission, subject: Subject | None, now_us: int) -> tuple[Event, ...]:
    """The events that the submitted command leads to, in the order they happen, or a Refusal.

    `account` is as it is at `now_us`, with all that lapsed by then; `subject` the event that the command
    names, None where there is none. The last event is what was asked for. `ledger.refusals` says which
    refusals there are and which comes first.
    """
    command = submission.command
    if type(command) is RegisterUser:
        return () if account.version else _register(command)
    if not account.version:
        raise AccountNotFound(account.openid)
    expected = submission.expected_version
    if expected is not None and expected != account.version:
        raise VersionMismatch(account.version, expected)
    if type(command) is RecordLapses:
        return ()
    if account.balance.frozen and not (submission.operator or type(command) in _OF_FROZEN):
        raise AccountIsFrozen(account.openid)
    return _events(account, command, submission.actor, subject, now_us)


def _events(
    account: Account, command: Command, actor: str, subject: Subject | None, now_us: int
) -> tuple[Event, ...]:
    balance = account.balance
    match command:
        case GrantCredit():
            return (_grant(balance, command, actor, now_us),)
        case SpendCredit():
            used = first_to_expire(balance, command.amount)
            return (CreditSpent(command.amount, used, command.reason, actor, command.reference),)
        case HoldCredit():
            return (_hold(balance, command, actor, now_us),)
        case CaptureHold():
            return (_capture(balance, command, actor, subject, now_us),)
        case ReleaseHold():
            return (_release(balance, command, actor, subject, now_us),)
        case ReverseSpend():
            return (_reverse(balance, command, actor, subject, now_us),)
        case RevokeGrant():
            return (_revoke(balance, command, actor, subject),)
        case FreezeAccount():
            if balance.frozen:
                raise AlreadyFrozen(account.openid)
            return (AccountFrozen(command.reason, actor, command.reference),)
        case UnfreezeAccount():
            if not balance.frozen:
                raise NotFrozen(account.openid)
            return (AccountUnfrozen(command.reason, actor, command.reference),)
        case CheckIn():
            return _check_in(balance, command, now_us)
    raise TypeError(f"not a command: {command!r}")


def _register(command: RegisterUser) -> tuple[Event, ...]:
    if not command.signup_grant:
        return (UserRegistered(),)
    return (UserRegistered(), CreditGranted(command.signup_grant, "signup", "rule:signup"))


def _grant(balance: Balance, command: GrantCredit, actor: str, now_us: int) -> CreditGranted:
    expires_at_us = command.expires_at_us
    if expires_at_us is not None and expires_at_us <= now_us:
        raise NotInFuture(expires_at_us, now_us)
    _check_limit(balance, command.amount)
    if expires_at_us is not None:
        _check_open(balance)
    return CreditGranted(command.amount, command.reason, actor, command.reference, expires_at_us)


def _hold(balance: Balance, command: HoldCredit, actor: str, now_us: int) -> CreditHeld:
    deadline_us = now_us + DEFAULT_HOLD_US if command.deadline_us is None else command.deadline_us
    if deadline_us <= now_us:
        raise NotInFuture(deadline_us, now_us)
    used = first_to_expire(balance, command.amount)
    _check_open(balance)
    return CreditHeld(command.amount, used, deadline_us, command.reason, actor, command.reference)


def _capture(
    balance: Balance, command: CaptureHold, actor: str, subject: Subject | None, now_us: int
) -> HoldCaptured:
    held, parts = _open_hold(balance, command.hold, subject)
    amount = held.amount if command.part is None else command.part
    if amount > held.amount:
        raise CaptureExceedsHold(held.amount, amount)
    used, rest = split(parts, amount)
    returned, expired = still_good(rest, now_us)
    reference = command.reference or held.reference
    return HoldCaptured(command.hold, amount, used, command.reason, actor, returned, expired, reference)


def _release(
    balance: Balance, command: ReleaseHold, actor: str, subject: Subject | None, now_us: int
) -> HoldReleased:
    held, parts = _open_hold(balance, command.hold, subject)
    returned, expired = still_good(parts, now_us)
    reference = command.reference or held.reference
    return HoldReleased(command.hold, held.amount, command.reason, actor, returned, expired, reference)


def _open_hold(balance: Balance, version: int, subject: Subject | None) -> tuple[CreditHeld, Parts]:
    if subject is None or not isinstance(subject.event, CreditHeld):
        raise HoldNotFound(version)
    if all(hold.version != version for hold in balance.holds):
        raise HoldSettled(version)
    return subject.event, subject.event.used


def _reverse(
    balance: Balance, command: ReverseSpend, actor: str, subject: Subject | None, now_us: int
) -> SpendReversed:
    if subject is None or not isinstance(subject.event, CreditSpent | HoldCaptured):
        raise SpendNotFound(command.spend)
    spend, before = subject.event, subject.corrected
    amount = spend.amount - before if command.part is None else command.part
    if not 1 <= amount <= spend.amount - before:
        raise ReversalExceedsSpend(spend.amount, before, spend.amount if command.part is None else amount)
    # What was used last comes back first, so that a reversal in parts leaves what expires first for last.
    _, undone = split(spend.used, spend.amount - before - amount)
    back, _ = split(undone, amount)
    returned, expired = still_good(back, now_us)
    there = {lot.grant for lot in balance.lots}
    more = sum(part.grant is not None and part.grant not in there for part in returned)
    if more:
        _check_open(balance, more)
    reference = command.reference or spend.reference
    return SpendReversed(command.spend, amount, command.reason, actor, returned, expired, reference)


def _revoke(balance: Balance, command: RevokeGrant, actor: str, subject: Subject | None) -> GrantRevoked:
    if subject is None or not isinstance(subject.event, CreditGranted):
        raise GrantNotFound(command.grant)
    grant, before = subject.event, subject.corrected
    lot_of = command.grant if grant.expires_at_us is not None else None
    if lot_of is None:
        there = balance.credit - balance.expiring
    else:
        there = sum(lot.credit for lot in balance.lots if lot.grant == lot_of)
    amount = min(grant.amount - before, there)
    if not amount:
        raise NothingToRevoke(grant.amount, before)
    parts = (part for hold in balance.holds for part in hold.parts)
    gone = grant.amount - before - amount
    held = min(gone, sum(part.amount for part in parts if part.grant == lot_of))
    reference = command.reference or grant.reference
    return GrantRevoked(command.grant, amount, gone - held, held, command.reason, actor, reference)


def _check_in(balance: Balance, command: CheckIn, now_us: int) -> tuple[Event, ...]:
    done, streak = streak_at(balance, now_us)
    if done:
        raise AlreadyCheckedIn(streak, day_begins_us(balance.checkin_day + 1))
    streak += 1
    reward = command.rewards[min(streak, len(command.rewards)) - 1]
    _check_limit(balance, reward)
    grant = CreditGranted(reward, "checkin", f"rule:checkin/{command.rules}")
    return CheckedIn(day_of(now_us), streak, command.rules), grant


def _check_limit(balance: Balance, amount: int) -> None:
    if balance.granted + amount > MAX_CREDIT:
        raise CreditLimitExceeded(balance.granted, amount, MAX_CREDIT)


def _check_open(balance: Balance, more: int = 1) -> None:
    # A hold counts once for each lot that it holds: holding everything again and again adds no end of them.
    count = len(balance.lots) + sum(len(hold.parts) for hold in balance.holds)
    if count + more > MAX_OPEN:
        raise TooManyOpen(count, MAX_OPEN)
