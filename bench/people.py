"""Who is in a ledger that is measured: written into the files, through the write path, before the load."""

import random
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from api import access
from api.accounts import SCOPES
from api.settings import Settings, read_settings
from api.startup import prepare
from api.vault import open_vault
from bench.contender import SIGNUP_CREDIT
from bench.machine import ROOT, credit_ledger
from bench.server import Person
from ledger.commands import Command, GrantCredit, RegisterUser, SpendCredit, Submission
from ledger.committer import ledger_committer, microseconds_now
from scripts import sandbox_wechat

LOTS: Final = 5
LONG: Final = "long"
EVENTS_PER_ACCOUNT: Final = 10
# What a cached ledger depends on: where one of these changes, it is made anew.
_MAKERS: Final = (
    "ledger/schema.py",
    "ledger/chain.py",
    "ledger/events.py",
    "ledger/projection.py",
    "bench/people.py",
)
_FILES: Final = ("ledger.db", "seals.db", "signing.key")
_LOT_CREDIT: Final = 10**9
_DAY_US: Final = 86_400_000_000
_AT_ONCE: Final = 2000
_ADMITTED: Final = 2000


def users_of(count: int) -> list[tuple[str, str]]:
    """So many sandbox users, each with the openid."""
    return [(f"bench{number}", sandbox_wechat.openid_of(f"bench{number}")) for number in range(count)]


def populate(environ: Mapping[str, str], count: int, long_events: int) -> tuple[dict[str, list[Person]], str]:
    """Make the data of a service with those settings. Returns whom wrk acts for, and an API key.

    `everybody` are logged in; `savers` have LOTS expiring lots of credit each; `long` is one account with
    `long_events` events.
    """
    settings = read_settings(environ)
    prepare(settings)
    users = users_of(count)
    savers = [f"saver{number}" for number in range(count)]
    now_us = microseconds_now()
    commands: list[Command] = [RegisterUser(openid, SIGNUP_CREDIT) for _, openid in users]
    commands += [RegisterUser(openid, 0) for openid in (*savers, LONG)]
    for lot in range(LOTS):
        expires_at_us = now_us + (lot + 1) * 30 * _DAY_US
        commands += [
            GrantCredit(saver, _LOT_CREDIT, "benchmark", f"lot{lot}", None, expires_at_us) for saver in savers
        ]
    commands.append(GrantCredit(LONG, long_events, "benchmark", "all"))
    commands += [SpendCredit(LONG, 1, "benchmark", f"s{number}") for number in range(long_events - 2)]
    commit_all(settings.ledger_path, commands)
    everybody, api_key = _admit(settings, users)
    return {
        "everybody": everybody,
        "savers": [Person("-", saver, "-") for saver in savers],
        "long": [Person("-", LONG, str(long_events))],
    }, api_key


def copy_grown(environ: Mapping[str, str], events: int, kept: Path) -> tuple[list[Person], str]:
    """As `populate`, with a copy of the ledger of so many events that `make_grown` made.

    Nobody in this process may have either of them open: closing a file that is copied drops SQLite's locks.
    """
    settings = read_settings(environ)
    settings.data.mkdir(parents=True)
    for name in _FILES:
        shutil.copy(grown_place(events, kept) / name, settings.data)
    prepare(settings)
    accounts = users_of(accounts_of(events))
    chosen = random.Random(events).sample(accounts, min(_ADMITTED, len(accounts)))  # noqa: S311 - no secret
    return _admit(settings, chosen)


def grown_place(events: int, kept: Path) -> Path:
    """Where in the cache the ledger of so many events belongs."""
    return kept / f"ledger-{_makers()}-{events}"


@cache
def _makers() -> str:
    sources = b"".join((ROOT / name).read_bytes() for name in _MAKERS)
    return sha256(sources).hexdigest()[:12]


def make_grown(events: int, kept: Path, tick: Callable[[int], object]) -> None:
    """Make a ledger of so many events where there is none: a tenth as many accounts, then grants and spends of
    anybody's. It is sealed once. Making it takes longer than any measurement, so it is kept in the cache."""
    place = grown_place(events, kept)
    if place.exists():
        return
    kept.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="making-", dir=kept) as unfinished:
        data = Path(unfinished) / "data"
        _fill(data, events, tick)
        credit_ledger(data, "seal ", "seal")
        data.rename(place)


def _fill(data: Path, events: int, tick: Callable[[int], object]) -> None:
    settings = read_settings(
        {"WECHAT_APPID": sandbox_wechat.APPID, "WECHAT_SECRET": "-", "CREDIT_DATA": str(data)}
    )
    prepare(settings)
    chance = random.Random(7)  # noqa: S311 - whom a benchmark chooses is no secret
    openids = [openid for _, openid in users_of(accounts_of(events))]
    with closing(ledger_committer(settings.ledger_path)) as ledger:
        # A registration is two events, one of them its grant.
        for start in range(0, len(openids), _AT_ONCE):
            some = openids[start : start + _AT_ONCE]
            _commit(ledger.commit, [RegisterUser(openid, SIGNUP_CREDIT) for openid in some])
            tick(2 * len(some))
        for start in range(2 * len(openids), events, _AT_ONCE):
            numbers = range(start, min(events, start + _AT_ONCE))
            _commit(ledger.commit, [_change(number, chance.choice(openids), chance) for number in numbers])
            tick(len(numbers))


def commit_all(path: Path, commands: list[Command]) -> None:
    """Through the write path, many at once; raises the first refusal."""
    with closing(ledger_committer(path)) as ledger:
        for start in range(0, len(commands), _AT_ONCE):
            _commit(ledger.commit, commands[start : start + _AT_ONCE])


def _commit(commit: Callable[[list[Submission]], list[Any]], commands: list[Command]) -> None:
    for outcome in commit([Submission(command, "key:benchmark") for command in commands]):
        if isinstance(outcome, Exception):
            raise outcome


def accounts_of(events: int) -> int:
    return events // EVENTS_PER_ACCOUNT


def _change(number: int, openid: str, chance: random.Random) -> Command:
    amount = chance.randint(1, 20)
    if chance.random() < 0.5:
        return GrantCredit(openid, amount, "campaign", f"grant-{number}")
    return SpendCredit(openid, amount, "coffee", f"order-{number}")


def _admit(settings: Settings, users: list[tuple[str, str]]) -> tuple[list[Person], str]:
    """A session for each of them, and an API key that may do everything."""
    vault = open_vault(settings.secret_key_path)
    now_us = microseconds_now()
    changes: list[access.Change] = [
        partial(
            access.open_session,
            openid=openid,
            unionid=None,
            sealed_key=vault.seal(openid, "no session key"),
            now_us=now_us,
        )
        for _, openid in users
    ]
    changes.append(
        partial(access.create_key, name="bench", scopes=SCOPES, now_us=now_us, expires_at_us=now_us + _DAY_US)
    )
    with closing(access.access_committer(settings.access_path)) as committer:
        outcomes: list[Any] = committer.commit(changes)
    *tokens, (_, api_key) = outcomes
    people = [Person(*user, token) for user, token in zip(users, tokens, strict=True)]
    return people, api_key
