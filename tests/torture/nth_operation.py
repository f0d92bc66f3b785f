"""The N-th operation of the disk fails, for any N: what was told stays true, and the same keys settle the rest.

strace lets a sync, a write or a truncation of a short program fail; what the program said is then held against
what a fresh process finds.
"""

import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from shutil import rmtree, which
from typing import Final

import msgspec

from api import access
from ledger.commands import GrantCredit, Submission, key_of
from ledger.committer import ledger_committer
from ledger.errors import LedgerFault, LedgerUnusable
from ledger.execute import Outcome
from ledger.sqlite import UNREADABLE, connect, file_problems
from ledger.verify import audit
from tests.conftest import ROOT
from tests.torture.failing_service import failing_service
from tests.torture.nth_writer import BATCHES, Answer
from tests.torture.power_steps import START_US, create_files
from tests.torture.power_story import ACCESS, FILES, LEDGER
from tests.torture.round import CannotRun, Round

_PATIENCE_S: Final = 60
ROUNDS_OF_A_WALK: Final = 24
# A worker that fails sooner gets nothing done, and neither does the next one in its place.
_FIRST_OF_A_SERVICE: Final = 8
_SERVICES: Final = 17
_CALL: Final = re.compile(r"(\w+)\(")
_STOPPED: Final = "stopped writing after a disk failure"


class Fault(msgspec.Struct, frozen=True):
    """`error` of the system calls `calls`, at the N-th and, where it `stays`, at all behind it."""

    name: str
    calls: str
    error: str
    stays: bool = False

    def under(self, number: int, report: Path) -> list[str]:
        """strace with this fault at call `number`; 0 lets nothing fail. Each call is a line of `report`."""
        when = f"{number}+" if self.stays else str(number)
        inject = ["-e", f"inject={self.calls}:error={self.error}:when={when}"] if number else []
        return [
            "strace", "-f", "--seccomp-bpf", "-qq", "-o", str(report), "-e", f"trace={self.calls}", *inject,
        ]  # fmt: skip


# pysqlite3's SQLite calls fsync, Debian's calls fdatasync.
FAULTS: Final = (
    Fault("syncs that failed", "fsync,fdatasync", "EIO"),
    Fault("writes that failed", "pwrite64", "EIO"),
    Fault("writes that found the disk full", "pwrite64", "ENOSPC"),
    Fault("writes that found the disk full from then on", "pwrite64", "ENOSPC", stays=True),
    Fault("truncations that failed", "ftruncate", "EIO"),
)


