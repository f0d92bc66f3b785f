"""Import: an export back into an empty ledger, every event followed and every seal made again."""

from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from ledger import seal_file
from ledger.account import Account
from ledger.directory import alone, exchange, make_directory, staging
from ledger.errors import LedgerFault, LedgerUnusable
from ledger.events import Recorded
from ledger.follow import Corrections, Wrong, follow
from ledger.log import Log, LogScan, RawEvent
from ledger.note import Checkpoint, InvalidNote, Verifier, checkpoint_of, log_checkpoint
from ledger.parallel import Progress
from ledger.schema import create
from ledger.seal import NotSealed, origin_of
from ledger.seal_file import SealFile
from ledger.sealer import adopt_seal
from ledger.sqlite import IntegrityError, Turnstile, turnstile_path
from ledger.transfer import FORMAT, Counts, EndLine, EventLine, HeaderLine, SealLine

_EVENTS_A_COMMIT: Final = 1000
# What a column of SQLite holds.
_MOST: Final = 2**63 - 1

# By how a line begins. The last of them is the end.
_KINDS: Final[dict[bytes, msgspec.json.Decoder[Any]]] = {
    b'{"openid"': msgspec.json.Decoder(EventLine),
    b'{"seal"': msgspec.json.Decoder(SealLine),
    b'{"end"': msgspec.json.Decoder(EndLine),
}
_header = msgspec.json.Decoder(HeaderLine)


