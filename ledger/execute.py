"""The one write path: every change of every account goes through `execute`."""

from typing import Protocol

import msgspec

from ledger.account import Account
from ledger.chain import link
from ledger.commands import Command, fingerprint, key_of
from ledger.decide import decide
from ledger.errors import KeyReused
from ledger.events import Recorded


class Outcome(msgspec.Struct, frozen=True):
    """The answer to a command: what the account has after it.

    `events` are the rows it wrote; where `replayed` they were written by an earlier call, and version and
    credit are what that call answered.
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
    def append(self, rows: list[Recorded], account: Account) -> None: ...


def execute(store: Store, command: Command, now_us: int) -> Outcome:
    """Decide `command` on the account as it is now and append what follows from it.

    Raises a Refusal, and then has written nothing.
    """
    key = key_of(command)
    mark = None if key is None else fingerprint(command)
    if key is not None:
        seen = store.event_by_key(command.openid, key)
        if seen is not None:
            if seen.fingerprint != mark:
                raise KeyReused(key, seen.version)
            return Outcome(seen.openid, seen.version, seen.credit, (seen,), replayed=True)

    account = store.account(command.openid) or Account(command.openid)
    events = decide(account, command)
    if not events:
        return Outcome(account.openid, account.version, account.credit, (), replayed=True)

    rows: list[Recorded] = []
    for event in events:
        # The last event is what was asked for; what comes before it only had to happen first.
        principal = event is events[-1]
        row, account = link(account, event, key if principal else None, mark if principal else None, now_us)
        rows.append(row)
    store.append(rows, account)
    return Outcome(account.openid, account.version, account.credit, tuple(rows), replayed=False)
