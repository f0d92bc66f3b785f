"""The one write path: every change of every account goes through `execute`."""

from typing import Protocol

import msgspec

from ledger.account import Account
from ledger.chain import link
from ledger.commands import Submission, fingerprint, key_of, subject_of
from ledger.decide import decide
from ledger.errors import KeyReused
from ledger.events import Recorded, Subject
from ledger.lapse import settle


class Outcome(msgspec.Struct, frozen=True):
    """The answer to a command: what the account has after it.

    `events` are the rows it wrote, and the last is what was asked for; where `replayed` an earlier call
    wrote it, and version and credit are what that call answered. After a dry run they are nowhere.
    """

    openid: str
    version: int
    credit: int
    events: tuple[Recorded, ...]
    replayed: bool


class Store(Protocol):
    """What the write path needs, inside a transaction that the caller opened."""

    def event_by_key(self, openid: str, key: str) -> Recorded | None: ...
    def account(self, openid: str) -> Account | None: ...
    def subject(self, openid: str, version: int) -> Subject | None: ...
    def append(self, rows: list[Recorded], account: Account) -> None: ...


def execute(store: Store, submission: Submission, now_us: int) -> Outcome:
    """Decide the command on the account as it is now and append what follows from it.

    Raises a Refusal, and then has written nothing.
    """
    command = submission.command
    key = key_of(command)
    mark = None if key is None else fingerprint(command)
    if key is not None:
        seen = store.event_by_key(command.openid, key)
        if seen is not None:
            if seen.fingerprint != mark:
                raise KeyReused(key, seen.version)
            return Outcome(seen.openid, seen.version, seen.credit, (seen,), replayed=True)

    account = store.account(command.openid) or Account(command.openid)
    now_us = max(now_us, account.recorded_at_us)  # the clock may have run back
    rows, account = settle(account, now_us)
    version = subject_of(command)
    subject = None if version is None else store.subject(command.openid, version)
    events = decide(account, submission, subject, now_us)
    for event in events:
        principal = event is events[-1]
        row, account = link(account, event, key if principal else None, mark if principal else None, now_us)
        rows.append(row)
    if rows and not submission.dry_run:
        store.append(rows, account)
    return Outcome(account.openid, account.version, account.balance.credit, tuple(rows), replayed=not rows)
