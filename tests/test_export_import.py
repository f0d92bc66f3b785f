"""The whole log as a file, and back: the same bytes, the same seals, and every damage named by its line."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings

from ledger.account import Account
from ledger.chain import link
from ledger.commands import Command, ReverseSpend, SpendCredit
from ledger.events import (
    MAX_CREDIT,
    CreditGranted,
    CreditSpent,
    Part,
    Recorded,
    SpendReversed,
    UserRegistered,
)
from ledger.intake import BadExport, import_export
from ledger.log import Log
from ledger.note import Checkpoint, Signer
from ledger.parallel import silent
from ledger.transfer import EventLine, export
from tests.data_directories import Data
from tests.ledger_processes import Program
from tests.ledger_samples import (
    BATCHES,
    account_of,
    accounts_of,
    assert_sound,
    committed,
    log_of,
    new_directory,
    run_batches,
    ticking,
    vandal,
    whole_life,
)

NOW_US = 1_800_000_000_000_000


def exported(data: Data) -> list[bytes]:
    """The lines of an export."""
    parts: list[bytes] = []
    export(data.ledger, data.seals, parts.append, silent)
    return b"".join(parts).splitlines(keepends=True)


def imported(lines: list[bytes], path: Path) -> Data:
    """A new data directory at `path` made of these lines."""
    source = path.with_name(path.name + ".ndjson")
    source.write_bytes(b"".join(lines))
    new = Data(path)
    import_export(source, new.ledger, new.seals, NOW_US, silent)
    return new


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """12 lines: a header, anna's 3 events and a seal, bo's 2, anna's reversal of a spend and its spend, a seal,
    one event that is not sealed, the end."""
    made = Data.made(tmp_path / "data")
    made.register("oAnna")
    made.grant("oAnna", "k1")
    made.seal()
    made.register("oBo")
    made.commit(SpendCredit("oAnna", 7, "order", "k2"), ReverseSpend("oAnna", 4, "refund", "k3", 2))
    made.seal()
    made.grant("oBo", "k1")
    return made


def test_what_is_imported_is_what_was_exported(data: Data, tmp_path: Path) -> None:
    lines = exported(data)
    new = imported(lines, tmp_path / "new")
    assert exported(new) == lines
    assert log_of(new.ledger) == log_of(data.ledger)
    assert accounts_of(new.ledger) == accounts_of(data.ledger)
    assert new.seals_there() == data.seals_there()
    assert_sound(new.ledger)


def test_an_imported_ledger_goes_on_under_the_same_key(data: Data, tmp_path: Path) -> None:
    new = imported(exported(data), tmp_path / "new")
    new.grant("oBo", "k9")
    assert new.seal().seal.number == 3
    assert exported(imported(exported(new), tmp_path / "newer")) == exported(new)


@settings(max_examples=12, deadline=None)
@given(BATCHES)
def test_every_ledger_survives_the_journey(batches: list[list[Command]]) -> None:
    with new_directory() as directory:
        data = Data.made(directory / "data")
        run_batches(data.ledger, batches)
        if log_of(data.ledger):
            data.seal()
        run_batches(data.ledger, batches[::-1])
        lines = exported(data)
        new = imported(lines, directory / "new")
        assert exported(new) == lines
        assert accounts_of(new.ledger) == accounts_of(data.ledger)
        assert_sound(new.ledger)


def test_every_type_of_event_survives_the_journey(data: Data, tmp_path: Path) -> None:
    committed(data.ledger, *whole_life("oLife"), clock_us=ticking())
    data.seal()
    assert exported(imported(exported(data), tmp_path / "new")) == exported(data)


def test_the_lines_are_what_is_documented(data: Data) -> None:
    lines = [json.loads(line) for line in exported(data)]
    first = log_of(data.ledger)[2]
    assert lines[0] == {
        "format": "credit-ledger export 1",
        "appid": "wx0123456789abcdef",
        "vkey": data.signer.verifier.vkey,
    }
    assert lines[3] == {
        "openid": "oAnna",
        "version": 3,
        "type": "CreditGranted",
        "data": first.data.decode(),
        "credit": 105,
        "key": "k1",
        "fingerprint": (first.fingerprint or b"").hex(),
        "recorded_at_us": first.recorded_at_us,
        "hash": first.hash.hex(),
    }
    assert [number for number, line in enumerate(lines) if "seal" in line] == [4, 9]
    assert lines[4]["seal"].startswith("credit-ledger seal v1\nnumber 1\n")
    assert lines[-1] == {"end": {"events": 8, "seals": 2}}


def changed(number: int, change: Callable[[dict[str, object]], object]) -> Callable[[list[bytes]], None]:
    def damage(lines: list[bytes]) -> None:
        line = json.loads(lines[number - 1])
        change(line)
        lines[number - 1] = json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"

    return damage


def swapped(one: int, other: int) -> Callable[[list[bytes]], None]:
    def damage(lines: list[bytes]) -> None:
        lines[one - 1], lines[other - 1] = lines[other - 1], lines[one - 1]

    return damage


def without(number: int) -> Callable[[list[bytes]], None]:
    return lambda lines: lines.__delitem__(number - 1)


def with_byte(number: int, byte: bytes) -> Callable[[list[bytes]], None]:
    return lambda lines: lines.__setitem__(number - 1, lines[number - 1].replace(b"o", byte, 1))


DAMAGES: list[tuple[str, Callable[[list[bytes]], None], int]] = [
    ("a credit", changed(4, lambda line: line.update(credit=106)), 4),
    ("a data", changed(4, lambda line: line.update(data=str(line["data"]).replace("5", "6"))), 4),
    ("white space in data", changed(4, lambda line: line.update(data=str(line["data"]) + " ")), 4),
    ("a time", changed(4, lambda line: line.update(recorded_at_us=5)), 4),
    ("a key", changed(4, lambda line: line.update(key="k7")), 4),
    ("no fingerprint", changed(4, lambda line: line.update(fingerprint=None)), 4),
    ("a hash", changed(4, lambda line: line.update(hash="0" * 64)), 4),
    ("an openid", changed(4, lambda line: line.update(openid="oBo")), 4),
    ("a version", changed(4, lambda line: line.update(version=4)), 4),
    ("a version that is true", changed(4, lambda line: line.update(version=True)), 4),
    ("a field more", changed(4, lambda line: line.update(more=1)), 4),
    ("a field less", changed(4, lambda line: line.pop("key")), 4),
    ("an integer that no column holds", changed(4, lambda line: line.update(credit=2**64)), 4),
    ("no JSON", lambda lines: lines.__setitem__(3, lines[3][:40] + b"\n"), 4),
    ("no UTF-8", with_byte(4, b"\xff"), 4),
    ("an empty line", lambda lines: lines.insert(3, b"\n"), 4),
    ("two events of one account swapped", swapped(3, 4), 3),
    ("a seal and an event swapped", swapped(4, 5), 4),
    ("two seals swapped", swapped(5, 10), 5),
    ("a missing event in the middle", without(3), 3),
    ("a missing event before a seal", without(4), 4),
    ("a missing event behind the last seal", without(11), 11),
    ("a missing seal", without(5), 9),
    ("a missing last seal", without(10), 11),
    ("a seal's total", changed(5, lambda line: line.update(seal=str(line["seal"]).replace("105", "106"))), 5),
    (
        "a seal's time",
        changed(5, lambda line: line.update(seal=str(line["seal"]).replace("_us 1", "_us 2"))),
        5,
    ),
    ("a seal's note", changed(5, lambda line: line.update(note=str(line["note"])[:-6] + "AAA=\n")), 5),
    ("an event twice", lambda lines: lines.insert(4, lines[3]), 5),
    ("a wrong count of events", changed(12, lambda line: line.update(end={"events": 9, "seals": 2})), 12),
    ("a wrong count of seals", changed(12, lambda line: line.update(end={"events": 8, "seals": 1})), 12),
    ("no end", without(12), 11),
    ("a line behind the end", lambda lines: lines.append(lines[1]), 13),
    ("the end twice", lambda lines: lines.append(lines[-1]), 13),
    ("no header", without(1), 1),
    ("another format", changed(1, lambda line: line.update(format="credit-ledger export 2")), 1),
    ("another appid", changed(1, lambda line: line.update(appid="wx0")), 1),
    ("no key for the seals", changed(1, lambda line: line.update(vkey=None)), 5),
    ("another key for the seals", changed(1, lambda line: line.update(vkey=str(line["vkey"])[:-3] + "AAA")), 1),
]


@pytest.mark.parametrize(("damage", "number"), [pytest.param(*rest, id=name) for name, *rest in DAMAGES])
def test_a_damage_is_named_by_its_line_and_nothing_is_left(
    data: Data, tmp_path: Path, damage: Callable[[list[bytes]], None], number: int
) -> None:
    lines = exported(data)
    damage(lines)
    with pytest.raises(BadExport, match=rf"^line {number}: "):
        imported(lines, tmp_path / "new")
    assert Data(tmp_path / "new").names() == set()


def export_of(rows: Iterable[Recorded]) -> list[bytes]:
    """The lines of an export of these events, which nobody sealed."""
    lines = []
    for row in rows:
        fingerprint = None if row.fingerprint is None else row.fingerprint.hex()
        line = EventLine(
            row.openid,
            row.version,
            row.type,
            row.data.decode(),
            row.credit,
            row.key,
            fingerprint,
            row.recorded_at_us,
            row.hash.hex(),
        )
        lines.append(msgspec.json.encode(line) + b"\n")
    header = b'{"format":"credit-ledger export 1","appid":"wx","vkey":null}\n'
    return [header, *lines, b'{"end":{"events":%d,"seals":0}}\n' % len(lines)]


def test_more_than_an_account_can_be_granted_is_no_export(tmp_path: Path) -> None:
    """Each grant can be, and is spent; all granted is, from the 1025th on, more than SQLite counts."""
    account, rows = Account("oAnna"), []
    grant = CreditGranted(MAX_CREDIT, "gift", "key:x")
    spend = CreditSpent(MAX_CREDIT, (Part(MAX_CREDIT),), "order", "key:x")
    for event in (UserRegistered(), *(grant, spend) * 1100):
        row, account = link(account, event, None, None, NOW_US)
        rows.append(row)
    with pytest.raises(BadExport, match=r"^line 2051: an account was granted more than there can be"):
        imported(export_of(rows), tmp_path / "copy")


def test_two_events_under_one_key_are_no_export(tmp_path: Path) -> None:
    """Their hashes are right; the same request was recorded twice."""
    account, rows = Account("oAnna"), []
    grant = CreditGranted(5, "gift", "key:x")
    for event, key in ((UserRegistered(), None), (grant, "k1"), (grant, "k1")):
        row, account = link(account, event, key, None if key is None else bytes(32), NOW_US)
        rows.append(row)
    with pytest.raises(BadExport, match=r"^line 4: the key k1 is that of an earlier event"):
        imported(export_of(rows), tmp_path / "copy")


def test_an_empty_file_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(BadExport, match=r"^line 1: it is no header"):
        imported([], tmp_path / "new")


def test_a_reversal_of_more_than_was_spent_is_found_behind_right_hashes(data: Data, tmp_path: Path) -> None:
    """The commands refuse it; a forger who can hash does not."""
    data.commit(SpendCredit("oBo", 4, "order", "k2"), SpendCredit("oBo", 4, "order", "k3"))
    forged = SpendReversed(4, 6, "refund", "key:forger", (Part(6),))
    row, account = link(account_of(data.ledger, "oBo"), forged, None, None, NOW_US)
    log = Log(data.ledger)
    log.begin()
    log.append([row], account)
    log.commit()
    log.close()
    with pytest.raises(BadExport, match=r"^line 14: impossible: it reverses 6"):
        imported(exported(data), tmp_path / "new")


def test_only_an_empty_ledger_takes_an_import(data: Data, tmp_path: Path) -> None:
    lines = exported(data)
    source = tmp_path / "export"
    source.write_bytes(b"".join(lines))
    before = log_of(data.ledger)
    assert "has events already" in data.refuses("import", source)
    assert log_of(data.ledger) == before

    empty = Data.made(tmp_path / "empty")
    assert "8 events and 2 seals" in empty.says("import", source)
    assert exported(empty) == lines
    assert_sound(empty.ledger)


def test_an_import_beside_seals_is_refused(data: Data, tmp_path: Path) -> None:
    source = tmp_path / "export"
    source.write_bytes(b"".join(exported(data)))
    data.ledger.unlink()
    assert "has seals already" in data.refuses("import", source)


def test_an_export_has_its_name_only_when_it_is_whole(data: Data, tmp_path: Path) -> None:
    file = tmp_path / "out.ndjson"
    assert f"8 events and 2 seals are in {file}" in data.says("export", file)
    assert file.read_bytes() == b"".join(exported(data))
    assert file.stat().st_mode & 0o777 == 0o600
    assert "is there already" in data.refuses("export", file)
    assert data.says("export").encode() == file.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def filled(data: Data, events: int) -> None:
    """So many events that work on them takes a moment."""
    data.register(*(f"oMany{number}" for number in range(events // 2)))


@pytest.mark.parametrize("name", ["out.ndjson", "[o]*?.ndjson"])
def test_kill_9_in_an_export_leaves_what_the_next_one_of_that_name_removes(
    data: Data, tmp_path: Path, name: str
) -> None:
    filled(data, 30_000)
    target = tmp_path / "to" / name
    target.parent.mkdir()
    data.killed("export", target, at=target.parent / ".*.partial")
    (left,) = target.parent.iterdir()
    assert left.name != name
    data.says("export", target)
    assert [path.name for path in target.parent.iterdir()] == [name]


def test_of_two_exports_to_one_name_at_once_one_is_made(data: Data, tmp_path: Path) -> None:
    """The second does not take what the first is at for something that was left."""
    filled(data, 30_000)
    target = tmp_path / "to" / "out.ndjson"
    target.parent.mkdir()
    with data.halted("export", target, at=target.parent / ".*.partial") as first:
        (draft,) = target.parent.iterdir()
        data.says("export", target)
        whole = target.read_bytes()
        assert draft.exists()
    assert "is there already" in first.communicate()[1]
    assert first.returncode == 1
    assert target.read_bytes() == whole
    assert [path.name for path in target.parent.iterdir()] == ["out.ndjson"]


def test_an_export_that_was_killed_with_its_name_made_is_kept_whole(data: Data, tmp_path: Path) -> None:
    """Its file has two names then. The one that is left is removed, and nothing is written into it."""
    target, draft = tmp_path / "out.ndjson", tmp_path / ".out.ndjson.abc.partial"
    data.says("export", target)
    whole = target.read_bytes()
    draft.hardlink_to(target)
    kept = target.rename(tmp_path / "kept")
    data.says("export", target)
    assert not draft.exists()
    assert kept.read_bytes() == whole


def test_kill_9_in_an_import_leaves_no_ledger_and_the_next_one_succeeds(data: Data, tmp_path: Path) -> None:
    filled(data, 4000)
    source = tmp_path / "export"
    source.write_bytes(b"".join(exported(data)))
    new = Data(tmp_path / "new")
    new.killed("import", source, at=new.path / ".staged" / "seals.db")
    assert new.names() <= {".staged"}
    new.says("import", source)
    assert new.names() == {"ledger.db", "seals.db"}
    assert log_of(new.ledger) == log_of(data.ledger)


def test_an_export_while_others_write_can_be_imported(data: Data, tmp_path: Path) -> None:
    with Program("grant-until-told", data.ledger, "oAnna", "a") as writer:
        assert writer.read() == "ready"
        writer.go()
        for number in range(4):
            writer.read()
            writer.drain()
            data.seal()
            new = imported(exported(data), tmp_path / f"new{number}")
            assert_sound(new.ledger)
            assert len(new.seals_there()) >= number + 3
        assert writer.stop() == 0


def test_a_ledger_that_lacks_what_was_sealed_is_not_exported(data: Data) -> None:
    data.seal()
    with vandal(data.ledger) as connection:
        connection.execute("DELETE FROM event WHERE position = (SELECT max(position) FROM event)")
    assert "seal 3 covers events that the ledger does not hold" in data.refuses("export")


@pytest.fixture
def source(data: Data, tmp_path: Path) -> Path:
    """An export of `data`, which has two seals."""
    path = tmp_path / "source.ndjson"
    path.write_bytes(b"".join(exported(data)))
    return path


def noted(path: Path, note: str) -> Path:
    path.write_text(note, encoding="utf-8")
    return path


@pytest.fixture
def forged(data: Data, tmp_path: Path) -> Path:
    """A whole other history of the same AppID, sound in itself, under a key of its own."""
    forger = Data(tmp_path / "forger")
    forger.signer = Signer(data.signer.name, Ed25519PrivateKey.from_private_bytes(b"f" * 32))
    forger = forger.begun()
    forger.register("oAnna")
    forger.grant("oAnna", "k1", 1_000_000)
    forger.seal()
    path = tmp_path / "forged.ndjson"
    path.write_bytes(b"".join(exported(forger)))
    return path


def test_what_is_signed_by_the_given_key_and_has_the_kept_notes_is_imported(
    data: Data, source: Path, tmp_path: Path
) -> None:
    for number, (_, note) in enumerate(data.seals_there()):
        new = Data(tmp_path / f"new{number}")
        kept = noted(tmp_path / "kept", note)
        told = new.says("import", source, "--vkey", data.signer.verifier.vkey, "--note", kept)
        assert "8 events and 2 seals" in told
        assert "1 events behind the last seal are signed by nobody" in told
        assert log_of(new.ledger) == log_of(data.ledger)


def test_a_note_may_have_signatures_of_witnesses_too(data: Data, source: Path, tmp_path: Path) -> None:
    _, note = data.seals_there()[0]
    kept = noted(tmp_path / "kept", f"{note}\u2014 witness.example/w {'A' * 96}\n")
    Data(tmp_path / "new").says("import", source, "--note", kept)


def test_an_export_under_another_key_than_the_given_one_leaves_nothing(
    data: Data, forged: Path, tmp_path: Path
) -> None:
    """The file says itself whom to believe; it agrees with itself, so nothing else can find this."""
    new = Data(tmp_path / "new")
    told = new.refuses("import", forged, "--vkey", data.signer.verifier.vkey)
    assert "line 1: it is not the export that was expected: it is signed by credit-ledger/" in told
    assert new.names() == set()

    done = new.run("import", forged)
    assert done.exit_code == 0
    assert "Compared with nothing from elsewhere" in done.stderr


def test_an_export_without_a_seal_is_signed_by_nobody(data: Data, tmp_path: Path) -> None:
    bare = Data.made(tmp_path / "bare")
    bare.register("oAnna")
    source = tmp_path / "bare.ndjson"
    source.write_bytes(b"".join(exported(bare)))
    new = Data(tmp_path / "new")
    assert "is signed by nobody" in new.refuses("import", source, "--vkey", data.signer.verifier.vkey)
    kept = noted(tmp_path / "kept", data.seals_there()[0][1])
    assert "has no seal to compare with" in new.refuses("import", source, "--note", kept)
    assert new.names() == set()

    first, *rest = exported(bare)
    named = first.replace(b"null", b'"' + data.signer.verifier.vkey.encode() + b'"')
    source.write_bytes(b"".join([named, *rest]))
    told = new.refuses("import", source, "--vkey", data.signer.verifier.vkey)
    assert "nothing in it is signed by any key" in told
    assert new.names() == set()


def test_a_key_that_is_none_is_refused(source: Path, tmp_path: Path) -> None:
    new = Data(tmp_path / "new")
    assert "is no key like name+id+key" in new.refuses("import", source, "--vkey", "me")
    assert new.names() == set()


def test_an_export_that_a_kept_note_contradicts_leaves_nothing(
    data: Data, source: Path, forged: Path, tmp_path: Path
) -> None:
    new = Data(tmp_path / "new")
    signed = data.signer.sign
    origin = data.signer.name
    newer = data.seal().note
    for note, why in [
        (signed(Checkpoint(origin, 1, bytes(32)).text()), "line 5: the note of 1 seals is not of these"),
        (signed(Checkpoint(origin, 2, bytes(32)).text()), "line 10: the note of 2 seals is not of these"),
        (newer, "line 12: the note is of 3 seals, and the file has 2"),
        (
            signed(Checkpoint(origin, 0, bytes(32)).text()),
            "line 12: the note is of 0 seals, and the file has 2",
        ),
        (signed("hello\n"), "line 1: it is not the export that was expected: the note"),
        ("hello\n", "line 1: it is not the export that was expected: the note"),
    ]:
        assert why in new.refuses("import", source, "--note", noted(tmp_path / "kept", note))
        assert new.names() == set()
    told = new.refuses("import", forged, "--note", noted(tmp_path / "kept", newer))
    assert f"it is not signed by {origin}" in told
    assert new.names() == set()
    (tmp_path / "kept").write_bytes(b"\xff")
    assert "cannot read" in new.refuses("import", source, "--note", tmp_path / "kept")
