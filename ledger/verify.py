"""Audit: recompute every chain and every fold from the stored events, and trust no projection."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from ledger.account import Account, apply, broken_invariant
from ledger.chain import advance, event_hash
from ledger.errors import CorruptEvent
from ledger.events import CreditExpired, Event, HoldReleased, UserRegistered, decode, encode
from ledger.lapse import DEADLINE, next_lapse
from ledger.log import BEFORE_ALL, LogScan, RawEvent
from ledger.projection import COLUMNS, Row, to_row
from ledger.sqlite import UNREADABLE

# Told how many rows of how many were read, once per chunk.
Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """The progress that nobody watches."""


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    `openid` and `version` name the event, `position` its row. The version is 0 where an account's row is
    wrong but its events are right, and the openid empty where the file itself is.
    """

    openid: str
    version: int
    position: int
    what: str
    detail: str


class Difference(msgspec.Struct, frozen=True):
    """An account whose row is not what its events fold to; None where there is no row, or are no events."""

    openid: bytes
    stored: Row | None
    folded: Account | None


class Report(msgspec.Struct, frozen=True):
    """What an audit read and found. `outstanding` is the sum of the credit of all accounts it could follow."""

    events: int
    accounts: int
    outstanding: int
    faults: list[Fault]

    @property
    def good(self) -> bool:
        return not self.faults


class Fold:
    """The accounts that the events come to, and the first fault of each that has one.

    Give it every row of the log in order of position. After an account's first fault its later events are
    not judged: nothing sound can be said about what is chained to a wrong one.
    """

    def __init__(self) -> None:
        self.accounts: dict[bytes, Account] = {}
        self.faults: dict[bytes, Fault] = {}
        self.gaps: list[Fault] = []
        self.events = 0
        self.position = 0

    def take_all(self, rows: list[RawEvent]) -> bool:
        """Take each; False where none lies behind what was read before: in a damaged file reading on from
        the last position can lead in a circle."""
        before = self.position
        for row in rows:
            self.take(row)
        return self.position > before

    def take(self, row: RawEvent) -> None:
        self.events += 1
        if row.position <= self.position:
            detail = f"its position does not come after {self.position}"
            self.gaps.append(Fault(_text(row.openid), row.version, row.position, "order", detail))
            return
        if row.position != self.position + 1:
            self.gaps.append(
                Fault(
                    "",
                    0,
                    self.position + 1,
                    "removed",
                    f"no event at positions {self.position + 1} to {row.position - 1}: the next one is "
                    f"{_text(row.openid)} version {row.version}",
                )
            )
        self.position = row.position
        if row.openid in self.faults:
            return
        account = self.accounts.get(row.openid)
        if account is None:
            account = Account(_text(row.openid))
        try:
            self.accounts[row.openid] = _follow(account, row)
        except _Wrong as wrong:
            # A row that says it is another event than the one expected here is named by where it should be.
            version = account.version + 1
            self.faults[row.openid] = Fault(account.openid, version, row.position, wrong.what, wrong.detail)

    def differences(self, stored: Iterator[tuple[bytes, Row]]) -> Iterator[Difference]:
        """Each account whose stored row is not its fold; accounts with a fault are left to that."""
        unseen = dict(self.accounts)
        for openid, row in stored:
            folded = unseen.pop(openid, None)
            if openid not in self.faults and (folded is None or row != to_row(folded)):
                yield Difference(openid, row, folded)
        for openid, folded in unseen.items():
            if openid not in self.faults:
                yield Difference(openid, None, folded)


class _Wrong(Exception):
    def __init__(self, what: str, detail: str) -> None:
        self.what = what
        self.detail = detail


def _follow(account: Account, row: RawEvent) -> Account:
    """The account after `row`, or _Wrong where it is not the event that can follow."""
    if type(row.version) is not int or row.version != account.version + 1:
        raise _Wrong("order", f"version {account.version + 1} expected, {row.version!r} found")
    _check_types(row)
    digest = event_hash(
        account.head,
        row.openid,
        row.version,
        row.type,
        row.data,
        row.credit,
        row.key,
        row.fingerprint,
        row.recorded_at_us,
    )
    if digest != row.hash:
        raise _Wrong("hash", f"its columns hash to {digest.hex()}, stored is {row.hash.hex()}")
    try:
        event = decode(row.type.decode(), row.data)
    except (CorruptEvent, UnicodeDecodeError) as error:
        raise _Wrong("data", str(error)) from None
    if row.recorded_at_us < account.recorded_at_us:
        raise _Wrong("time", f"recorded at {row.recorded_at_us}, before the event it follows")
    if isinstance(event, UserRegistered) != (row.version == 1):
        raise _Wrong("impossible", "an account begins by being registered, once")
    _check_lapse(account, event, row.recorded_at_us)
    try:
        balance = apply(account.balance, row.version, event)
    except CorruptEvent as error:
        raise _Wrong("impossible", str(error)) from None
    if balance.credit != row.credit:
        raise _Wrong("credit", f"the events come to {balance.credit}, stored is {row.credit}")
    if (broken := broken_invariant(balance)) is not None:
        raise _Wrong("invariant", f"after it {broken}")
    return advance(account, row.version, row.hash, row.recorded_at_us, balance)


