"""What seals.db keeps so that a seal is cheap: damaged, it is named, never signed, and made anew.

And what a seal must not be misled by: a row that holds what no event does, a loss that is counted away, a clock
that runs back.
"""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from api.receipts import ReceiptingCommitter
from ledger.chain import event_hash
from ledger.commands import GrantCredit, HoldCredit, RegisterUser, ReleaseHold, Submission
from ledger.committer import ledger_committer
from ledger.errors import LedgerFault, LedgerUnusable
from ledger.seal import NotSealed
from ledger.seal_file import SealFile
from ledger.sealer import make_seal
from ledger.sqlite import connect
from ledger.sums import account_key
from ledger.verify import Witness, audit
from tests.ledger_samples import SINCE_US, vandal
from tests.sealed import MINUTE_US, SIGNER, VKEY, happened, new_files, sealed

PEOPLE = [f"o{number}" for number in range(30)]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Thirty people, two seals, and something behind the last of them."""
    path = new_files(tmp_path)
    happened(path, *(RegisterUser(openid, 7) for openid in PEOPLE))
    sealed(path)
    happened(path, *(GrantCredit(openid, 1, "gift", "k1") for openid in PEOPLE[:9]))
    sealed(path)
    return path


def audited(ledger: Path) -> list[tuple[str, str]]:
    report = audit(ledger, seals=ledger.with_name("seals.db"), witness=Witness(vkey=VKEY))
    return [(fault.what, fault.detail) for fault in report.faults]


def rebuilt(ledger: Path) -> None:
    make_seal(ledger, ledger.with_name("seals.db"), SIGNER, SINCE_US + MINUTE_US, rebuild=True)


DAMAGE = {
    "a group's sum": "UPDATE crown SET root = CAST(substr(root, 1, 47) || x'07' AS BLOB)",
    "a group's parts": "UPDATE crown SET parts = CAST(x'07' || substr(parts, 2) AS BLOB)",
    "a group that is gone": "DELETE FROM crown WHERE place = (SELECT min(place) FROM crown)",
    "a leaf": "UPDATE part SET leaves = CAST(substr(leaves, 1, 127) || x'07' AS BLOB)",
    "a part that is cut": "UPDATE part SET leaves = substr(leaves, 1, 100)",
    "a part elsewhere": "UPDATE part SET part = part + 1",
    "parts that are gone": "DELETE FROM part",
    "a subtree": "UPDATE subtree SET hash = zeroblob(32) WHERE level = 1",
    "subtrees that are gone": "DELETE FROM subtree",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_tree_is_named_not_signed_and_made_anew(ledger: Path, damage: str) -> None:
    assert audited(ledger) == []
    with closing(connect(ledger.with_name("seals.db"))) as connection:
        connection.execute(damage)
    assert {what for what, _ in audited(ledger)} == {"seal"}
    happened(ledger, *(GrantCredit(openid, 1, "gift", "k2") for openid in PEOPLE))
    with pytest.raises(LedgerFault, match=r"damaged|not the one that was signed|no longer has"):
        sealed(ledger)
    rebuilt(ledger)
    assert audited(ledger) == []
    happened(ledger, GrantCredit("o1", 1, "gift", "k3"))
    assert sealed(ledger) is not None
    assert audited(ledger) == []


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE log",
        "DROP TABLE seal",
        "DROP TABLE part",
        "DROP TABLE subtree",
        "UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'seal'",
        "UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'part'",
        "PRAGMA application_id = 1",
    ],
)
def test_where_the_seals_cannot_be_read_the_ledger_is_audited_all_the_same(ledger: Path, damage: str) -> None:
    with closing(connect(ledger.with_name("seals.db"))) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(damage)
    with vandal(ledger) as connection:
        connection.execute("UPDATE event SET credit = credit + 1 WHERE openid = 'o3' AND version = 2")
    report = audit(ledger, seals=ledger.with_name("seals.db"), witness=Witness(vkey=VKEY))
    faults = [(fault.openid, fault.what, fault.detail) for fault in report.faults]
    assert [fault[:2] for fault in faults] == [("o3", "changed"), ("", "file")]
    assert faults[1][2].startswith("no seal was compared with the events: ")
    assert (report.events, report.accounts, report.seals) == (69, 30, None)
    assert report.skipped == ["The seals could not be read: what was removed without a trace, nothing shows."]


@pytest.mark.parametrize("damage", [name for name in DAMAGE if "subtree" not in name])
def test_nobody_is_said_not_to_be_sealed_because_the_tree_is_damaged(ledger: Path, damage: str) -> None:
    with closing(connect(ledger.with_name("seals.db"))) as connection:
        connection.execute(DAMAGE[damage])
    said = set()
    with closing(SealFile(ledger.with_name("seals.db"))) as file:
        for openid in PEOPLE:
            try:
                assert file.sealed(account_key(openid.encode())) is not None
            except LedgerUnusable as why:
                said.add(str(why).rpartition(": ")[2])
    assert said == {"run credit-ledger seal --rebuild"}


def test_a_damaged_part_of_the_tree_in_which_nothing_changed_is_not_signed_either(ledger: Path) -> None:
    with closing(connect(ledger.with_name("seals.db"))) as connection:
        connection.execute(DAMAGE["a group's sum"])
    happened(ledger, GrantCredit("o1", 1, "gift", "k2"))
    with pytest.raises(NotSealed, match=r"the tree in seals\.db is not the one that was signed"):
        sealed(ledger)


def test_a_tree_is_made_anew_without_a_new_seal_where_nothing_is_new(ledger: Path) -> None:
    with closing(connect(ledger.with_name("seals.db"))) as connection:
        connection.execute("DELETE FROM part")
    rebuilt(ledger)
    assert audited(ledger) == []
    with vandal(ledger) as connection:
        connection.execute("UPDATE account SET held = 1, granted = granted + 1 WHERE openid = 'o3'")
    rebuilt(ledger)  # of the events; of the row the audit tells
    assert [what for what, _ in audited(ledger)] == ["account"]


# What a seal must not go on from: what was signed is another thing than what these leave in seals.db.
FORGED = {
    "fewer events in the last entry": "UPDATE seal SET entry = replace(entry, 'events 69', 'events 60')",
    "more accounts in the last entry": "UPDATE seal SET entry = replace(entry, 'accounts 30', 'accounts 31')",
    "another time in the last entry": (
        "UPDATE seal SET entry = replace(entry, 'sealed_at_us 17', 'sealed_at_us 97') WHERE number = 2"
    ),
    "no entry": "UPDATE seal SET entry = 'x' WHERE number = 2",
    "a number of another": "UPDATE seal SET entry = (SELECT entry FROM seal WHERE number = 1) WHERE number = 2",
    "the note of before": "UPDATE seal SET note = (SELECT note FROM seal WHERE number = 1) WHERE number = 2",
    "no note": "UPDATE seal SET note = 'x' WHERE number = 2",
    "a later end": "UPDATE seal SET position = 71, hash = :hash WHERE number = 2",
    "no last seal": "DELETE FROM seal WHERE number = 2",
    "no seal": "DELETE FROM seal",
    "no key": "DELETE FROM log",
}


@pytest.mark.parametrize("forgery", FORGED.values(), ids=FORGED.keys())
def test_a_seal_goes_on_from_what_was_signed_alone(ledger: Path, forgery: str) -> None:
    happened(ledger, *(GrantCredit(openid, 1, "gift", "k2") for openid in PEOPLE[20:22]))
    with closing(connect(ledger)) as connection:
        (last,) = connection.execute("SELECT hash FROM event ORDER BY position DESC LIMIT 1").fetchone()
    with closing(connect(ledger.with_name("seals.db"))) as connection:
        for (trigger,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(forgery, {"hash": last} if ":hash" in forgery else {})
    for _ in range(2):
        for again in (sealed, rebuilt):
            with pytest.raises(LedgerFault, match=r"restore the newest copy of seals\.db"):
                again(ledger)
        happened(ledger, GrantCredit("o1", 1, "gift", "k3"))


def test_a_log_of_seals_that_lacks_one_is_not_made_anew(ledger: Path) -> None:
    with closing(connect(ledger.with_name("seals.db"))) as connection:
        connection.execute("DROP TRIGGER seal_is_never_deleted")
        connection.execute("DELETE FROM seal WHERE number = 1")
    with pytest.raises(NotSealed, match="seal 1 is missing"):
        rebuilt(ledger)


def rewritten(ledger: Path) -> tuple[bytes, bytes]:
    """The last event of o0 is another one, its chain and row made anew; the hash before, and now."""
    with vandal(ledger) as connection:
        (before,) = connection.execute("SELECT hash FROM event WHERE openid = 'o0' AND version = 2").fetchone()
        position, version, kind, data, credit, key, mark, at_us, former = connection.execute(
            "SELECT position, version, type, data, credit, key, fingerprint, recorded_at, hash FROM event"
            " WHERE openid = 'o0' AND version = 3"
        ).fetchone()
        data = data.replace("gift", "gone")
        digest = event_hash(
            before, b"o0", version, kind.encode(), data.encode(), credit, key.encode(), mark, at_us
        )
        connection.execute("UPDATE event SET data = ?, hash = ? WHERE position = ?", (data, digest, position))
        connection.execute("UPDATE account SET head = ? WHERE openid = 'o0'", (digest,))
    return former, digest


def test_a_leaf_that_is_not_what_its_node_says_covers_no_rewriting_up(ledger: Path) -> None:
    former, digest = rewritten(ledger)
    with closing(connect(ledger.with_name("seals.db"))) as connection:
        for number, part in connection.execute("SELECT part, leaves FROM part").fetchall():
            leaves = part.replace(former, digest)
            connection.execute("UPDATE part SET leaves = ? WHERE part = ?", (leaves, number))
    happened(ledger, GrantCredit("o0", 1, "gift", "k2"))
    with pytest.raises(NotSealed, match="a leaf in part"):
        sealed(ledger)


def test_a_tree_that_is_made_anew_covers_no_rewriting_up(ledger: Path) -> None:
    rewritten(ledger)
    happened(ledger, GrantCredit("o1", 1, "gift", "k2"))
    with pytest.raises(NotSealed, match="does not come to seal 2"):
        rebuilt(ledger)


def test_an_account_that_is_gone_before_it_was_sealed_is_not_passed_over(ledger: Path) -> None:
    happened(ledger, RegisterUser("new", 7), GrantCredit("o1", 1, "gift", "k2"))
    with vandal(ledger) as connection:
        connection.execute("DELETE FROM event WHERE openid = 'new'")
        connection.execute("DELETE FROM account WHERE openid = 'new'")
    with pytest.raises(NotSealed, match="holds 70 events, and the last of them is number 72"):
        sealed(ledger)


def test_what_is_held_is_taken_from_the_events(ledger: Path) -> None:
    happened(ledger, HoldCredit("o1", 5, "order", "h1"), HoldCredit("o2", 4, "order", "h1"))
    assert sealed(ledger) is not None
    happened(ledger, ReleaseHold("o1", 4, "cancelled", "r1"))
    assert sealed(ledger) is not None
    assert audited(ledger) == []
    happened(ledger, GrantCredit("o2", 1, "gift", "k9"))
    with vandal(ledger) as connection:
        connection.execute("UPDATE account SET held = 5, granted = granted + 1 WHERE openid = 'o2'")
    with pytest.raises(NotSealed, match="o2 does not hold what its events do"):
        sealed(ledger)


def lose_a_sealed_grant_of_everybody(ledger: Path) -> None:
    older = ledger.with_name("older.db")
    with closing(connect(ledger)) as connection:
        connection.execute(f"VACUUM INTO '{older}'")
    happened(ledger, *(GrantCredit(openid, 1, "gift", "k2") for openid in PEOPLE))
    assert sealed(ledger) is not None
    shutil.copy(older, ledger)


def test_lost_events_are_counted_even_where_others_took_their_places(ledger: Path) -> None:
    lose_a_sealed_grant_of_everybody(ledger)
    happened(ledger, *(GrantCredit(openid, 2, "gift", f"k{n}") for n in (3, 4) for openid in PEOPLE))
    with pytest.raises(NotSealed, match="does not hold event"):
        sealed(ledger)
    made = sealed(ledger, accept_loss=True)
    assert made is not None
    assert made.seal.lost == len(PEOPLE)
    assert audited(ledger) == []


def test_a_loss_can_be_accepted_where_what_was_kept_of_the_seals_is_damaged_too(ledger: Path) -> None:
    lose_a_sealed_grant_of_everybody(ledger)
    seals = ledger.with_name("seals.db")
    with closing(connect(seals)) as connection:
        connection.execute("DELETE FROM subtree")
        connection.execute("DELETE FROM part")
    with pytest.raises(LedgerFault, match=r"seals\.db is damaged"):
        sealed(ledger, accept_loss=True)
    made = make_seal(ledger, seals, SIGNER, SINCE_US + MINUTE_US, accept_loss=True, rebuild=True)
    assert made is not None
    assert made.seal.lost == len(PEOPLE)
    assert audited(ledger) == []


def test_where_nothing_was_sealed_yet_nothing_is_wrong(tmp_path: Path) -> None:
    path = new_files(tmp_path)
    assert audited(path) == []
    happened(path, RegisterUser("o1", 7))
    assert audited(path) == []


def test_an_empty_ledger_that_lost_all_goes_on_by_itself(tmp_path: Path) -> None:
    path = new_files(tmp_path)
    empty = path.with_name("empty.db")
    with closing(connect(path)) as connection:
        connection.execute(f"VACUUM INTO '{empty}'")
    happened(path, RegisterUser("o1", 7))
    sealed(path)
    shutil.copy(empty, path)
    made = sealed(path, accept_loss=True)
    assert made is not None
    assert (made.seal.events, made.seal.lost) == (0, 2)
    assert audited(path) == []
    happened(path, RegisterUser("o2", 7))
    made = sealed(path)
    assert made is not None
    assert (made.seal.events, made.seal.lost) == (2, 0)
    assert audited(path) == []


def test_no_receipt_is_given_while_the_clock_is_behind_the_last_seal(ledger: Path) -> None:
    """Held against that seal it would be evidence of a broken promise, and nobody broke one."""
    sealed_at_us = SINCE_US + 60 * MINUTE_US
    happened(ledger, GrantCredit("o1", 1, "gift", "k5"))
    assert sealed(ledger, sealed_at_us) is not None
    for clock_us, promised in ((sealed_at_us - MINUTE_US, False), (sealed_at_us, True)):
        for _ in range(2):  # a repeated request promises no more than the first
            assert (promise(ledger, clock_us, f"k{clock_us}") is not None) == promised


@pytest.mark.parametrize("early", [1, 59, 60, 61, 600])
def test_a_repeated_request_has_a_receipt_where_every_seal_that_it_is_due_in_has_the_event(
    ledger: Path, early: int
) -> None:
    sealed_at_us = SINCE_US + 60 * MINUTE_US
    happened(ledger, GrantCredit("o1", 1, "gift", "k5"))
    assert sealed(ledger, sealed_at_us) is not None
    back_us = sealed_at_us - early * 1_000_000
    assert promise(ledger, back_us, "early") is None
    assert promise(ledger, sealed_at_us + 1, "late") is not None
    for minutes in range(1, 5):
        assert sealed(ledger, sealed_at_us + minutes * MINUTE_US) is not None
        for key, good in (("early", early < 60), ("late", True), ("k1", True)):
            kept = promise(ledger, sealed_at_us + minutes * MINUTE_US + 1, key)
            assert (kept is not None) == good, (key, minutes)
        happened(ledger, GrantCredit("o1", 1, "gift", f"more{minutes}"))


@pytest.mark.parametrize("statement", ["UPDATE seal SET entry = 'x'", "DROP TABLE seal"])
def test_a_damaged_seals_db_keeps_nobody_from_writing(ledger: Path, statement: str) -> None:
    """Only the receipts are missing: when the last seal was made is not known, so nothing can be promised."""
    assert promise(ledger, SINCE_US + 60 * MINUTE_US, "before") is not None
    with closing(connect(ledger.with_name("seals.db"))) as connection:
        connection.execute("DROP TRIGGER seal_is_never_updated")
        connection.execute(statement)
    assert promise(ledger, SINCE_US + 61 * MINUTE_US, "behind") is None
    assert promise(ledger, SINCE_US + 61 * MINUTE_US, "before") is None


def promise(ledger: Path, clock_us: int, key: str) -> object:
    """What the service answers to o2's grant under that key, as its receipt."""
    committer = ReceiptingCommitter(
        ledger_committer(ledger, clock_us=lambda: clock_us), SIGNER, ledger.with_name("seals.db"), ledger
    )
    grant = Submission(GrantCredit("o2", 1, "gift", key), "key:x")
    (outcome,) = committer.commit_when_free(lambda: [grant])
    committer.close()
    assert not isinstance(outcome, Exception)
    return outcome.receipt
