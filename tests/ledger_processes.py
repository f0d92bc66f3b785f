"""What the tests of the ledger run in processes of their own, each opening the ledger for itself.

`python -m tests.ledger_processes <role> <ledger> ...` says "ready", waits for a line on its standard input,
does its work, and answers on standard output, one JSON value a line.
"""

import json
import os
import random
import selectors
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path
from types import TracebackType

from ledger.commands import CheckIn, Command, GrantCredit, RegisterUser, SpendCredit
from ledger.committer import ledger_committer
from ledger.errors import NotCommitted, OutcomeUnknown, Refusal
from ledger.execute import Outcome
from ledger.schema import create
from tests.ledger_samples import APPID, commit_with

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60


class Program:
    """One role in a process of its own; killed when the `with` block is left."""

    def __init__(self, *arguments: object, under: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [*under, sys.executable, "-m", "tests.ledger_processes", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._input, self._output = self.process.stdin, self.process.stdout
        self._unread = b""

    def __enter__(self) -> "Program":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._input.close()
        self._output.close()

    def read(self) -> object:
        """The next answer; fails instead of waiting for ever."""
        deadline = time.monotonic() + PATIENCE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                assert selector.select(deadline - time.monotonic()), f"no answer in {PATIENCE_S} s"
                received = os.read(self._output.fileno(), 65536)
                assert received, f"ended without an answer, status {self.process.wait()}"
                self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def drain(self) -> list[object]:
        """What it has answered so far, without waiting."""
        answers = []
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while b"\n" in self._unread or selector.select(0):
                answers.append(self.read())
        return answers

    def go(self) -> None:
        os.write(self._input.fileno(), b"\n")

    def stop(self) -> int:
        """Ask a role that runs until its input ends to end; returns its exit status."""
        self._input.close()
        deadline = time.monotonic() + PATIENCE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            # It may be waiting for somebody to read: a pipe holds some thousand answers.
            while selector.select(deadline - time.monotonic()):
                received = os.read(self._output.fileno(), 65536)
                if not received:
                    break
                self._unread += received
        return self.process.wait(PATIENCE_S)

    def kill(self) -> list[object]:
        """SIGKILL, and all that was answered until then and not yet read. Half a line was not an answer."""
        self.process.kill()
        self.process.wait()
        *lines, _ = (self._unread + self._output.read()).split(b"\n")
        return [json.loads(line) for line in lines]


def at_once(*programs: tuple[object, ...]) -> list[object]:
    """The one answer of each program, all started on their work at the same moment."""
    running = [Program(*arguments) for arguments in programs]
    try:
        for program in running:
            assert program.read() == "ready"
        for program in running:
            program.go()
        answers = [program.read() for program in running]
        assert [program.process.wait(PATIENCE_S) for program in running] == [0] * len(running)
        return answers
    finally:
        for program in running:
            program.__exit__(None, None, None)


def say(answer: object) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def race_in_threads(path: Path, commands: list[Command]) -> None:
    """Commit each command in a thread of its own with a committer of its own, all at once.

    Answers what each came to: [replayed, credit], or a refusal's [code, figures].
    """
    together = threading.Barrier(len(commands) + 1)
    outcomes: list[object] = []

    def run(command: Command) -> None:
        committer = ledger_committer(path)
        together.wait()
        outcomes.extend(commit_with(committer, command))
        committer.close()

    running = [threading.Thread(target=run, args=(command,)) for command in commands]
    for thread in running:
        thread.start()
    wait_for_go()
    together.wait()
    for thread in running:
        thread.join()
    say([_told(outcome) for outcome in outcomes])


def _told(outcome: object) -> list[object]:
    if isinstance(outcome, Refusal):
        return [outcome.code, outcome.figures()]
    assert isinstance(outcome, Outcome), outcome
    return [outcome.replayed, outcome.credit]


def grant_shuffled(path: Path, seed: int, openids: list[str], keys: int) -> None:
    """Grant each of `keys` keys to each openid, in an order of its own; answers openid, key -> version, new."""
    chance = random.Random(seed)
    commands = [GrantCredit(openid, 1, "gift", f"k{n}") for openid in openids for n in range(keys)]
    chance.shuffle(commands)
    committer = ledger_committer(path)
    wait_for_go()
    answers = []
    while commands:
        batch = [commands.pop() for _ in range(min(len(commands), chance.randint(1, 9)))]
        for command, outcome in zip(batch, commit_with(committer, *batch), strict=True):
            assert isinstance(outcome, Outcome), outcome
            answers.append([command.openid, command.key, outcome.version, not outcome.replayed])
    committer.close()
    say(answers)


def grant_until_told(path: Path, openid: str, prefix: str) -> None:
    """Grant in lists of 1 to 5 and say each list's keys once it is committed, until standard input ends."""
    committer = ledger_committer(path)
    wait_for_go()
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    numbers = count()
    while not stop.is_set():
        keys = [f"{prefix}-{next(numbers)}" for _ in range(random.randint(1, 5))]
        for outcome in commit_with(committer, *(GrantCredit(openid, 1, "gift", key) for key in keys)):
            assert isinstance(outcome, Outcome), outcome
        say(keys)
    committer.close()


def grant_on_a_failing_disk(path: Path, openid: str, keys: list[str]) -> None:
    """Grant key by key with one committer and say what each came to."""
    committer = ledger_committer(path)
    wait_for_go()
    for key in keys:
        try:
            (outcome,) = commit_with(committer, GrantCredit(openid, 1, "gift", key))
            say([key, "committed" if isinstance(outcome, Outcome) else repr(outcome)])
        except OutcomeUnknown as unknown:
            say([key, "unknown, disk failed" if unknown.disk_failed else "unknown"])
        except NotCommitted:
            say([key, "not committed"])


def create_ledger(path: Path) -> None:
    wait_for_go()
    create(path, APPID)
    say("created")


def wait_for_go() -> None:
    say("ready")
    os.read(0, 1)


if __name__ == "__main__":
    role, where, *rest = sys.argv[1:]
    match role:
        case "register":
            race_in_threads(Path(where), [RegisterUser(rest[0], 100)] * int(rest[1]))
        case "spend":
            spends: list[Command] = [SpendCredit(rest[0], int(rest[1]), "order", key) for key in rest[2:]]
            race_in_threads(Path(where), spends)
        case "check-in":
            race_in_threads(Path(where), [CheckIn(rest[0], key, (7, 8), "2026") for key in rest[1:]])
        case "grant":
            grant_shuffled(Path(where), int(rest[0]), rest[1].split(","), int(rest[2]))
        case "grant-until-told":
            grant_until_told(Path(where), rest[0], rest[1])
        case "failing-disk":
            grant_on_a_failing_disk(Path(where), rest[0], rest[1].split(","))
        case "create":
            create_ledger(Path(where))
