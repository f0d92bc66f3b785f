"""Export: the whole log with its seals as lines of JSON, for `ledger.intake` to read back.

The first line is a header, the last counts the others, so that a cut file is noticed. Between them stand the
events in the order of their commits, and each seal right behind the last event that it covers. What is
derived, and no part of the contract, is not in it: positions, account rows, the seals' tree.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Annotated, Final

import msgspec

from ledger.errors import LedgerUnusable
from ledger.events import MAX_CREDIT, TimeUs, Version
from ledger.log import BEFORE_ALL, LogScan, RawEvent
from ledger.parallel import Progress
from ledger.seal_file import SealFile, Stored

FORMAT: Final = "credit-ledger export 1"

_Hash = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all lines have in common: their fields are those, in this order, and no others."""


class HeaderLine(_Line, frozen=True):
    """`vkey` is what the seals' notes are checked with; null where there is no seal."""

    format: str
    appid: str
    vkey: str | None


class EventLine(_Line, frozen=True):
    openid: str
    version: Version
    type: str
    data: str
    credit: Annotated[int, msgspec.Meta(ge=0, le=MAX_CREDIT)]
    key: str | None
    fingerprint: Annotated[str, msgspec.Meta(pattern=r"\A(?:[0-9a-f]{2})*\Z")] | None
    recorded_at_us: TimeUs
    hash: _Hash


class SealLine(_Line, frozen=True):
    seal: str
    note: str


class Counts(_Line, frozen=True):
    events: int
    seals: int


class EndLine(_Line, frozen=True):
    end: Counts


_encoder = msgspec.json.Encoder()


def export(ledger: Path, seals: Path, write: Callable[[bytes], object], progress: Progress) -> Counts:
    """Hand every line of an export of what is there now to `write`, in chunks of whole lines.

    However long that takes, no read transaction stays open: rows never change. Raises LedgerUnusable where
    the ledger is not what its seals say, or cannot be read.
    """
    with closing(SealFile(seals)) if seals.exists() else nullcontext() as file, LogScan(ledger) as scan:
        # The seals first, so that the log holds all that they cover.
        last = None if file is None else file.last()
        total = scan.last_position()
        write(_line(HeaderLine(FORMAT, scan.appid(), None if file is None or last is None else file.vkey())))
        due = _Due(file, 0 if last is None else last.seal.number)
        counts, after, before = 0, BEFORE_ALL, bytes(32)
        while after < total and (rows := scan.chunk(after, until=total)):
            lines: list[bytes] = []
            for row in rows:
                if row.position <= after:
                    raise _not_exportable(row.position, "it is out of order")
                lines += due.behind(row.position - 1, before)
                lines.append(_event_line(row))
                after, before = row.position, row.hash
            counts += len(rows)
            write(b"".join(lines))
            progress(counts, max(total, counts))
        write(b"".join(due.behind(total, before)))
        due.check_empty()
        done = Counts(counts, due.written)
        write(_line(EndLine(done)))
        return done


class _Due:
    """The first `count` seals, each to be written once the events that it covers are."""

    def __init__(self, file: SealFile | None, count: int) -> None:
        self._file = file
        self._count = count
        self.written = 0
        self._next = self._read()

    def behind(self, position: int, digest: bytes) -> Iterator[bytes]:
        """The seals that cover all up to `position`, where the event with the hash `digest` is the last."""
        while self._next is not None and self._next.position <= position:
            if self._next.hash != digest:
                self.check_empty()
            yield _line(SealLine(self._next.entry, self._next.note))
            self.written += 1
            self._next = self._read()

    def check_empty(self) -> None:
        if self._next is not None:
            raise LedgerUnusable(
                f"seal {self._next.seal.number} covers events that the ledger does not hold, so it cannot be "
                "exported: see credit-ledger audit"
            )

    def _read(self) -> Stored | None:
        return None if self._file is None or self.written == self._count else self._file.at(self.written + 1)


def _event_line(row: RawEvent) -> bytes:
    try:
        return _line(
            EventLine(
                row.openid.decode(),
                row.version,
                row.type.decode(),
                row.data.decode(),
                row.credit,
                None if row.key is None else row.key.decode(),
                None if row.fingerprint is None else row.fingerprint.hex(),
                row.recorded_at_us,
                row.hash.hex(),
            )
        )
    except (UnicodeDecodeError, AttributeError):
        raise _not_exportable(row.position, "it is damaged") from None


def _not_exportable(position: int, why: str) -> LedgerUnusable:
    return LedgerUnusable(
        f"the event at position {position} cannot be exported, {why}: see credit-ledger audit"
    )


def _line(line: _Line) -> bytes:
    return _encoder.encode(line) + b"\n"
