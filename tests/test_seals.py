"""The sealer: what a seal says is what the ledger holds, and nothing that was sealed can be lost in silence."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from itertools import pairwise, permutations
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import merkle, seal_file
from ledger.commands import GrantCredit, RegisterUser, SpendCredit
from ledger.log import LogScan
from ledger.note import Checkpoint, Verifier, checkpoint_of
from ledger.seal import NotSealed, Seal, seal_of
from ledger.seal_file import SealFile, Stored
from ledger.sealed_leaf import part_of
from ledger.sealer import adopt_seal
from ledger.sqlite import SqliteError, connect
from ledger.sums import Node, account_key, climb, leaf, root_of
from ledger.verify import Witness, audit
from tests.conftest import ROOT
from tests.ledger_processes import PATIENCE_S
from tests.ledger_samples import BATCHES, SINCE_US, account_of, log_of, new_directory, run_batches, vandal
from tests.sealed import MINUTE_US, OTHER_SIGNER, SIGNER, VKEY, happened, new_files, sealed

# What a process does: seal, whenever there is something to seal, until it has made so many.
SEALER = """
import sys
from pathlib import Path
from ledger.committer import microseconds_now
from tests.sealed import sealed
count = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
made = 0
while made < count:
    made += sealed(Path(sys.argv[1]), microseconds_now()) is not None
"""
GRANTER = """
import sys
from itertools import count
from pathlib import Path
from ledger.commands import GrantCredit
from ledger.committer import ledger_committer
from tests.ledger_samples import commit_with
committer = ledger_committer(Path(sys.argv[1]))
print("ready", flush=True)
for number in count():
    openids = [f"o{each}" for each in range(number % 7, 40, 7)]
    commit_with(committer, *(GrantCredit(openid, 1, "gift", f"k{number}") for openid in openids))
"""


def started(program: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def ended(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    return process.wait(PATIENCE_S)


def seals_of(ledger: Path) -> list[Stored]:
    with closing(SealFile(ledger.with_name("seals.db"))) as file:
        return list(file.seals(None, 10_000))[::-1]


def defined(ledger: Path) -> tuple[int, int, Node]:
    """What the ledger comes to as it is, worked out from its rows: events, accounts, root."""
    rows = log_of(ledger)
    entries = []
    for openid in {row.openid for row in rows}:
        account, key = account_of(ledger, openid.decode()), account_key(openid)
        node = leaf(key, account.version, account.head, account.balance.credit, account.balance.held)
        entries.append((int.from_bytes(key, "big"), node))
    return len(rows), len(entries), root_of(sorted(entries))


def assert_sealed(ledger: Path) -> None:
    """The chain of seals is whole, the last one is of the ledger as it is, and every account is in it."""
    stored = seals_of(ledger)
    verifier = Verifier.of(VKEY)
    assert [each.seal.number for each in stored] == list(range(1, len(stored) + 1))
    entries = [each.entry.encode() for each in stored]
    for number, each in enumerate(stored, 1):
        assert seal_of(each.entry) == each.seal
        tree = merkle.Tree(entries[:number])
        checkpoint = checkpoint_of(verifier.open(each.note))
        assert checkpoint == Checkpoint(verifier.name, number, merkle.root(number, tree.node))
    for one, other in pairwise(stored):
        assert one.position < other.position
        assert one.seal.sealed_at_us <= other.seal.sealed_at_us
    if not stored:
        return
    last = stored[-1]
    events, accounts, root = defined(ledger)
    assert (last.seal.events, last.seal.accounts) == (events, accounts)
    assert Node(last.seal.root, last.seal.outstanding) == root
    with closing(SealFile(ledger.with_name("seals.db"))) as file:
        for openid in list({row.openid for row in log_of(ledger)})[:30]:
            key = account_key(openid)
            found = file.sealed(key)
            assert found is not None
            node = leaf(key, found.leaf.version, found.leaf.head, found.leaf.credit, found.leaf.held)
            assert climb(int.from_bytes(key, "big"), node, found.path) == root
        for one in range(1, len(stored) + 1):
            for other in range(one, len(stored) + 1):
                path = merkle.consistency_path(one, other, file.subtree)
                roots = [merkle.root(size, file.subtree) for size in (one, other)]
                assert merkle.consistent(one, other, roots[0], roots[1], path)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Nine accounts and one seal."""
    path = new_files(tmp_path)
    happened(path, *(RegisterUser(f"o{number}", 100 + number) for number in range(9)))
    assert sealed(path) is not None
    return path


