"""`POST /v1/grants`: many grants as one request, a JSON object a line, answered line by line.

Nothing grows with the number of lines: they are read, committed and answered a few hundred at a time. A client
may send all of them before it reads an answer, so the answers wait in a file that has no name. What was
answered is on disk; run again after a broken connection, each line's own key makes it happen once.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import structlog

from api.accounts import GRANT
from api.callers import NO_LIVE_KEY, live_key
from api.incoming import GrantLine
from api.operation import DRY_RUN, Received, Resource, operation
from api.outgoing import GrantedLine, view_receipt
from api.problems import NOT_READABLE, REFUSAL_STATUS, Problem, fault_code, unreadable
from api.receipts import Receipted
from api.service import Service
from ledger.commands import Submission
from ledger.errors import NotCommitted, OutcomeUnknown, Refusal

log = structlog.get_logger()

MAX_LINES: Final = 100_000
MAX_LINE_BYTES: Final = 4096
# One commit's worth: enough to make the wait for the disk small, and not so much that others wait for it.
_AT_ONCE: Final = 512
# For each piece of the body; the whole may take as long as it does.
_PIECE_DEADLINE_S: Final = 20.0
# When nothing came for so long, what did come is granted and answered.
_PAUSE_S: Final = 0.05
# More batches than these, of all clients together, take turns: what waits for the disk has an end.
_BATCHES_AT_ONCE: Final = 4
_READ_BYTES: Final = 64 * 1024
NDJSON: Final = "application/x-ndjson"

# A line's number, and what it asks or why it is refused.
_Line = tuple[int, GrantLine | GrantedLine]

_decoder: Final = msgspec.json.Decoder(GrantLine)
_encoder: Final = msgspec.json.Encoder()


class BulkGrants(Resource):
    """`POST /v1/grants`."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.turns = asyncio.Semaphore(_BATCHES_AT_ONCE)

    @operation(
        "Grant credit to many accounts: up to 100,000 lines, streamed",
        scopes=GRANT,
        body=GrantLine,
        answer=GrantedLine,
        parameters=(DRY_RUN,),
        failures={"not-ndjson": 415},
        media=(NDJSON, NDJSON),
    )
    async def on_post(self, request: Received[None]) -> None:
        media_type = (request.req.content_type or "").partition(";")[0].strip().lower()
        if media_type != NDJSON:
            raise Problem(415, "not-ndjson", f"Send one JSON object a line, with Content-Type: {NDJSON}.")
        request.resp.content_type = NDJSON
        request.resp.stream = _answers(_Run(self, request))


