"""The quick audit: what happened since a seal is followed and added up, and each thing wrong there is named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.chain import link
from ledger.commands import GrantCredit, RegisterUser, SpendCredit
from ledger.errors import LedgerUnusable
from ledger.events import Event, GrantRevoked, Part, SpendReversed
from ledger.log import Log, RawEvent
from ledger.projection import COLUMNS
from ledger.schema import create
from ledger.sealer import make_seal
from ledger.verify import Report, Witness, audit_quickly, silent
from tests.ledger_samples import APPID, SINCE_US, account_of, committed, log_of, sample_ledger, ticking, vandal
from tests.test_audit_seals import SIGNER, named, note_of, rewrite, sealed, seals_of, tamper

Rows = Callable[[list[RawEvent]], list[RawEvent]]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Seal 1 ends with event 7, oAnna's fourth; seal 2 with event 10, oBo's fourth; oCi came between."""
    path = tmp_path / "ledger.db"
    create(path, APPID)
    sample_ledger(path)
    sealed(path)
    clock_us = ticking(SINCE_US + 2000)
    committed(path, RegisterUser("oCi", 5), SpendCredit("oBo", 1, "tea", "k2"), clock_us=clock_us)
    sealed(path, 3000)
    return path


def quickly(path: Path, since: int = 1) -> Report:
    return audit_quickly(path, silent, seals_of(path), since)


def test_what_was_recorded_since_a_seal_is_followed_and_added_up(ledger: Path) -> None:
    """What the account of the seal's last event gained later counts from that event on."""
    committed(ledger, GrantCredit("oBo", 3, "gift", "k9"), RegisterUser("oDu", 4))
    for since, events, accounts in ((1, 6, 3), (2, 3, 2)):
        report = quickly(ledger, since)
        assert report.good, report.faults
        assert (report.events, report.accounts, report.outstanding) == (events, accounts, 119 + 3 + 4)


def test_nothing_new_is_nothing_wrong(ledger: Path) -> None:
    report = quickly(ledger, 2)
    assert (report.good, report.events, report.accounts, report.outstanding) == (True, 0, 0, 119)


@pytest.mark.parametrize("since", [0, -1, 3])
def test_a_seal_that_is_not_there_is_said(ledger: Path, since: int) -> None:
    with pytest.raises(LedgerUnusable, match=f"no sound seal {since}:"):
        quickly(ledger, since)


def test_the_end_of_the_seal_must_be_where_it_was(ledger: Path) -> None:
    """It is the one thing that says that the position still parts the same events."""
    with vandal(ledger) as connection:
        for old, new in ((6, 99), (7, 6), (99, 7)):
            connection.execute("UPDATE event SET position = ? WHERE position = ?", (new, old))
    (fault,) = quickly(ledger).faults
    assert (fault.what, fault.position) == ("seal", 7)
    assert "the event that seal 1 ends with is not at its position" in fault.detail


def test_a_seal_of_nothing_that_was_left_after_a_loss_has_no_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    create(path, APPID)
    committed(path, RegisterUser("oAnna", 5))
    sealed(path)
    rewrite(path, [])
    make_seal(path, seals_of(path), SIGNER, SINCE_US + 2000, accept_loss=True)
    committed(path, RegisterUser("oBo", 7))
    report = quickly(path, 2)
    assert report.good, report.faults
    assert (report.events, report.outstanding) == (2, 7)


@pytest.mark.parametrize(("gone", "until"), [((8,), 8), ((9,), 9), ((8, 9), 9)])
def test_a_hole_behind_the_seal_is_found(ledger: Path, gone: tuple[int, ...], until: int) -> None:
    with vandal(ledger) as connection:
        for position in gone:
            connection.execute("DELETE FROM event WHERE position = ?", (position,))
    holes = [fault for fault in quickly(ledger).faults if not fault.openid]
    assert [(fault.what, fault.position) for fault in holes] == [("removed", gone[0])]
    assert holes[0].detail == f"no event at positions {gone[0]} to {until}"


REWRITTEN: dict[str, tuple[Rows, list[tuple[str, str, int]]]] = {
    "an account that was chained anew from before the seal on": (
        lambda rows: [
            row._replace(key=b"other") if (row.openid, row.version) == (b"oBo", 3) else row for row in rows
        ],
        [("rewritten-chain", "oBo", 4)],
    ),
    "a tail that was cut": (lambda rows: rows[:8] + rows[9:], [("cut-tail", "oCi", 2)]),
}


@pytest.mark.parametrize(("change", "expected"), REWRITTEN.values(), ids=REWRITTEN.keys())
def test_what_a_later_seal_has_otherwise_is_named(
    ledger: Path, change: Rows, expected: list[tuple[str, str, int]]
) -> None:
    rewrite(ledger, change(log_of(ledger)))
    assert named(quickly(ledger)) == expected


@pytest.mark.parametrize("column", COLUMNS)
def test_a_forged_row_of_an_account_with_new_events_is_named(ledger: Path, column: str) -> None:
    value = {"lots": "'[[1,2,3]]'", "holds": "'[[1,2,3]]'", "head": "zeroblob(32)"}.get(column, "7")
    with vandal(ledger) as connection:
        connection.execute(f"UPDATE account SET {column} = {value} WHERE openid = 'oBo'")
    assert named(quickly(ledger)) == [("account", "oBo", 0)]


def test_a_row_that_is_gone_of_an_account_with_new_events_is_named(ledger: Path) -> None:
    with vandal(ledger) as connection:
        connection.execute("DELETE FROM account WHERE openid = 'oCi'")
    assert named(quickly(ledger)) == [("account", "oCi", 0)]


CORRECTIONS: list[tuple[Event, str]] = [
    (SpendReversed(1, 1, "refund", "key:x", (Part(1),)), "event 1, which it reverses, is no spend"),
    (GrantRevoked(2, 3, 0, 0, "mistake", "key:x"), "event 2 granted 7"),
]


@pytest.mark.parametrize(("event", "said"), CORRECTIONS)
def test_a_correction_of_what_was_not_so_is_named(ledger: Path, event: Event, said: str) -> None:
    """Chained and folded as it should be: only the event that it names, from before the seal, shows it."""
    recorded, account = link(account_of(ledger, "oBo"), event, "k8", bytes(32), SINCE_US + 9000)
    log = Log(ledger)
    log.begin()
    log.append([recorded], account)
    log.commit()
    log.close()
    (fault,) = quickly(ledger, 2).faults
    assert (fault.what, fault.openid, fault.version) == ("impossible", "oBo", 5)
    assert said in fault.detail


def test_what_is_wrong_among_the_seals_is_in_the_report(ledger: Path) -> None:
    tamper(ledger, "UPDATE seal SET note = (SELECT note FROM seal WHERE number = 1) WHERE number = 2")
    (fault,) = quickly(ledger).faults
    assert (fault.what, "another log" in fault.detail) == ("seal", True)


def test_what_the_auditor_kept_is_compared(ledger: Path) -> None:
    kept = Witness(note_of(ledger, 2), SIGNER.verifier.vkey)
    assert audit_quickly(ledger, silent, seals_of(ledger), 1, kept).good
    tamper(ledger, "DELETE FROM seal WHERE number = 2")
    (fault,) = audit_quickly(ledger, silent, seals_of(ledger), 1, kept).faults
    assert "the note is of 2 seals, and there are 1" in fault.detail
