"""The Merkle tree of RFC 6962 (and RFC 9162): an append-only log of entries under one root hash.

A log of `size` entries is known by its complete subtrees: `node(level, place)` is the hash over the entries
from `place << level` to below `(place + 1) << level`. They never change, so a store keeps them and gives any
root, inclusion path or consistency proof, also of a former size, for a few look-ups.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final

HASH_BYTES: Final = 32

# The hash of a complete subtree, by its level (0: an entry's leaf) and its place in that level.
Subtree = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def appended(size: int, leaf: bytes, node: Subtree) -> Iterator[tuple[int, int, bytes]]:
    """The subtrees that become complete when `leaf` follows `size` entries: (level, place, hash)."""
    level, place = 0, size
    yield level, place, leaf
    while place & 1:
        leaf = node_hash(node(level, place - 1), leaf)
        level, place = level + 1, place >> 1
        yield level, place, leaf


def root(size: int, node: Subtree) -> bytes:
    """The hash of the first `size` entries."""
    return _range_hash(0, size, node) if size else sha256(b"").digest()


def inclusion_path(place: int, size: int, node: Subtree) -> list[bytes]:
    """What proves that entry `place` is in the tree of `size`: PATH(m, D[n]), from the leaf to the root."""
    return _path(place, 0, size, node)


def inclusion_paths(leaves: Sequence[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """The root of the tree over these leaf hashes, of which there is one at least, and the path of each: what
    `root` and `inclusion_path` come to, for each branch hashed once."""
    if len(leaves) == 1:
        return leaves[0], [[]]
    middle = _split(0, len(leaves))
    left, paths_on_the_left = inclusion_paths(leaves[:middle])
    right, paths_on_the_right = inclusion_paths(leaves[middle:])
    for path in paths_on_the_left:
        path.append(right)
    for path in paths_on_the_right:
        path.append(left)
    return node_hash(left, right), paths_on_the_left + paths_on_the_right


def consistency_path(first: int, second: int, node: Subtree) -> list[bytes]:
    """What proves that the tree of size `second` begins with that of size `first`: PROOF(m, D[n])."""
    return _consistency(first, 0, second, node, whole=True) if first else []


def included(leaf: bytes, place: int, size: int, path: Sequence[bytes], top: bytes) -> bool:
    """Whether `path` leads from `leaf` at `place` to the root hash `top` of `size` (RFC 9162 2.1.3.2)."""
    if not 0 <= place < size:
        return False
    last, digest = size - 1, leaf
    for other in path:
        if not last:
            return False
        if place & 1 or place == last:
            digest = node_hash(other, digest)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            digest = node_hash(digest, other)
        place, last = place >> 1, last >> 1
    return not last and digest == top


def consistent(first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether `path` proves that the second tree begins with all of the first (RFC 9162 2.1.4.2)."""
    if not 0 <= first <= second:
        return False
    if first == 0 or first == second:
        # Every tree begins with the empty one, and each is itself.
        return not path and (first == 0 or first_root == second_root)
    steps = list(path) if first & (first - 1) else [first_root, *path]
    if not steps:
        return False
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    digest_first = digest_second = steps[0]
    for other in steps[1:]:
        if not last:
            return False
        if place & 1 or place == last:
            digest_first = node_hash(other, digest_first)
            digest_second = node_hash(other, digest_second)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            digest_second = node_hash(digest_second, other)
        place, last = place >> 1, last >> 1
    return not last and digest_first == first_root and digest_second == second_root


class Tree:
    """A tree in memory with all its complete subtrees: its `node` is what the functions above ask."""

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        self.size = 0
        self._nodes: dict[tuple[int, int], bytes] = {}
        for entry in entries:
            self.append(entry)

    def append(self, entry: bytes) -> None:
        for level, place, digest in appended(self.size, leaf_hash(entry), self.node):
            self._nodes[level, place] = digest
        self.size += 1

    def node(self, level: int, place: int) -> bytes:
        return self._nodes[level, place]

    def subtrees(self) -> dict[tuple[int, int], bytes]:
        return dict(self._nodes)


def _split(begin: int, end: int) -> int:
    """Where a tree over these entries divides: the left side is the largest power of two below its size."""
    return begin + (1 << (end - begin - 1).bit_length() - 1)


def _range_hash(begin: int, end: int, node: Subtree) -> bytes:
    count = end - begin
    if not count & (count - 1):
        level = count.bit_length() - 1
        return node(level, begin >> level)
    middle = _split(begin, end)
    return node_hash(_range_hash(begin, middle, node), _range_hash(middle, end, node))


def _path(place: int, begin: int, end: int, node: Subtree) -> list[bytes]:
    if end - begin == 1:
        return []
    middle = _split(begin, end)
    if place < middle:
        return [*_path(place, begin, middle, node), _range_hash(middle, end, node)]
    return [*_path(place, middle, end, node), _range_hash(begin, middle, node)]


def _consistency(first: int, begin: int, end: int, node: Subtree, *, whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962: `whole` as long as the first tree's root is what the asker has already."""
    if first == end:
        return [] if whole else [_range_hash(begin, end, node)]
    middle = _split(begin, end)
    if first <= middle:
        left = _consistency(first, begin, middle, node, whole=whole)
        return [*left, _range_hash(middle, end, node)]
    right = _consistency(first, middle, end, node, whole=False)
    return [*right, _range_hash(begin, middle, node)]
