"""Damage to the file itself, below SQL: the audit finds it or says that the file cannot be used."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import LedgerUnusable
from ledger.replay import replay, replay_and_write
from ledger.verify import Report, audit
from tests.ledger_processes import PATIENCE_S, ROOT
from tests.ledger_samples import (
    accounts_of,
    committed,
    flip_bit,
    log_of,
    new_directory,
    new_ledger,
    sample_ledger,
    settle_file,
    ticking,
    whole_life,
)

PAGE_BYTES = 4096


@pytest.fixture
def settled(ledger_path: Path) -> Path:
    """A ledger whose every byte is in its one file, and that nobody has open."""
    sample_ledger(ledger_path)
    settle_file(ledger_path)
    return ledger_path


@pytest.fixture
def full(ledger_path: Path) -> Path:
    """As `settled`, and every table and index has something in it."""
    sample_ledger(ledger_path)
    committed(ledger_path, *whole_life("oCi"), clock_us=ticking())
    settle_file(ledger_path)
    return ledger_path


@pytest.fixture(scope="module")
def sample() -> tuple[bytes, object]:
    """The bytes of such a ledger, and what is read from it."""
    with new_ledger() as path:
        sample_ledger(path)
        committed(path, *whole_life("oCi"), clock_us=ticking())
        state = log_of(path), accounts_of(path)
        settle_file(path)
        return path.read_bytes(), state


def audit_or_refusal(path: Path) -> Report | None:
    """The report; None where the file was refused in a sentence. Anything else raised is the test's failure."""
    try:
        return audit(path)
    except LedgerUnusable:
        return None


def flip_in_file(path: Path, offset: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] = bytes(flip_bit(bytes(content[offset : offset + 1]), bit))[0]  # type: ignore[arg-type]
    path.write_bytes(content)


def root_page(path: Path, name: str) -> int:
    """The number of the first page of a table or index, 1 for the file's first."""
    code = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute("
    code += "'SELECT rootpage FROM sqlite_master WHERE name = ?', sys.argv[2:]).fetchone())"
    answer = subprocess.run([sys.executable, "-c", code, path, name], capture_output=True, check=True)
    return int(answer.stdout)


@pytest.mark.parametrize("column", ["hash", "data", "openid", "type", "key", "fingerprint"])
@pytest.mark.parametrize("bit", [0, 1, 7, 100])
def test_a_bit_flipped_in_the_stored_bytes_of_an_event_is_found(settled: Path, column: str, bit: int) -> None:
    """The index still has the right value, so a check that looked there would see nothing."""
    row = log_of(settled)[-1]
    stored = getattr(row, column)
    page = (root_page(settled, "event") - 1) * PAGE_BYTES
    whole = settled.read_bytes()[page : page + PAGE_BYTES]
    # SQLite fills a page from its end, so the last event comes first.
    found = page + whole.index(stored, whole.index(b"oAnna"))
    flip_in_file(settled, found + bit // 8 % len(stored), bit % 8)
    report = audit(settled)
    assert not report.good
    if column not in ("openid", "type"):
        assert ("oAnna", 4) in [(fault.openid, fault.version) for fault in report.faults]


@pytest.mark.parametrize("index", ["event_key", "sqlite_autoindex_event_1"])
def test_a_bit_flipped_in_an_index_is_found(settled: Path, index: str) -> None:
    """The log is right and the look-up by key is not: a repeated key would be granted again."""
    page = (root_page(settled, index) - 1) * PAGE_BYTES
    flip_in_file(settled, page + settled.read_bytes()[page : page + PAGE_BYTES].index(b"oAnna") + 1, 0)
    assert "file" in {fault.what for fault in audit(settled).faults}


@pytest.mark.parametrize("index", ["event_correction", "account_due"])
def test_a_bit_flipped_in_an_index_of_what_is_due_or_corrected_is_found(full: Path, index: str) -> None:
    """Credit would be given back twice, or never expire for the sweep."""
    page = (root_page(full, index) - 1) * PAGE_BYTES
    flip_in_file(full, page + full.read_bytes()[page : page + PAGE_BYTES].index(b"oCi") + 1, 0)
    assert "file" in {fault.what for fault in audit(full).faults}


@given(st.data())
@settings(max_examples=250, deadline=None)
def test_a_bit_flipped_anywhere_in_the_file_is_found_or_changed_nothing(
    sample: tuple[bytes, object], data: st.DataObject
) -> None:
    content, state = sample
    with new_directory() as directory:
        path = directory / "ledger.db"
        path.write_bytes(content)
        flip_in_file(path, data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7)))
        report = audit_or_refusal(path)
        if report is not None and report.good:
            assert (log_of(path), accounts_of(path)) == state


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_replay_of_a_file_with_flipped_bits_answers_or_refuses(
    sample: tuple[bytes, Any], data: st.DataObject
) -> None:
    content, (_, rows) = sample
    with new_directory() as directory:
        path = directory / "ledger.db"
        path.write_bytes(content)
        for offset in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
            flip_in_file(path, offset, data.draw(st.integers(0, 7)))
        for run in (replay, replay_and_write):
            with suppress(LedgerUnusable):
                rebuilt = run(path)
                if not rebuilt.faults and not rebuilt.differences:  # of the hashes the audit tells
                    assert accounts_of(path) == rows


