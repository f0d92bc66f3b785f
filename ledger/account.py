"""What an account is: a fold of its events."""

from typing import Final

import msgspec

from ledger.events import CreditGranted, Event, UserRegistered

# The hash that the first event of every account is chained to.
GENESIS: Final = bytes(32)


class Account(msgspec.Struct, frozen=True):
    """The state after event `version`; version 0 is an account that nobody registered.

    `head` is the hash of that event, `recorded_at_us` its time. `credit` can be spent, `held` is reserved.
    """

    openid: str
    version: int = 0
    head: bytes = GENESIS
    credit: int = 0
    held: int = 0
    registered_at_us: int = 0
    recorded_at_us: int = 0


class Balance(msgspec.Struct, frozen=True):
    """The part of an account that an event's own facts change."""

    credit: int
    held: int


def apply(account: Account, event: Event) -> Balance:
    """What the account can spend and has reserved after `event`, which is a fact: nothing is refused here."""
    match event:
        case UserRegistered():
            return Balance(account.credit, account.held)
        case CreditGranted(amount=amount):
            return Balance(account.credit + amount, account.held)
