"""One range of accounts audited: its events followed in the order of their positions, its rows compared.

Accounts are independent of each other, so ranges are, and each can have a process and a snapshot of its own.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ledger.account import GENESIS, Account, Balance, day_of
from ledger.audit_scan import AuditScan
from ledger.fault import Fault, text_of
from ledger.follow import CORRECTS, Corrections, Wrong, corrected_version, follow
from ledger.log import AFTER_ALL, EventRow, Range, RawEvent
from ledger.parallel import Tick, without_collection
from ledger.projection import Difference, to_row
from ledger.sealed_leaf import Change, pack_leaf
from ledger.sums import account_key


class Cut(msgspec.Struct, frozen=True):
    """Where a seal says that it ends; `whole` where the state of every account there is wanted."""

    position: int
    hash: bytes
    whole: bool


class Day(msgspec.Struct):
    """What one day, in Shanghai, did to the credit of all; spent is net of reversals."""

    issued: int = 0
    spent: int = 0
    expired: int = 0
    revoked: int = 0
    outstanding: int = 0
    held: int = 0

    def add(self, other: "Day") -> None:
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class AtCut(msgspec.Struct):
    """What there was up to a cut, and whether the event at its end is the one that it names.

    `states` are the packed leaves of all accounts in order of their keys, where they were wanted.
    """

    events: int
    accounts: int
    outstanding: int
    found: bool = False
    states: bytes = b""


class RangeReport(msgspec.Struct):
    """What a range came to. `events` counts the rows up to the position that was given; `damaged` has the keys
    of the accounts with a fault in their events."""

    events: int
    rows: int
    accounts: int
    outstanding: int
    days: dict[int, Day]
    cuts: list[AtCut]
    faults: list[Fault]
    damaged: set[bytes]


class RangeFold:
    """The accounts that the events of a range come to, and the first fault of each that has one.

    After that an account's later events are not judged: nothing sound can be said about what is chained to a
    wrong one.
    """

    def __init__(self, scan: AuditScan, cuts: list[Cut]) -> None:
        self.accounts: dict[bytes, Account] = {}
        self.keys: dict[bytes, bytes] = {}  # of the accounts: SHA-256 of the openid
        self.faults: dict[bytes, Fault] = {}
        self.days: dict[int, Day] = {}
        self.cuts: list[AtCut] = []
        self.events = 0
        self.position = 0
        self.versions_seen = self.keys_seen = self.corrections_seen = 0
        self._outstanding = 0
        self._corrections = Corrections(scan.event)
        self._cuts = cuts
        self._cut_at = cuts[0].position if cuts else None

    def take_all(self, rows: list[EventRow]) -> bool:
        """Take each; False where none lies behind what was read before: in a damaged file reading on from
        the last position can lead in a circle."""
        before = self.position
        accounts, keys = self.accounts, self.keys
        for row in rows:
            position, openid, version, type_name, _, _, key, _, _, digest = row
            if position <= self.position:
                continue  # only in a damaged file, and SQLite's own check says so
            while self._cut_at is not None and position > self._cut_at:
                self._pass_cut()
            self.position = position
            self.events += 1
            # Python's hashes are keyed anew in each process: nobody can make two sets of entries of one sum.
            self.versions_seen += hash((openid, version, position))
            if key is not None:
                self.keys_seen += hash((openid, key, position))
            account = accounts.get(openid)
            if account is None:
                if openid in self.faults:
                    self._take_unjudged(RawEvent._make(row))
                    continue
                account = Account(text_of(openid))
                keys[openid] = account_key(openid)
            try:
                accounts[openid] = after = follow(account, row, keys[openid])
                if type_name in CORRECTS:
                    self._take_correction(account, RawEvent._make(row))
            except Wrong as wrong:
                self._blame(account, openid, position, wrong)
            else:
                self._count(account.balance, after)
            while position == self._cut_at:
                self._pass_cut(digest)
        return self.position > before

    def close(self) -> None:
        """No event comes any more."""
        while self._cut_at is not None:
            self._pass_cut()

    def _take_correction(self, before: Account, row: RawEvent) -> None:
        self._corrections.check(before, row)
        self.corrections_seen += hash((row.openid, corrected_version(row), row.position))

    def _blame(self, before: Account, openid: bytes, position: int, wrong: Wrong) -> None:
        # A row that says it is another event than the one expected here is named by where it should be.
        number = before.version + 1
        self.faults[openid] = Fault(before.openid, number, position, wrong.what, wrong.detail)
        self.accounts.pop(openid, None)
        self._outstanding -= before.balance.credit

    def _take_unjudged(self, row: RawEvent) -> None:
        fault = self.faults[row.openid]
        if fault.what == "removed" and row.version == fault.version:
            detail = f"version {row.version} stands at position {row.position}, behind what follows it"
            self.faults[row.openid] = msgspec.structs.replace(fault, what="reordered", detail=detail)
        while row.position == self._cut_at:
            self._pass_cut(row.hash)

    def _count(self, before: Balance, after: Account) -> None:
        balance = after.balance
        more = balance.credit - before.credit
        self._outstanding += more
        number = day_of(after.recorded_at_us)
        day = self.days.get(number)
        if day is None:
            day = self.days[number] = Day()
        day.outstanding += more
        if balance.granted != before.granted:
            day.issued += balance.granted - before.granted
        else:
            day.spent += balance.spent - before.spent
            day.expired += balance.expired - before.expired
            day.revoked += balance.revoked - before.revoked
            day.held += balance.held - before.held

    def _pass_cut(self, last: bytes | None = None) -> None:
        """Write down what there is up to the next cut; `last` is the hash of the event there."""
        cut = self._cuts[len(self.cuts)]
        accounts = len(self.accounts) + len(self.faults)
        at_cut = AtCut(self.events, accounts, self._outstanding, last == cut.hash)
        if cut.whole:
            at_cut.states = b"".join(sorted(self._states()))
        self.cuts.append(at_cut)
        following = self._cuts[len(self.cuts) :]
        self._cut_at = following[0].position if following else None

    def _states(self) -> Iterator[bytes]:
        for openid, account in self.accounts.items():
            balance = account.balance
            state = self.keys[openid], openid, account.version, account.head, balance.credit, balance.held
            yield pack_leaf(Change(*state, first=1, follows=GENESIS, more_held=0))


def audit_range(path: Path, cuts: list[Cut], until: int, within: Range, tick: Tick) -> RangeReport:
    """Read the events of the accounts in `within`, up to position `until` and what came meanwhile, and compare
    the account rows and indexes with them in one snapshot."""
    with AuditScan(path) as scan, without_collection():
        fold = RangeFold(scan, cuts)
        while True:
            rows = scan.event_rows(fold.position, within, until)
            if not fold.take_all(rows):
                break
            tick(len(rows))
        counted = fold.events
        # What was appended meanwhile: first up to one moment without a snapshot, so that what is left for that
        # is little, and no writer can keep this from coming to an end.
        now = max(until, scan.last_position())
        _catch_up(fold, scan, within, until, now)
        scan.begin_snapshot()
        _catch_up(fold, scan, within, now, AFTER_ALL)
        fold.close()
        faults = [*fold.faults.values(), *_row_faults(fold, scan, within), *_index_faults(fold, scan, within)]
        scan.end_snapshot()
    return RangeReport(
        fold.events,
        counted,
        len(fold.accounts) + len(fold.faults),
        sum(account.balance.credit for account in fold.accounts.values()),
        fold.days,
        fold.cuts,
        faults,
        {account_key(openid) for openid in fold.faults},
    )


def _catch_up(fold: RangeFold, scan: AuditScan, within: Range, after: int, until: int) -> None:
    while fold.take_all(scan.event_rows(max(after, fold.position), within, until)):
        pass


def _row_faults(fold: RangeFold, scan: AuditScan, within: Range) -> Iterator[Fault]:
    """Each account row that is not its account's fold; accounts with a fault are left to that."""
    unseen = dict(fold.accounts)
    for openid, stored in scan.account_rows(within):
        if openid in fold.faults:
            continue
        account = unseen.pop(openid, None)
        folded = None if account is None else to_row(account)
        if stored != folded:
            sentence = Difference(openid, stored, folded).sentence()
            yield Fault(text_of(openid), 0, 0, "account", sentence)
    for openid, account in unseen.items():
        sentence = Difference(openid, None, to_row(account)).sentence()
        yield Fault(text_of(openid), 0, 0, "account", sentence)


def _index_faults(fold: RangeFold, scan: AuditScan, within: Range) -> Iterator[Fault]:
    """Each large index whose entries are not those of the table's rows; of a missing one the schema tells.

    That of corrections has an entry for each correction that could be followed.
    """
    there = scan.indexes()
    checks = [
        ("sqlite_autoindex_event_1", scan.version_index, fold.versions_seen),
        ("event_key", scan.key_index, fold.keys_seen),
    ]
    if not fold.faults:
        checks.append(("event_correction", scan.correction_index, fold.corrections_seen))
    for name, entries, seen in checks:
        if name in there and sum(map(hash, entries(within))) != seen:
            yield Fault("", 0, 0, "file", f"index {name} is not that of the rows of its table")