@settings(deadline=None, max_examples=10)
@given(st.lists(st.tuples(BATCHES, st.booleans()), max_size=4))
def test_whatever_happens_between_seals_each_is_what_a_new_tree_would_be(
    rounds: list[tuple[list, bool]],
) -> None:
    with new_directory() as directory:
        path = new_files(directory)
        for batches, make in rounds:
            run_batches(path, batches)
            before = seals_of(path)
            if make:
                made = sealed(path)
                changed = (before[-1].position if before else 0) < len(log_of(path))
                assert (made is not None) == changed
                assert_sealed(path)


@settings(deadline=None, max_examples=4)
@given(st.lists(st.lists(st.integers(0, 400), max_size=60), max_size=5))
def test_many_accounts_grow_the_tree_in_steps_as_they_do_at_once(rounds: list[list[int]]) -> None:
    with new_directory() as directory:
        path = new_files(directory)
        for number, accounts in enumerate(rounds):
            happened(path, *(RegisterUser(f"o{each}", 3) for each in set(accounts)))
            happened(path, *(GrantCredit(f"o{each}", 1, "gift", f"k{number}") for each in set(accounts)))
            sealed(path)
        assert_sealed(path)


def test_accounts_that_share_a_part_of_the_tree_come_in_any_order(tmp_path: Path) -> None:
    alike = ("o388", "o1768", "o2871")
    assert len({part_of(account_key(openid.encode())) for openid in alike}) == 1
    for order in permutations(alike):
        directory = tmp_path / "-".join(order)
        directory.mkdir()
        path = new_files(directory)
        for openid in order:
            happened(path, RegisterUser(openid, 5))
            assert sealed(path) is not None
        happened(path, GrantCredit(order[0], 1, "gift", "k1"))
        assert sealed(path) is not None
        assert_sealed(path)
        assert audit(path, seals=path.with_name("seals.db"), witness=Witness(vkey=VKEY)).good


def test_what_changed_comes_in_order_of_the_keys_so_each_part_of_the_tree_is_read_once(ledger: Path) -> None:
    happened(ledger, *(RegisterUser(f"oNew{number}", 0) for number in range(30)))
    with LogScan(ledger) as scan:
        keys = [key for key, *_ in scan.changed(account_key, 0)]
    assert keys == sorted(keys)
    assert len(keys) > 30


def test_a_seal_when_nothing_happened_is_none(ledger: Path) -> None:
    assert sealed(ledger) is None
    assert len(seals_of(ledger)) == 1


def test_there_is_nothing_to_seal_before_the_first_event(tmp_path: Path) -> None:
    path = new_files(tmp_path)
    assert sealed(path) is None
    happened(path, RegisterUser("o1", 5))
    made = sealed(path)
    assert made is not None
    assert (made.seal.number, made.seal.events, made.seal.outstanding) == (1, 2, 5)


def test_a_clock_that_runs_back_does_not_make_a_seal_older_than_the_last(ledger: Path) -> None:
    happened(ledger, SpendCredit("o1", 1, "order", "k1"))
    made = sealed(ledger, SINCE_US)
    assert made is not None
    assert made.seal.sealed_at_us == SINCE_US + MINUTE_US


def test_the_entry_is_the_only_way_to_write_a_seal() -> None:
    seal = Seal(12, 1, 2, 3, 4, bytes(range(32)))
    assert seal_of(seal.entry()) == seal
    lost = Seal(12, 1, 2, 3, 4, bytes(range(32)), 5)
    assert seal_of(lost.entry()) == lost
    assert lost.entry().endswith("lost 5\n")
    for old, new in (
        ("number 12", "number 012"),
        ("number 12", "number 0"),
        ("number 12", "number \u0661\u0662"),
        ("events 2", "events -2"),
        ("events 2", "events 2 "),
        ("seal v1", "seal v2"),
        ("0001", "000A"),
        ("lost 5", "lost 0"),
        ("lost 5\n", "lost 5"),
        ("lost 5\n", "lost 5\nmore\n"),
    ):
        assert old in lost.entry()
        with pytest.raises(ValueError, match="not the entry of a seal"):
            seal_of(lost.entry().replace(old, new))
    last = msgspec.structs.replace(seal, sealed_at_us=253_402_300_799_999_999)
    assert seal_of(last.entry()) == last
    with pytest.raises(ValueError, match="behind the year 9999"):
        seal_of(msgspec.structs.replace(last, sealed_at_us=last.sealed_at_us + 1).entry())


# -- processes -------------------------------------------------------------------------------------------------


def test_two_sealers_at_once_leave_one_chain(ledger: Path) -> None:
    granter = started(GRANTER, ledger)
    try:
        sealers = [started(SEALER, ledger, 3) for _ in range(2)]
        for sealer in sealers:
            assert sealer.stdin is not None
            sealer.stdin.write(b"\n")
            sealer.stdin.flush()
        assert [ended(sealer) for sealer in sealers] == [0, 0]
    finally:
        granter.kill()
        ended(granter)
    assert len(seals_of(ledger)) > 6
    sealed(ledger, seals_of(ledger)[-1].seal.sealed_at_us)
    assert_sealed(ledger)