def _check_lapse(account: Account, event: Event, recorded_at_us: int) -> None:
    """What lapses does so at its moment and no other; a check of the rule that needs no later decision."""
    lapse = next_lapse(account.balance)
    if lapse is not None and lapse[0] <= recorded_at_us:
        if lapse != (recorded_at_us, event):
            raise _Wrong("lapse", f"{encode(lapse[1]).decode()} was due at {lapse[0]} and is not there")
    elif isinstance(event, CreditExpired) or (isinstance(event, HoldReleased) and event.actor == DEADLINE):
        raise _Wrong("lapse", f"nothing was due to lapse at {recorded_at_us}")


def _check_types(row: RawEvent) -> None:
    for name in ("credit", "recorded_at_us"):
        number = getattr(row, name)
        if type(number) is not int or number < 0:
            raise _Wrong(name, f"not a count: {number!r}")
    for name in ("openid", "type", "data", "hash"):
        if type(getattr(row, name)) is not bytes:
            raise _Wrong(name, f"not stored as text or bytes: {getattr(row, name)!r}")
    for name in ("key", "fingerprint"):
        if not isinstance(getattr(row, name), bytes | None):
            raise _Wrong(name, f"not stored as text or bytes: {getattr(row, name)!r}")


def read_log(scan: LogScan, progress: Progress) -> Fold:
    """Fold the rows that are there now. However long that takes, it holds nothing open: rows never change."""
    fold = Fold()
    total = scan.last_position()
    after = BEFORE_ALL
    while after < total and fold.take_all(scan.chunk(after)):
        after = fold.position
        progress(fold.events, max(total, fold.events))
    return fold


def catch_up(fold: Fold, scan: LogScan) -> None:
    """Fold what was appended meanwhile and leave `scan` in a snapshot of exactly what was folded."""
    scan.begin_snapshot()
    while fold.take_all(scan.chunk(fold.position)):
        pass


def audit(path: Path, progress: Progress = silent) -> Report:
    """Read the whole ledger at `path` and say all that is wrong with it. Safe while the service writes."""
    with LogScan(path) as scan:
        try:
            fold = read_log(scan, progress)
            catch_up(fold, scan)
            rows = list(_row_faults(fold, scan))
            scan.end_snapshot()
            damage = scan.file_problems()
        except UNREADABLE as error:
            return Report(0, 0, 0, [Fault("", 0, 0, "file", f"{path} cannot be read: {error}")])
    return Report(
        fold.events,
        len(fold.accounts),
        sum(account.balance.credit for account in fold.accounts.values()),
        [*fold.faults.values(), *fold.gaps, *rows, *(Fault("", 0, 0, "file", text) for text in damage)],
    )


def _row_faults(fold: Fold, scan: LogScan) -> Iterator[Fault]:
    for difference in fold.differences(scan.accounts()):
        yield Fault(_text(difference.openid), 0, 0, "account", describe(difference))


def describe(difference: Difference) -> str:
    """The columns of the account row that differ from the fold of its events, in words."""
    stored, folded = difference.stored, difference.folded
    if stored is None:
        return "its events are there, its account row is missing"
    if folded is None:
        return "an account row without any event"
    return "; ".join(
        f"{name} is {_plain(name, is_stored)}, its events come to {_plain(name, comes_to)}"
        for name, is_stored, comes_to in zip(COLUMNS, stored, to_row(folded), strict=True)
        if is_stored != comes_to
    )


def _plain(name: str, value: object) -> object:
    if isinstance(value, bytes):
        return value.hex() if name == "head" else value.decode(errors="backslashreplace")
    return "nothing" if value is None else value


def _text(stored: object) -> str:
    return stored.decode("utf-8", "backslashreplace") if isinstance(stored, bytes) else repr(stored)
