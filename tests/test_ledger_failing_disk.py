"""A disk that fails under COMMIT: the outcome is unknown, and the same key settles it to exactly once."""

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from ledger.commands import GrantCredit, RegisterUser
from ledger.sqlite import SqliteError, is_disk_failure
from tests.ledger_processes import Program
from tests.ledger_samples import assert_sound, committed, log_of

KEYS = ["k1", "k2", "k3", "k4", "k5"]


def tracing(call: int) -> tuple[str, ...]:
    """strace that lets the disk fail at the `call`-th sync, and at no other.

    pysqlite3's SQLite calls fsync, Debian's calls fdatasync.
    """
    return (
        "strace", "-f", "-qq", "-o", "/dev/null",
        "-e", "trace=fsync,fdatasync", "-e", f"inject=fsync,fdatasync:error=EIO:when={call}",
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is missing: a failing disk was NOT tested (apt-get install strace)")
    tried = subprocess.run([*tracing(1), "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: a failing disk was NOT tested: {tried.stderr.strip()}")


@pytest.mark.parametrize(
    ("call", "how_it_ends"), [(1, "ends"), (2, "ends"), (3, "killed"), (4, "killed"), (5, "ends")]
)
def test_after_a_sync_error_the_outcome_is_unknown_the_process_writes_no_more_and_the_key_settles_it(
    ledger_path: Path, call: int, how_it_ends: str
) -> None:
    committed(ledger_path, RegisterUser("oAnna", 0))
    with Program("failing-disk", ledger_path, "oAnna", ",".join(KEYS), under=tracing(call)) as program:
        assert program.read() == "ready"
        program.go()
        answers = dict(program.read() for _ in KEYS)  # type: ignore[misc]
        if how_it_ends == "ends":
            assert program.stop() == 0
    told = list(answers.values())
    if "unknown, disk failed" not in told:
        assert call == 2, "that one syncs the directory of a new write-ahead log: SQLite takes no notice"
    failed = told.index("unknown, disk failed") if "unknown, disk failed" in told else len(KEYS)
    assert told[:failed] == ["committed"] * failed
    assert told[failed + 1 :] == ["not committed"] * (len(KEYS) - failed - 1)

    assert {f"k{n + 1}" for n in range(failed)} <= {row.key.decode() for row in log_of(ledger_path) if row.key}
    settled = committed(ledger_path, *(GrantCredit("oAnna", 1, "gift", key) for key in KEYS))
    assert [outcome.replayed for outcome in settled[:failed]] == [True] * failed
    assert [outcome.replayed for outcome in settled[failed + 1 :]] == [False] * (len(KEYS) - failed - 1)
    assert Counter(row.key for row in log_of(ledger_path) if row.key) == {key.encode(): 1 for key in KEYS}
    assert_sound(ledger_path)


def test_an_error_is_a_failure_of_the_disk_by_its_code_extended_or_not() -> None:
    """SQLITE_IOERR is 10 and SQLITE_IOERR_FSYNC 1034; SQLITE_BUSY is 5 and SQLITE_FULL 13."""
    for code, failed in ((10, True), (1034, True), (4106, True), (5, False), (13, False), (517, False)):
        error = SqliteError("made up")
        error.sqlite_errorcode = code
        assert is_disk_failure(error) is failed
    assert not is_disk_failure(SqliteError("without a code"))
