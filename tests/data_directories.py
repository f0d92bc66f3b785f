"""Whole data directories for the tests of what comes out of one and goes back in, and the commands on them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api import access
from ledger import seal_file
from ledger.commands import Command, GrantCredit, RegisterUser
from ledger.committer import microseconds_now
from ledger.note import Signer
from ledger.schema import create
from ledger.seal import origin_of
from ledger.seal_file import SealFile, Stored
from ledger.sealer import make_seal
from scripts.credit_ledger import cli
from tests.ledger_samples import APPID, committed

ROOT = Path(__file__).resolve().parent.parent
_MAIN = "from scripts.credit_ledger import main; main()"
COMMAND = [sys.executable, "-c", _MAIN]
# A command that stops itself, at whatever it opens, renames or connects to next, once there is something in a
# file. Whoever looks from outside comes too late on a busy machine.
_HALTING = f"""
import glob, os, signal, sys
pattern, looking = sys.argv.pop(1), True
def halt(*event):
    global looking
    if looking:
        looking = False  # what is done here is an event, too
        if any(map(os.path.getsize, glob.glob(pattern))):
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            looking = True
sys.addaudithook(halt)
{_MAIN}
"""


class Data:
    """A data directory as the service leaves it, with a command line pointed at it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = path / "ledger.db"
        self.seals = path / "seals.db"
        self.access = path / "access.db"
        self.signer = Signer(origin_of(APPID), Ed25519PrivateKey.from_private_bytes(b"k" * 32))
        self.environ = {"CREDIT_DATA": str(path)}

    @classmethod
    def made(cls, path: Path) -> "Data":
        return cls(path).begun()

    def begun(self) -> "Data":
        """This one, with its empty files made."""
        self.path.mkdir(mode=0o700)
        create(self.ledger, APPID)
        seal_file.create(self.seals, self.signer.verifier.vkey)
        access.create(self.access, b"check")
        return self

    def commit(self, *commands: Command) -> None:
        committed(self.ledger, *commands)

    def register(self, *openids: str) -> None:
        self.commit(*(RegisterUser(openid, 100) for openid in openids))

    def grant(self, openid: str, key: str, amount: int = 5) -> None:
        self.commit(GrantCredit(openid, amount, "签到", key))

    def seal(self, *, accept_loss: bool = False) -> Stored:
        made = make_seal(self.ledger, self.seals, self.signer, microseconds_now(), accept_loss=accept_loss)
        assert made is not None
        return made

    def seals_there(self) -> list[tuple[str, str]]:
        """Entry and note of each seal, newest first."""
        file = SealFile(self.seals)
        try:
            return [(stored.entry, stored.note) for stored in file.seals(None, 1000)]
        finally:
            file.close()

    def run(self, *arguments: object) -> Result:
        """What a command comes to, in this process: starting one takes longer than most commands."""
        done = CliRunner().invoke(cli, [str(argument) for argument in arguments], env=self.environ)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    def says(self, *arguments: object) -> str:
        done = self.run(*arguments)
        assert done.exit_code == 0, done.stderr + done.stdout
        return done.stdout

    def refuses(self, *arguments: object) -> str:
        """What a command says that changes nothing."""
        done = self.run(*arguments)
        assert done.exit_code == 1, done.stderr + done.stdout
        return done.stdout + done.stderr

    def killed(self, *arguments: object, at: Path) -> None:
        """Start a command, and kill it where `halted` has it stand still."""
        with self.halted(*arguments, at=at) as process:
            process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    def started(
        self, *arguments: object, stdout: IO[bytes] | int = subprocess.PIPE, command: Sequence[str] = COMMAND
    ) -> subprocess.Popen[str]:
        """A command in a process of its own."""
        return subprocess.Popen(
            [*command, *map(str, arguments)],
            env={**os.environ, **self.environ},
            cwd=ROOT,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def halted(self, *arguments: object, at: Path) -> Iterator[subprocess.Popen[str]]:
        """A command that stands still soon after it wrote something to `at`, whose name may have a `*`; it goes
        on after the block, if it still can."""
        process = self.started(at, *arguments, command=[sys.executable, "-c", _HALTING])
        stopped_or_ended = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert stopped_or_ended is not None
        assert stopped_or_ended.si_code == os.CLD_STOPPED, "it ended before it could be halted"
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)

    def names(self) -> set[str]:
        """What is in the directory, but for the locks."""
        return {path.name for path in self.path.iterdir() if path.suffix != ".lock"}