def nth_operation(round: Round) -> None:
    """Of a whole service in every third round, of a short program in each."""
    check_strace()
    if round.number % 3 == 1:
        failing_service(round, _FIRST_OF_A_SERVICE + round.number // 3 % _SERVICES)
    let_operations_fail(round)


def let_operations_fail(round: Round, rounds_of_a_walk: int = ROUNDS_OF_A_WALK) -> None:
    """Let the N-th operation of each kind fail for one N after another, until there is no N-th."""
    for fault in FAULTS:
        for number in numbers(round.number, rounds_of_a_walk):
            if not _let_fail(round, fault, number):
                round.walked[f"{fault.name}: none any more at number"].add(number)
                break
            round.walked[f"{fault.name}: number"].add(number)


def numbers(round_number: int, rounds_of_a_walk: int) -> Iterator[int]:
    """Each N of a round, without end.

    Round 1 begins with 1, round 2 with 2, and each goes on in steps as wide as a walk has rounds: together they
    leave nothing out. The round after the last begins the walk anew.
    """
    return count((round_number - 1) % rounds_of_a_walk + 1, rounds_of_a_walk)


def check_strace() -> None:
    if which("strace") is None:
        raise CannotRun("strace is missing: apt-get install strace")
    tried = subprocess.run([*FAULTS[0].under(1, Path("/dev/null")), "true"], capture_output=True, text=True)
    if tried.returncode:
        raise CannotRun(f"strace may not trace here, let it (CAP_SYS_PTRACE): {tried.stderr.strip()}")


def run(directory: Path, fault: Fault, number: int, end: str) -> tuple[list[Answer], int, Counter[str]]:
    """The program in a new `directory`: what it said, its status, and how many of each call failed."""
    rmtree(directory, ignore_errors=True)
    directory.mkdir()
    report = directory / "strace"
    ran = subprocess.run(
        [*fault.under(number, report), sys.executable, "-m", "tests.torture.nth_writer", str(directory), end],
        cwd=ROOT, capture_output=True, timeout=_PATIENCE_S, check=False,
    )  # fmt: skip
    (directory / "stderr").write_bytes(ran.stderr)
    answers = [msgspec.json.decode(line, type=Answer) for line in ran.stdout.splitlines()]
    lines = report.read_text().splitlines()
    calls = [_CALL.search(line) for line in lines if "(INJECTED)" in line]
    return answers, ran.returncode, Counter(call[1] for call in calls if call)


def _let_fail(round: Round, fault: Fault, number: int) -> bool:
    """Whether there was an operation to fail.

    What a COMMIT that failed left behind shows where the program dies of it, what it does next where not.
    """
    ends = ("ends", "dies") if fault is FAULTS[0] else (round.random.choice(("ends", "dies")),)
    failed = [_run_and_judge(round, fault, number, end) for end in ends]
    return any(failed)


def _run_and_judge(round: Round, fault: Fault, number: int, end: str) -> bool:
    directory = round.directory / f"{fault.calls.partition(',')[0]}-{fault.error}-{number}-{end}"
    answers, status, calls = run(directory, fault, number, end)
    failed = calls.total()
    round.record(fault=fault.name, number=number, end=end, failed=failed, status=status, answers=answers)
    round.tally[fault.name] += min(failed, 1)
    round.tally["runs in which nothing failed"] += not failed
    for answer in answers:
        round.tally["acknowledged"] += answer.told.count("acknowledged")
        if answer.outcome != "told":
            round.tally[answer.outcome] += 1
    broken = [
        *wrong_end(answers, status, directory),
        *(unprovoked(answers) if not failed else ()),
        *(stuck(answers) if fault.error == "ENOSPC" and not fault.stays else ()),
        *broken_promises(directory, answers),
    ]
    for promise in broken:
        round.expect(False, f"{fault.calls} number {number} answers {fault.error}, it {end}: {promise}")
    if not broken:
        rmtree(directory)
    return bool(failed)


def unprovoked(answers: list[Answer]) -> Iterator[str]:
    """Where nothing fails, everything is told."""
    told = sum(answer.outcome == "told" for answer in answers)
    if told < 2 * len(BATCHES):
        yield f"nothing failed, and of {2 * len(BATCHES)} changes {told} were told: {answers}"


def wrong_end(answers: list[Answer], status: int, directory: Path) -> Iterator[str]:
    """What the program did that it must not: end without a word, or write after the disk failed."""
    if status not in (0, -signal.SIGKILL, 128 + signal.SIGKILL):
        last = (directory / "stderr").read_text(errors="replace").strip().splitlines()[-1:]
        yield f"it ended with status {status}: {last}"
    failed: set[str] = set()
    for answer in answers:
        if answer.file in failed and (answer.outcome != "not committed" or _STOPPED not in answer.why):
            yield f"it went on with {answer.file} after its COMMIT answered an I/O error: {answer}"
        if answer.disk_failed or (answer.outcome == "unknown" and "I/O error" in answer.why):
            failed.add(answer.file)


def stuck(answers: list[Answer]) -> Iterator[str]:
    """A disk that was full for one write is no reason to refuse the next change."""
    if len(bad := [answer for answer in answers if answer.outcome != "told"]) > 1:
        yield f"it did not go on by itself once there was room: {bad[1]}"


def broken_promises(directory: Path, answers: list[Answer]) -> Iterator[str]:
    """What a fresh process finds that is not as it was told; and it settles everything."""
    try:
        create_files(directory)
        for file in FILES:
            with closing(connect(directory / file, read_only=True)) as connection:
                for problem in file_problems(connection):
                    yield f"{file} is damaged: {problem}"
        before = recorded(directory / LEDGER)
        for answer in answers:
            if answer.file == LEDGER and answer.outcome != "not started":
                yield from _untrue(answer, BATCHES[answer.number], before)
            elif answer.outcome == "told":
                yield from _locked_out(directory / ACCESS, answer)
        yield from _unsettled(directory / LEDGER, before)
    except (LedgerUnusable, LedgerFault, *UNREADABLE) as error:
        yield f"the next start cannot work with it: {error!r}"


def recorded(path: Path) -> Counter[tuple[str, str | None]]:
    """How often each key, and each registration under None, is in the log."""
    with closing(connect(path, read_only=True)) as connection:
        rows = connection.execute(
            "SELECT openid, key FROM event WHERE key IS NOT NULL OR type = 'UserRegistered'"
        )
        return Counter(tuple(row) for row in rows)


def _identity(submission: Submission) -> tuple[str, str | None]:
    return submission.command.openid, key_of(submission.command)


def _untrue(answer: Answer, batch: list[Submission], found: Counter[tuple[str, str | None]]) -> Iterator[str]:
    counts = [found[_identity(submission)] for submission in batch]
    if answer.outcome == "told":
        for submission, told, count in zip(batch, answer.told, counts, strict=True):
            if count != (told == "acknowledged"):
                yield f"{submission.command} was {told}, and is there {count} times"
    elif answer.outcome == "not committed" and any(counts):
        yield f"change {answer.number} was told not to be committed, and is there"
    grants = [count for each, count in zip(batch, counts, strict=True) if isinstance(each.command, GrantCredit)]
    if len(grants) == len(batch) and len(set(grants)) > 1:
        yield f"change {answer.number} is there in part"


def _locked_out(path: Path, answer: Answer) -> Iterator[str]:
    with closing(access.open_access(path, read_only=True)) as connection:
        for token in answer.told:
            if not token.startswith("failed") and access.find_session(connection, token, START_US) is None:
                yield f"the token of login {answer.number} was given out and does not work"


def _unsettled(path: Path, before: Counter[tuple[str, str | None]]) -> Iterator[str]:
    """Send everything again, with the same keys."""
    with closing(ledger_committer(path)) as committer:
        for batch in BATCHES:
            for submission, outcome in zip(batch, committer.commit(batch), strict=True):
                identity = _identity(submission)
                if identity[1] == "too-much":
                    continue
                if not isinstance(outcome, Outcome):
                    yield f"{submission.command} sent again is answered {outcome!r}"
                elif outcome.replayed != bool(before[identity]):
                    yield f"{submission.command} sent again is told replayed {outcome.replayed}"
    after = recorded(path)
    for batch in BATCHES:
        for submission in batch:
            wanted = int(_identity(submission)[1] != "too-much")
            if after[_identity(submission)] != wanted:
                yield f"{submission.command} is there {after[_identity(submission)]} times once it was settled"
    for fault in audit(path).faults:
        yield f"the audit found: {fault}"
