"""Audit: recompute every chain, every fold and every seal from the stored events, and trust nothing derived."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from ledger.audit_scan import AuditScan, Extent
from ledger.errors import LedgerUnusable
from ledger.fault import Fault, text_of
from ledger.follow import Wrong, follow
from ledger.parallel import Progress, cores, over_ranges, silent
from ledger.quick_audit import audit_since
from ledger.range_audit import Day, RangeReport, audit_range
from ledger.seal_audit import SealAudit, SealsReport, Witness
from ledger.sqlite import UNREADABLE

__all__ = ["Fault", "Progress", "Report", "Witness", "Wrong", "audit", "audit_quickly", "follow", "silent"]

# What opening or reading damaged seals raises.
_DAMAGED: Final = (*UNREADABLE, LedgerUnusable)
# So many accounts a process has in memory at a time; each range is a reading of the whole table.
_ACCOUNTS_IN_RANGE: Final = 100_000


class Report(msgspec.Struct, frozen=True):
    """What an audit read and found. `outstanding` is the sum of the credit of all accounts it could follow.

    `days` has what each day did, by its number from 1970-01-01 in Shanghai; `seals` is None where there are
    no seals to look at, and `skipped` says in sentences what was not looked at.
    """

    events: int
    accounts: int
    outstanding: int
    faults: list[Fault]
    days: dict[int, Day] = {}
    seals: SealsReport | None = None
    skipped: list[str] = []

    @property
    def good(self) -> bool:
        return not self.faults


def audit(
    path: Path, progress: Progress = silent, seals: Path | None = None, witness: Witness | None = None
) -> Report:
    """Read the whole ledger at `path` and say all that is wrong with it. Safe while the service writes.

    With the seals at `seals` and what the auditor kept himself, `witness`, also what a consistent forgery
    hides: accounts and events that are gone without a trace in the ledger. Seals that cannot be read are one
    more thing that is wrong; the ledger is audited all the same.
    """
    if seals is None or not seals.exists():
        return _audit(path, progress, None)
    try:
        sealed = SealAudit(seals, witness or Witness())
    except _DAMAGED as error:
        return _audit(path, progress, _not_compared(error))
    with closing(sealed):
        return _audit(path, progress, sealed)


def audit_quickly(
    path: Path, progress: Progress, seals: Path, since: int, witness: Witness | None = None
) -> Report:
    """Only what happened since the seal `since`, which is trusted; raises LedgerUnusable where there is none.

    `outstanding` is that of the seal and what the accounts gained since.
    """
    try:
        with closing(SealAudit(seals, witness or Witness())) as sealed:
            seal = sealed.at(since)
            changes = audit_since(path, seal, sealed, progress)
            report = sealed.chain_report()
    except UNREADABLE as error:
        return Report(0, 0, 0, [Fault("", 0, 0, "file", f"{path} or {seals} cannot be read: {error}")])
    return Report(
        changes.events,
        changes.accounts,
        seal.seal.outstanding + changes.more_credit,
        [*changes.faults, *report.faults],
        seals=report,
        skipped=[
            f"Only the {changes.accounts} accounts with events behind seal {since} were looked at, and the "
            "seals among themselves.",
            "Not looked at: all other accounts, whether the seals are true of the events before, receipts, the "
            "schema, and damage to the file.",
        ],
    )


def seal_faults(seals: Path) -> list[Fault]:
    """What is wrong with seals among themselves, whatever events there are; raises LedgerUnusable."""
    try:
        with closing(SealAudit(seals, Witness())) as sealed:
            return sealed.chain_report().faults
    except UNREADABLE as error:
        return [Fault("", 0, 0, "file", f"it cannot be read: {error}")]


def _audit(path: Path, progress: Progress, sealed: SealAudit | Fault | None) -> Report:
    """With the seals, or with what is wrong in place of them, or without any."""
    cuts = sealed.cuts if isinstance(sealed, SealAudit) else []
    try:
        with AuditScan(path) as scan, ThreadPoolExecutor(1) as beside:
            structure = beside.submit(_structure_faults, path)
            extent = scan.extent()
            count = max(cores(), -(-extent.accounts // _ACCOUNTS_IN_RANGE))
            work = partial(audit_range, path, cuts, extent.last)
            ranges = over_ranges(work, scan.ranges(count), extent.events, progress)
            faults = [fault for each in ranges for fault in each.faults]
            faults += [*_position_faults(scan, extent, ranges), *_schema_faults(scan), *structure.result()]
            report = _seals_report(sealed, scan, ranges, faults)
    except UNREADABLE as error:
        return Report(0, 0, 0, [Fault("", 0, 0, "file", f"{path} cannot be read: {error}")])
    return Report(
        sum(each.events for each in ranges),
        sum(each.accounts for each in ranges),
        sum(each.outstanding for each in ranges),
        faults if report is None else [*faults, *report.faults],
        _days(ranges),
        report,
        _skipped(report, there_are_seals=sealed is not None),
    )


def _seals_report(
    sealed: SealAudit | Fault | None, scan: AuditScan, ranges: list[RangeReport], faults: list[Fault]
) -> SealsReport | None:
    """What the seals say of the events. Where they cannot be read, that is put to the faults."""
    if isinstance(sealed, SealAudit):
        try:
            return sealed.report(scan, ranges, faults)
        except _DAMAGED as error:
            sealed = _not_compared(error)
    if sealed is not None:
        faults.append(sealed)
    return None


def _position_faults(scan: AuditScan, extent: Extent, ranges: list[RangeReport]) -> Iterator[Fault]:
    """What the positions show: rows that are nobody's, before the first one, or gone."""
    read = sum(each.rows for each in ranges)
    if read != extent.events:
        yield Fault("", 0, 0, "file", f"{extent.events} rows are in the table, {read} were found in its order")
    for row in scan.strays():
        detail = f"position {row.position} is before the first one"
        yield Fault(text_of(row.openid), row.version, row.position, "added", detail)
    if extent.events != extent.last:
        for gap in scan.gaps():
            detail = f"no event at positions {gap.first} to {gap.next - 1}: the next one is "
            detail += f"{text_of(gap.openid)} version {gap.version}"
            yield Fault("", 0, gap.first, "removed", detail)


