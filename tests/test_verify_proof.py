"""The one-file verifier, run as an auditor runs it: a copy, in an empty directory, with nothing of ours."""

import ast
import copy
import json
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from api.outgoing import view_receipt
from ledger.commands import GrantCredit, HoldCredit, RegisterUser
from ledger.merkle import Tree, leaf_hash, node_hash, root
from ledger.note import Checkpoint
from ledger.seal import Receipt, Seal, seal_of, sign_receipts
from ledger.sums import account_key
from ledger.transfer import export
from ledger.verify import silent
from scripts import verify_proof
from tests.conftest import ROOT
from tests.ledger_samples import SINCE_US, vandal, whole_life
from tests.sealed import (
    MINUTE_US,
    OTHER_SIGNER,
    SIGNER,
    VKEY,
    consistency,
    happened,
    new_files,
    plain,
    plain_receipts,
    proof_pages,
    sealed,
)

LATER_US = SINCE_US + 9 * MINUTE_US
SCRIPT = ROOT / "scripts" / "verify_proof.py"


class Ledger:
    """Three accounts under six seals, and what the service answers about them."""

    def __init__(self, directory: Path) -> None:
        self.path = new_files(directory)
        people = [RegisterUser(f"o{number}", number) for number in range(9)]
        self.outcomes = happened(self.path, *people, RegisterUser("oBo", 7))
        sealed(self.path, SINCE_US + 50)
        for number in range(1, 5):
            self.outcomes += happened(
                self.path,
                GrantCredit("oBo", 2, "签到奖励", f"k{number}"),
                since_us=SINCE_US + number * MINUTE_US,
            )
            sealed(self.path, SINCE_US + number * MINUTE_US + 7)
        self.outcomes += happened(self.path, *whole_life("oAnna", LATER_US), since_us=LATER_US)
        sealed(self.path, LATER_US + MINUTE_US)
        self.anna = proof_pages(self.path, "oAnna", 9)
        self.receipts = plain_receipts(self.outcomes[-18:])
        self.consistency = consistency(self.path, 3, 6)
        lines: list[bytes] = []
        export(self.path, self.path.with_name("seals.db"), lines.append, silent)
        self.export = b"".join(lines).splitlines(keepends=True)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return Ledger(tmp_path_factory.mktemp("sealed"))


Run = tuple[int, str]


