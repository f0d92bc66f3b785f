"""The leaves of the sum tree as they are kept: packed, and in parts by the first bits of their keys."""

import struct
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from ledger.sums import HASH_BYTES, KEY_BITS, NODE_BYTES, Node, leaf, root_of

# Accounts whose keys begin with the same 16 bits are a part, one row; 256 neighbouring parts are a group, one
# row of the crown. So a seal reads and writes the parts that changed and what is above them.
PART_BITS: Final = 16
_GROUP_BITS: Final = 8
PARTS_IN_GROUP: Final = 1 << PART_BITS - _GROUP_BITS

# A stored leaf: key, version, head, held, and its node in the sum tree.
_LEAF: Final = struct.Struct(f">32sQ32sQ{NODE_BYTES}s")
LEAF_BYTES: Final = _LEAF.size
_NODE_AT: Final = LEAF_BYTES - NODE_BYTES
_KEY_BYTES: Final = KEY_BITS // 8
# What the sum tree needs of it: key and node.
_ENTRY: Final = struct.Struct(f">{_KEY_BYTES}s{_NODE_AT - _KEY_BYTES}x{NODE_BYTES}s")


class Leaf(msgspec.Struct, frozen=True):
    """An account as the last seal has it; `packed` is how it is stored."""

    key: bytes
    version: int
    head: bytes
    credit: int
    held: int
    packed: bytes

    @property
    def node(self) -> bytes:
        return self.packed[_NODE_AT:]


class Change(NamedTuple):
    """An account as it is now; event `first` is the oldest new one, `follows` the hash before it."""

    key: bytes
    openid: bytes
    version: int
    head: bytes
    credit: int
    held: int
    first: int
    follows: bytes
    more_held: int


def part_of(key: bytes) -> int:
    return int.from_bytes(key[: PART_BITS // 8], "big")


def group_of(part: int) -> int:
    return part // PARTS_IN_GROUP


def pack_leaf(change: Change) -> bytes:
    """What is stored of an account as the ledger has it now."""
    node = leaf(change.key, change.version, change.head, change.credit, change.held)
    return _LEAF.pack(change.key, change.version, change.head, change.held, node)


def unpack_leaf(packed: bytes) -> Leaf:
    key, version, head, held, node = _LEAF.unpack(packed)
    return Leaf(key, version, head, int.from_bytes(node[HASH_BYTES:], "big"), held, packed)


def node_of(stored: Leaf) -> Node:
    """The node that the facts of a stored leaf come to, whatever is stored as its node."""
    return leaf(stored.key, stored.version, stored.head, stored.credit, stored.held)


def unpack_leaves(part: bytes) -> Iterator[Leaf]:
    """The leaves that are whole, in their order there."""
    whole = len(part) - len(part) % LEAF_BYTES
    return (unpack_leaf(part[at : at + LEAF_BYTES]) for at in range(0, whole, LEAF_BYTES))


def place_of(key: bytes, part: bytes) -> tuple[int, bool]:
    """Where in a part the leaf of `key` is, or belongs, in bytes; and whether it is there."""
    at = bisect_left(range(0, len(part), LEAF_BYTES), key, key=lambda at: part[at : at + _KEY_BYTES])
    at *= LEAF_BYTES
    return at, part.startswith(key, at)


def root_of_part(part: bytes) -> Node:
    return root_of(entries_of(part))


def entries_of(part: bytes) -> list[tuple[int, bytes]]:
    """The leaves of a part as the sum tree takes them."""
    return [(int.from_bytes(key, "big"), node) for key, node in _ENTRY.iter_unpack(part)]


def prefix_of(part: int) -> int:
    """The lowest key of a part: it stands for all of them where only the parts are told apart."""
    return part << KEY_BITS - PART_BITS
