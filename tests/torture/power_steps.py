"""What the program does whose power is cut, one acknowledged change at a time, with the product's own code."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api import access
from ledger import schema, seal_file
from ledger.commands import (
    CaptureHold,
    Command,
    GrantCredit,
    HoldCredit,
    RegisterUser,
    ReleaseHold,
    SpendCredit,
    Submission,
)
from ledger.committer import ledger_committer
from ledger.execute import Outcome
from ledger.note import Signer
from ledger.seal import origin_of
from ledger.sealer import make_seal
from ledger.sqlite import Turnstile, connect, rewrite, turnstile_path
from scripts.sandbox_wechat import APPID
from tests.torture.power_story import ACCESS, FILES, LEDGER, SEALS, Began, Entry, Told, state_of

SIGNER: Final = Signer(origin_of(APPID), Ed25519PrivateKey.from_private_bytes(b"k" * 32))
ACTOR: Final = "key:torture"
START_US: Final = 1_700_000_000_000_000
_OPENIDS: Final = tuple(f"oPower{number:022d}" for number in range(9))
_STEPS: Final = 110


def create_files(directory: Path) -> None:
    """As the service does at every start: what is there is left alone."""
    schema.create(directory / LEDGER, APPID)
    access.create(directory / ACCESS, b"made by the secret key")
    seal_file.create(directory / SEALS, SIGNER.verifier.vkey)


class Steps:
    """Each method is one step; everything in it is recorded between a Began and a Told."""

    def __init__(self, directory: Path, chance: Random, record: Callable[[Entry], None]) -> None:
        self._directory = directory
        self._chance = chance
        self._record = record
        self._numbers = count(1)
        self._now_us = START_US
        self._ledger = ledger_committer(directory / LEDGER, clock_us=lambda: self._now_us)
        self._access = access.access_committer(directory / ACCESS)
        self._tokens: list[str] = []
        self._holds: list[tuple[str, int]] = []

    def run(self) -> None:
        """Create the files, and change them in all the ways that there are."""
        self.create()
        kinds = (self.commit, self.login, self.seal, self.close, self.rewrite)
        for step in self._chance.choices(kinds, (60, 25, 7, 6, 2), k=_STEPS):
            step()
        self.close()

    def create(self) -> None:
        for file in FILES:
            self._record(Began(file, self._now_us))
        create_files(self._directory)
        self._tell(*map(Told, FILES))

    def commit(self) -> None:
        """A batch of commands, some of which are refused."""
        self._now_us += self._chance.randrange(1, 60_000_000)
        commands = [self._command() for _ in range(self._chance.choice((1, 1, 2, 5, 20)))]
        batch = tuple(Submission(command, ACTOR) for command in commands)
        self._record(Began(LEDGER, self._now_us, batch))
        outcomes = self._ledger.commit(batch)
        recorded = []
        for submission, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Outcome):
                recorded.append(submission)
                if isinstance(submission.command, HoldCredit):
                    self._holds.append((outcome.openid, outcome.version))
        self._tell(Told(LEDGER, recorded=tuple(recorded)))

    def login(self) -> None:
        """What a login writes, or a logout, a profile, a key."""
        self._now_us += self._chance.randrange(1, 60_000_000)
        number = next(self._numbers)
        openid = self._chance.choice(_OPENIDS)
        changes: list[access.Change] = [
            partial(access.present_code, code=f"code-{number}", now_us=self._now_us),
            partial(
                access.open_session,
                openid=openid,
                unionid=None,
                sealed_key=self._chance.randbytes(52),
                now_us=self._now_us,
            ),
        ]
        if self._chance.random() < 0.3:
            chosen = access.Profile("n" * self._chance.randrange(40), "data:" + "x" * 9000)
            changes.append(partial(access.save_profile, openid=openid, chosen=chosen))
        if self._chance.random() < 0.2:
            far_us = self._now_us + 10**15
            changes.append(
                partial(
                    access.create_key,
                    name="k",
                    scopes=frozenset({"read"}),
                    now_us=self._now_us,
                    expires_at_us=far_us,
                )
            )
        ended = []
        if self._tokens and self._chance.random() < 0.3:
            ended.append(self._tokens.pop(self._chance.randrange(len(self._tokens))))
            changes.append(partial(_log_out, token=ended[0], now_us=self._now_us))
        self._record(Began(ACCESS, self._now_us))
        outcomes: list[Any] = self._access.commit(changes)
        self._tokens.append(outcomes[1])
        self._tell(Told(ACCESS, tokens=(outcomes[1],), ended=tuple(ended)))

    def seal(self) -> None:
        self._record(Began(SEALS, self._now_us))
        make_seal(self._directory / LEDGER, self._directory / SEALS, SIGNER, self._now_us)
        self._tell(Told(SEALS))

    def rewrite(self) -> None:
        """As the erasure of a person does, so that nothing is left of what was deleted."""
        self._access.close()
        path = self._directory / ACCESS
        with closing(Turnstile(turnstile_path(path))) as turnstile, turnstile:
            connection = access.open_access(path)
            rewrite(connection)
            connection.close()

    def close(self) -> None:
        """Closing the last connection makes a checkpoint and deletes the write-ahead log; more may follow."""
        self._ledger.close()
        self._access.close()

    def _tell(self, *told: Told) -> None:
        """It counts as told before the state is read: closing a connection can make a checkpoint."""
        for each in told:
            self._record(each)
        for each in told:
            with closing(connect(self._directory / each.file, read_only=True)) as connection:
                each.state = state_of(connection)

    def _command(self) -> Command:
        openid, key = self._chance.choice(_OPENIDS), f"k{next(self._numbers)}"
        amount = self._chance.randrange(1, 60)
        if self._holds and self._chance.random() < 0.15:
            openid, hold = self._holds.pop(self._chance.randrange(len(self._holds)))
            if self._chance.random() < 0.5:
                return CaptureHold(openid, hold, "shipped", key)
            return ReleaseHold(openid, hold, "cancelled", key)
        expires_at_us = None if self._chance.random() < 0.7 else self._now_us + 600_000_000
        return self._chance.choice(
            (
                RegisterUser(openid, 100),
                GrantCredit(openid, amount, "gift", key, expires_at_us=expires_at_us),
                GrantCredit(openid, amount, "x" * 180, key, "reference " * 15),
                SpendCredit(openid, amount, "order", key),
                HoldCredit(openid, amount, "order", key),
            )
        )


def _log_out(connection: Any, token: str, now_us: int) -> None:
    session = access.find_session(connection, token, now_us)
    if session is not None:
        access.close_session(connection, session.token_hash)