def test_an_error_message_that_quotes_damaged_text_is_a_refusal_too(settled: Path) -> None:
    """SQLite quotes the schema in "malformed database schema (...)", and Python then cannot decode it."""
    content = settled.read_bytes()
    settled.write_bytes(
        content.replace(b"CREATE TRIGGER event_is_never_updated", b"CREATE TRIGGER \xff\xff ent")
    )
    for run in (audit, replay, replay_and_write):
        with pytest.raises(LedgerUnusable, match=str(settled)):
            run(settled)


AUDIT = """
import sys
from contextlib import suppress
from pathlib import Path
from ledger.verify import audit
for fault in audit(Path(sys.argv[1])).faults:
    print(fault.openid, fault.version, fault.what)
"""


def test_rows_that_lead_in_a_circle_end_the_audit(settled: Path) -> None:
    """The last row of the page says position 2: who reads on "behind the last position" never ends."""
    page = (root_page(settled, "event") - 1) * PAGE_BYTES
    content = bytearray(settled.read_bytes())
    cells = int.from_bytes(content[page + 3 : page + 5], "big")
    assert (content[page], cells) == (13, 7), "one leaf page of a table with seven rows"
    pointer = page + 8 + 2 * (cells - 1)
    cell = page + int.from_bytes(content[pointer : pointer + 2], "big")
    position = cell + 2  # behind the length of the row, in two bytes
    assert (content[cell] & 0x80, content[position]) == (0x80, 7)
    content[position] = 2
    settled.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, settled],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=PATIENCE_S,
    )
    assert {"oAnna 0 account", " 0 file"} <= set(done.stdout.splitlines())


@pytest.mark.parametrize("kept", [0, 1, 15, 16, 99, 100, 512, 4095, 4096, 4097, 8192, 12288, -4096, -1])
def test_a_truncated_file_is_found_or_refused(full: Path, kept: int) -> None:
    full.write_bytes(full.read_bytes()[:kept])
    report = audit_or_refusal(full)
    assert report is None or not report.good


@pytest.mark.parametrize(
    "garbage", [b"\0" * 8192, b"\xff" * 8192, b"Berlin, 1924\n" * 1000, bytes(range(256)) * 64]
)
def test_garbage_is_refused(settled: Path, garbage: bytes) -> None:
    settled.write_bytes(garbage)
    assert audit_or_refusal(settled) is None


@pytest.mark.parametrize("page", range(1, 14))
def test_garbage_in_one_page_is_found_or_refused(full: Path, page: int) -> None:
    whole = replay(full)
    empty = {root_page(full, table) for table in ("replay", "replay_range")}  # nothing there is read
    content = bytearray(full.read_bytes())
    assert len(content) == 13 * PAGE_BYTES
    content[(page - 1) * PAGE_BYTES + 100 : page * PAGE_BYTES] = b"\x5a" * (PAGE_BYTES - 100)
    full.write_bytes(content)
    report = audit_or_refusal(full)
    assert report is None or not report.good or page in empty
    for run in (replay, replay_and_write):
        with suppress(LedgerUnusable):
            rebuilt = msgspec.structs.replace(run(full), swapped=False)
            assert rebuilt == whole, "not misled by a page that it does not need"


def test_a_ledger_without_its_tables_is_refused(ledger_path: Path) -> None:
    with new_ledger() as other:
        sample_ledger(other)
        for table in ("ledger", "event", "account"):
            code = f"import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('DROP TABLE {table}')"
            subprocess.run([sys.executable, "-c", code, other], check=True)
            report = audit_or_refusal(other)
            assert report is None or "file" in {fault.what for fault in report.faults}