def _schema_faults(scan: AuditScan) -> Iterator[Fault]:
    for text in scan.schema_problems():
        yield Fault("", 0, 0, "schema", text)
    owners = scan.ledger_rows()
    if len(owners) != 1 or not isinstance(owners[0], str) or not owners[0]:
        yield Fault("", 0, 0, "schema", f"the ledger says that it belongs to {owners!r}, not to one appid")


def _structure_faults(path: Path) -> list[Fault]:
    """In a thread of its own with a connection of its own: SQLite reads the whole file for it."""
    with AuditScan(path) as scan:
        return [Fault("", 0, 0, "file", text) for text in scan.structure_problems()]


def _not_compared(why: Exception) -> Fault:
    return Fault("", 0, 0, "file", f"no seal was compared with the events: {why}")


def _skipped(report: SealsReport | None, *, there_are_seals: bool) -> list[str]:
    if report is None:
        lacking = "The seals could not be read" if there_are_seals else "There are no seals"
        return [f"{lacking}: what was removed without a trace, nothing shows."]
    if report.checked < 2:
        return []
    return [
        "The root of the last seal, and of a note that was given, was made anew from the events; of the seals "
        "before, the events, accounts and credit were added up. verify_proof.py export makes every root anew."
    ]


def _days(ranges: list[RangeReport]) -> dict[int, Day]:
    days: dict[int, Day] = {}
    for each in ranges:
        for number, day in each.days.items():
            days.setdefault(number, Day()).add(day)
    return dict(sorted(days.items()))
