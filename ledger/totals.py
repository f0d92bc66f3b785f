"""Totals over all accounts: what was issued, redeemed, expired and revoked, for which reason and on which day.

A grant's reason counts for what was issued, and for what expired or was revoked of it; a spend's or a capture's
for what was redeemed. So of one reason they need not agree, but over all reasons, and up to any day, they do:
issued = outstanding + held + redeemed + expired + revoked.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from sys import intern
from typing import Final

import msgspec

from ledger.account import Balance, apply, day_of
from ledger.errors import CorruptEvent, LedgerUnusable
from ledger.events import (
    MAX_TIME_US,
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
)
from ledger.lapse import next_lapse
from ledger.log import BEFORE_ALL, LogScan, Range, RawEvent
from ledger.lots import split
from ledger.parallel import Progress, Tick, cores, over_ranges, silent
from ledger.sqlite import UNREADABLE
from ledger.statement import Reader

# About so many events in a range: what is in memory is the accounts of as many ranges as there are cores.
_RANGE_EVENTS: Final = 1_000_000
# Of so many expiring grants the reason stays in memory, for when they expire.
_KEPT_GRANTS: Final = 200_000


class Flow(msgspec.Struct):
    """Credits that moved: `issued` by grants; `redeemed` by spends and captures, less what was reversed of
    them; `expired` unspent; `revoked`. Of a day or a reason `redeemed` can be negative, or nothing."""

    issued: int = 0
    redeemed: int = 0
    expired: int = 0
    revoked: int = 0


class Day(Flow):
    """What moved on a day, and by how much that changed what can be spent, `outstanding`, and what is in open
    holds, `held`. What is reversed of a spend counts on the day of the reversal."""

    outstanding: int = 0
    held: int = 0


class Totals(Day):
    """All days together; `by_reason`; and `by_day`, counted from 1970-01-01 in Shanghai, in order.

    `events` are those of all `accounts`, with what had lapsed and was not recorded.
    """

    accounts: int = 0
    events: int = 0
    by_reason: dict[str, Flow] = {}
    by_day: dict[int, Day] = {}

    def reasons_by_size(self) -> list[tuple[str, Flow]]:
        """Those of which most was issued first, then those for which most was redeemed."""
        return sorted(self.by_reason.items(), key=lambda item: (-item[1].issued, -item[1].redeemed, item[0]))

    def at_ends_of_days(self) -> Iterator[tuple[int, Day]]:
        """Each day's flow with what was outstanding and held, in all, when it ended."""
        outstanding = held = 0
        for number, day in self.by_day.items():
            outstanding += day.outstanding
            held += day.held
            yield number, msgspec.structs.replace(day, outstanding=outstanding, held=held)


