"""The quick audit: what happened since a seal, with the seal itself taken on trust.

Of the accounts that have events behind that seal, and only of these, every event is followed from the first.
An index finds them, where a whole audit reads the table.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ledger.account import Account
from ledger.audit_scan import AuditScan
from ledger.fault import Fault, text_of
from ledger.follow import Corrections, Wrong, follow
from ledger.parallel import Progress
from ledger.projection import Difference, to_row
from ledger.seal_audit import SealAudit
from ledger.seal_file import Stored
from ledger.sums import account_key


class Changes(msgspec.Struct):
    """What was found behind the seal; `more_credit` is what its accounts gained since."""

    events: int
    accounts: int
    more_credit: int
    faults: list[Fault]


def audit_since(path: Path, seal: Stored, sealed: SealAudit, progress: Progress) -> Changes:
    """Follow the accounts with events behind `seal`; compare their rows, and their leaves in the last seal."""
    changes = Changes(0, 0, 0, [])
    with AuditScan(path) as scan:
        scan.begin_snapshot()
        if seal.seal.events and scan.hash_at(seal.position) != seal.hash:
            detail = f"the event that seal {seal.seal.number} ends with is not at its position"
            changes.faults.append(Fault("", 0, seal.position, "seal", detail))
        before, openids = seal.position, set()
        for row in scan.behind(seal.position):
            if row.position != before + 1:
                detail = f"no event at positions {before + 1} to {row.position - 1}"
                changes.faults.append(Fault("", 0, before + 1, "removed", detail))
            before = row.position
            openids.add(row.openid)
            changes.events += 1
        for number, openid in enumerate(sorted(openids), 1):
            changes.faults += _account_faults(scan, openid, seal, sealed, changes)
            progress(number, len(openids))
        scan.end_snapshot()
    changes.accounts = len(openids)
    return changes


def _account_faults(
    scan: AuditScan, openid: bytes, seal: Stored, sealed: SealAudit, changes: Changes
) -> Iterator[Fault]:
    account, corrections = Account(text_of(openid)), Corrections(scan.event)
    leaf = sealed.leaf(account_key(openid))
    was, known = 0, leaf is None
    for row in scan.events_of(openid):
        try:
            after = follow(account, row)
            corrections.check(account, row)
        except Wrong as wrong:
            yield Fault(account.openid, account.version + 1, row.position, wrong.what, wrong.detail)
            return
        account = after
        if row.position <= seal.position:
            was = after.balance.credit
        if leaf is not None and row.version == leaf.version:
            known = row.hash == leaf.head
    changes.more_credit += account.balance.credit - was
    if leaf is not None and account.version < leaf.version:
        detail = f"versions {account.version + 1} to {leaf.version}, which were sealed, are not there"
        yield Fault(account.openid, account.version + 1, 0, "cut-tail", detail)
    elif leaf is not None and not known:
        detail = f"its event {leaf.version} is not the one that was sealed"
        yield Fault(account.openid, leaf.version, 0, "rewritten-chain", detail)
    stored, folded = scan.account_row(openid), to_row(account)
    if stored != folded:
        yield Fault(account.openid, 0, 0, "account", Difference(openid, stored, folded).sentence())
