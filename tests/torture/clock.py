"""Fault 5: the clock of the service jumps back an hour and forward a year, while clients are at work."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Final

from scripts.sandbox_wechat import openid_of
from tests.torture.history import Call, now_ns
from tests.torture.round import CannotRun, Round
from tests.torture.stage import Stage, signalled
from tests.torture.wire import Request, Wire

_HOUR_S: Final = 3600
_YEAR_S: Final = 365 * 86_400
# libfaketime 0.9.10 refuses to sleep by a monotonic clock that it is told to leave alone: EINVAL.
_SLEEP: Final = """import select, time
time.sleep = lambda seconds: select.select((), (), (), seconds) and None
"""


def clock(part: Round) -> None:
    """Jump, seal, and look: time never runs back in the log, nothing is lost, and what has an end ends by the
    clock alone."""
    time_of_day = _Clock(part.directory)
    with Stage(part, workers=2, environ=time_of_day.environ) as stage:
        directions = part.random.sample((True, False), 2)  # both come in every round
        with stage.clients.busy():
            probe = _Probe(stage, time_of_day, "probe0")
            while directions or not part.over:
                forward = directions.pop() if directions else part.random.random() < 0.5
                _jump(stage, time_of_day, forward=forward)
                probe.look(jumped_forward=forward)
                if forward:
                    probe.close()
                    probe = _Probe(stage, time_of_day, f"probe{time_of_day.ahead_s}")
                time.sleep(part.random.uniform(0, 0.5))
            probe.close()
        stage.restart()
        stage.judge(clock_moved=True)
    _sweep()


class _Clock:
    """The time of day of the processes that have `environ`; their monotonic clock is that of the machine."""

    def __init__(self, directory: Path) -> None:
        # Not libfaketime.so.1: where two of its threads ask at once, one may be told the machine's time.
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            raise CannotRun("it needs libfaketime: apt-get install faketime")
        directory = directory / "clock"
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(_SLEEP)
        self._file = directory / "ahead"
        self.ahead_s = 0
        self.jump(0)
        self.environ = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # or a thread waits long for the interpreter's lock
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": str(directory),
        }

    def jump(self, seconds: int) -> None:
        self.ahead_s += seconds
        draft = self._file.with_suffix(".draft")
        draft.write_text(f"{self.ahead_s:+d}\n")
        draft.rename(self._file)

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead_s)


def _sweep() -> None:
    """Remove what libfaketime shares between processes, and leaves where the last of them is killed."""
    for left in Path("/dev/shm").glob("*faketime_*"):
        if not Path(f"/proc/{left.name.rpartition('_')[2]}").exists():
            left.unlink(missing_ok=True)


def _jump(stage: Stage, time_of_day: _Clock, *, forward: bool) -> None:
    """Jump and seal; sometimes the workers stand still meanwhile, perhaps in the middle of a commit."""
    chance, tally = stage.part.random, stage.part.tally
    stopped = stage.pids()[1:] if chance.random() < 0.7 else []
    for pid in stopped:
        signalled(pid, SIGSTOP)
    time_of_day.jump(_YEAR_S if forward else -_HOUR_S)
    stage.ahead_us = time_of_day.ahead_s * 1_000_000
    if forward:
        stage.tokens_since_ns = now_ns()
    tally["jumps a year forward" if forward else "jumps an hour back"] += 1
    with stage.command("seal") as sealer:
        if stopped:
            time.sleep(chance.uniform(0.5, 1.2))
            tally["jumps with stopped workers"] += 1
        for pid in stopped:
            signalled(pid, SIGCONT)
        output, _ = sealer.communicate(timeout=60)
    tally["seals made right after a jump"] += output.startswith("seal ")
    stage.part.expect(sealer.returncode == 0, f"no seal after the clock jumped: {output}")


class _Probe:
    """A person with a token, credit that expires in 30 days, and a hold of it for the usual seven."""

    def __init__(self, stage: Stage, time_of_day: _Clock, user: str) -> None:
        self._stage = stage
        self._wire = Wire(stage.service.port)
        self._user = user
        self._openid = openid_of(user)
        stage.clients.log_in(self._wire, user)
        expires_at = (time_of_day.now() + timedelta(days=30)).isoformat()
        self._write("grants", {"amount": 10, "expires_at": expires_at})
        self._write("holds", {"amount": 5})
        self._expect_credit(105, "at first")

    def look(self, *, jumped_forward: bool) -> None:
        """An hour back changes nothing; in a year the session, the hold and the credit come to their end."""
        if not jumped_forward:
            self._expect_credit(105, "after an hour back")
            return
        shown = self._read()
        self._stage.part.expect(
            shown.code == "not-logged-in", f"a session of {self._openid} outlives a year: {shown.code}"
        )
        self._stage.clients.log_in(self._wire, self._user)
        self._expect_credit(100, "after a year")

    def close(self) -> None:
        self._wire.close()

    def _write(self, path: str, body: dict[str, object]) -> None:
        key = f"{path}-{self._user}"
        whole, facts = {**body, "reason": "probe"}, {"amount": body["amount"], "reason": "probe"}
        path = f"/v1/accounts/{self._openid}/{path}"
        request = Request("probe", self._openid, path, "", "POST", whole, key, key, facts)
        self._stage.clients.send_until_known(self._wire, request)

    def _read(self) -> Call:
        request = Request("read", self._openid, "/v1/me/credit", self._user, "GET")
        call = self._stage.clients.send_until_known(self._wire, request)
        assert call is not None, "nobody listens"
        return call

    def _expect_credit(self, credit: int, when: str) -> None:
        shown = self._read()
        self._stage.part.expect(
            shown.credit == credit, f"{self._openid} is shown credit {shown.credit} {when}, not {credit}"
        )
