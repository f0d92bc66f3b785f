"""Faults 8: operators who do the same thing at once, by command line and in bulk, and bring back old files."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from shutil import copytree
from signal import SIGCONT, SIGSTOP, SIGTERM
from typing import Final

import requests

from ledger.verify import Witness, audit
from scripts.sandbox_wechat import openid_of
from tests.torture.books import Files, read_files, wrong_in
from tests.torture.checker import lacking
from tests.torture.history import ACKNOWLEDGED, REFUSED, UNKNOWN, Outcome, now_ns
from tests.torture.round import Round
from tests.torture.stage import Stage
from tests.torture.wire import Request, call_of, outcome_of

_LINES: Final = 40
_GRANTS: Final = 2
# So long that somebody is acknowledged meanwhile.
_LOAD_S: Final = 0.1
# What somebody with the plain sqlite3 shell can try: each must be refused by the file itself.
_BY_HAND: Final = (
    "UPDATE event SET data = '{}' WHERE position = 2",
    "DELETE FROM event WHERE position = (SELECT max(position) FROM event)",
    "INSERT OR REPLACE INTO event SELECT * FROM event WHERE position = 2",
)
_SHELL: Final = """import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=20)
for statement in sys.argv[2:]:
    try:
        connection.execute(statement)
        connection.commit()
        print(statement)
    except sqlite3.IntegrityError:
        connection.rollback()
