"""Following one account's events: whether a row is the one that can come next, and the account after it."""

import struct
from collections.abc import Callable
from typing import Final

import msgspec

from ledger.account import Account, Balance, apply, broken_invariant
from ledger.chain import advance, chained
from ledger.errors import CorruptEvent
from ledger.events import (
    CreditExpired,
    CreditGranted,
    CreditSpent,
    Event,
    GrantRevoked,
    HoldCaptured,
    HoldReleased,
    Parts,
    SpendReversed,
    decode_stored,
    encode,
)
from ledger.lapse import DEADLINE, next_lapse
from ledger.log import EventRow, RawEvent
from ledger.sums import account_key

_REGISTERED: Final = b"UserRegistered"
_MAY_LAPSE: Final = frozenset((b"CreditExpired", b"HoldReleased"))
_SETTLES: Final = frozenset((b"HoldCaptured", b"HoldReleased"))
# The types of the events that correct an earlier one.
CORRECTS: Final = frozenset((b"SpendReversed", b"GrantRevoked"))

# Credit by the lot that it is of: the grant's version and end, or twice None for what never expires.
_Lots = dict[tuple[int | None, int | None], int]


class Wrong(Exception):
    """An event that cannot follow: `what` is one of the names in `ledger.verify`, `detail` a sentence."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(what, detail)
        self.what = what
        self.detail = detail


def follow(account: Account, row: EventRow, key_of_account: bytes | None = None) -> Account:
    """The account after `row`, a RawEvent or its columns; raises Wrong where that cannot be the next event.

    `key_of_account` is SHA-256 of the openid, for whoever has it at hand.

    That a correction fits what it corrects takes an earlier event, see `Corrections`.
    """
    _, openid, found, type_name, data, credit, key, fingerprint, recorded_at_us, stored = row
    version = account.version + 1
    if found != version or type(found) is not int:
        raise _misnumbered(version, found)
    if (
        type(credit) is not int
        or type(recorded_at_us) is not int
        or credit < 0
        or recorded_at_us < 0
        or type(openid) is not bytes
        or type(type_name) is not bytes
        or type(data) is not bytes
        or type(stored) is not bytes
    ):
        raise Wrong("changed", "a column is not of its type, or a count is below zero")
    try:
        digest = chained(
            account.head,
            key_of_account or account_key(openid),
            version,
            type_name,
            data,
            credit,
            key,
            fingerprint,
            recorded_at_us,
        )
    except (TypeError, struct.error):
        raise Wrong("changed", "its key or fingerprint is not stored as text or bytes") from None
    if digest != stored:
        raise Wrong("changed", f"its columns hash to {digest.hex()}, stored is {stored.hex()}")
    try:
        event = decode_stored(type_name, data)
    except (CorruptEvent, UnicodeDecodeError) as error:
        raise Wrong("data", str(error)) from None
    if recorded_at_us < account.recorded_at_us:
        raise Wrong("time", f"recorded at {recorded_at_us}, before the event it follows")
    if (type_name == _REGISTERED) != (version == 1):
        raise Wrong("impossible", "an account begins by being registered, once")
    before = account.balance
    if before.lots or before.holds or type_name in _MAY_LAPSE:
        _check_lapse(before, event, recorded_at_us)
    try:
        balance = apply(before, version, event)
    except CorruptEvent as error:
        raise Wrong("impossible", str(error)) from None
    if type_name in _SETTLES and isinstance(event, HoldCaptured | HoldReleased):
        _check_settled(before, event, recorded_at_us)
    if balance.credit != credit:
        raise Wrong("credit", f"the events come to {balance.credit}, stored is {credit}")
    if (broken := broken_invariant(balance)) is not None:
        raise Wrong("invariant", f"after it {broken}")
    return advance(account, version, digest, recorded_at_us, balance)


class Corrections:
    """Reversals and revocations against the very events that they correct.

    Keeps one entry for each event that was ever corrected. `find` gives a stored event of an account by its
    version, which lies behind, or None.
    """

    def __init__(self, find: Callable[[bytes, int], RawEvent | None]) -> None:
        self._find = find
        self._reversed: dict[tuple[bytes, int], tuple[int, _Lots]] = {}
        self._revoked: dict[tuple[bytes, int], int] = {}

    def check(self, before: Account, row: RawEvent) -> None:
        """Raise Wrong unless `row`, which follows `before`, corrects what there is to correct."""
        if row.type not in CORRECTS:
            return
        event = decode_stored(row.type, row.data)
        if isinstance(event, SpendReversed):
            self._check_reversal(row, event)
        elif isinstance(event, GrantRevoked):
            self._check_revocation(before.balance, row, event)

    def _check_reversal(self, row: RawEvent, event: SpendReversed) -> None:
        spend = self._corrected(row, event.spend)
        if not isinstance(spend, CreditSpent | HoldCaptured):
            raise Wrong("impossible", f"event {event.spend}, which it reverses, is no spend of this account")
        subject = row.openid, event.spend
        amount, gone = self._reversed.get(subject, (0, {}))
        if amount + event.amount > spend.amount:
            detail = f"event {event.spend} spent {spend.amount}, and {amount} of that had come back before"
            raise Wrong("impossible", f"it reverses {event.amount}: {detail}")
        gone = _add(_lots_of(event.returned), gone)
        left = _left(_lots_of(spend.used), gone, row.recorded_at_us, event.returned)
        if left is None:
            raise Wrong("impossible", f"what it returns is not what event {event.spend} used")
        # Earlier reversals too may have found lots that had expired.
        expired = amount + event.amount - sum(gone.values())
        if expired > sum(rest for lot, rest in left.items() if _is_over(lot, row.recorded_at_us)):
            raise Wrong("impossible", f"more expired than event {event.spend} used of what has ended")
        self._reversed[subject] = amount + event.amount, gone

    def _check_revocation(self, before: Balance, row: RawEvent, event: GrantRevoked) -> None:
        grant = self._corrected(row, event.grant)
        if not isinstance(grant, CreditGranted):
            raise Wrong("impossible", f"event {event.grant}, which it revokes, is no grant of this account")
        subject = row.openid, event.grant
        revoked = self._revoked.get(subject, 0)
        if revoked + event.amount + event.spent + event.held != grant.amount:
            raise Wrong(
                "impossible",
                f"it takes back {event.amount} with {event.spent} spent and {event.held} held, and {revoked} "
                f"were revoked before: event {event.grant} granted {grant.amount}",
            )
        if grant.expires_at_us is not None and all(lot.grant != event.grant for lot in before.lots):
            raise Wrong("impossible", f"nothing was left of event {event.grant}, which it revokes")
        lot = event.grant if grant.expires_at_us is not None else None
        parts = (part for hold in before.holds for part in hold.parts)
        held = sum(part.amount for part in parts if part.grant == lot)
        if event.held != min(held, event.spent + event.held):
            raise Wrong("impossible", f"it says that {event.held} are held, open holds have {held} of that lot")
        self._revoked[subject] = revoked + event.amount

    def _corrected(self, row: RawEvent, version: int) -> Event | None:
        found = self._find(row.openid, version) if version < row.version else None
        if found is None or (found.openid, found.version) != (row.openid, version):
            return None
        return decode_stored(found.type, found.data)


def corrected_version(row: RawEvent) -> int:
    """Which event one of a type in `CORRECTS`, that was followed, corrects."""
    facts = msgspec.json.decode(row.data)
    return int(facts.get("spend") or facts["grant"])


def _misnumbered(expected: int, found: object) -> Wrong:
    if type(found) is not int:
        return Wrong("changed", f"its version is not a count: {found!r}")
    if found > expected:
        return Wrong("removed", f"version {expected} is not there: the next one here is {found}")
    return Wrong("added", f"version {expected} is expected here, and a second event {found} found")


def _check_lapse(before: Balance, event: Event, recorded_at_us: int) -> None:
    """What lapses does so at its moment and no other; a check of the rule that needs no later decision."""
    lapse = next_lapse(before)
    if lapse is not None and lapse[0] <= recorded_at_us:
        if lapse != (recorded_at_us, event):
            raise Wrong("lapse", f"{encode(lapse[1]).decode()} was due at {lapse[0]} and is not there")
    elif isinstance(event, CreditExpired) or (isinstance(event, HoldReleased) and event.actor == DEADLINE):
        raise Wrong("lapse", f"nothing was due to lapse at {recorded_at_us}")


def _check_settled(before: Balance, event: HoldCaptured | HoldReleased, recorded_at_us: int) -> None:
    """A hold's lots are used or go back, but for those that are over: the amounts are right already."""
    (held,) = (hold.parts for hold in before.holds if hold.version == event.hold)
    used = event.used if isinstance(event, HoldCaptured) else ()
    gone = _add(_lots_of(used), _lots_of(event.returned))
    left = _left(_lots_of(held), gone, recorded_at_us, event.returned)
    if left is None or not all(_is_over(lot, recorded_at_us) for lot, rest in left.items() if rest):
        raise Wrong("impossible", f"its parts are not what hold {event.hold} held")


def _left(had: _Lots, gone: _Lots, now_us: int, returned: Parts) -> _Lots | None:
    """What of each lot is left when `gone` is gone; None where that is more than it had, or went back to a lot
    that was over."""
    left = _add(had, {lot: -amount for lot, amount in gone.items()})
    if min(left.values(), default=0) < 0 or any(_is_over(lot, now_us) for lot in _lots_of(returned)):
        return None
    return left


def _lots_of(parts: Parts) -> _Lots:
    lots: _Lots = {}
    for part in parts:
        lot = part.grant, part.expires_at_us
        lots[lot] = lots.get(lot, 0) + part.amount
    return lots


def _add(one: _Lots, other: _Lots) -> _Lots:
    return {lot: one.get(lot, 0) + other.get(lot, 0) for lot in {**one, **other}}


def _is_over(lot: tuple[int | None, int | None], now_us: int) -> bool:
    return lot[1] is not None and lot[1] <= now_us
