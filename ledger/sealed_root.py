"""The root over all accounts: what account rows come to, against what the last seal says."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from ledger.projection import COLUMNS, Row
from ledger.seal_file import SealFile, Stored
from ledger.sums import KEY_BITS, NODE_BYTES, Node, account_key, leaf, root_of

_VERSION, _HEAD, _CREDIT, _HELD = (COLUMNS.index(name) for name in ("version", "head", "credit", "held"))
_KEY_BYTES: Final = 32
_SIZE: Final = _KEY_BYTES + NODE_BYTES
# Sorted and hashed bucket by bucket, so that only one of them at a time is a list of objects.
_BUCKETS: Final = 256


class Proof(msgspec.Struct, frozen=True):
    """Whether the accounts, folded to where seal `seal` was made, have the root that it says."""

    seal: int
    holds: bool


class Leaves:
    """What account rows are in the sum tree: 80 bytes an account, collected in any order. Can be pickled."""

    def __init__(self) -> None:
        self._buckets = [bytearray() for _ in range(_BUCKETS)]

    def add(self, openid: bytes, row: Row) -> None:
        key = account_key(openid)
        self._buckets[key[0]] += key + leaf(key, row[_VERSION], row[_HEAD], row[_CREDIT], row[_HELD])

    def join(self, other: "Leaves") -> None:
        """Take in what another process collected."""
        for bucket, more in zip(self._buckets, other._buckets, strict=True):
            bucket += more

    def root(self) -> Node:
        return root_of(
            [
                (number << KEY_BITS - 8, root_of(list(_entries(bucket))))
                for number, bucket in enumerate(self._buckets)
                if bucket
            ]
        )


def last_seal(path: Path) -> Stored | None:
    return _of_seals(path, SealFile.last)


def seal_at(path: Path, number: int) -> Stored | None:
    return _of_seals(path, lambda seals: seals.at(number))


def _of_seals(path: Path, read: Callable[[SealFile], Stored | None]) -> Stored | None:
    """What the seals beside the ledger say; None where there are none."""
    seals = path.with_name("seals.db")
    if not seals.exists():
        return None
    with closing(SealFile(seals)) as file:
        return read(file)


def prove(sealed: Stored, leaves: Leaves) -> Proof:
    root = leaves.root()
    return Proof(sealed.seal.number, (root.hash, root.sum) == (sealed.seal.root, sealed.seal.outstanding))


def _entries(bucket: bytearray) -> Iterator[tuple[int, bytes]]:
    for packed in _sorted(bucket):
        yield int.from_bytes(packed[:_KEY_BYTES], "big"), packed[_KEY_BYTES:]


def _sorted(bucket: bytearray) -> Iterable[bytes]:
    return sorted(bytes(bucket[first : first + _SIZE]) for first in range(0, len(bucket), _SIZE))