@pytest.fixture
def verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Run]:
    """`main` of the script in this process: status and output. Documents among the arguments become files."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, vkey: str | None = VKEY) -> Run:
        words = ["verify_proof.py", *_words(tmp_path, arguments), *(["--vkey", vkey] if vkey else [])]
        monkeypatch.setattr(sys, "argv", words)
        try:
            status = verify_proof.main()
        except SystemExit as end:
            status = int(str(end.code))
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def _words(directory: Path, arguments: tuple[object, ...]) -> Iterator[str]:
    for number, argument in enumerate(arguments):
        if isinstance(argument, str):
            yield argument
        else:
            path = directory / f"{number}.json"
            if isinstance(argument, list):
                path.write_bytes(b"".join(argument))
            else:
                path.write_bytes(argument if isinstance(argument, bytes) else json.dumps(argument).encode())
            yield str(path)


def anna(ledger: Ledger) -> tuple[object, ...]:
    return ("proof", *ledger.anna, "--openid", "oAnna")


# -- what is right is verified, in a process of its own with nothing of ours --------------------------------


def test_a_copy_of_it_alone_verifies_everything_in_an_empty_directory(ledger: Ledger, tmp_path: Path) -> None:
    script = shutil.copy(SCRIPT, tmp_path / "verify_proof.py")
    outcomes = []
    for arguments in (
        (*anna(ledger), "--receipt", ledger.receipts[0]),
        ("receipt", ledger.receipts[3]),
        ("consistency", ledger.consistency),
        ("seal", ledger.consistency["first"]),
        ("export", ledger.export),
    ):
        command = [sys.executable, "-I", str(script), *_words(tmp_path, arguments), "--vkey", VKEY]
        outcomes.append(subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False))
    assert [(done.returncode, done.stdout.splitlines()[-1], done.stderr) for done in outcomes] == [
        (0, "VERIFIED", "")
    ] * 5
    assert outcomes[0].stdout.splitlines()[0] == "The receipt of event 2 is signed."


def test_it_imports_nothing_but_the_standard_library_and_cryptography() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 9))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - sys.stdlib_module_names == {"cryptography"}


def test_pages_come_in_any_order(ledger: Ledger, verify: Callable[..., Run]) -> None:
    assert len(ledger.anna) == 3
    assert verify("proof", *reversed(ledger.anna), "--openid", "oAnna")[0] == 0


def test_it_reads_standard_input(ledger: Ledger, tmp_path: Path) -> None:
    command = [sys.executable, "-I", str(SCRIPT), "export", "-", "--vkey", VKEY]
    done = subprocess.run(command, input=b"".join(ledger.export), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_proof_of_one_page_needs_no_more(ledger: Ledger, verify: Callable[..., Run]) -> None:
    assert verify("proof", *proof_pages(ledger.path, "oBo"), "--openid", "oBo")[0] == 0


def test_consistency_from_every_seal_to_every_later_one(ledger: Ledger, verify: Callable[..., Run]) -> None:
    for first in range(1, 7):
        for second in range(first, 7):
            assert verify("consistency", consistency(ledger.path, first, second))[0] == 0


# -- whose key counts ---------------------------------------------------------------------------------------


def test_without_a_key_it_refuses_to_run(ledger: Ledger, verify: Callable[..., Run]) -> None:
    status, said = verify(*anna(ledger), vkey=None)
    assert status == 2
    assert "--vkey from a source that you trust" in said


@pytest.mark.parametrize("what", ["proof", "export"])
def test_a_key_taken_from_the_file_is_said_to_be_that(
    ledger: Ledger, verify: Callable[..., Run], what: str
) -> None:
    arguments = anna(ledger) if what == "proof" else ("export", ledger.export)
    status, said = verify(*arguments, "--trust-bundle-key", vkey=None)
    assert status == 0
    assert said.splitlines()[-1] == "VERIFIED, if the key that the files name is the right one"


def test_a_file_that_names_no_key_cannot_be_trusted_for_one(ledger: Ledger, verify: Callable[..., Run]) -> None:
    assert verify("receipt", ledger.receipts[0], "--trust-bundle-key", vkey=None)[0] == 2


def test_another_key_is_not_verified(ledger: Ledger, verify: Callable[..., Run]) -> None:
    other = OTHER_SIGNER.verifier.vkey
    assert verify(*anna(ledger), vkey=other)[0] == 1
    assert verify("receipt", ledger.receipts[0], vkey=other)[0] == 1
    assert verify("consistency", ledger.consistency, vkey=other)[0] == 1
    assert verify("seal", ledger.consistency["first"], vkey=other)[0] == 1
    assert verify("export", ledger.export, vkey=other)[0] == 1


@pytest.mark.parametrize(
    "vkey", ["x", "a+b", "a+00000000+", VKEY[:-1], VKEY.replace("+", "+0", 1), VKEY.upper()]
)
def test_a_vkey_that_is_none_cannot_be_used(ledger: Ledger, verify: Callable[..., Run], vkey: str) -> None:
    assert verify(*anna(ledger), vkey=vkey)[0] == 2


# -- every field of every document --------------------------------------------------------------------------


def _places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value that is not an object or a list."""
    children = document.items() if isinstance(document, dict) else enumerate(document)
    for name, value in children:
        if isinstance(value, dict | list):
            yield from _places(value, (*path, name))
        else:
            yield (*path, name)


def _others(value: Any) -> list[Any]:
    """What a value may be turned into: near it, of other types, and nothing."""
    if isinstance(value, int):
        return [value + 1, value - 1, -1, True, str(value), None, 2**53 - 1, 2**64, 10**39]
    if isinstance(value, str):
        middle = len(value) // 2
        flipped = value[:middle] + chr(ord(value[middle : middle + 1] or "a") ^ 1) + value[middle + 1 :]
        return [flipped, value[:-1], value + "A", value + "\n", "\x00" + value, "\ud800", "", 7, None, [value]]
    return [0, "", "aa", 1, False]


