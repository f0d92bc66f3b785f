"""Import: an export back into an empty ledger, every event followed and every seal made again."""

from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from ledger import seal_file
from ledger.account import Account
from ledger.directory import alone, exchange, staging
from ledger.errors import LedgerFault, LedgerUnusable
from ledger.events import Recorded
from ledger.follow import Corrections, Wrong, follow
from ledger.log import Log, LogScan, RawEvent
from ledger.note import Verifier
from ledger.parallel import Progress
from ledger.schema import create
from ledger.seal import NotSealed, origin_of
from ledger.seal_file import SealFile
from ledger.sealer import adopt_seal
from ledger.sqlite import IntegrityError, Turnstile, turnstile_path
from ledger.transfer import FORMAT, Counts, EndLine, EventLine, HeaderLine, SealLine

_EVENTS_A_COMMIT: Final = 1000

# By how a line begins. The last of them is the end.
_KINDS: Final[dict[bytes, msgspec.json.Decoder[Any]]] = {
    b'{"openid"': msgspec.json.Decoder(EventLine),
    b'{"seal"': msgspec.json.Decoder(SealLine),
    b'{"end"': msgspec.json.Decoder(EndLine),
}
_header = msgspec.json.Decoder(HeaderLine)


class BadExport(LedgerFault):
    """An export that was damaged, or is none; names the line."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"line {number}: {reason}")


def import_export(source: Path, ledger: Path, seals: Path, now_us: int, progress: Progress) -> Counts:
    """Make the ledger at `ledger`, and its seals, from the export at `source`; told bytes of how many.

    Every event is followed as the audit does it, and every seal made again and compared. The files are
    built beside, and put in place together when all is good. Raises BadExport, which names the line, or
    LedgerUnusable where there is a ledger with events already, or a service runs.
    """
    data = ledger.parent
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(data), staging(data) as staged:
        _refuse_unless_empty(ledger, seals)
        counts = _read_export(source, staged / ledger.name, staged / seals.name, progress)
        with closing(Turnstile(turnstile_path(ledger))) as turnstile, turnstile:
            _refuse_unless_empty(ledger, seals)
            exchange(data, staged, now_us)
    return counts


def _refuse_unless_empty(ledger: Path, seals: Path) -> None:
    if ledger.exists():
        with LogScan(ledger) as scan:
            if scan.last_position():
                raise LedgerUnusable(f"{ledger} has events already: set CREDIT_DATA to a new directory")
    if seals.exists():
        with closing(SealFile(seals)) as file:
            if file.last() is not None:
                raise LedgerUnusable(f"{seals} has seals already: set CREDIT_DATA to a new directory")


def _read_export(source: Path, ledger: Path, seals: Path, progress: Progress) -> Counts:
    size, done, number = source.stat().st_size, 0, 1
    with source.open("rb") as lines:
        first = lines.readline()
        try:
            header = _header.decode(first)
            if header.format != FORMAT:
                raise ValueError(f"the format is {header.format!r}, this release reads {FORMAT!r}")
            if header.vkey is not None and Verifier.of(header.vkey).name != origin_of(header.appid):
                raise ValueError("its key is not that of its appid")
        except ValueError as error:
            raise BadExport(number, f"it is no header of an export: {error}") from None
        with closing(_Importer(header, ledger, seals)) as importer:
            for number, line in enumerate(lines, 2):
                try:
                    importer.take(line)
                except Wrong as wrong:
                    raise BadExport(number, f"{wrong.what}: {wrong.detail}") from None
                except (ValueError, NotSealed, IntegrityError) as error:
                    raise BadExport(number, str(error)) from None
                done += len(line)
                if not number % _EVENTS_A_COMMIT:
                    progress(done, size)
            if not importer.ended:
                raise BadExport(number, "the file ends here, and its last line is not there: it was cut")
        progress(size, size)
        return importer.counts


class _Importer:
    """Takes the lines behind the header, one after another; raises what is wrong with one."""

    def __init__(self, header: HeaderLine, ledger: Path, seals: Path) -> None:
        create(ledger, header.appid)
        if header.vkey is not None:
            seal_file.create(seals, header.vkey)
        self._ledger = ledger
        self._seals = seals
        self._log = Log(ledger)
        self._corrections = Corrections(self._log.event)
        self._accounts: dict[str, Account] = {}  # whose rows are not written yet
        self._events = self._sealed = self._waiting = 0
        self.ended = False

    @property
    def counts(self) -> Counts:
        return Counts(self._events, self._sealed)

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
            if not self._seals.exists():
                raise ValueError("a seal, and the header has no key to check its note with")
            self._commit()
            adopt_seal(self._ledger, self._seals, found.seal, found.note)
            self._sealed += 1
        else:
            self._commit()
            if found.end != self.counts:
                raise ValueError(f"it counts {_told(found.end)}, and the file has {_told(self.counts)}")
            self.ended = True

    def close(self) -> None:
        self._log.rollback()
        self._log.close()

    def _take_event(self, event: EventLine) -> None:
        account = self._accounts.get(event.openid) or self._log.account(event.openid) or Account(event.openid)
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
        self._accounts[event.openid] = follow(account, row)
        self._corrections.check(account, row)
        if not self._waiting:
            self._log.begin()
        self._log.put_events(
            [
                Recorded(
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
            ]
        )
        self._events += 1
        self._waiting += 1
        if self._waiting == _EVENTS_A_COMMIT:
            self._commit()

    def _commit(self) -> None:
        if not self._waiting:
            return
        for account in self._accounts.values():
            self._log.put_account(account)
        self._log.commit()
        self._accounts.clear()
        self._waiting = 0


def _told(counts: Counts) -> str:
    return f"{counts.events} events and {counts.seals} seals"
