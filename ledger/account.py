"""What an account is: a fold of its events."""

from typing import Final

import msgspec

from ledger.errors import CorruptEvent
from ledger.events import (
    AccountFrozen,
    AccountUnfrozen,
    CheckedIn,
    CreditExpired,
    CreditGranted,
    CreditHeld,
    CreditSpent,
    Event,
    GrantRevoked,
    HoldCaptured,
    HoldReleased,
    Part,
    Parts,
    SpendReversed,
    UserRegistered,
)

# The hash that the first event of every account is chained to.
GENESIS: Final = bytes(32)

DAY_US: Final = 86_400_000_000
# China has had one time zone without summer time since 1991.
_SHANGHAI_US: Final = 8 * 3_600_000_000


class Lot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What can be spent of the grant recorded as event `grant` until it expires. Never an empty one."""

    expires_at_us: int
    grant: int
    credit: int


class Hold(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An open hold, recorded as event `version`, and the lots that its `amount` came from."""

    deadline_us: int
    version: int
    amount: int
    reference: str | None
    parts: Parts


class Balance(msgspec.Struct, frozen=True, gc=False):
    """The part of an account that its events' own facts make.

    `credit` can be spent, `held` is reserved, and what was ever `granted` is the sum of these two, `spent`,
    `expired` and `revoked`. `lots` are the expiring part of `credit`, first to expire first; the rest is
    the one lot that never does. `holds` are the open ones, first deadline first. `checkin_day` is the last
    day of a check-in, counted as in `CheckedIn`, and `streak` the days in a row that ended with it.
    """

    credit: int = 0
    held: int = 0
    granted: int = 0
    spent: int = 0
    expired: int = 0
    revoked: int = 0
    frozen: bool = False
    checkin_day: int = 0
    streak: int = 0
    lots: tuple[Lot, ...] = ()
    holds: tuple[Hold, ...] = ()

    @property
    def expiring(self) -> int:
        """The part of `credit` that has an end."""
        return sum(lot.credit for lot in self.lots)

    @property
    def due_at_us(self) -> int | None:
        """When the next lot expires or the next hold's deadline passes."""
        ends = [first.expires_at_us for first in self.lots[:1]] + [
            first.deadline_us for first in self.holds[:1]
        ]
        return min(ends, default=None)


class Account(msgspec.Struct, frozen=True, gc=False):
    """The state after event `version`; version 0 is an account that nobody registered.

    `head` is the hash of that event, `recorded_at_us` its time.
    """

    openid: str
    version: int = 0
    head: bytes = GENESIS
    registered_at_us: int = 0
    recorded_at_us: int = 0
    balance: Balance = Balance()


_but = msgspec.structs.replace


def apply(balance: Balance, version: int, event: Event) -> Balance:
    """The balance after `event`, recorded as `version`.

    An event is a fact, so nothing is refused here and nothing decided. Raises CorruptEvent where it cannot
    have happened: it uses what is not there, or its parts are not its amount.
    """
    match event:
        case CreditGranted(amount=amount, expires_at_us=expires_at_us):
            after = _but(balance, credit=balance.credit + amount, granted=balance.granted + amount)
            if expires_at_us is not None:
                after = _but(after, lots=_put(balance.lots, (Part(amount, version, expires_at_us),)))
        case CreditSpent(amount=amount, used=used):
            lots = _draw(balance.lots, amount, used)
            after = _but(balance, credit=balance.credit - amount, spent=balance.spent + amount, lots=lots)
        case UserRegistered():
            after = balance
        case CheckedIn(day=day, streak=streak):
            if day <= balance.checkin_day:
                raise CorruptEvent(f"checked in on day {day} after day {balance.checkin_day}")
            after = _but(balance, checkin_day=day, streak=streak)
        case CreditHeld(amount=amount, used=used):
            hold = Hold(event.deadline_us, version, amount, event.reference, used)
            holds = tuple(sorted((*balance.holds, hold), key=_by_deadline))
            lots = _draw(balance.lots, amount, used)
            credit, held = balance.credit - amount, balance.held + amount
            after = _but(balance, credit=credit, held=held, lots=lots, holds=holds)
        case HoldCaptured(amount=amount, used=used, returned=returned, expired=expired):
            after, hold = _close(balance, event.hold)
            if _sum(used) != amount or hold.amount != amount + _sum(returned) + expired:
                raise CorruptEvent(f"the parts of capture {version} are not what hold {event.hold} held")
            after = _give_back(_but(after, spent=balance.spent + amount), returned, expired)
        case HoldReleased(amount=amount, returned=returned, expired=expired):
            after, hold = _close(balance, event.hold)
            if not hold.amount == amount == _sum(returned) + expired:
                raise CorruptEvent(f"the parts of release {version} are not what hold {event.hold} held")
            after = _give_back(after, returned, expired)
        case SpendReversed(amount=amount, returned=returned, expired=expired):
            if amount != _sum(returned) + expired:
                raise CorruptEvent(f"the parts of reversal {version} are not its amount")
            after = _give_back(_but(balance, spent=balance.spent - amount), returned, expired)
        case GrantRevoked(amount=amount, grant=grant):
            lot = next((lot for lot in balance.lots if lot.grant == grant), None)
            part = Part(amount) if lot is None else Part(amount, grant, lot.expires_at_us)
            lots = _draw(balance.lots, amount, (part,))
            after = _but(balance, credit=balance.credit - amount, revoked=balance.revoked + amount, lots=lots)
        case CreditExpired(amount=amount, parts=parts):
            ended = tuple(Part(lot.credit, lot.grant, lot.expires_at_us) for lot in balance.lots[: len(parts)])
            if ended != parts or _sum(parts) != amount:
                raise CorruptEvent("what expires is not the first lots, whole")
            lots = balance.lots[len(parts) :]  # a slice, so that a thousand lots can expire one after another
            after = _but(balance, credit=balance.credit - amount, expired=balance.expired + amount, lots=lots)
        case AccountFrozen() | AccountUnfrozen():
            frozen = isinstance(event, AccountFrozen)
            if balance.frozen == frozen:
                raise CorruptEvent("frozen twice" if frozen else "unfrozen, and was not frozen")
            after = _but(balance, frozen=frozen)
    return after