def _tampered(document: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for path in _places(document):
        inner = document
        for step in path[:-1]:
            inner = inner[step]
        before = inner[path[-1]]
        for other in _others(before):
            if type(other) is not type(before) or other != before:
                changed = copy.deepcopy(document)
                spot = changed
                for step in path[:-1]:
                    spot = spot[step]
                spot[path[-1]] = other
                yield (*path, other), changed


def test_every_field_of_a_proof_matters(ledger: Ledger, verify: Callable[..., Run]) -> None:
    (page,) = proof_pages(ledger.path, "oBo")
    page["events"] = page["events"][:]
    for where, changed in _tampered(page):
        status, said = verify("proof", changed, "--openid", "oBo")
        assert status == 1, (where, said)


def test_every_field_of_a_receipt_a_seal_and_a_consistency_proof_matters(
    ledger: Ledger, verify: Callable[..., Run]
) -> None:
    for what, document in (
        ("receipt", ledger.receipts[5]),
        ("seal", ledger.consistency["second"]),
        ("seal", consistency(ledger.path, 1, 1)["first"]),  # true is not 1
        ("consistency", ledger.consistency),
    ):
        assert verify(what, document)[0] == 0
        for where, changed in _tampered(document):
            status, said = verify(what, changed)
            assert status == 1, (what, where, said)


def test_every_field_of_every_kind_of_line_of_an_export_matters(
    ledger: Ledger, verify: Callable[..., Run]
) -> None:
    kinds = {tuple(json.loads(line)): number for number, line in enumerate(ledger.export)}
    assert len(kinds) == 4
    for number in kinds.values():
        for where, changed in _tampered(json.loads(ledger.export[number])):
            lines = [
                *ledger.export[:number],
                json.dumps(changed).encode() + b"\n",
                *ledger.export[number + 1 :],
            ]
            status, said = verify("export", lines)
            assert status == 1, (where, said)


def test_every_line_of_an_export_matters(ledger: Ledger, verify: Callable[..., Run]) -> None:
    lines = ledger.export
    for number in range(len(lines)):
        assert verify("export", lines[:number] + lines[number + 1 :])[0] == 1, f"without {number + 1}"
        assert verify("export", lines[: number + 1] + lines[number:])[0] == 1, f"{number + 1} twice"
        if number:
            swapped = [*lines[: number - 1], lines[number], lines[number - 1], *lines[number + 1 :]]
            # Events of different accounts have no order between two seals.
            kinds = [next(iter(json.loads(line))) for line in swapped[number - 1 : number + 1]]
            assert verify("export", swapped)[0] == 1 or kinds == ["openid", "openid"], f"{number + 1} swapped"
    assert verify("export", [*lines, b"\n"])[0] == 1


def test_an_export_that_is_cut_between_any_two_bytes_is_noticed(
    ledger: Ledger, verify: Callable[..., Run]
) -> None:
    whole = b"".join(ledger.export)
    for size in range(1, len(whole) - 1, 211):
        assert verify("export", whole[:size])[0] == 1


def test_an_export_without_a_seal_is_not_verified(tmp_path: Path, verify: Callable[..., Run]) -> None:
    path = new_files(tmp_path)
    happened(path, RegisterUser("oBo", 7))
    lines: list[bytes] = []
    export(path, path.with_name("seals.db"), lines.append, silent)
    status, said = verify("export", lines)
    assert status == 1
    assert "no seal" in said


# -- what a single changed value does not show --------------------------------------------------------------


def test_a_page_left_out_is_noticed(ledger: Ledger, verify: Callable[..., Run]) -> None:
    for number in range(3):
        rest = ledger.anna[:number] + ledger.anna[number + 1 :]
        assert verify("proof", *rest, "--openid", "oAnna")[0] == 1


def test_a_page_given_twice_or_of_another_seal_is_refused(ledger: Ledger, verify: Callable[..., Run]) -> None:
    assert verify("proof", *ledger.anna, ledger.anna[0], "--openid", "oAnna")[0] == 1
    other = {**ledger.anna[1], "credit": 5}
    assert verify("proof", ledger.anna[0], other, ledger.anna[2], "--openid", "oAnna")[0] == 1


def test_a_proof_of_another_account_is_refused(ledger: Ledger, verify: Callable[..., Run]) -> None:
    assert verify("proof", *ledger.anna, "--openid", "oBo")[0] == 1


def _rechained(ledger: Ledger, directory: Path, openid: str, drop: int) -> Path:
    """A copy in which the account lacks its events from `drop` on, sealed with the same key: a lie."""
    path = new_files(directory)
    with vandal(ledger.path) as old, vandal(path) as new:
        for row in old.execute("SELECT * FROM event ORDER BY position").fetchall():
            if row[1] != openid or row[2] < drop:
                # Numbered anew: a gap would not be sealed.
                new.execute(f"INSERT INTO event VALUES (NULL, {', '.join('?' * len(row[1:]))})", row[1:])
        names = "openid, version, head, credit, held"
        spots = "SELECT e.openid, e.version, e.hash, e.credit, 0 FROM event e"
        holds = dict(old.execute("SELECT openid, held FROM account").fetchall())
        columns = [row[1] for row in new.execute("PRAGMA table_info(account)")]
        assert set(names.split(", ")) <= set(columns)
        rows = new.execute(f"{spots} WHERE version = (SELECT max(version) FROM event WHERE openid = e.openid)")
        for openid_, version, head, credit, _ in rows.fetchall():
            held = holds[openid_]
            known = {"openid": openid_, "version": version, "head": head, "credit": credit, "held": held}
            filled = [known.get(column, 0) for column in columns]
            new.execute(f"INSERT INTO account VALUES ({', '.join('?' * len(columns))})", filled)
    return path


def test_a_receipt_that_a_later_seal_lacks_is_evidence(
    ledger: Ledger, tmp_path: Path, verify: Callable[..., Run]
) -> None:
    outcome = next(each for each in reversed(ledger.outcomes) if each.openid == "oBo")
    (receipt,) = plain_receipts([outcome])
    lying = _rechained(ledger, tmp_path, "oBo", outcome.version)
    sealed(lying, outcome.events[-1].recorded_at_us + MINUTE_US)
    pages = proof_pages(lying, "oBo")
    assert verify("proof", *pages, "--openid", "oBo")[0] == 0
    for arguments in (
        ("proof", *pages, "--openid", "oBo", "--receipt", receipt),
        ("receipt", receipt, "--proof", *pages, "--openid", "oBo"),
    ):
        status, said = verify(*arguments)
        assert status == 1
        assert "CONTRADICTED: event 6 was promised" in said
        assert "evidence" in said
    lines: list[bytes] = []
    export(lying, lying.with_name("seals.db"), lines.append, silent)
    status, said = verify("export", lines, "--receipts", receipt)
    assert status == 1
    assert "CONTRADICTED: event 6 was promised" in said


def test_a_receipt_of_another_event_than_the_sealed_one_is_evidence(
    ledger: Ledger, verify: Callable[..., Run]
) -> None:
    event = ledger.outcomes[-1].events[-1]
    key = account_key(b"oAnna")
    lie = Receipt(key, event.version, bytes(32), event.credit, event.recorded_at_us)
    (signed,) = sign_receipts([lie], SIGNER)
    status, said = verify(*anna(ledger), "--receipt", plain(view_receipt(signed)))
    assert status == 1
    assert "CONTRADICTED: event 22 is another one" in said
    both = plain_receipts([ledger.outcomes[-1]])[0]
    status, said = verify(
        "receipt", json.dumps(both).encode() + b"\n" + json.dumps(plain(view_receipt(signed))).encode()
    )
    assert status == 1
    assert "CONTRADICTED: by another receipt" in said


@pytest.mark.parametrize("name", ["hash", "credit", "recorded_at_us"])
def test_a_receipt_is_kept_in_everything_that_it_promises(
    ledger: Ledger, verify: Callable[..., Run], name: str
) -> None:
    event = ledger.outcomes[-1].events[-1]
    kept = Receipt(account_key(b"oAnna"), event.version, event.hash, event.credit, event.recorded_at_us)
    other = {"hash": bytes(32), "credit": event.credit + 1, "recorded_at_us": event.recorded_at_us + 1}
    right, lie = sign_receipts([kept, replace(kept, **{name: other[name]})], SIGNER)
    assert verify(*anna(ledger), "--receipt", plain(view_receipt(right)))[0] == 0
    for documents in (anna(ledger), ("export", ledger.export)):
        status, said = verify(*documents, "--receipt", plain(view_receipt(lie)))
        assert status == 1
        assert "CONTRADICTED: event 22 is another one" in said


def test_a_receipt_is_not_due_in_a_seal_made_less_than_a_minute_later(
    ledger: Ledger, tmp_path: Path, verify: Callable[..., Run]
) -> None:
    outcome = next(each for each in reversed(ledger.outcomes) if each.openid == "oBo")
    (receipt,) = plain_receipts([outcome])
    early = _rechained(ledger, tmp_path, "oBo", outcome.version)
    sealed(early, outcome.events[-1].recorded_at_us + MINUTE_US - 1)
    status, said = verify("proof", *proof_pages(early, "oBo"), "--openid", "oBo", "--receipt", receipt)
    assert status == 0
    assert "Event 6, which a receipt promises, was not due" in said


def test_a_receipt_of_somebody_else_is_no_evidence(ledger: Ledger, verify: Callable[..., Run]) -> None:
    (receipt,) = plain_receipts([ledger.outcomes[0]])
    status, said = verify(*anna(ledger), "--receipt", receipt)
    assert status == 1
    assert "a receipt is of another account" in said
    assert "CONTRADICTED" not in said


def test_all_receipts_are_kept_by_an_export(ledger: Ledger, verify: Callable[..., Run]) -> None:
    lines = b"\n".join(json.dumps({"receipt": each}).encode() for each in ledger.receipts)
    status, said = verify("export", ledger.export, "--receipts", lines)
    assert (status, said.count("is signed.")) == (0, len(ledger.receipts)), said
    assert "not due" not in said


def test_a_forked_log_is_named(ledger: Ledger, tmp_path: Path, verify: Callable[..., Run]) -> None:
    fork = new_files(tmp_path)
    happened(fork, RegisterUser("oEve", 9))
    sealed(fork)
    status, said = verify("consistency", {**ledger.consistency, "first": consistency(fork, 1, 1)["first"]})
    assert status == 1
    same = {**consistency(ledger.path, 1, 1), "first": consistency(fork, 1, 1)["first"]}
    status, said = verify("consistency", same)
    assert status == 1
    assert "FORKED" in said


@pytest.mark.parametrize(("number", "more"), [(2, ""), (1, "more\n"), (1, "lost 0\n")])
def test_an_entry_of_another_number_than_the_note_or_of_more_than_a_seal_is_refused(
    verify: Callable[..., Run], number: int, more: str
) -> None:
    """Signed with the right key and in the signed log, and still no seal."""
    entry = Seal(number, 0, 1, 1, 5, bytes(32)).entry() + more
    note = SIGNER.sign(Checkpoint(SIGNER.name, 1, leaf_hash(entry.encode())).text())
    view = {"number": number, "sealed_at": "1970-01-01T00:00:00.000000Z", "events": 1, "accounts": 1}
    view |= {"outstanding": 5, "root": bytes(32).hex(), "entry": entry, "note": note, "inclusion": ""}
    status, said = verify("seal", view)
    assert status == 1
    assert "not that of the seal that the note is of" in said


def _signed_anew(page: dict[str, Any], **changed: object) -> dict[str, Any]:
    """The proof under another seal, the only one of a log that the same key signed."""
    entry = replace(seal_of(page["seal"]["entry"]), **changed).entry()
    note = SIGNER.sign(Checkpoint(SIGNER.name, 1, leaf_hash(entry.encode())).text())
    shown = {name: value.hex() if isinstance(value, bytes) else value for name, value in changed.items()}
    return {**page, "seal": {**page["seal"], **shown, "entry": entry, "note": note}, "inclusion": ""}


@pytest.mark.parametrize("changed", [{"root": bytes(32)}, {"outstanding": 11}, {"outstanding": 13}])
def test_a_seal_of_another_root_or_total_than_the_proof_comes_to_is_refused(
    tmp_path: Path, verify: Callable[..., Run], changed: dict[str, object]
) -> None:
    """A total that leaves somebody's credit out would be signed as well as any other."""
    path = new_files(tmp_path)
    happened(path, RegisterUser("oBo", 7), RegisterUser("oAnna", 5))
    sealed(path)
    (page,) = proof_pages(path, "oBo")
    assert verify("proof", _signed_anew(page, outstanding=12))[0] == 0
    status, said = verify("proof", _signed_anew(page, **changed))
    assert status == 1
    assert "the account is not in the seal" in said


def test_every_byte_of_the_path_to_the_root_matters(ledger: Ledger, verify: Callable[..., Run]) -> None:
    (page,) = proof_pages(ledger.path, "oBo")
    path = b64decode(page["path"])
    assert len(path) > 34
    for spot in range(len(path)):
        changed = path[:spot] + bytes((path[spot] ^ 1,)) + path[spot + 1 :]
        status, said = verify("proof", {**page, "path": b64encode(changed).decode()})
        assert status == 1, (spot, said)


def test_nothing_may_be_left_out_of_a_page(ledger: Ledger, verify: Callable[..., Run]) -> None:
    for name in ledger.anna[0]:
        for number in range(3):
            pages = [dict(page) for page in ledger.anna]
            del pages[number][name]
            status, said = verify("proof", *pages)
            assert status == 1, (name, number, said)


def test_receipts_are_held_against_accounts_only(ledger: Ledger, verify: Callable[..., Run]) -> None:
    """Beside a seal or two they would be read, and said to be verified, and nothing had kept them."""
    for what, document in (("seal", ledger.consistency["first"]), ("consistency", ledger.consistency)):
        status, said = verify(what, document, "--receipt", ledger.receipts[0])
        assert status == 2
        assert "held against a proof or an export" in said


def _seals_signed_anew(lines: list[bytes], change: Callable[[Seal], Seal]) -> list[bytes]:
    """The export with other seals, all signed by the same key."""
    tree, signed = Tree(), []
    for line in lines:
        found = json.loads(line)
        if "seal" in found:
            entry = change(seal_of(found["seal"])).entry()
            tree.append(entry.encode())
            top = Checkpoint(SIGNER.name, tree.size, root(tree.size, tree.node))
            line = json.dumps({"seal": entry, "note": SIGNER.sign(top.text())}).encode() + b"\n"
        signed.append(line)
    return signed


def test_no_seal_of_an_export_is_older_than_the_one_before_it(
    ledger: Ledger, verify: Callable[..., Run]
) -> None:
    for second, expected in ((SINCE_US + 50, 0), (SINCE_US + 49, 1)):
        lines = _seals_signed_anew(
            ledger.export,
            lambda seal, at_us=second: replace(seal, sealed_at_us=at_us) if seal.number == 2 else seal,
        )
        status, said = verify("export", lines)
        assert (status, "older than the one before" in said) == (expected, bool(expected)), said


@pytest.mark.parametrize(
    "lie", [{"events": 99}, {"accounts": 2}, {"outstanding": 5}, {"root": bytes(32)}], ids=lambda lie: str(*lie)
)
def test_each_figure_of_a_seal_is_what_the_events_before_it_come_to(
    ledger: Ledger, verify: Callable[..., Run], lie: dict[str, object]
) -> None:
    """It is signed, so nothing else would show it."""
    assert verify("export", _seals_signed_anew(ledger.export, lambda seal: seal))[0] == 0
    lines = _seals_signed_anew(ledger.export, lambda seal: replace(seal, **lie) if seal.number == 3 else seal)
    status, said = verify("export", lines)
    assert status == 1
    assert "seal 3 is not what the events before it come to" in said


def test_no_seal_of_an_export_may_be_passed_over(ledger: Ledger, verify: Callable[..., Run]) -> None:
    """A root that was made for it: the third entry of three has a path as short as the second of two."""
    places = [number for number, line in enumerate(ledger.export) if b'{"seal"' in line]
    first, second = (seal_of(json.loads(ledger.export[place])["seal"]) for place in places[:2])
    entry = replace(second, number=3).entry()
    top = node_hash(leaf_hash(first.entry().encode()), leaf_hash(entry.encode()))
    note = SIGNER.sign(Checkpoint(SIGNER.name, 3, top).text())
    forged = json.dumps({"seal": entry, "note": note}).encode() + b"\n"
    before = ledger.export[: places[1]]
    end = json.dumps({"end": {"events": second.events, "seals": 2}}).encode() + b"\n"
    status, said = verify("export", [*before, forged, end])
    assert status == 1
    assert "not numbered 1, 2, 3 without a gap" in said


def test_an_export_without_its_seals_proves_nothing(ledger: Ledger, verify: Callable[..., Run]) -> None:
    events = [line for line in ledger.export if b'{"openid"' in line]
    end = json.dumps({"end": {"events": len(events), "seals": 0}}).encode() + b"\n"
    status, said = verify("export", [ledger.export[0], *events, end])
    assert status == 1
    assert "nothing in it is signed" in said


def test_an_export_that_names_another_key_than_the_given_one_is_refused(
    ledger: Ledger, verify: Callable[..., Run]
) -> None:
    header = {**json.loads(ledger.export[0]), "vkey": OTHER_SIGNER.verifier.vkey}
    status, said = verify("export", [json.dumps(header).encode() + b"\n", *ledger.export[1:]])
    assert status == 1
    assert "line 1: it names another key" in said


@pytest.mark.parametrize("line", [b"{}\n", b'{"other":1}\n', b"7\n", b"[]\n"])
def test_a_line_of_no_kind_is_refused(ledger: Ledger, verify: Callable[..., Run], line: bytes) -> None:
    for place in (0, 1, len(ledger.export)):
        status, said = verify("export", [*ledger.export[:place], line, *ledger.export[place:]])
        assert status == 1
        assert f"line {place + 1}: it is no" in said


# -- hostile input ------------------------------------------------------------------------------------------


KEY = sha256(b"oBo").digest()

HOSTILE = [
    b"",
    b"\xff\xfe",
    b"[" * 200_000,
    b'{"a":' * 100_000,
    b'{"vkey": "a", "vkey": "b"}',
    b'{"n": ' + b"9" * 10_000 + b"}",
    b"nonsense",
]
ODD = [
    b"{}",
    b"[]",
    b"null",
    b"7",
    b'"text"',
    b'{"events": [7]}',
    b'{"events": [{}]}',
    b'{"n": 1e400}',
    b'{"n": NaN}',
]


@pytest.mark.parametrize("text", HOSTILE + ODD, ids=lambda text: repr(text[:20]))
@pytest.mark.parametrize("what", ["proof", "receipt", "consistency", "seal", "export"])
def test_hostile_input_never_ends_in_a_traceback(verify: Callable[..., Run], what: str, text: bytes) -> None:
    status, said = verify(what, text, *(["--openid", "oBo"] if what == "proof" else []))
    assert status == (1 if text in ODD or what == "export" else 2), said
    assert said.startswith(("NOT VERIFIED: ", "UNUSABLE: "))


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b"[]", b"7", b'{"amount":-1}', b'{"amount":true}', b'{"amount":1,"returned":[7]}']
)
def test_hostile_data_in_an_event_is_refused(ledger: Ledger, verify: Callable[..., Run], data: bytes) -> None:
    """The hash is right, so it is the facts that are looked at."""
    account = verify_proof.Account(KEY)
    event = {"version": 1, "type": "CreditGranted", "data": data.decode(), "credit": 1, "key": None}
    event |= {"fingerprint": None, "recorded_at_us": 1}
    columns = (KEY, 1, b"CreditGranted", data, 1, None, None, 1)
    event["hash"] = verify_proof.chained(bytes(32), *columns).hex()
    with pytest.raises((ValueError, RecursionError)):
        account.follow(event, {})


