"""Who is in the ledger that scripts/bench measures: written straight into the files, before the load."""

from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from api import access
from api.accounts import SCOPES
from api.vault import open_vault
from ledger.commands import Command, GrantCredit, RegisterUser, SpendCredit, Submission
from ledger.committer import ledger_committer, microseconds_now
from scripts import sandbox_wechat

PEOPLE: Final = 1000
LOTS: Final = 5
_LOT_CREDIT: Final = 10**9
LONG_EVENTS: Final = 100_000
_DAY_US: Final = 86_400_000_000
_AT_ONCE: Final = 2000


class Population(msgspec.Struct, frozen=True):
    """Files of lines "user openid token" for wrk, an API key, and what all this made of the ledger.

    `everybody` are registered with no credit and logged in; `savers` have `LOTS` expiring lots of credit each;
    `long` is one account with LONG_EVENTS events.
    """

    everybody: Path
    savers: Path
    long: Path
    api_key: str
    openids: list[str]
    tokens: list[str]
    events: int
    credit: int


def populate(directory: Path, data: Path) -> Population:
    users = [f"bench{number}" for number in range(PEOPLE)]
    openids = [sandbox_wechat.openid_of(user) for user in users]
    savers = [f"saver{number}" for number in range(PEOPLE)]
    now_us = microseconds_now()
    commands: list[Command] = [RegisterUser(openid, 0) for openid in (*openids, *savers, "long")]
    for lot in range(LOTS):
        expires_at_us = now_us + (lot + 1) * 30 * _DAY_US
        commands += [
            GrantCredit(saver, _LOT_CREDIT, "benchmark", f"lot{lot}", None, expires_at_us) for saver in savers
        ]
    commands.append(GrantCredit("long", LONG_EVENTS, "benchmark", "all"))
    commands += [SpendCredit("long", 1, "benchmark", f"s{number}") for number in range(LONG_EVENTS - 2)]
    _commit(data / "ledger.db", commands)
    tokens, api_key = _admit(data, openids, now_us)
    files = directory / "everybody", directory / "savers", directory / "long"
    rows = [
        zip(users, openids, tokens, strict=True),
        ((user, user, "-") for user in savers),
        [("-", "long", "-")],
    ]
    for file, lines in zip(files, rows, strict=True):
        file.write_text("".join(" ".join(line) + "\n" for line in lines))
    credit = PEOPLE * LOTS * _LOT_CREDIT + 2
    return Population(*files, api_key, openids, tokens, len(commands), credit)


def _commit(path: Path, commands: list[Command]) -> None:
    ledger = ledger_committer(path)
    for start in range(0, len(commands), _AT_ONCE):
        some = [Submission(command, "benchmark") for command in commands[start : start + _AT_ONCE]]
        for outcome in ledger.commit(some):
            if isinstance(outcome, Exception):
                raise outcome
    ledger.close()


def _admit(data: Path, openids: list[str], now_us: int) -> tuple[list[str], str]:
    """A session for each of `openids`, and an API key that may do everything."""
    vault = open_vault(data / "secret.key")
    changes: list[access.Change] = [
        partial(
            access.open_session,
            openid=openid,
            unionid=None,
            sealed_key=vault.seal(openid, "no session key"),
            now_us=now_us,
        )
        for openid in openids
    ]
    changes.append(
        partial(access.create_key, name="bench", scopes=SCOPES, now_us=now_us, expires_at_us=now_us + _DAY_US)
    )
    committer = access.access_committer(data / "access.db")
    outcomes: list[Any] = committer.commit(changes)
    committer.close()
    return outcomes[:-1], outcomes[-1][1]
