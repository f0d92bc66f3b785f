"""Power cuts: a recording of the product's writes, cut anywhere, with any subset of what was not synced.

The recording is made by a process with a SQLite of its own; what is left of the files is judged here, with the
library that is served with.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Final

from tests.conftest import ROOT
from tests.torture.disk import Disk
from tests.torture.power_check import Standing, broken_promises
from tests.torture.power_story import FILES, Began, Entry, Refused, Told, read_recording
from tests.torture.round import CannotRun, Round

# Cuts in one walk through a recording: few, so that every walk comes to its end and a round has several.
_CUTS_IN_A_WALK: Final = 80
_THOROUGH_SHARE: Final = 0.02
# What SQLite keeps in shared memory outlives a power cut as a file, with anything in it.
_STALE_SHARE: Final = 0.1
_ENOUGH_BROKEN: Final = 20
_MEMORY: Final = Path("/dev/shm")


def power_cut(round: Round) -> None:
    """Record once, and walk through the recording cutting, until the time is up; once at least."""
    if find_spec("apsw") is None:
        raise CannotRun("apsw is missing: scripts/install requirements-test.lock")
    _refuses_a_file_system_without_shared_memory(round)
    entries = record(round.directory / "recorded", str(round.random.random()))
    round.tally["changes acknowledged"] += sum(isinstance(entry, Told) for entry in entries)
    first = True
    while first or not round.over:
        for at, files, standings in cuts(entries, round.random):
            _judge(round, at, files, standings)
            if len(round.broken) >= _ENOUGH_BROKEN or (round.over and not first):
                return
        first = False


def record(directory: Path, seed: str, beneath: str = "unix") -> list[Entry]:
    """What the product does to its files on the file system `beneath`, and whom it tells what."""
    directory.mkdir()
    subprocess.run(
        [sys.executable, "-m", "tests.torture.power_writer", str(directory), seed, beneath],
        cwd=ROOT,
        check=True,
    )
    return read_recording(directory)


def cuts(
    entries: Sequence[Entry], chance: Random
) -> Iterator[tuple[int, dict[str, bytes], dict[str, Standing]]]:
    """Cuts in order of time: before which entry, what is left of the files, and what was told until then."""
    disk = Disk()
    standings = {file: Standing([], None) for file in FILES}
    places = set(chance.sample(range(len(entries)), _CUTS_IN_A_WALK))
    for at, entry in enumerate(entries):
        if at in places and all(standing.latest() for standing in standings.values()):
            yield at, disk.cut(chance), standings
        match entry:
            case Began():
                told = next(each for each in entries[at:] if isinstance(each, Told) and each.file == entry.file)
                standings[entry.file].on_its_way = (entry, told)
            case Told():
                change = standings[entry.file].on_its_way
                assert change is not None
                standings[entry.file].told.append(change)
                standings[entry.file].on_its_way = None
            case Refused():
                raise AssertionError(entry.why)
            case _:
                disk.apply(entry)


def _judge(round: Round, at: int, files: dict[str, bytes], standings: dict[str, Standing]) -> None:
    thorough = round.random.random() < _THOROUGH_SHARE
    if round.random.random() < _STALE_SHARE:
        files |= {f"{file}-shm": round.random.randbytes(32768) for file in FILES}
    round.tally["power cuts"] += 1
    round.tally["audits of everything"] += thorough
    # Its speed matters and its durability does not: nothing is synced here that must last.
    with tempfile.TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else round.directory) as name:
        scratch = Path(name)
        put(scratch, files)
        broken = list(broken_promises(scratch, standings, thorough=thorough))
    for promise in broken:
        round.expect(False, f"after a power cut at operation {at}: {promise}")
    if broken and not (kept := round.directory / f"cut-{at}").exists():
        kept.mkdir()
        put(kept, files)


def put(directory: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o600)


def _refuses_a_file_system_without_shared_memory(round: Round) -> None:
    """There SQLite answers another journal mode than was asked for: one that can take a commit back."""
    directory = round.directory / "without-shared-memory"
    entries = record(directory, "any", "unix-dotfile")
    refused = any(isinstance(entry, Refused) for entry in entries)
    round.expect(refused, "a ledger was written to that has no write-ahead log")
    round.tally["file systems refused"] += refused
    shutil.rmtree(directory)
