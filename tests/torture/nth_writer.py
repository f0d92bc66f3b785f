"""A short program that writes with the product's own code and says what each change came to, as it is told.

`python -m tests.torture.nth_writer <directory> ends|dies` works through `BATCHES`, with a login behind each,
and answers a line of JSON for each change. It is run again and again, with another operation of its disk
failing; where it `dies`, then by SIGKILL right after the first answer that is no success.
"""

import os
import signal
import sys
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from api import access
from ledger.commands import (
    CaptureHold,
    GrantCredit,
    HoldCredit,
    RegisterUser,
    SpendCredit,
    Submission,
)
from ledger.committer import Committer, ledger_committer
from ledger.errors import LedgerUnusable, NotCommitted, OutcomeUnknown, Refusal
from ledger.execute import Outcome
from ledger.sqlite import SqliteError, connect
from tests.torture.power_steps import ACTOR, START_US, create_files
from tests.torture.power_story import ACCESS, LEDGER

OPENIDS: Final = ("oNth1", "oNth2", "oNth3")
# Whose third event is the hold, whatever else failed.
_HOLDER: Final = "oNth4"


def _batch(*commands: Any) -> list[Submission]:
    return [Submission(command, ACTOR) for command in commands]


# Each command stands on its own key, but RegisterUser, which happens once by itself; `too-much` is refused.
BATCHES: Final = [
    _batch(*(RegisterUser(openid, 100) for openid in (*OPENIDS, _HOLDER))),
    _batch(*(GrantCredit(openid, 7, "gift", "grant") for openid in OPENIDS)),
    _batch(SpendCredit("oNth1", 10, "order", "spend"), SpendCredit("oNth1", 10**6, "order", "too-much")),
    _batch(HoldCredit(_HOLDER, 30, "order", "hold")),
    _batch(*(GrantCredit("oNth3", 1, "x" * 200, f"many-{number}") for number in range(30))),
    _batch(CaptureHold(_HOLDER, 3, "shipped", "capture", 20), GrantCredit("oNth1", 2, "gift", "again")),
    _batch(SpendCredit("oNth3", 1, "order", "last"), GrantCredit("oNth2", 1, "gift", "last")),
]
# Before these the program closes and opens its files again, which makes a checkpoint.
_REOPENED: Final = (3, 6)


class Answer(msgspec.Struct, omit_defaults=True):
    """What change `number` of `file` came to.

    `told` says of each command: acknowledged, refused, or failed and why; of a login its token. Otherwise
    `why` is what the whole change was answered with, and `disk_failed` that the process must not write again.
    """

    file: str
    number: int
    outcome: Literal["told", "unknown", "not committed", "not started"]
    told: list[str] = []
    why: str = ""
    disk_failed: bool = False


def commit(committer: Committer[Any, Any, Any], file: str, number: int, changes: list[Any]) -> Answer:
    try:
        outcomes = committer.commit(changes)
    except OutcomeUnknown as unknown:
        return Answer(file, number, "unknown", why=str(unknown), disk_failed=unknown.disk_failed)
    except NotCommitted as why:
        return Answer(file, number, "not committed", why=str(why))
    if any(isinstance(outcome, OutcomeUnknown) for outcome in outcomes):
        unknowns = [outcome for outcome in outcomes if isinstance(outcome, OutcomeUnknown)]
        failed = any(unknown.disk_failed for unknown in unknowns)
        return Answer(file, number, "unknown", why=str(unknowns[0]), disk_failed=failed)
    return Answer(file, number, "told", told=list(map(_in_words, outcomes)))


def _in_words(outcome: object) -> str:
    match outcome:
        case Outcome():
            return "acknowledged"
        case str():
            return outcome
        case Refusal() | NotCommitted():
            return f"refused: {outcome}"
        case _:
            return f"failed: {outcome!r}"


def main(directory: Path, *, dies: bool) -> None:
    try:
        create_files(directory)
    except LedgerUnusable as unusable:
        _say(Answer(LEDGER, 0, "not started", why=str(unusable)))
        return
    ledger = ledger_committer(directory / LEDGER)
    logins = access.access_committer(directory / ACCESS)
    with closing(ledger), closing(logins):
        for number, batch in enumerate(BATCHES):
            if number in _REOPENED:
                ledger.close()
                logins.close()
            _say(commit(ledger, LEDGER, number, list(batch)), dies=dies)
            login = partial(
                access.open_session, openid=OPENIDS[0], unionid=None, sealed_key=b"sealed", now_us=START_US
            )
            _say(commit(logins, ACCESS, number, [login]), dies=dies)
            if number % 2:
                _checkpoint(directory / LEDGER)


def _checkpoint(path: Path) -> None:
    """As a commit does after a thousand pages; that it fails is nobody's loss."""
    with suppress(LedgerUnusable, SqliteError), closing(connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _say(answer: Answer, *, dies: bool = False) -> None:
    os.write(1, msgspec.json.encode(answer) + b"\n")
    if dies and answer.outcome != "told":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), dies=sys.argv[2] == "dies")
