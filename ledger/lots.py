"""How an amount is divided over lots: what is taken first, and what can still go back."""

from ledger.account import Balance
from ledger.errors import InsufficientCredit
from ledger.events import Part, Parts


def first_to_expire(balance: Balance, amount: int) -> Parts:
    """The parts of the lots that `amount` is to be taken from, or InsufficientCredit."""
    if amount > balance.credit:
        raise InsufficientCredit(balance.credit, balance.held, amount, balance.expiring)
    parts: list[Part] = []
    for lot in balance.lots:
        if not amount:
            break
        taken = min(amount, lot.credit)
        parts.append(Part(taken, lot.grant, lot.expires_at_us))
        amount -= taken
    if amount:
        parts.append(Part(amount))
    return tuple(parts)


def split(parts: Parts, amount: int) -> tuple[Parts, Parts]:
    """`parts` in two: the first that come to `amount`, and the rest; at most one is cut."""
    first: list[Part] = []
    rest: list[Part] = []
    for part in parts:
        here = min(amount, part.amount)
        amount -= here
        if here:
            first.append(Part(here, part.grant, part.expires_at_us))
        if part.amount > here:
            rest.append(Part(part.amount - here, part.grant, part.expires_at_us))
    return tuple(first), tuple(rest)


def still_good(parts: Parts, now_us: int) -> tuple[Parts, int]:
    """Those of `parts` that can go back to their lots, and how much cannot because they expired meanwhile."""
    good = tuple(part for part in parts if part.expires_at_us is None or part.expires_at_us > now_us)
    return good, sum(part.amount for part in parts) - sum(part.amount for part in good)