def totals(path: Path, now_us: int, as_of_us: int | None = None, progress: Progress = silent) -> Totals:
    """What reads of all accounts add up to, at `now_us`, or at the earlier moment `as_of_us`.

    Safe while the service writes. In memory are some accounts at a time, all reasons and all days. Raises
    CorruptEvent where an event cannot be followed, LedgerUnusable where SQLite cannot read the file; whether
    anything was tampered with, the audit says.
    """
    try:
        with LogScan(path) as scan:
            last = scan.last_position()
            ranges = scan.ranges(max(cores(), last // _RANGE_EVENTS + 1))
        settle_us = now_us if as_of_us is None else as_of_us
        # The clock may have run back: an event of a time to come is one of now.
        until_us = MAX_TIME_US if as_of_us is None else as_of_us
        parts = over_ranges(partial(_tally, path, last, until_us, settle_us), ranges, last, progress)
    except UNREADABLE as error:
        raise LedgerUnusable(f"{path} cannot be read: {error}") from None
    return _together(parts)


def _tally(path: Path, last: int, until_us: int, settle_us: int, within: Range, tick: Tick) -> Totals:
    """The totals of the accounts in a range, by events up to position `last` and recorded up to `until_us`."""
    with LogScan(path) as scan, closing(Reader(path)) as reader:
        tally = _Tally(reader)
        after = BEFORE_ALL
        while rows := scan.chunk(after, within, last):
            for row in rows:
                if row.recorded_at_us <= until_us:
                    tally.take(row)
            if rows[-1].position <= after:  # in a damaged file reading on can lead in a circle
                raise CorruptEvent(f"the log does not go on after position {after}: see credit-ledger audit")
            after = rows[-1].position
            tick(len(rows))
        return tally.settled(settle_us)


class _Tally:
    """The accounts' versions and balances, and what they came to so far.

    An earlier event that a later one names is looked up in the log again, unless it is one of the latest
    expiring grants: to keep them all would take as much memory as there are events.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._accounts: dict[bytes, tuple[int, Balance]] = {}
        self._reasons: defaultdict[str, Flow] = defaultdict(Flow)
        self._days: defaultdict[int, Day] = defaultdict(Day)
        self._kept: dict[tuple[str, int], str] = {}

    def take(self, row: RawEvent) -> None:
        version, balance = self._accounts.get(row.openid, (0, Balance()))
        try:
            if row.version != version + 1:
                raise CorruptEvent(f"version {version + 1} is not where it should be")
            event = decode_stored(row.type, row.data)
            balance = self._count(row.openid.decode(), row.version, event, balance, row.recorded_at_us)
        except (CorruptEvent, UnicodeDecodeError) as error:
            raise CorruptEvent(
                f"event {row.version} of {row.openid.decode(errors='backslashreplace')} cannot be followed, "
                f"see credit-ledger audit: {error}"
            ) from None
        self._accounts[row.openid] = row.version, balance

    def settled(self, at_us: int) -> Totals:
        """The totals once all that lapsed up to `at_us` is counted too."""
        events = 0
        for openid, (version, balance) in self._accounts.items():
            while (lapse := next_lapse(balance)) is not None and lapse[0] <= at_us:
                version += 1
                balance = self._count(openid.decode(), version, lapse[1], balance, lapse[0])
            events += version
        return Totals(
            accounts=len(self._accounts),
            events=events,
            by_reason=dict(self._reasons),
            by_day=dict(self._days),
        )

    def _count(self, openid: str, version: int, event: Event, before: Balance, at_us: int) -> Balance:
        """The balance after `event`; its day and its reasons are counted."""
        after = apply(before, version, event)
        day, reasons = self._days[day_of(at_us)], self._reasons
        day.outstanding += after.credit - before.credit
        day.held += after.held - before.held
        day.issued += after.granted - before.granted
        day.redeemed += after.spent - before.spent
        day.revoked += after.revoked - before.revoked
        match event:
            case CreditGranted(amount=amount, reason=reason):
                reasons[reason].issued += amount
                if event.expires_at_us is not None:
                    self._keep(openid, version, reason)
            case CreditSpent(amount=amount) | HoldCaptured(amount=amount):
                reasons[event.reason].redeemed += amount
            case SpendReversed(amount=amount):
                reasons[self._spend(openid, event).reason].redeemed -= amount
            case GrantRevoked(amount=amount):
                reasons[self._reason(openid, event.grant)].revoked += amount
        if expired := after.expired - before.expired:
            day.expired += expired
            grants = self._expired(openid, version, event, before)
            if grants.total() != expired:
                raise CorruptEvent("what expired is not of its grants")
            for grant, amount in grants.items():
                reasons[self._reason(openid, grant)].expired += amount
        return after

    def _expired(self, openid: str, version: int, event: Event, before: Balance) -> Counter[int]:
        """How much of which grants expired with `event`: what it let go of, less what it used and returned."""
        match event:
            case CreditExpired(parts=parts):
                return _of_grants(parts)
            case HoldCaptured(used=used, returned=returned):
                return _of_grants(_held(before, event.hold), used, returned)
            case HoldReleased(returned=returned):
                return _of_grants(_held(before, event.hold), returned)
            case SpendReversed(amount=amount, returned=returned):
                spend = self._spend(openid, event)
                earlier = self._reader.corrected(openid, event.spend, version)
                _, undone = split(spend.used, spend.amount - earlier - amount)
                return _of_grants(split(undone, amount)[0], returned)
        return Counter()

    def _spend(self, openid: str, event: SpendReversed) -> CreditSpent | HoldCaptured:
        spend = self._reader.event(openid, event.spend)
        if not isinstance(spend, CreditSpent | HoldCaptured):
            raise CorruptEvent(f"event {event.spend} is not a spend")
        return spend

    def _reason(self, openid: str, version: int) -> str:
        if (kept := self._kept.get((openid, version))) is not None:
            return kept
        grant = self._reader.event(openid, version)
        if not isinstance(grant, CreditGranted):
            raise CorruptEvent(f"event {version} is not a grant")
        return grant.reason

    def _keep(self, openid: str, version: int, reason: str) -> None:
        self._kept[openid, version] = intern(reason)
        if len(self._kept) > _KEPT_GRANTS:
            del self._kept[next(iter(self._kept))]


def _held(balance: Balance, version: int) -> Parts:
    return next(hold.parts for hold in balance.holds if hold.version == version)


def _of_grants(parts: Parts, *less: Parts) -> Counter[int]:
    """How much of each expiring grant is in `parts` and in none of `less`."""
    amounts: Counter[int] = Counter()
    for part in parts:
        if part.grant is not None:
            amounts[part.grant] += part.amount
    for part in chain(*less):
        if part.grant is not None:
            amounts[part.grant] -= part.amount
    return +amounts


def _together(parts: list[Totals]) -> Totals:
    reasons: defaultdict[str, Flow] = defaultdict(Flow)
    days: defaultdict[int, Day] = defaultdict(Day)
    for part in parts:
        for reason, flow in part.by_reason.items():
            _add(reasons[reason], flow)
        for number, day in part.by_day.items():
            _add(days[number], day)
    whole = Totals(
        accounts=sum(part.accounts for part in parts),
        events=sum(part.events for part in parts),
        by_reason=dict(reasons),
        by_day={number: days[number] for number in sorted(days) if days[number] != Day()},
    )
    for day in days.values():
        _add(whole, day)
    return whole


def _add(to: Flow, other: Flow) -> None:
    for name in type(other).__struct_fields__:
        setattr(to, name, getattr(to, name) + getattr(other, name))
