"""The audit beside a service that writes: what is appended meanwhile is neither missed nor a fault."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.audit_scan import AuditScan
from ledger.commands import GrantCredit, RegisterUser
from ledger.log import Range
from ledger.projection import Row
from ledger.verify import audit
from tests.ledger_processes import Program
from tests.ledger_samples import assert_sound, committed, log_of, sample_ledger


@pytest.fixture
def ledger(ledger_path: Path) -> Path:
    sample_ledger(ledger_path)
    return ledger_path


def test_an_audit_while_others_write_is_good(ledger: Path) -> None:
    with (
        Program("grant-until-told", ledger, "oAnna", "a") as one,
        Program("grant-until-told", ledger, "oBo", "b") as other,
    ):
        for writer in (one, other):
            assert writer.read() == "ready"
            writer.go()
        seen = []
        for _ in range(15):
            one.read()
            one.drain()
            other.drain()
            report = audit(ledger)
            assert report.good, report.faults
            seen.append(report.events)
        assert (one.stop(), other.stop()) == (0, 0)
    assert seen == sorted(seen)
    assert seen[0] < seen[-1] <= len(log_of(ledger))
    assert_sound(ledger)


def test_what_is_appended_during_the_long_read_is_audited_too(ledger: Path) -> None:
    """The progress of the read stands for the time that it takes."""
    late = iter([GrantCredit("oAnna", 1, "gift", "late"), RegisterUser("oLate", 100)])

    def meanwhile(done: int, total: int) -> None:
        committed(ledger, *late)

    report = audit(ledger, meanwhile)
    assert report.good, report.faults
    assert (report.events, report.accounts) == (10, 3)


def test_what_is_appended_after_the_last_event_was_read_is_not_compared_half(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account rows are those of the moment at which the log ended, or a grant in between is a "fault"."""
    read = AuditScan.account_rows

    def late(scan: AuditScan, within: Range) -> Iterator[tuple[bytes, Row]]:
        number = len(log_of(ledger))
        committed(ledger, GrantCredit("oAnna", 1, "gift", f"late{number}"), RegisterUser(f"oLate{number}", 100))
        return read(scan, within)

    monkeypatch.setattr(AuditScan, "account_rows", late)
    report = audit(ledger)
    assert report.good, report.faults
    assert 7 <= report.events < len(log_of(ledger))
    assert_sound(ledger)
