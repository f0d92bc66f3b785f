"""A disk that loses power: what was synced is there, and of what was not, any sector may be.

It is told what a program did to the files of one directory, in order, and at any moment says what could be
found there after a power cut.
"""

from random import Random
from typing import Final

import msgspec

SECTOR_BYTES: Final = 512


class Created(msgspec.Struct, frozen=True):
    name: str


class Written(msgspec.Struct, frozen=True):
    name: str
    offset: int
    data: bytes


class Truncated(msgspec.Struct, frozen=True):
    name: str
    size: int


class Synced(msgspec.Struct, frozen=True):
    name: str


class Deleted(msgspec.Struct, frozen=True):
    name: str


class DirectorySynced(msgspec.Struct, frozen=True):
    """From here on the names are durable: which files there are, and which are gone."""


Operation = Created | Written | Truncated | Synced | Deleted | DirectorySynced


class File:
    """What a file surely holds, and what was done to it since it was synced."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending: list[Written | Truncated] = []

    def sync(self) -> None:
        for operation in self.pending:
            if isinstance(operation, Truncated):
                _resize(self.durable, operation.size, b"\0")
            else:
                _put(self.durable, operation.offset, operation.data, b"\0")
        self.pending.clear()

    def after_a_cut(self, chance: Random, share: float, filler: bytes) -> bytes:
        """The durable bytes, and each unsynced sector or length with a chance of `share`.

        A length that reached the disk before its sectors leaves `filler` in their place.
        """
        found = bytearray(self.durable)
        for operation in self.pending:
            if isinstance(operation, Truncated):
                if chance.random() < share:
                    _resize(found, operation.size, filler)
                continue
            end = operation.offset + len(operation.data)
            if end > len(found) and chance.random() < share / 2:
                _resize(found, end, filler)
            at = operation.offset
            while at < end:
                next_at = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
                if chance.random() < share:
                    part = operation.data[at - operation.offset : next_at - operation.offset]
                    _put(found, at, part, filler)
                at = next_at
        return bytes(found)


class Disk:
    """The directory as it may be found; `apply` what was done, `cut` as often as you like."""

    def __init__(self) -> None:
        self._live: dict[str, File] = {}
        self._durable: dict[str, File] = {}
        self._renamed: list[tuple[str, File | None]] = []

    def apply(self, operation: Operation) -> None:
        match operation:
            case Created(name):
                self._live[name] = File()
                self._renamed.append((name, self._live[name]))
            case Deleted(name):
                del self._live[name]
                self._renamed.append((name, None))
            case Written(name) | Truncated(name):
                self._live[name].pending.append(operation)
            case Synced(name):
                self._live[name].sync()
            case DirectorySynced():
                _name(self._durable, self._renamed)
                self._renamed.clear()

    def cut(self, chance: Random) -> dict[str, bytes]:
        """What may be found after a power cut now, by name: any subset of what was not synced, torn."""
        share = chance.choice((0.0, 0.5, 1.0, chance.random()))
        filler = chance.choice((b"\0", chance.randbytes(SECTOR_BYTES)))
        names = dict(self._durable)
        _name(names, [entry for entry in self._renamed if chance.random() < share])
        return {name: file.after_a_cut(chance, share, filler) for name, file in sorted(names.items())}


def _name(names: dict[str, File], entries: list[tuple[str, File | None]]) -> None:
    for name, file in entries:
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


def _put(content: bytearray, offset: int, data: bytes, filler: bytes) -> None:
    if offset > len(content):
        _resize(content, offset, filler)
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int, filler: bytes) -> None:
    del content[size:]
    missing = size - len(content)
    content += (filler * (missing // len(filler) + 1))[:missing]
