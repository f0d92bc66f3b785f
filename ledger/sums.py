"""The Merkle-sum tree over all accounts: one hash that commits to everybody's head, and to the total.

A leaf is an account as its events left it; its sum is the credit. Its key, SHA-256 of the openid, says where
it hangs: the tree is a binary trie over the bits of the keys, the first bit at depth 0. A branch with nothing
on one side is left out, so the root depends on nothing but the set of leaves.

    leaf = SHA-256(0x00, key, version, head, credit, held)
    node = SHA-256(0x01, depth, left hash, left sum, right hash, right sum), its sum the sum of both

The depth says which bit divides at a node. It is hashed, so it is not for whoever shows a path to choose: from
a root, each key has one way to go, and that ends at one leaf. So of each account one leaf at most can be proved
in a root, also where whoever made it put in two.

Sums are of 16 bytes, so no number of accounts can make one run over, and none is negative.
"""

import struct
from bisect import bisect_left
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple

KEY_BITS: Final = 256
_LEAF: Final = struct.Struct(">c32sQ32sQQ")
HASH_BYTES: Final = 32
SUM_BYTES: Final = 16
NODE_BYTES: Final = HASH_BYTES + SUM_BYTES
# What is hashed first of a node at each depth; made once, because seals and audits hash very many.
_BRANCH: Final = tuple(bytes((1, depth)) for depth in range(KEY_BITS))


class Node(bytes):
    """What a subtree comes to: its hash and the sum of the credit in it, as the 48 bytes that are hashed."""

    __slots__ = ()

    def __new__(cls, digest: bytes, total: int) -> "Node":
        return super().__new__(cls, digest + total.to_bytes(SUM_BYTES, "big"))

    @property
    def hash(self) -> bytes:
        return self[:HASH_BYTES]

    @property
    def sum(self) -> int:
        return int.from_bytes(self[HASH_BYTES:], "big")


class Step(NamedTuple):
    """On the way from a leaf to the root: the branch at `depth`, and what hangs on its other side."""

    depth: int
    other: Node


# The root over no account at all.
NOTHING: Final = Node(bytes(32), 0)

# Subtrees, each as the bytes of its Node, with their keys as numbers and in order of these; one key stands
# for all keys of its subtree.
Entries = Sequence[tuple[int, bytes]]


def account_key(openid: bytes) -> bytes:
    return sha256(openid).digest()


def leaf(key: bytes, version: int, head: bytes, credit: int, held: int) -> Node:
    return Node(sha256(_LEAF.pack(b"\x00", key, version, head, credit, held)).digest(), credit)


def join(depth: int, left: bytes, right: bytes) -> Node:
    """The node at `depth`, 0 to 255, over both its sides."""
    total = int.from_bytes(left[HASH_BYTES:], "big") + int.from_bytes(right[HASH_BYTES:], "big")
    return Node(sha256(_BRANCH[depth] + left + right).digest(), total)


def _node(packed: bytes) -> Node:
    return bytes.__new__(Node, packed)


def root_of(entries: Entries) -> Node:
    """The root over `entries`, which are in order and of different keys.

    Two neighbours part at the first bit that differs; what parts deeper is joined first.
    """
    if not entries:
        return NOTHING
    (before, node), *rest = entries
    total = int.from_bytes(node[HASH_BYTES:], "big")
    # What lies left of `node` and is not joined yet: where it parts from what is behind it, its node, its sum.
    left: list[tuple[int, bytes, int]] = []
    end = entries[-1][0] ^ 1 << KEY_BITS  # parts from the last key above the root, so all is joined before it
    for key, following in (*rest, (end, NOTHING)):
        depth = KEY_BITS - (before ^ key).bit_length()
        while left and left[-1][0] > depth:
            branch, other, more = left.pop()
            total += more
            node = sha256(_BRANCH[branch] + other + node).digest() + total.to_bytes(SUM_BYTES, "big")
        left.append((depth, node, total))
        before, node, total = key, following, int.from_bytes(following[HASH_BYTES:], "big")
    return _node(left[0][1])


def path_of(key: int, entries: Entries) -> list[Step]:
    """The steps from the entry of `key`, which is one of `entries`, to their root."""
    steps = []
    while len(entries) > 1:
        depth = KEY_BITS - (entries[0][0] ^ entries[-1][0]).bit_length()
        bit = 1 << (KEY_BITS - 1 - depth)
        middle = bisect_left(entries, 1, key=lambda entry: 1 if entry[0] & bit else 0)
        left, right = entries[:middle], entries[middle:]
        entries, other = (right, left) if key & bit else (left, right)
        steps.append(Step(depth, root_of(other)))
    return steps[::-1]


def climb(key: int, node: Node, path: Sequence[Step]) -> Node:
    """The root that `path` leads to from `node`, the leaf of `key`; raises ValueError where it is no path."""
    depth = KEY_BITS
    for step in path:
        if not 0 <= step.depth < depth:
            raise ValueError("a path leads from the depth of its leaf to the root")
        depth = step.depth
        on_the_right = key & 1 << (KEY_BITS - 1 - depth)
        node = join(depth, step.other, node) if on_the_right else join(depth, node, step.other)
    return node


def pack_path(path: Sequence[Step]) -> bytes:
    """The steps as bytes: depth (1), length of the sum (1), the sum, the hash (32)."""
    packed = []
    for depth, other in path:
        length = (other.sum.bit_length() + 7) // 8
        packed.append(bytes((depth, length)) + other.sum.to_bytes(length, "big") + other.hash)
    return b"".join(packed)
