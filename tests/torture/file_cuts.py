"""Power cuts of what is no database: key files at the first start, and files that are exchanged for others.

The real program runs under strace; what it did to its directory is replayed up to any point, and whatever a
power cut may leave of that is started with again.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from shutil import copyfile, copytree
from typing import Final

import msgspec

from api import access
from api.settings import Settings, read_settings
from api.startup import prepare
from api.vault import open_signer
from ledger import schema, seal_file
from ledger.backup import Files, Identities, make_backup
from ledger.commands import Command, GrantCredit, RegisterUser, Submission
from ledger.committer import ledger_committer, microseconds_now
from ledger.errors import LedgerUnusable
from ledger.execute import Outcome
from ledger.parallel import silent
from ledger.seal import origin_of
from ledger.sealer import make_seal
from ledger.sqlite import connect
from scripts.sandbox_wechat import APPID
from tests.conftest import ROOT, Sandbox, Service
from tests.torture.disk import Written
from tests.torture.nth_operation import check_strace
from tests.torture.power_steps import ACTOR
from tests.torture.power_story import FILES, state_of
from tests.torture.round import Round
from tests.torture.traced import Told, story, tracer
from tests.torture.tree import Tree, TreeOperation, put

_CUTS_IN_A_WALK: Final = 40
_ENOUGH_BROKEN: Final = 20
_PATIENCE_S: Final = 60
_MEMORY: Final = Path("/dev/shm")
_OPENIDS: Final = ("oCut1", "oCut2")


class Scene(msgspec.Struct):
    """What a program did, from a tree that was all on disk, and what is broken in one that a cut left.

    `broken` is given the data directory, and all that had been told until the cut.
    """

    name: str
    before: Path
    entries: list[TreeOperation | Told]
    broken: Callable[[Path, bytes], Iterator[str]]


def file_cuts(round: Round) -> None:
    """One program in each round, in turn."""
    check_strace()
    cut(round, SCENES[(round.number - 1) % len(SCENES)](round.directory))


def cut(round: Round, scene: Scene) -> None:
    """Walk through the scene cutting, until the time is up; once at least."""
    for walk in count():
        if walk and (round.over or len(round.broken) >= _ENOUGH_BROKEN):
            return
        for at, left, told in cuts(scene, round.random):
            round.tally[f"power cuts of {scene.name}"] += 1
            _judge(round, scene, at, left, told)


def cuts(scene: Scene, chance: Random) -> Iterator[tuple[int, dict[str, bytes | None], bytes]]:
    """Cuts in order of time: before which entry, what is left, and what was told until then.

    A write only adds to what may be left, so no cut is made between two.
    """
    ends = [at for at, entry in enumerate(scene.entries) if not isinstance(entry, Written)]
    places = {*chance.sample(ends, min(_CUTS_IN_A_WALK, len(ends))), len(scene.entries)}
    tree, told = Tree.of(scene.before), b""
    for at, entry in enumerate([*scene.entries, Told(b"")]):
        if at in places:
            yield at, tree.cut(chance), told
        if isinstance(entry, Told):
            told += entry.data
        else:
            tree.apply(entry)


def _judge(round: Round, scene: Scene, at: int, left: dict[str, bytes | None], told: bytes) -> None:
    # Nothing is synced here that must last.
    with tempfile.TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else round.directory) as name:
        root = Path(name) / "root"
        root.mkdir()
        put(root, left)
        broken = list(scene.broken(root / "data", told))
    for promise in broken:
        round.expect(False, f"after a power cut at operation {at}: {promise}")
    if broken and not (kept := round.directory / f"cut-{at}").exists():
        kept.mkdir()
        put(kept, left)


# -- what is cut -----------------------------------------------------------------------------------------


def a_first_start(directory: Path) -> Scene:
    """The whole service, which makes its directory, and logins as soon as it listens."""
    before, root, report = _places(directory)
    sandbox = Sandbox()
    service = Service(root / "data", sandbox.url, workers=1)
    service.log_path = directory / "service.log"
    service._arguments = [*tracer(report), *service._arguments]
    tokens = []
    try:
        service.start()
        tokens = [service.login(f"cut{number}") for number in range(3)]
    finally:
        service.stop()
        sandbox.stop()
    return Scene("a first start", before, recorded(report, root, before), partial(_lost_logins, tokens))


def _lost_logins(tokens: list[str], data: Path, told: bytes) -> Iterator[str]:
    given = [token for token in tokens if token.encode() in told]
    try:
        settings = _started(data)
    except LedgerUnusable as why:
        yield f"{len(given)} logins were answered, and the next start says: {why}"
        return
    with closing(access.open_access(settings.access_path, read_only=True)) as sessions:
        found = [access.find_session(sessions, token, microseconds_now()) for token in given]
    with closing(connect(settings.ledger_path, read_only=True)) as ledger:
        accounts = {openid for (openid,) in ledger.execute("SELECT openid FROM event").fetchall()}
    for session in found:
        if session is None:
            yield "a token that was given out does not work"
        elif session.openid not in accounts:
            yield "a token that was given out is of an account that is not there"


def an_exchange_that_a_key_finishes(directory: Path) -> Scene:
    """`credit-ledger key create` where a restore had broken off before the first file had its name."""
    before, root, report = _places(directory)
    backup, _, after = _two_states(before / "data")
    incoming = before / "data" / ".incoming-20260101T000000.000001Z"
    incoming.mkdir()
    for file in FILES:
        copyfile(backup / file, incoming / file)
    copytree(before, root, dirs_exist_ok=True)
    secret = _run(root, report, "key", "create", "shop", "--scope", "read").splitlines()[0]
    return Scene(
        "an exchange that a key finishes",
        before,
        recorded(report, root, before),
        partial(_lost_key, secret, after),
    )


def _lost_key(secret: str, after: dict[str, bytes], data: Path, told: bytes) -> Iterator[str]:
    try:
        settings = _started(data)
    except LedgerUnusable as why:
        yield f"the next start says: {why}"
        return
    if _states(data)[FILES[0]] != after[FILES[0]]:
        yield "the ledger is not the one that the exchange had begun to bring"
    with closing(access.open_access(settings.access_path, read_only=True)) as connection:
        if secret.encode() in told and access.find_key(connection, secret) is None:
            yield "a key that was printed does not work"


def a_restore(directory: Path) -> Scene:
    """`credit-ledger restore`, which says when it is done."""
    before, root, report = _places(directory)
    backup, old, new = _two_states(before / "data")
    copytree(before, root, dirs_exist_ok=True)
    _run(root, report, "restore", backup, "--accept-loss")
    return Scene("a restore", before, recorded(report, root, before), partial(_half_restored, old, new))


def _half_restored(old: dict[str, bytes], new: dict[str, bytes], data: Path, told: bytes) -> Iterator[str]:
    try:
        _started(data)
    except LedgerUnusable as why:
        yield f"the next start says: {why}"
        return
    states, done = _states(data), b"restored:" in told
    moved = sorted(path.name for path in data.glob("replaced-*/*.db"))
    if states == new and moved != ["access.db", "ledger.db"]:
        yield f"of what was there, only {moved} was moved aside"
    if states != new and (done or states != old):
        yield f"the files are {'as before' if states == old else 'half of each'}, and done was told: {done}"


SCENES: Final = (a_first_start, an_exchange_that_a_key_finishes, a_restore)


# -- how it is set up and run ----------------------------------------------------------------------------


def _places(directory: Path) -> tuple[Path, Path, Path]:
    before, root = directory / "before", directory / "root"
    before.mkdir()
    root.mkdir()
    return before, root, directory / "strace"


def _environ(data: Path) -> dict[str, str]:
    return {**os.environ, "CREDIT_DATA": str(data), "WECHAT_APPID": APPID, "WECHAT_SECRET": "none"}


def _started(data: Path) -> Settings:
    """What the service does before its first worker; raises LedgerUnusable where it would not start."""
    settings = read_settings(_environ(data))
    prepare(settings)
    return settings


def _two_states(data: Path) -> tuple[Path, dict[str, bytes], dict[str, bytes]]:
    """Files at work, and a backup from before: where it is, the states of the files now, and as restored."""
    settings = _started(data)
    files = Files(settings.seals_path, settings.ledger_path, settings.access_path)
    _work(settings, "first")
    backup = data.parent.with_name("backup")
    identities = Identities(seal_file.IDENTITY, schema.IDENTITY, access.IDENTITY)
    make_backup(files, identities, backup, microseconds_now(), lambda _: nullcontext(silent))
    then = _states(backup)
    _work(settings, "second")
    now = _states(data)
    return backup, now, {**then, "seals.db": now["seals.db"]}


def _work(settings: Settings, key: str) -> None:
    now_us = microseconds_now()
    commands: list[Command] = [RegisterUser(openid, 100) for openid in _OPENIDS]
    commands += [GrantCredit(openid, 5, "gift", key) for openid in _OPENIDS]
    with closing(ledger_committer(settings.ledger_path)) as ledger:
        outcomes = ledger.commit([Submission(command, ACTOR) for command in commands])
    assert all(isinstance(outcome, Outcome) for outcome in outcomes), outcomes
    with closing(access.access_committer(settings.access_path)) as logins:
        logins.commit([lambda file: access.open_session(file, _OPENIDS[0], None, b"sealed", now_us)])
    signer = open_signer(settings.signing_key_path, origin_of(settings.appid))
    make_seal(settings.ledger_path, settings.seals_path, signer, now_us)


def _states(data: Path) -> dict[str, bytes]:
    states = {}
    for file in FILES:
        with closing(connect(data / file, read_only=True)) as connection:
            states[file] = state_of(connection)
    return states


def _run(root: Path, report: Path, *arguments: object) -> str:
    """`credit-ledger` on the files in `root`, traced; what it printed."""
    command = [*tracer(report), sys.executable, "-m", "scripts.credit_ledger", *map(str, arguments)]
    ran = subprocess.run(
        command, cwd=ROOT, env=_environ(root / "data"), capture_output=True, text=True, timeout=_PATIENCE_S
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def recorded(report: Path, root: Path, before: Path) -> list[TreeOperation | Told]:
    """The story of a program that has ended; strace, which is no child of ours, may still be writing it."""
    first = report.read_text().partition(" ")[0]
    deadline = time.monotonic() + _PATIENCE_S
    while not re.search(rf"^{first} +\+\+\+ ", report.read_text(), re.MULTILINE):
        assert time.monotonic() < deadline, f"strace does not say that process {first} ended: {report}"
        time.sleep(0.05)
    return list(story(report, root, Tree.of(before)))