def test_a_file_that_is_not_there_cannot_be_used(verify: Callable[..., Run]) -> None:
    assert verify("seal", "missing.json")[0] == 2
    assert verify("export", "missing.json")[0] == 2


def test_what_is_asked_must_make_sense(ledger: Ledger, verify: Callable[..., Run]) -> None:
    assert verify("nonsense", "x")[0] == 2
    assert verify("proof", *ledger.anna)[0] == 0, "whose it is, who asks need not know"
    assert verify("seal", ledger.consistency["first"], "--openid", "oBo")[0] == 2


def test_a_key_that_looks_like_a_hash_is_a_text(tmp_path: Path, verify: Callable[..., Run]) -> None:
    path = new_files(tmp_path)
    happened(path, RegisterUser("oBo", 7), GrantCredit("oBo", 3, "gift", "5e" * 32))
    sealed(path)
    assert verify("proof", *proof_pages(path, "oBo"), "--openid", "oBo")[0] == 0


def test_numbers_have_a_largest_one() -> None:
    """Larger ones would not fit the bytes that are hashed, nor a date."""
    largest = verify_proof.LARGEST
    assert verify_proof.take({"credit": largest}, int, "credit") == largest
    with pytest.raises(ValueError, match="credit is out of range"):
        verify_proof.take({"credit": largest + 1}, int, "credit")


