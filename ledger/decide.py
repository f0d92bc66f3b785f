"""The rules: which events a command leads to today. What was decided once is never decided again."""

from ledger.account import Account
from ledger.commands import Command, GrantCredit, RegisterUser
from ledger.errors import AccountNotFound, CreditLimitExceeded
from ledger.events import MAX_CREDIT, CreditGranted, Event, UserRegistered

SIGNUP_REASON = "signup"


def decide(account: Account, command: Command) -> tuple[Event, ...]:
    """The events that `command` leads to, in the order they happen, or a Refusal.

    Refusals come in this order: AccountNotFound, CreditLimitExceeded. (KeyReused comes before both, in
    `execute`, because a key is looked up before the account is.)
    """
    match command:
        case RegisterUser():
            return _register(account, command)
        case GrantCredit():
            return _grant(account, command)


def _register(account: Account, command: RegisterUser) -> tuple[Event, ...]:
    if account.version:
        return ()
    if not command.signup_grant:
        return (UserRegistered(),)
    return (UserRegistered(), CreditGranted(command.signup_grant, SIGNUP_REASON))


def _grant(account: Account, command: GrantCredit) -> tuple[Event, ...]:
    if not account.version:
        raise AccountNotFound(account.openid)
    if account.credit + account.held + command.amount > MAX_CREDIT:
        raise CreditLimitExceeded(account.credit, command.amount, MAX_CREDIT)
    return (CreditGranted(command.amount, command.reason),)
