"""What was done to the files, and who was told what in between: the recording that power cuts are made from."""

import pickle
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.torture.disk import Operation

RECORDING: Final = "recording.pickle"
LEDGER, ACCESS, SEALS = FILES = ("ledger.db", "access.db", "seals.db")


class Began(msgspec.Struct, frozen=True):
    """A change of `file` begins at the time `now_us`; `batch` is what would be sent again."""

    file: str
    now_us: int
    batch: tuple[Any, ...] = ()


class Told(msgspec.Struct):
    """The change was acknowledged, `file` is as `state` since, and `recorded` of the batch was not refused."""

    file: str
    state: bytes = b""
    recorded: tuple[Any, ...] = ()
    tokens: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()


class Refused(msgspec.Struct, frozen=True):
    """The product would not work on this file system."""

    why: str


Entry = Operation | Began | Told | Refused


def state_of(connection: Any) -> bytes:
    """All rows of all tables, in one digest."""
    digest = sha256()
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    for (name,) in names:
        rows = connection.execute(f'SELECT * FROM "{name}"').fetchall()
        digest.update(repr((name, sorted(map(repr, map(tuple, rows))))).encode())
    return digest.digest()


def read_recording(directory: Path) -> list[Entry]:
    entries: list[Entry] = pickle.loads((directory / RECORDING).read_bytes())
    return entries


def write_recording(directory: Path, entries: list[Entry]) -> None:
    (directory / RECORDING).write_bytes(pickle.dumps(entries))