def test_a_sealer_that_is_killed_leaves_no_half_a_seal(ledger: Path) -> None:
    chance = random.Random(4)
    sealers = [started(SEALER, ledger, 1000) for _ in range(4)]
    for sealer in sealers:
        happened(ledger, *(GrantCredit(f"o{each}", 1, "gift", chance.randbytes(9).hex()) for each in range(9)))
        assert sealer.stdin is not None
        sealer.stdin.write(b"\n")
        sealer.stdin.flush()
        time.sleep(chance.random() * 0.05)
        os.kill(sealer.pid, signal.SIGKILL)
        assert ended(sealer) == -signal.SIGKILL
    happened(ledger, SpendCredit("o1", 1, "order", "k1"))
    assert sealed(ledger, seals_of(ledger)[-1].seal.sealed_at_us) is not None
    assert_sealed(ledger)


# -- what must not be sealed -----------------------------------------------------------------------------------


def test_another_signing_key_is_refused(ledger: Path) -> None:
    happened(ledger, SpendCredit("o1", 1, "order", "k1"))
    with pytest.raises(NotSealed, match=r"not the key that seals.db was begun with"):
        sealed(ledger, signer=OTHER_SIGNER)
    assert len(seals_of(ledger)) == 1


def test_a_rewritten_chain_is_refused(ledger: Path) -> None:
    happened(ledger, SpendCredit("o1", 1, "order", "k1"))
    with vandal(ledger) as connection:
        connection.execute("UPDATE event SET hash = zeroblob(32) WHERE openid = 'o1' AND version = 2")
    with pytest.raises(NotSealed, match="o1 no longer has the event 2 that was sealed"):
        sealed(ledger)
    assert len(seals_of(ledger)) == 1


def test_an_account_row_that_is_not_its_last_event_is_refused(ledger: Path) -> None:
    happened(ledger, SpendCredit("o1", 1, "order", "k1"))
    for change in ("credit = credit + 1", "version = version + 1", "head = zeroblob(32)"):
        with vandal(ledger) as connection:
            connection.execute("BEGIN")
            connection.execute(f"UPDATE account SET {change} WHERE openid = 'o1'")
            connection.execute("COMMIT")
        with pytest.raises(NotSealed, match="account row of o1 is not what its last event says"):
            sealed(ledger)
        with vandal(ledger) as connection:
            columns = "(version, head, credit) = (SELECT version, hash, credit FROM event WHERE openid = 'o1'"
            connection.execute(
                f"UPDATE account SET {columns} ORDER BY version DESC LIMIT 1) WHERE openid = 'o1'"
            )
    assert sealed(ledger) is not None


def _cut(ledger: Path, openid: str) -> None:
    """Take the last event of an account, which was the last of all, back as if it had never been."""
    with vandal(ledger) as connection:
        connection.execute("DELETE FROM event WHERE position = (SELECT max(position) FROM event)")
        connection.execute(
            "UPDATE account SET (version, head, credit, spent) = (SELECT version, hash, credit, 0 FROM event"
            f" WHERE openid = '{openid}' ORDER BY version DESC LIMIT 1) WHERE openid = '{openid}'"
        )


def test_a_cut_log_is_refused_until_the_loss_is_accepted_and_then_says_so_for_ever(ledger: Path) -> None:
    happened(ledger, SpendCredit("o1", 1, "order", "k1"))
    whole = sealed(ledger)
    assert whole is not None
    _cut(ledger, "o1")
    with pytest.raises(NotSealed, match=r"does not hold event \d+, the last one that seal 2 covers"):
        sealed(ledger)
    made = sealed(ledger, accept_loss=True)
    assert made is not None
    assert (made.seal.lost, made.seal.events) == (1, whole.seal.events - 1)
    assert made.entry.endswith("\nlost 1\n")
    happened(ledger, SpendCredit("o2", 1, "order", "k1"))
    after = sealed(ledger)
    assert after is not None
    assert after.seal.lost == 0
    events, accounts, root = defined(ledger)
    assert (after.seal.events, after.seal.accounts, after.seal.root) == (events, accounts, root.hash)


def test_another_event_in_the_place_of_the_last_one_is_a_loss_too(ledger: Path) -> None:
    happened(ledger, SpendCredit("o1", 1, "order", "k1"))
    sealed(ledger)
    _cut(ledger, "o1")
    happened(ledger, GrantCredit("o1", 50, "gift", "k2"))
    with pytest.raises(NotSealed, match="does not hold event"):
        sealed(ledger)
    made = sealed(ledger, accept_loss=True)
    assert made is not None
    assert made.seal.lost == 1