def broken_invariant(balance: Balance) -> str | None:
    """What cannot be true of any account but is of this one, in words; None where all is well."""
    credit, held, spent = balance.credit, balance.held, balance.spent
    expired, revoked = balance.expired, balance.revoked
    accounted = credit + held + spent + expired + revoked
    if balance.granted != accounted:
        return f"{balance.granted} were granted, {accounted} are accounted for"
    if credit < 0 or held < 0 or spent < 0 or expired < 0 or revoked < 0:
        return "it has less than nothing of something"
    if (held or balance.holds) and held != sum(hold.amount for hold in balance.holds):
        return f"{held} are held, but not by its open holds"
    if balance.lots and (balance.expiring > credit or any(lot.credit < 1 for lot in balance.lots)):
        return f"its lots do not fit in its credit of {credit}"
    return None


def _by_deadline(hold: Hold) -> tuple[int, int]:
    return hold.deadline_us, hold.version


def _by_expiry(lot: Lot) -> tuple[int, int]:
    return lot.expires_at_us, lot.grant


def _sum(parts: Parts) -> int:
    return sum(part.amount for part in parts)


def _draw(lots: tuple[Lot, ...], amount: int, parts: Parts) -> tuple[Lot, ...]:
    """What is left of `lots` when `parts`, which come to `amount`, are taken out of what can be spent."""
    drawn = 0
    wanted: dict[tuple[int | None, int | None], int] = {}
    for part in parts:
        drawn += part.amount
        if part.grant is not None or part.expires_at_us is not None:
            lot_of = part.grant, part.expires_at_us
            wanted[lot_of] = wanted.get(lot_of, 0) + part.amount
    if drawn != amount:
        raise CorruptEvent(f"parts of {drawn} for an amount of {amount}")
    if not wanted:
        return lots
    left = []
    for lot in lots:
        rest = lot.credit - wanted.pop((lot.grant, lot.expires_at_us), 0)
        if rest < 0:
            raise CorruptEvent(f"more is taken of grant {lot.grant} than it has left")
        if rest:
            left.append(lot if rest == lot.credit else Lot(lot.expires_at_us, lot.grant, rest))
    if wanted:
        grant, expires_at_us = next(iter(wanted))
        raise CorruptEvent(f"grant {grant} has nothing left to take that expires at {expires_at_us}")
    return tuple(left)


def _close(balance: Balance, version: int) -> tuple[Balance, Hold]:
    """The balance without the hold `version`, whose credit is now nowhere, and that hold."""
    hold = next((hold for hold in balance.holds if hold.version == version), None)
    if hold is None:
        raise CorruptEvent(f"event {version} is not an open hold")
    holds = tuple(other for other in balance.holds if other is not hold)
    return _but(balance, held=balance.held - hold.amount, holds=holds), hold


def _give_back(balance: Balance, returned: Parts, expired: int) -> Balance:
    return _but(
        balance,
        credit=balance.credit + _sum(returned),
        expired=balance.expired + expired,
        lots=_put(balance.lots, returned),
    )


def _put(lots: tuple[Lot, ...], parts: Parts) -> tuple[Lot, ...]:
    """`lots` with the expiring ones of `parts` in them, each added to the lot of its grant if there is one."""
    if all(part.grant is None and part.expires_at_us is None for part in parts):
        return lots
    by_grant = {lot.grant: lot for lot in lots}
    for part in parts:
        if part.grant is None and part.expires_at_us is None:
            continue
        if part.grant is None or part.expires_at_us is None:
            raise CorruptEvent("a part has a grant and no end, or an end and no grant")
        there = by_grant.get(part.grant, Lot(part.expires_at_us, part.grant, 0))
        if there.expires_at_us != part.expires_at_us:
            raise CorruptEvent(f"grant {part.grant} cannot have two ends")
        by_grant[part.grant] = Lot(part.expires_at_us, part.grant, there.credit + part.amount)
    return tuple(sorted(by_grant.values(), key=_by_expiry))


def day_of(now_us: int) -> int:
    """The day in Shanghai, counted from 1970-01-01."""
    return (now_us + _SHANGHAI_US) // DAY_US


def day_begins_us(day: int) -> int:
    """When that day begins in Shanghai, in microseconds since 1970 UTC."""
    return day * DAY_US - _SHANGHAI_US


def streak_at(balance: Balance, now_us: int) -> tuple[bool, int]:
    """Whether the check-in of the day at `now_us` is done, and how many days in a row lead up to it."""
    day = day_of(now_us)
    return day <= balance.checkin_day, balance.streak if day <= balance.checkin_day + 1 else 0
