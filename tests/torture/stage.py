"""What a round plays on: a real service, its files and clients, and the verdict when the faults are over."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from signal import SIGCONT, SIGKILL, SIGTERM
from types import TracebackType
from typing import Final, Self

from api.vault import open_signer
from ledger.committer import microseconds_now
from ledger.errors import LedgerFault
from ledger.note import Verifier
from ledger.seal_file import SealFile
from ledger.sealer import make_seal
from ledger.verify import Witness, audit
from tests.backend import SCOPES, new_key
from tests.conftest import ROOT, Sandbox, Service
from tests.torture.books import read_files
from tests.torture.checker import broken_promises, dead_tokens
from tests.torture.clients import Clients
from tests.torture.history import Call
from tests.torture.round import Round

_LIFE_US: Final = 100 * 366 * 86_400_000_000
_COMMAND_S: Final = 120
# A seal that is made so much later has every event that a receipt was given for.
_ALL_DUE_US: Final = 120_000_000
# Nobody is kept away for asking often: that is another part's matter.
_UNBOUNDED: Final = {"CREDIT_RATE_KEY": "off", "CREDIT_RATE_TOKEN": "off", "CREDIT_RATE_LOGIN": "off"}


class Stage:
    """The service of a round, its sandbox WeChat, and its clients; within `with`, all of it runs."""

    def __init__(
        self, part: Round, *, workers: int = 3, environ: dict[str, str] | None = None, pause_s: float = 0
    ) -> None:
        self.part = part
        self._pause_s = pause_s
        self.data = part.directory / "data"
        self.ahead_us = 0  # of the service's clock before ours
        self.tokens_since_ns = 0  # what was issued before has expired
        self.sandbox = Sandbox()
        self.service = Service(self.data, self.sandbox.url, workers=workers)
        self.service.environ |= _UNBOUNDED | (environ or {})

    def __enter__(self) -> Self:
        try:
            self.service.start()
            secret = new_key(self.service, *SCOPES, life_us=_LIFE_US)
            self.clients = Clients(self.part, self.service.port, secret, pause_s=self._pause_s)
            self.clients.log_everybody_in()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.service.process is not None:
            self.service.stop(SIGKILL)
        self.sandbox.stop()

    @property
    def calls(self) -> list[Call]:
        return self.clients.history.calls

    def command(self, *arguments: object) -> subprocess.Popen[str]:
        """`credit-ledger` on these files, in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "scripts.credit_ledger", *map(str, arguments)],
            env=self.service.environ,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: object) -> tuple[int, str]:
        """The exit status of such a command, and all that it printed."""
        with self.command(*arguments) as process:
            output, _ = process.communicate(timeout=_COMMAND_S)
        return process.returncode, output

    def restart(self) -> None:
        """End the service as its supervisor would, whatever state it is in, and start it anew."""
        self.resume()
        self.service.stop(self.part.random.choice((SIGTERM, SIGKILL)))
        self.service.start()

    def resume(self) -> None:
        """Nobody stays stopped: what is sent to a stopped process waits with it."""
        for pid in self.pids():
            signalled(pid, SIGCONT)

    def pids(self) -> list[int]:
        """The master and its workers, as far as they are there."""
        assert self.service.process is not None
        try:
            return [self.service.process.pid, *self.service.worker_pids()]
        except FileNotFoundError:
            return []

    def judge(self, *, clock_moved: bool = False) -> None:
        """When the faults are over: settle what is unknown, seal, and hold everything against everything."""
        self.clients.settle()
        for problem in self.problems(clock_moved=clock_moved):
            self.part.expect(False, problem)

    def problems(self, *, clock_moved: bool) -> Iterator[str]:
        files = read_files(self.data)
        yield from broken_promises(self.calls, files, clock_moved=clock_moved)
        lasting = [call for call in self.calls if call.sent_ns >= self.tokens_since_ns]
        yield from dead_tokens(lasting, files, clock_moved=clock_moved)
        yield from self.proof_problems()
        for line in self.service.log.splitlines():
            if "unexpected error" in line or "Traceback" in line:
                yield f"the service logged: {line[:300]}"

    def proof_problems(self) -> Iterator[str]:
        """What the audit, and the program that has none of the product's code, say of seals and receipts."""
        receipts = [json.dumps(call.receipt) for call in self.calls if call.receipt is not None]
        self.part.tally["receipts held against the seals"] += len(receipts)
        if (problem := self.seal(_ALL_DUE_US)) is not None:
            yield problem
        report = audit(
            self.data / "ledger.db", seals=self.data / "seals.db", witness=Witness(receipts=receipts)
        )
        yield from (f"audit: {fault.openid} {fault.what}: {fault.detail}" for fault in report.faults[:20])
        kept, exported = self.part.directory / "receipts.jsonl", self.part.directory / "export.jsonl"
        kept.write_text("\n".join(receipts))
        exported.unlink(missing_ok=True)
        status, output = self.run("export", exported)
        if status:
            yield f"export: {output}"
            return
        with closing(SealFile(self.data / "seals.db")) as seals:
            vkey = seals.vkey()
        verified = subprocess.run(
            [
                *(sys.executable, ROOT / "scripts" / "verify_proof.py", "export", exported),
                *("--vkey", vkey, "--receipts", kept),
            ],
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
        )
        said = [line for line in verified.stdout.splitlines() if line.startswith(("NOT", "UNUSABLE", "Event"))]
        if verified.returncode or said:
            yield f"verify_proof.py: {'; '.join(said[:5])}{verified.stderr[-500:]}"

    def seal(self, in_us: int = 0) -> str | None:
        """Seal from this process, as if it were so much later; why that could not be done, if it could not."""
        try:
            with closing(SealFile(self.data / "seals.db")) as file:
                origin = Verifier.of(file.vkey()).name
            signer = open_signer(self.data / "signing.key", origin)
            now_us = microseconds_now() + self.ahead_us + in_us
            make_seal(self.data / "ledger.db", self.data / "seals.db", signer, now_us)
        except LedgerFault as fault:
            return f"it cannot be sealed: {fault}"
        return None


def signalled(pid: int, number: int) -> bool:
    """Whether the signal found a process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