"""


def operators(part: Round) -> None:
    """Two of everything at once under load; then an old backup is brought back, which must be noticed."""
    with Stage(part, workers=2) as stage:
        team = _Operators(stage)
        doings = list(team.doings)
        part.random.shuffle(doings)
        with stage.clients.busy():
            team.seal()
            team.back_up()
            while True:
                (doings.pop() if doings else part.random.choice(team.doings))()
                if part.over:
                    break
        stage.restart()
        stage.judge()
        if team.backups:  # none could be made, and that was said
            team.bring_back()


class _Operators:
    """Two people with the command line and an API key, who do not talk to each other."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._part = stage.part
        self._names = count()
        self.backups: list[Path] = []
        self.doings: Sequence[Callable[[], None]] = (
            self.grant,
            self.grant_in_bulk,
            self.seal,
            self.replay,
            self.back_up,
            self.write_by_hand,
        )

    def grant(self) -> None:
        """The same list by command line, each in an order of his own."""
        self._part.tally["lists that two operators granted at once"] += 1
        lines = [self._line() for _ in range(_GRANTS)]
        orders = [self._part.random.sample(lines, len(lines)) for _ in range(2)]
        _at_once(*(partial(self._grant_all, order) for order in orders))

    def grant_in_bulk(self) -> None:
        """The same file over HTTP."""
        self._part.tally["files that two operators sent at once"] += 1
        lines = [self._line() for _ in range(_LINES)]
        _at_once(*(partial(self._send_file, who, lines) for who in ("operator 1", "operator 2")))

    def seal(self) -> None:
        self._part.tally["seals by two at once"] += 1
        for status, output in self._both("seal"):
            self._part.expect(status == 0, f"one of two sealers: {output}")

    def replay(self) -> None:
        """One may be sent away, or both may have their turn."""
        self._part.tally["replays by two at once"] += 1
        results = self._both("replay", "--write")
        self._part.expect(any(status == 0 for status, _ in results), f"no replay of two was done: {results}")
        for status, output in results:
            self._part.expect(
                status == 0 or "another replay" in output, f"one of two replays at once: {output}"
            )

    def back_up(self) -> None:
        """A copy has all that was acknowledged before it was begun, and is sound, also when a seal is made
        between the copies of two files."""
        self._part.tally["backups under load"] += 1
        before = list(self._stage.calls)
        target = self._part.directory / f"backup{len(self.backups)}"
        with self._stage.command("backup", target) as backup:
            while backup.poll() is None and not _is_begun(target.with_name(f".{target.name}.partial")):
                time.sleep(0.001)
            backup.send_signal(SIGSTOP)
            time.sleep(_LOAD_S)
            self._part.expect((problem := self._stage.seal()) is None, f"beside a backup: {problem}")
            backup.send_signal(SIGCONT)
            output, status = backup.communicate()[0], backup.returncode
        self._part.expect(status == 0, f"backup: {output}")
        if status == 0:
            self.backups.append(target)
            files = read_files(target)
            problems = [*lacking(before, files), *_unsound(files)]
            for problem in problems:
                self._part.expect(False, f"backup: {problem}")

    def write_by_hand(self) -> None:
        """With the interpreter's own SQLite, which asks neither for our pragmas nor for the turnstile."""
        self._part.tally["writes by hand refused by the file"] += len(_BY_HAND)
        ledger = self._stage.data / "ledger.db"
        shell = subprocess.run(
            [sys.executable, "-c", _SHELL, ledger, *_BY_HAND], capture_output=True, text=True, timeout=90
        )
        self._part.expect(
            shell.returncode == 0 and not shell.stdout,
            f"by hand was possible: {shell.stdout}{shell.stderr[-300:]}",
        )

    def bring_back(self) -> None:
        """The oldest backup, by restore and by copying; whoever kept the last note sees what is missing."""
        stage, expect, backup = self._stage, self._part.expect, self.backups[0]
        _, note = stage.run("seals", "--note")
        kept = self._part.directory / "note"
        kept.write_text(note)
        expect(not _faults(stage.data, note), "an audit finds fault with files that are right")
        stage.service.stop(SIGTERM)
        now, then = read_files(stage.data), read_files(backup)
        lost = len(now.events) - len(then.events)
        self._part.tally["events that a restore said it would lose"] += lost

        status, output = stage.run("restore", backup, "--note", kept, "--json")
        told = json.loads(output[output.index("{") :]) if "{" in output else {}
        expect(status == 1 and told.get("done") is False, f"a restore loses {lost} events: {output[:300]}")
        expect(told.get("loss", {}).get("events") == lost, f"{lost} events would be lost: {output[:300]}")
        expect(read_files(stage.data) == now, "a restore that was refused changed the files")

        status, output = stage.run("restore", backup, "--note", kept, "--accept-loss")
        expect(status == 0, f"restore --accept-loss: {output}")
        expect(read_files(stage.data).events == then.events, "what was restored is not what was backed up")
        expect(_faults(stage.data, note), "no audit notices an old backup that was restored")
        expect(
            "does not hold event" in (stage.seal() or ""), "a seal covers up an old backup that was restored"
        )

        copied = self._part.directory / "copied"
        copytree(backup, copied)
        expect(_faults(copied, note), "no audit notices an old backup that was copied back")

        stage.service.environ["CREDIT_DATA"] = str(self._part.directory / "new-machine")
        _, output = stage.run("restore", backup, "--note", kept)
        expect("published seals cover" in output, f"a restore on a new machine misses no seal: {output}")
        self._part.tally["old backups that were noticed"] += 3

    def _line(self) -> Request:
        openid = openid_of(self._part.random.choice(self._stage.clients.users))
        key, amount = f"list-{next(self._names)}", self._part.random.randint(1, 9)
        body = {"amount": amount, "reason": "list"}
        return Request("list", openid, f"/v1/accounts/{openid}/grants", "", "POST", body, key, key, dict(body))

    def _grant_all(self, lines: list[Request]) -> None:
        for line in lines:
            sent_ns = now_ns()
            amount, reason = line.facts["amount"], line.facts["reason"]
            _, output = self._stage.run("grant", line.openid, amount, "--reason", reason, "--key", line.key)
            found = re.search(r"credit (\d+) after version (\d+)", output)
            told = {} if found is None else {"credit": int(found[1]), "version": int(found[2])}
            outcome: Outcome = ACKNOWLEDGED if found else REFUSED if "refused:" in output else UNKNOWN
            self._part.expect(outcome == ACKNOWLEDGED, f"an operator's grant: {output}")
            call = call_of("operator", line, sent_ns, outcome, None, told)
            self._stage.clients.history.add(call)

    def _send_file(self, who: str, lines: list[Request]) -> None:
        body = b"".join(
            json.dumps({"openid": line.openid, "key": line.key, **line.facts}).encode() + b"\n"
            for line in lines
        )
        sent_ns = now_ns()
        answer = requests.post(
            f"{self._stage.service.url}/v1/grants",
            data=body,
            headers={"Content-Type": "application/x-ndjson"} | self._stage.clients.as_backend,
            timeout=60,
        )
        for line, text in zip(lines, answer.text.splitlines(), strict=True):
            told = json.loads(text)
            outcome, code = outcome_of(told["status"], told)
            call = call_of(who, line, sent_ns, outcome, code, told)
            self._stage.clients.history.add(call)

    def _both(self, *arguments: object) -> list[tuple[int, str]]:
        processes = [self._stage.command(*arguments) for _ in range(2)]
        outputs = [process.communicate(timeout=120)[0] for process in processes]
        return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


def _at_once(*works: Callable[[], None]) -> None:
    with ThreadPoolExecutor(len(works)) as pool:
        for doing in [pool.submit(work) for work in works]:
            doing.result()


def _is_begun(draft: Path) -> bool:
    """Whether the first file of a backup is being copied."""
    try:
        return any(path.stat().st_size for path in draft.glob("*.db"))
    except FileNotFoundError:  # it has its name by now
        return True


def _faults(data: Path, note: str) -> bool:
    """Whether an audit against a note that was kept finds anything wrong."""
    return not audit(data / "ledger.db", seals=data / "seals.db", witness=Witness(note=note)).good


def _unsound(files: Files) -> list[str]:
    return [
        problem
        for openid, events in files.by_account().items()
        for problem in wrong_in(events, files.rows.get(openid))
    ]
