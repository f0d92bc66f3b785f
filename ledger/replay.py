"""Replay: rebuild the account rows from the log alone, and put the stored ones right."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ledger.errors import LedgerUnusable
from ledger.log import Log, LogScan
from ledger.sqlite import UNREADABLE, Turnstile, turnstile_path
from ledger.verify import Difference, Fault, Fold, Progress, catch_up, read_log, silent


class Rebuilt(msgspec.Struct, frozen=True):
    """What the log comes to against what is stored.

    `faults` are events that cannot be followed; their accounts are in no difference and stay as they are.
    """

    events: int
    accounts: int
    differences: list[Difference]
    faults: list[Fault]


def replay(path: Path, progress: Progress = silent) -> Rebuilt:
    """Fold the log at `path` in memory and compare. Writes nothing; safe while the service writes.

    Raises LedgerUnusable where SQLite cannot read the file: what is wrong with it, an audit says.
    """
    with _scan(path) as scan:
        return _compare(read_log(scan, progress), scan)


def replay_and_write(path: Path, progress: Progress = silent) -> Rebuilt:
    """As `replay`, then put every account row that differs right, in one transaction under the turnstile.

    Writers wait while the rows are compared and written, so that no event lands in between, but not while
    the log is read. Writes nothing where the log has a fault: a projection of a damaged log would only hide
    the damage.
    """
    turnstile = Turnstile(turnstile_path(path))
    try:
        with _scan(path) as scan:
            fold = read_log(scan, progress)
            with turnstile:
                rebuilt = _compare(fold, scan)
                if rebuilt.differences and not rebuilt.faults:
                    _write(path, rebuilt.differences)
            return rebuilt
    finally:
        turnstile.close()


@contextmanager
def _scan(path: Path) -> Iterator[LogScan]:
    try:
        with LogScan(path) as scan:
            yield scan
    except UNREADABLE as error:
        raise LedgerUnusable(f"{path} cannot be read: {error}") from None


def _compare(fold: Fold, scan: LogScan) -> Rebuilt:
    catch_up(fold, scan)
    differences = list(fold.differences(scan.accounts()))
    scan.end_snapshot()
    return Rebuilt(fold.events, len(fold.accounts), differences, [*fold.faults.values(), *fold.gaps])


def _write(path: Path, differences: list[Difference]) -> None:
    log = Log(path)
    try:
        log.begin()
        for difference in differences:
            if difference.folded is None:
                log.remove_account(difference.openid)
            else:
                log.put_account(difference.folded)
        log.commit()
    finally:
        log.close()