class _Answers:
    """Bytes written at one end and read at the other, whoever is faster; all of them are in a file."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the last answer was read
        self._written = self._read = 0
        self._more = asyncio.Event()
        self.closed = False

    def write(self, answers: bytes) -> None:
        self._file.seek(self._written)
        self._file.write(answers)
        self._file.flush()
        self._written += len(answers)
        self._more.set()

    def end(self) -> None:
        self.closed = True
        self._more.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        while self._read < self._written or not self.closed:
            if self._read == self._written:
                self._more.clear()
                await self._more.wait()
                continue
            self._file.seek(self._read)
            piece = self._file.read(_READ_BYTES)
            self._read += len(piece)
            yield piece

    def discard(self) -> None:
        self._file.close()


class _Run:
    """One bulk request on its way through."""

    def __init__(self, resource: BulkGrants, request: Received[Any]) -> None:
        self._service = resource.service
        self._turns = resource.turns
        self._req = request.req
        self._actor, self._operator = request.actor, request.operator
        self._dry_run = bool(request.given["dry_run"])
        self._line = 0
        self._trouble: tuple[int, str, str] | None = None
        self.answers = _Answers()

    async def run(self) -> None:
        """Take every line and answer it; ends early, with a line that says so, where it must."""
        older: asyncio.Task[None] | None = None
        newer: asyncio.Task[None] | None = None
        arriving = self._pieces()
        try:
            async for lines in self._batches(arriving):
                # While two batches are on their way to the disk, a third is read and checked.
                if older is not None:
                    await older
                older, newer = newer, asyncio.get_running_loop().create_task(self._take(lines, newer))
            for task in (older, newer):
                if task is not None:
                    await task
            async for _ in arriving:  # it may send all of it before it reads an answer, so let it
                pass
        finally:
            self.answers.end()

    async def _take(self, lines: list[_Line], before: "asyncio.Task[None] | None") -> None:
        """Grant a batch, and write its answers once those of the batch before it are written."""
        answers = await self._grant(lines)
        if before is not None:
            await before
        self.answers.write(answers)

    async def _batches(self, arriving: AsyncIterator[list[bytes] | None]) -> AsyncIterator[list[_Line]]:
        """The lines that are not empty, each with its number, so many at a time or as many as have come."""
        batch: list[_Line] = []
        async for texts in arriving:
            for text in texts or ():
                self._line += 1
                if not text.strip():  # among others what follows the last line feed
                    continue
                if self._line > MAX_LINES:
                    self._trouble = (413, "too-many-lines", f"{MAX_LINES} are read; send the rest anew.")
                    break
                batch.append((self._line, _parse(self._line, text)))
            if len(batch) >= _AT_ONCE or (batch and texts is None) or self._trouble is not None:
                if live_key(self._service, self._req) is None:  # revoked while the lines were coming
                    self._line, batch = batch[0][0] if batch else self._line, []
                    self._trouble = (401, "invalid-key", NO_LIVE_KEY)
                if self._trouble is not None:
                    batch.append((self._line, _refused(self._line, *self._trouble)))
                    yield batch
                    return
                yield batch
                batch = []

    async def _pieces(self) -> AsyncIterator[list[bytes] | None]:
        """The lines as they arrive; None where for a moment none does, and the last time where none will."""
        left = b""
        pieces = aiter(self._req.stream)
        while True:
            next_piece = asyncio.ensure_future(_next(pieces))
            try:
                if not (await asyncio.wait({next_piece}, timeout=_PAUSE_S))[0]:
                    yield None
                if not (await asyncio.wait({next_piece}, timeout=_PIECE_DEADLINE_S))[0]:
                    self._line += 1
                    self._trouble = (408, "body-timeout", "The next line did not come in time.")
                    yield None
                    return
                piece = next_piece.result()
            finally:
                next_piece.cancel()
            *lines, left = (left + piece).split(b"\n")
            if not piece:
                yield [left]
                yield None
                return
            for start in range(0, len(lines), _AT_ONCE):
                yield lines[start : start + _AT_ONCE]
            left = left[: MAX_LINE_BYTES + 1]  # enough to be refused as too long, however much is still to come
            await asyncio.sleep(0)  # a piece that came at once gives others their turn all the same

    async def _grant(self, batch: list[_Line]) -> bytes:
        grants = [(line, grant) for line, grant in batch if isinstance(grant, GrantLine)]
        submissions = [
            Submission(grant.command(), self._actor, self._operator, None, self._dry_run) for _, grant in grants
        ]
        outcomes: list[Receipted | Exception] = []
        try:
            if submissions:
                async with self._turns:
                    outcomes = await self._service.ledger_commits.submit_all(submissions)
        except (NotCommitted, OutcomeUnknown) as fault:
            log.error("not written", error=str(fault))
            outcomes = [fault] * len(submissions)
        answers = {line: answer for line, answer in batch if isinstance(answer, GrantedLine)}
        for (line, grant), outcome in zip(grants, outcomes, strict=True):
            answers[line] = self._answer(line, grant.openid, outcome)
        return b"".join(_encoder.encode(answers[line]) + b"\n" for line, _ in batch)

    def _answer(self, line: int, openid: str, outcome: Receipted | Exception) -> GrantedLine:
        match outcome:
            case Receipted():
                status = 200 if self._dry_run and not outcome.replayed else 201
                receipt = view_receipt(outcome.receipt)
                return GrantedLine(
                    line, status, openid, outcome.version, outcome.credit, outcome.replayed, receipt
                )
            case Refusal():
                answer = _refused(line, REFUSAL_STATUS[type(outcome)], outcome.code, outcome.sentence())
            case NotCommitted() | OutcomeUnknown():
                answer = _refused(line, 503, fault_code(outcome), "Send this line again; it lands once.")
            case _ if (why := unreadable(outcome)) is not None:
                log.error("not read", error=why)
                answer = _refused(line, 503, "not-readable", NOT_READABLE)
            case _:
                log.error("unexpected error", exc_info=outcome)
                answer = _refused(line, 500, "internal-error", "This is our fault; the log has the details.")
        answer.openid = openid
        return answer


async def _next(pieces: AsyncIterator[bytes]) -> bytes:
    return await anext(pieces, b"")


async def _answers(run: _Run) -> AsyncIterator[bytes]:
    """The answers as they come, while the lines are still being read."""
    task = asyncio.get_running_loop().create_task(run.run())
    try:
        async for piece in run.answers.pieces():
            yield piece
        await task
    finally:
        task.cancel()  # the client is gone; what was handed in already is recorded all the same
        run.answers.discard()


def _parse(line: int, text: bytes) -> GrantLine | GrantedLine:
    if len(text) > MAX_LINE_BYTES:
        return _refused(line, 413, "line-too-long", f"A line may have {MAX_LINE_BYTES} bytes.")
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError as error:
        return _refused(line, 422, "invalid-body", str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _refused(line, 400, "malformed-json", str(error))


def _refused(line: int, status: int, code: str, detail: str) -> GrantedLine:
    return GrantedLine(line, status, code=code, detail=detail)