def test_nothing_is_lost_where_the_loss_is_accepted_for_nothing(ledger: Path) -> None:
    happened(ledger, SpendCredit("o1", 1, "order", "k1"))
    made = sealed(ledger, accept_loss=True)
    assert made is not None
    assert made.seal.lost == 0


def test_a_seal_is_adopted_only_where_the_ledger_comes_to_it(ledger: Path, tmp_path: Path) -> None:
    (stored,) = seals_of(ledger)
    other = tmp_path / "other"
    other.mkdir()
    copy = new_files(other)
    happened(copy, *(RegisterUser(f"o{number}", 100 + number) for number in range(9)))
    adopted = adopt_seal(copy, other / "seals.db", stored.entry, stored.note)
    assert (adopted.entry, adopted.note) == (stored.entry, stored.note)
    assert_sealed(copy)
    with pytest.raises(NotSealed, match="seal 1 does not follow"):
        adopt_seal(copy, other / "seals.db", stored.entry, stored.note)
    fourth = tmp_path / "fourth"
    fourth.mkdir()
    whole = new_files(fourth)
    happened(whole, *(RegisterUser(f"o{number}", 100 + number) for number in range(9)))
    third = tmp_path / "third"
    third.mkdir()
    short = new_files(third)
    happened(short, *(RegisterUser(f"o{number}", 100 + number) for number in range(8)))
    with pytest.raises(NotSealed, match="comes to another root"):
        adopt_seal(short, third / "seals.db", stored.entry, stored.note)
    for counted in (
        msgspec.structs.replace(stored.seal, events=stored.seal.events + 1),
        msgspec.structs.replace(stored.seal, accounts=stored.seal.accounts + 1),
        msgspec.structs.replace(stored.seal, outstanding=stored.seal.outstanding + 1),
    ):
        with pytest.raises(NotSealed, match="comes to another root"):
            adopt_seal(whole, fourth / "seals.db", counted.entry(), stored.note)
    other_log = SIGNER.sign(Checkpoint(SIGNER.name, 1, bytes(32)).text())
    with pytest.raises(NotSealed, match="is of another log"):
        adopt_seal(whole, fourth / "seals.db", stored.entry, other_log)
    with pytest.raises(NotSealed, match="owns up to a loss"):
        adopt_seal(short, third / "seals.db", f"{stored.entry}lost 1\n", stored.note)
    assert seals_of(short) == seals_of(whole) == []


def test_a_seal_that_is_older_than_the_one_before_it_is_not_adopted(ledger: Path, tmp_path: Path) -> None:
    (stored,) = seals_of(ledger)
    (tmp_path / "other").mkdir()
    copy = new_files(tmp_path / "other")
    happened(copy, *(RegisterUser(f"o{number}", 100 + number) for number in range(9)))
    adopt_seal(copy, copy.with_name("seals.db"), stored.entry, stored.note)
    older = msgspec.structs.replace(stored.seal, number=2, sealed_at_us=stored.seal.sealed_at_us - 1)
    with pytest.raises(NotSealed, match="seal 2 is older than the one before it"):
        adopt_seal(copy, copy.with_name("seals.db"), older.entry(), stored.note)


# -- the file --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE seal SET entry = 'x'",
        "UPDATE seal SET position = position + 1 WHERE number = 1",
        "DELETE FROM seal",
        "INSERT OR REPLACE INTO seal SELECT number, 'x', note, position, hash FROM seal WHERE number = 1",
        "REPLACE INTO seal SELECT number, 'x', note, position, hash FROM seal WHERE number = 1",
        "INSERT INTO seal SELECT number + 2, entry, note, position, hash FROM seal WHERE number = 1",
        "INSERT INTO seal SELECT 0, entry, note, position, hash FROM seal WHERE number = 1",
    ],
)
def test_seals_are_append_only(ledger: Path, statement: str) -> None:
    """Also on a connection as the sqlite3 shell has it, where REPLACE does not fire the triggers of DELETE."""
    for recursive in ("ON", "OFF"):
        connection = connect(ledger.with_name("seals.db"), seal_file.IDENTITY)
        connection.execute(f"PRAGMA recursive_triggers={recursive}")
        with pytest.raises(SqliteError, match=r"append-only|without a gap"):
            connection.execute(statement)
        connection.close()
    assert_sealed(ledger)


def test_an_account_that_no_seal_has_yet_has_no_proof(ledger: Path) -> None:
    happened(ledger, RegisterUser("oNew", 5))
    with closing(SealFile(ledger.with_name("seals.db"))) as file:
        assert file.sealed(account_key(b"oNew")) is None
        assert file.sealed(account_key(b"o1")) is not None
