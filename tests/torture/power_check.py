"""What must hold of the files that a power cut left: opened, compared with what was told, and written to."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from api import access
from ledger.commands import GrantCredit, RegisterUser, Submission
from ledger.committer import ledger_committer
from ledger.errors import LedgerFault, LedgerUnusable
from ledger.execute import Outcome
from ledger.seal import NotSealed
from ledger.sealer import make_seal
from ledger.sqlite import UNREADABLE, connect, file_problems
from ledger.verify import audit
from tests.torture.power_steps import ACTOR, SIGNER, create_files
from tests.torture.power_story import ACCESS, FILES, LEDGER, SEALS, Began, Told, state_of


class Standing(msgspec.Struct):
    """What was told of one file before the cut, oldest first, and what was on its way."""

    told: list[tuple[Began, Told]] = []
    on_its_way: tuple[Began, Told] | None = None

    def latest(self) -> list[tuple[Began, Told]]:
        """The changes of which one must be the last one that is there."""
        return self.told[-1:] + ([] if self.on_its_way is None else [self.on_its_way])


def broken_promises(directory: Path, standings: dict[str, Standing], *, thorough: bool) -> Iterator[str]:
    """Sentences; the files are written to. `thorough` is an audit of everything, and a seal."""
    try:
        create_files(directory)
        states = {}
        for file in FILES:
            with closing(connect(directory / file, read_only=True)) as connection:
                for problem in file_problems(connection):
                    yield f"{file} is damaged: {problem}"
                states[file] = state_of(connection)
        for file, state in states.items():
            yield from _wrong_state(file, state, standings[file])
        yield from _unsettled(directory / LEDGER, standings[LEDGER])
        yield from _locked_out(directory / ACCESS, standings[ACCESS])
        if thorough:
            make_seal(directory / LEDGER, directory / SEALS, SIGNER, 2 * 10**15)
            for fault in audit(directory / LEDGER, seals=directory / SEALS).faults:
                yield f"the audit found: {fault}"
    except (LedgerUnusable, LedgerFault, NotSealed, *UNREADABLE) as error:
        yield f"it cannot be worked with: {error!r}"


def _wrong_state(file: str, state: bytes, standing: Standing) -> Iterator[str]:
    if any(told.state == state for _, told in standing.latest()):
        return
    count = len(standing.told)
    for back, (_, told) in enumerate(reversed(standing.told)):
        if told.state == state:
            yield f"{file} lost the last {back} of {count} acknowledged changes"
            return
    yield f"{file} is as no acknowledged change left it, after {count}: half of one, or damage"


def _unsettled(path: Path, standing: Standing) -> Iterator[str]:
    """Send again what was last asked for, with the same keys, at the same time of the clock, and go on."""
    began, told = standing.latest()[-1]
    committer = ledger_committer(path, clock_us=lambda: began.now_us)
    with closing(committer):
        for outcome in committer.commit(told.recorded) if told.recorded else []:
            if not isinstance(outcome, Outcome):
                yield f"a command that is sent again is answered {outcome!r}"
        with closing(connect(path, read_only=True)) as connection:
            if state_of(connection) != told.state:
                yield "sending the last commands again does not settle them to exactly once"
        more = (
            Submission(RegisterUser("oAfterwards", 5), ACTOR),
            Submission(GrantCredit("oAfterwards", 1, "gift", "afterwards"), ACTOR),
        )
        for outcome in committer.commit(more):
            if not isinstance(outcome, Outcome):
                yield f"the next command is answered {outcome!r}"


def _locked_out(path: Path, standing: Standing) -> Iterator[str]:
    """Tokens that were given out must work, those that were ended must not; one on its way may do either."""
    live: set[str] = set()
    ended: set[str] = set()
    now_us = standing.latest()[-1][0].now_us
    for _, told in standing.told:
        live |= set(told.tokens)
        live -= set(told.ended)
        ended |= set(told.ended)
    in_between = () if standing.on_its_way is None else standing.on_its_way[1].ended
    committer = access.access_committer(path)
    with closing(committer):
        (token,) = committer.commit([lambda file: access.open_session(file, "oA", None, b"sealed", now_us)])
        if not isinstance(token, str):
            yield f"the next login is answered {token!r}"
            return
        with closing(access.open_access(path, read_only=True)) as connection:
            for given_out in [*live - set(in_between), token]:
                if access.find_session(connection, given_out, now_us) is None:
                    yield "a token that was given out does not work"
            for gone in ended:
                if access.find_session(connection, gone, now_us) is not None:
                    yield "a token that was ended works"
