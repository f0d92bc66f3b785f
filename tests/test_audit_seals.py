"""The audit with seals: a forgery that is right in itself is not what was promised, and is named."""

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from api.outgoing import view_receipt
from ledger import merkle, seal_file
from ledger.account import Account
from ledger.chain import link
from ledger.commands import Command, GrantCredit, RegisterUser, SpendCredit
from ledger.events import Recorded, decode
from ledger.log import Log, RawEvent
from ledger.note import Checkpoint, Signer
from ledger.schema import create
from ledger.seal import Receipt, origin_of, sign_receipts
from ledger.sealer import make_seal
from ledger.sqlite import connect
from ledger.sums import account_key
from ledger.verify import Fault, Report, Witness, audit
from tests.ledger_samples import (
    APPID,
    BATCHES,
    SINCE_US,
    committed,
    log_of,
    new_ledger,
    run_batches,
    sample_ledger,
    ticking,
    vandal,
)

SIGNER = Signer(origin_of(APPID), Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = Signer(origin_of(APPID), Ed25519PrivateKey.from_private_bytes(bytes(32)))


def seals_of(path: Path) -> Path:
    return path.with_name("seals.db")


def sealed(path: Path, at: int = 1000) -> None:
    """Seal the ledger as it is now."""
    seal_file.create(seals_of(path), SIGNER.verifier.vkey)
    make_seal(path, seals_of(path), SIGNER, SINCE_US + at)


def audited(path: Path, witness: Witness | None = None) -> Report:
    return audit(path, seals=seals_of(path), witness=witness)


def named(report: Report) -> list[tuple[str, str, int]]:
    return [(fault.what, fault.openid, fault.version) for fault in report.faults]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Two seals: of seven events of two accounts, and of three more events and an account."""
    ledger_path = tmp_path / "ledger.db"
    create(ledger_path, APPID)
    sample_ledger(ledger_path)
    sealed(ledger_path)
    clock_us = ticking(SINCE_US + 2000)
    committed(ledger_path, RegisterUser("oCi", 5), SpendCredit("oBo", 1, "tea", "k2"), clock_us=clock_us)
    sealed(ledger_path, 3000)
    return ledger_path


def rewrite(path: Path, rows: list[RawEvent]) -> None:
    """Make `rows` the whole log, and account rows, indexes and positions fit: nothing in the file shows it."""
    accounts: dict[str, Account] = {}
    kept: list[Recorded] = []
    for row in rows:
        openid = row.openid.decode()
        event = decode(row.type.decode(), row.data)
        account = accounts.get(openid, Account(openid))
        key = None if row.key is None else row.key.decode()
        recorded, accounts[openid] = link(account, event, key, row.fingerprint, row.recorded_at_us)
        kept.append(recorded)
    with vandal(path) as connection:
        connection.execute("DELETE FROM event")
        connection.execute("DELETE FROM account")
    log = Log(path)
    log.begin()
    for row in kept:
        log.append([row], accounts[row.openid])
    log.commit()
    log.close()
    assert audit(path).good, "without the seals"


def test_a_sealed_ledger_is_good_also_when_more_was_recorded_since(ledger: Path) -> None:
    committed(ledger, GrantCredit("oAnna", 3, "gift", "k9"), RegisterUser("oDu", 4))
    report = audited(ledger)
    assert report.good, report.faults
    assert report.seals is not None
    assert (report.seals.count, report.seals.checked) == (2, 2)
    assert report.events == 13


@given(BATCHES, st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_whatever_was_sealed_between_any_two_commits_is_good(batches: list[list[Command]], every: int) -> None:
    with new_ledger() as path:
        committed(path, RegisterUser("oZoe", 1), clock_us=ticking())
        for number, batch in enumerate(batches):
            run_batches(path, [batch])
            if number % (every + 1) == 0:
                sealed(path, 10**9 + number)
        report = audit(path, seals=seals_of(path))
        assert report.good, report.faults


def test_an_account_that_was_removed_without_a_trace_is_named(ledger: Path) -> None:
    rewrite(ledger, [row for row in log_of(ledger) if row.openid != b"oBo"])
    assert named(audited(ledger)) == [("missing-account", account_key(b"oBo").hex(), 0)]


def test_a_tail_that_was_cut_is_named_account_by_account(ledger: Path) -> None:
    rewrite(ledger, log_of(ledger)[:6])
    key = account_key(b"oCi").hex()
    assert sorted(named(audited(ledger))) == [
        ("cut-tail", "oAnna", 4),
        ("cut-tail", "oBo", 4),
        ("missing-account", key, 0),
    ]


def test_a_cut_tail_is_named_also_when_the_service_went_on(ledger: Path) -> None:
    rewrite(ledger, log_of(ledger)[:9])
    committed(ledger, *(GrantCredit("oAnna", 1, "gift", f"new{number}") for number in range(4)))
    found = named(audited(ledger))
    assert ("cut-tail", "oBo", 4) in found


def test_an_account_that_was_chained_anew_is_named(ledger: Path) -> None:
    rows = [
        row._replace(data=row.data.replace(b'"amount":5', b'"amount":500')) if row.version == 3 else row
        for row in log_of(ledger)
    ]
    rewrite(ledger, rows)
    assert named(audited(ledger)) == [("rewritten-chain", "oAnna", 4)]


def test_events_that_were_moved_behind_the_seal_are_named(ledger: Path) -> None:
    """The last event of oBo changes places with one that was recorded after the seal."""
    committed(ledger, GrantCredit("oAnna", 3, "gift", "k9"))
    with vandal(ledger) as connection:
        for old, new in ((10, 99), (11, 10), (99, 11)):
            connection.execute("UPDATE event SET position = ? WHERE position = ?", (new, old))
    assert audit(ledger).good, "the ledger alone does not show it"
    assert sorted(named(audited(ledger))) == [("reordered", "oAnna", 5), ("reordered", "oBo", 4)]


def test_events_of_two_accounts_that_changed_places_across_a_former_seal_show_in_its_sums(ledger: Path) -> None:
    with vandal(ledger) as connection:
        for old, new in ((7, 99), (8, 7), (99, 8)):
            connection.execute("UPDATE event SET position = ? WHERE position = ?", (new, old))
    assert audit(ledger).good, "the ledger alone does not show it"
    (fault,) = audited(ledger).faults
    assert fault.what == "seal"
    assert "seal 1 has 2 accounts where the log has 3" in fault.detail


def test_an_account_put_in_before_the_end_of_a_seal_is_named(ledger: Path) -> None:
    rows = log_of(ledger)
    forged = RawEvent(0, b"oNew", 1, b"UserRegistered", b"{}", 0, None, None, SINCE_US, b"")
    rewrite(ledger, [*rows[:3], forged, *rows[3:]])
    assert ("added", "oNew", 0) in named(audited(ledger))


def moved(path: Path, *places: tuple[int, int]) -> None:
    with vandal(path) as connection:
        for old, new in places:
            connection.execute("UPDATE event SET position = ? WHERE position = ?", (new, old))
    assert audit(path).good, "the ledger alone does not show it"


def test_an_account_that_was_moved_behind_the_seal_whole_is_not_missing(ledger: Path) -> None:
    committed(ledger, GrantCredit("oAnna", 3, "gift", "k8"), GrantCredit("oAnna", 3, "gift", "k9"))
    moved(ledger, (8, 98), (9, 99), (11, 8), (12, 9), (98, 11), (99, 12))
    assert sorted(named(audited(ledger))) == [("reordered", "oAnna", 5), ("reordered", "oCi", 1)]


def test_an_account_of_which_only_its_row_is_left_is_missing(ledger: Path) -> None:
    with vandal(ledger) as connection:
        connection.execute("DELETE FROM event WHERE openid = 'oCi'")
    found = named(audited(ledger))
    assert [each for each in found if each[1]] == [("account", "oCi", 0), ("missing-account", "oCi", 0)]


def test_what_the_events_show_themselves_the_seals_do_not_tell_again(ledger: Path) -> None:
    with vandal(ledger) as connection:
        connection.execute("UPDATE event SET credit = 7 WHERE openid = 'oAnna' AND version = 3")
    assert named(audited(ledger)) == [("changed", "oAnna", 3)]


def test_two_accounts_that_had_each_others_events_show_in_the_root_of_a_former_seal(tmp_path: Path) -> None:
    """As many events and accounts, as much credit, the same last event: only whoever kept its note is told."""
    path = tmp_path / "ledger.db"
    create(path, APPID)
    people = [RegisterUser(openid, 1) for openid in ("oAnna", "oBo", "oCi")]
    grants = [GrantCredit(openid, 2, "gift", "k1") for openid in ("oAnna", "oBo", "oCi")]
    committed(path, *people, *grants[:2], clock_us=ticking())
    sealed(path)
    committed(path, grants[2], GrantCredit("oBo", 2, "gift", "k2"), clock_us=ticking(SINCE_US + 2000))
    sealed(path, 3000)
    moved(path, (7, 99), (9, 7), (99, 9))
    assert audited(path, Witness(note_of(path, 2))).good
    (fault,) = audited(path, Witness(note_of(path, 1))).faults
    assert "do not come to the root of seal 1, which the note is of" in fault.detail


def tamper(path: Path, *statements: str) -> None:
    """Change seals.db, whose own triggers are dropped."""
    connection = connect(seals_of(path))
    for trigger in ("updated", "deleted", "replaced"):
        connection.execute(f"DROP TRIGGER seal_is_never_{trigger}")
    connection.execute("PRAGMA ignore_check_constraints=ON")
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE seal SET entry = replace(entry, 'accounts 2', 'accounts 1') WHERE number = 1", "seal 1"),
        (
            "UPDATE seal SET entry = replace(entry, 'root ', 'root 0') WHERE number = 1",
            "not the entry of a seal",
        ),
        ("UPDATE seal SET note = replace(note, 'credit-ledger', 'other-ledger')", "not signed by"),
        ("UPDATE seal SET note = (SELECT note FROM seal WHERE number = 1) WHERE number = 2", "another log"),
        ("DELETE FROM seal WHERE number = 1", "seal 2: "),
        ("UPDATE seal SET number = 9 WHERE number = 2", "calls itself 2 where 2"),
        ("UPDATE seal SET position = 9 WHERE number = 2", "seal 2"),
        (
            "UPDATE seal SET position = 6 WHERE number = 2",
            "seal 2: it covers 10 events after 7, and owns up to",
        ),
        ("UPDATE seal SET hash = zeroblob(32) WHERE number = 2", "seal 2 does not end with the event"),
        ("UPDATE log SET vkey = 'none'", "public key"),
        ("DELETE FROM part WHERE part = (SELECT min(part) FROM part)", "leaves in seals.db"),
        ("UPDATE part SET leaves = CAST(leaves || leaves AS BLOB)", "leaves in seals.db"),
    ],
)
def test_what_was_changed_in_the_seals_is_found(ledger: Path, statement: str, said: str) -> None:
    tamper(ledger, statement)
    report = audited(ledger)
    assert said in " ".join(fault.detail for fault in report.faults)
    assert {fault.what for fault in report.faults} <= {"seal", "reordered", "added"}


def forge_seal(path: Path, change: Callable[[str], str], position: str = "position") -> None:
    """Rewrite the last of two entries and sign it as the owner of the key can."""
    connection = connect(seals_of(path))
    entries = [entry for (entry,) in connection.execute("SELECT entry FROM seal ORDER BY number")]
    connection.close()
    entries[-1] = change(entries[-1])
    tree = merkle.Tree([entry.encode() for entry in entries])
    note = SIGNER.sign(Checkpoint(SIGNER.name, 2, merkle.root(2, tree.node)).text())
    tamper(
        path,
        f"UPDATE seal SET entry = '{entries[-1]}', note = '{note}', position = {position} WHERE number = 2",
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("events 10", "events 11", "11 events where the log has 10"),
        ("accounts 3", "accounts 4", "4 accounts where the log has 3"),
        ("outstanding 119", "outstanding 118", "neither the events nor the leaves"),
        ("events 10", "events 6", "owns up to no loss"),
        ("sealed_at_us 17", "sealed_at_us 16", "older than the one before"),
        ("number 2", "number 3", "calls itself 3"),
        ("root ", "root 0", "not the entry"),
    ],
)
def test_a_seal_that_lies_is_found_although_it_is_signed(ledger: Path, old: str, new: str, said: str) -> None:
    forge_seal(ledger, lambda entry: entry.replace(old, new))
    assert said in " ".join(fault.detail for fault in audited(ledger).faults)


def note_of(path: Path, number: int) -> str:
    connection = connect(seals_of(path))
    (note,) = connection.execute("SELECT note FROM seal WHERE number = ?", (number,)).fetchone()
    connection.close()
    return str(note)


@pytest.mark.parametrize("number", [1, 2])
def test_a_note_that_was_kept_agrees_with_the_seals(ledger: Path, number: int) -> None:
    report = audited(ledger, Witness(note_of(ledger, number), SIGNER.verifier.vkey))
    assert report.good, report.faults


def test_a_note_of_seals_that_are_gone_is_found(ledger: Path) -> None:
    kept = note_of(ledger, 2)
    tamper(ledger, "DELETE FROM seal WHERE number = 2")
    found = " ".join(fault.detail for fault in audited(ledger, Witness(kept)).faults)
    assert "the note is of 2 seals, and there are 1" in found


def test_seals_that_were_made_anew_are_not_those_of_the_note(ledger: Path) -> None:
    kept = note_of(ledger, 1)
    seals_of(ledger).unlink()
    sealed(ledger)
    assert audited(ledger).good
    (fault,) = audited(ledger, Witness(kept)).faults
    assert "they were made anew" in fault.detail


def test_a_note_or_seals_of_another_key_are_found(ledger: Path) -> None:
    kept = OTHER.sign(Checkpoint(OTHER.name, 1, bytes(32)).text())
    assert "not signed by" in audited(ledger, Witness(kept)).faults[0].detail
    faults = audited(ledger, Witness(vkey=OTHER.verifier.vkey)).faults
    assert "not the one that was given" in faults[0].detail
    assert "seal 1: it is not signed by" in faults[1].detail


def test_the_seals_of_another_ledger_are_found(ledger: Path) -> None:
    with vandal(ledger) as connection:
        connection.execute("UPDATE ledger SET appid = 'wxother'")
    (fault,) = audited(ledger).faults
    assert "the ledger is that of appid wxother" in fault.detail


def test_a_loss_that_is_owned_up_to_is_no_fault_but_for_whoever_kept_a_note_of_before(ledger: Path) -> None:
    kept = note_of(ledger, 2)
    rewrite(ledger, log_of(ledger)[:7])
    assert not audited(ledger).good
    make_seal(ledger, seals_of(ledger), SIGNER, SINCE_US + 5000, accept_loss=True)
    report = audited(ledger)
    assert report.good, report.faults
    assert report.seals is not None
    assert (report.seals.count, report.seals.checked) == (3, 2)
    (fault,) = audited(ledger, Witness(kept)).faults
    assert (fault.what, "seal 3 owns up" in fault.detail) == ("cut-tail", True)
    assert "the note is of seal 2, which covers 10 events" in fault.detail


def receipt_line(path: Path, openid: str, version: int, signer: Signer = SIGNER) -> str:
    (row,) = [row for row in log_of(path) if (row.openid, row.version) == (openid.encode(), version)]
    receipt = Receipt(account_key(row.openid), version, row.hash, row.credit, row.recorded_at_us)
    other = Receipt(bytes(32), 1, bytes(32), 0, 0)
    signed = sign_receipts([other, receipt, other], signer)[1]
    line = {
        "openid_hash": receipt.key.hex(),
        "version": version,
        "hash": row.hash.hex(),
        "credit": row.credit,
        "recorded_at_us": row.recorded_at_us,
        "place": signed.place,
        "path": b64encode(b"".join(signed.path)).decode(),
        "note": signed.note,
    }
    return msgspec.json.encode(line).decode()


def receipts(path: Path, *lines: str) -> list[Fault]:
    return [fault for fault in audited(path, Witness(receipts=lines)).faults if fault.what == "receipt"]


def test_receipts_of_what_is_there_are_good(ledger: Path) -> None:
    line = receipt_line(ledger, "oAnna", 4)
    assert receipts(ledger, line, "", f'{{"credit":1,"receipt":{line}}}') == []


def test_acknowledged_events_that_are_gone_or_are_others_are_named(ledger: Path) -> None:
    lines = [receipt_line(ledger, "oAnna", 4), receipt_line(ledger, "oAnna", 3), receipt_line(ledger, "oCi", 1)]
    rows = log_of(ledger)
    changed = [
        row._replace(data=row.data.replace(b'"amount":5', b'"amount":7')) if row.version == 3 else row
        for row in rows
        if (row.openid, row.version) != (b"oAnna", 4) and row.openid != b"oCi"
    ]
    rewrite(ledger, changed)
    faults = receipts(ledger, *lines)
    assert [(fault.openid, fault.version) for fault in faults] == [
        ("oAnna", 4),
        ("oAnna", 3),
        (account_key(b"oCi").hex(), 1),
    ]
    assert "is not there" in faults[0].detail
    assert "another event than the acknowledged one" in faults[1].detail


def test_a_receipt_that_this_ledger_did_not_give_is_said_to_be_none(ledger: Path) -> None:
    line = receipt_line(ledger, "oAnna", 4)
    deep = "[" * 100_000 + "]" * 100_000
    lines = [
        receipt_line(ledger, "oAnna", 4, OTHER),
        line.replace('"credit":106', '"credit":107'),
        "{}",
        "no",
        deep,
    ]
    assert [fault.detail.split(" is ")[0] for fault in receipts(ledger, *lines)] == [
        f"line {number}" for number in range(1, 6)
    ]


@pytest.mark.parametrize("change", [{"hash": bytes(32)}, {"credit": 107}, {"recorded_at_us": SINCE_US + 9}])
def test_a_signed_receipt_of_another_event_is_named_whatever_differs(
    ledger: Path, change: dict[str, bytes | int]
) -> None:
    (row,) = [row for row in log_of(ledger) if (row.openid, row.version) == (b"oAnna", 4)]
    promise = Receipt(account_key(row.openid), 4, row.hash, row.credit, row.recorded_at_us)
    (signed,) = sign_receipts([msgspec.structs.replace(promise, **change)], SIGNER)
    (fault,) = receipts(ledger, msgspec.json.encode(view_receipt(signed)).decode())
    assert (fault.openid, fault.version, fault.position) == ("oAnna", 4, row.position)
    assert "another event than the acknowledged one" in fault.detail


def test_a_receipt_in_the_log_of_seals_is_none(ledger: Path) -> None:
    """One key signs both: only the origin of the note tells what was promised by it."""
    promise = Receipt(account_key(b"oAnna"), 9, bytes(32), 5, SINCE_US)
    (signed,) = sign_receipts([promise], SIGNER)
    note = SIGNER.sign(Checkpoint(SIGNER.name, 1, merkle.leaf_hash(promise.entry().encode())).text())
    line = msgspec.json.encode(view_receipt(msgspec.structs.replace(signed, note=note))).decode()
    (fault,) = receipts(ledger, line)
    assert "its note is not one of receipts" in fault.detail


def test_without_a_key_the_seals_are_still_held_against_each_other_and_the_events(ledger: Path) -> None:
    """And neither a note nor a receipt can be looked at, which is no reason to stop."""
    kept = Witness(note_of(ledger, 1), receipts=(receipt_line(ledger, "oAnna", 4),))
    tamper(ledger, "UPDATE log SET vkey = 'none'")
    report = audited(ledger, kept)
    (fault,) = report.faults
    assert "public key cannot be used" in fault.detail
    assert report.seals is not None
    assert (report.seals.count, report.seals.checked) == (2, 2)


@pytest.mark.parametrize("number", [1, 2])
def test_a_position_of_a_seal_that_is_none_is_named(ledger: Path, number: int) -> None:
    """A table that was made anew without STRICT takes anything."""
    loose = "CREATE TABLE loose AS SELECT * FROM seal", "DROP TABLE seal", "ALTER TABLE loose RENAME TO seal"
    tamper(ledger, *loose, f"UPDATE seal SET position = 'here' WHERE number = {number}")
    assert f"seal {number}: it ends at position 'here'" in [fault.detail for fault in audited(ledger).faults]


def test_the_columns_of_an_account_row_are_nothing_that_the_seals_need(ledger: Path) -> None:
    with vandal(ledger) as connection:
        connection.execute("UPDATE account SET streak = 7 WHERE openid = 'oAnna'")
    assert named(audited(ledger)) == [("account", "oAnna", 0)]