def test_holds_count_in_the_leaf(tmp_path: Path, verify: Callable[..., Run]) -> None:
    path = new_files(tmp_path)
    happened(path, RegisterUser("oBo", 7), HoldCredit("oBo", 3, "order", "k1"))
    sealed(path)
    pages = proof_pages(path, "oBo")
    assert pages[0]["held"] == 3
    assert verify("proof", *pages, "--openid", "oBo")[0] == 0


@pytest.mark.parametrize(("version", "credit", "at_us"), [(2, 5, 0), (2, 6, 1), (3, 5, 1), (1, 5, 1)])
def test_a_chained_event_that_cannot_follow_is_refused(version: int, credit: int, at_us: int) -> None:
    """The hash is right each time: too early, of another credit than its facts come to, or out of turn."""
    account = verify_proof.Account(KEY)
    for number, spendable, time in ((1, 0, 1), (version, credit, at_us)):
        kind, data = ("CreditGranted", '{"amount":5}') if number > 1 else ("UserRegistered", "{}")
        columns = (KEY, number, kind.encode(), data.encode(), spendable, None, None, time)
        event = {"version": number, "type": kind, "data": data, "credit": spendable, "recorded_at_us": time}
        event["hash"] = verify_proof.chained(account.head, *columns).hex()
        if time == 1 and number == 1 and account.version == 0:
            account.follow(event, {})
    with pytest.raises(ValueError, match="event"):
        account.follow(event, {})


def test_no_more_can_be_held_than_there_can_be() -> None:
    """Of more no leaf can be made."""
    account, most = verify_proof.Account(KEY), verify_proof.LARGEST
    lines = [("UserRegistered", "{}", 0)]
    lines += [("CreditGranted", f'{{"amount":{most}}}', most), ("CreditHeld", f'{{"amount":{most}}}', 0)]
    lines += [("CreditGranted", '{"amount":1}', 1), ("CreditHeld", '{"amount":1}', 0)]
    for number, (kind, data, credit) in enumerate(lines, 1):
        event = {"version": number, "type": kind, "data": data, "credit": credit, "recorded_at_us": 1}
        columns = (KEY, number, kind.encode(), data.encode(), credit, None, None, 1)
        event["hash"] = verify_proof.chained(account.head, *columns).hex()
        if number < 5:
            account.follow(event, {})
    assert account.held == most
    with pytest.raises(ValueError, match="event 5 holds more than there can be"):
        account.follow(event, {})
