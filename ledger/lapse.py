"""What happens by itself when time passes: credit expires, and a hold is released at its deadline.

An account's state is a function of its events and of the time. What lapsed is recorded late, with the next
write or by a sweep, but exactly as if it had been recorded at that moment: the same event, version, time and
hash. So no answer depends on whether a sweep has run, and nothing needs one.
"""

from itertools import takewhile
from typing import Final

from ledger.account import Account, Balance
from ledger.chain import link
from ledger.events import CreditExpired, Event, HoldReleased, Part, Recorded
from ledger.lots import still_good

# Who is said to have done it.
EXPIRY: Final = "rule:expiry"
DEADLINE: Final = "rule:deadline"


def next_lapse(balance: Balance) -> tuple[int, Event] | None:
    """What will happen next if nobody does anything, and when (microseconds since 1970); None for nothing.

    At one moment, holds are released before credit expires, and all that expires is one event.
    """
    hold = balance.holds[0] if balance.holds else None
    lot = balance.lots[0] if balance.lots else None
    if hold is not None and (lot is None or hold.deadline_us <= lot.expires_at_us):
        returned, expired = still_good(hold.parts, hold.deadline_us)
        return hold.deadline_us, HoldReleased(
            hold.version, hold.amount, "deadline", DEADLINE, returned, expired, hold.reference
        )
    if lot is not None:
        ending = list(takewhile(lambda other: other.expires_at_us == lot.expires_at_us, balance.lots))
        parts = tuple(Part(other.credit, other.grant, other.expires_at_us) for other in ending)
        amount = sum(other.credit for other in ending)
        return lot.expires_at_us, CreditExpired(amount, parts, "expiry", EXPIRY)
    return None


def settle(account: Account, now_us: int) -> tuple[list[Recorded], Account]:
    """The rows that record all that lapsed up to `now_us`, in order, and the account after them."""
    rows: list[Recorded] = []
    while (lapse := next_lapse(account.balance)) is not None and lapse[0] <= now_us:
        row, account = link(account, lapse[1], None, None, lapse[0])
        rows.append(row)
    return rows, account