class BadExport(LedgerFault):
    """An export that was damaged, is none, or is not the one that was expected; names the line."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"line {number}: {reason}")


class Imported(Counts, frozen=True):
    """What was imported; `unsealed` of the events lie behind the last seal, so that nobody signed them."""

    unsealed: int


class Expected(msgspec.Struct, frozen=True):
    """What is known of an export from elsewhere: the key that signed its seals, and a note that was kept, whose
    log of seals the export must go on from.

    Without them an export proves no more than that it agrees with itself, under a key that it names itself.
    """

    vkey: str | None = None
    note: str | None = None

    def checkpoint(self, named: Verifier | None) -> Checkpoint | None:
        """What the note says, if one was given, of the log of an export that names this key.

        Raises ValueError where it is not that of the key or the note that were given.
        """
        if self.vkey is not None and (named is None or named.vkey != Verifier.of(self.vkey).vkey):
            raise ValueError(
                f"it is signed by {named.vkey if named else 'nobody'}, not by the key that was given"
            )
        if self.note is None:
            return None
        if named is None:
            raise ValueError("it has no seal to compare with the note that was given")
        try:
            return log_checkpoint(self.note, named)
        except InvalidNote as error:
            raise ValueError(f"the note that was given is none of its log: {error}") from None


def import_export(
    source: Path,
    ledger: Path,
    seals: Path,
    now_us: int,
    progress: Progress,
    expected: Expected | None = None,
) -> Imported:
    """Make the ledger at `ledger`, and its seals, from the export at `source`; told bytes of how many.

    Every event is followed as the audit does it, and every seal made again and compared. The files are
    built beside, and put in place together when all is good. Raises BadExport, which names the line, or
    LedgerUnusable where there is a ledger with events already, or a service runs.
    """
    data = ledger.parent
    make_directory(data)
    with alone(data), staging(data) as staged:
        _refuse_unless_empty(ledger, seals)
        imported = _read_export(
            source, staged / ledger.name, staged / seals.name, progress, expected or Expected()
        )
        with closing(Turnstile(turnstile_path(ledger))) as turnstile, turnstile:
            _refuse_unless_empty(ledger, seals)
            exchange(data, staged, now_us)
    return imported


def _refuse_unless_empty(ledger: Path, seals: Path) -> None:
    if ledger.exists():
        with LogScan(ledger) as scan:
            if scan.last_position():
                raise LedgerUnusable(f"{ledger} has events already: set CREDIT_DATA to a new directory")
    if seals.exists():
        with closing(SealFile(seals)) as file:
            if file.last() is not None:
                raise LedgerUnusable(f"{seals} has seals already: set CREDIT_DATA to a new directory")


def _read_export(source: Path, ledger: Path, seals: Path, progress: Progress, expected: Expected) -> Imported:
    size, done, number = source.stat().st_size, 0, 1
    with source.open("rb") as lines:
        first = lines.readline()
        try:
            header = _header.decode(first)
            if header.format != FORMAT:
                raise ValueError(f"the format is {header.format!r}, this release reads {FORMAT!r}")
            verifier = None if header.vkey is None else Verifier.of(header.vkey)
            if verifier is not None and verifier.name != origin_of(header.appid):
                raise ValueError("its key is not that of its appid")
        except ValueError as error:
            raise BadExport(number, f"it is no header of an export: {error}") from None
        try:
            kept = expected.checkpoint(verifier)
        except ValueError as error:
            raise BadExport(number, f"it is not the export that was expected: {error}") from None
        with closing(_Importer(header.appid, verifier, kept, ledger, seals)) as importer:
            for number, line in enumerate(lines, 2):
                try:
                    importer.take(line)
                except Wrong as wrong:
                    raise BadExport(number, f"{wrong.what}: {wrong.detail}") from None
                except (ValueError, NotSealed, IntegrityError, OverflowError) as error:
                    raise BadExport(number, str(error)) from None
                done += len(line)
                if not number % _EVENTS_A_COMMIT:
                    progress(done, size)
            if not importer.ended:
                raise BadExport(number, "the file ends here, and its last line is not there: it was cut")
            if expected.vkey is not None and not importer.counts.seals:
                raise BadExport(number, "the file ends without a seal: nothing in it is signed by any key")
        progress(size, size)
        return importer.imported


class _Importer:
    """Takes the lines behind the header, one after another; raises what is wrong with one.

    `kept` is what a note from elsewhere says that the log of seals was at its size.
    """

    def __init__(
        self, appid: str, verifier: Verifier | None, kept: Checkpoint | None, ledger: Path, seals: Path
    ) -> None:
        create(ledger, appid)
        if verifier is not None:
            seal_file.create(seals, verifier.vkey)
        self._ledger = ledger
        self._seals = seals
        self._verifier = verifier
        self._kept = kept
        self._log = Log(ledger)
        self._corrections = Corrections(self._log.event)
        self._events = self._sealed = self._waiting = self._covered = 0
        self.ended = False

    @property
    def counts(self) -> Counts:
        return Counts(self._events, self._sealed)

    @property
    def imported(self) -> Imported:
        return Imported(self._events, self._sealed, self._events - self._covered)

    def take(self, line: bytes) -> None:
        if self.ended:
            raise ValueError("nothing may follow the line that ends the export")
        for beginning, decoder in _KINDS.items():
            if line.startswith(beginning):
                found = decoder.decode(line)
                break
        else:
            raise ValueError("it begins like no line of an export")
        if isinstance(found, EventLine):
            self._take_event(found)
        elif isinstance(found, SealLine):
            if self._verifier is None:
                raise ValueError("a seal, and the header has no key to check its note with")
            self._commit()
            self._take_seal(found, self._verifier)
        else:
            self._commit()
            if found.end != self.counts:
                raise ValueError(f"it counts {_told(found.end)}, and the file has {_told(self.counts)}")
            if self._kept is not None and not 1 <= self._kept.size <= self._sealed:
                raise ValueError(f"the note is of {self._kept.size} seals, and the file has {self._sealed}")
            self.ended = True

    def close(self) -> None:
        self._log.rollback()
        self._log.close()

    def _take_seal(self, line: SealLine, verifier: Verifier) -> None:
        adopt_seal(self._ledger, self._seals, line.seal, line.note)
        self._sealed += 1
        self._covered = self._events
        # The line's own note was found to be what the seals up to here come to.
        ours = checkpoint_of(verifier.open(line.note))
        if self._kept is not None and self._kept.size == self._sealed and self._kept != ours:
            raise ValueError(f"the note of {self._kept.size} seals is not of these: they were made anew")

    def _take_event(self, event: EventLine) -> None:
        if not self._waiting:
            self._log.begin()
        account = self._log.account(event.openid) or Account(event.openid)
        fingerprint = None if event.fingerprint is None else bytes.fromhex(event.fingerprint)
        data, digest = event.data.encode(), bytes.fromhex(event.hash)
        row = RawEvent(
            self._events + 1,
            event.openid.encode(),
            event.version,
            event.type.encode(),
            data,
            event.credit,
            None if event.key is None else event.key.encode(),
            fingerprint,
            event.recorded_at_us,
            digest,
        )
        after = follow(account, row)
        self._corrections.check(account, row)
        # What is appended is written later; found only then it would be called by another line.
        if event.key is not None and self._log.event_by_key(event.openid, event.key) is not None:
            raise ValueError(f"the key {event.key} is that of an earlier event of the account")
        if after.balance.granted > _MOST:
            raise ValueError("an account was granted more than there can be")
        recorded = Recorded(
            event.openid,
            event.version,
            event.type,
            data,
            event.credit,
            event.key,
            fingerprint,
            event.recorded_at_us,
            digest,
        )
        self._log.append([recorded], after)
        self._events += 1
        self._waiting += 1
        if self._waiting == _EVENTS_A_COMMIT:
            self._commit()

    def _commit(self) -> None:
        if self._waiting:
            self._log.commit()
            self._waiting = 0


def _told(counts: Counts) -> str:
    return f"{counts.events} events and {counts.seals} seals"
