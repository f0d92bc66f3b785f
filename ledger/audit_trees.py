"""The trees of an audit: the log of seals as it grows, and the sum tree over what each range found."""

from collections.abc import Iterator
from heapq import merge
from itertools import groupby
from operator import itemgetter

from ledger import merkle
from ledger.errors import LedgerUnusable
from ledger.seal_file import SealFile
from ledger.sealed_leaf import (
    LEAF_BYTES,
    PART_BITS,
    PARTS_IN_GROUP,
    Leaf,
    entries_of,
    group_of,
    part_of,
    prefix_of,
    root_of_part,
    unpack_leaves,
)
from ledger.sums import KEY_BITS, Node, root_of


class Frontier:
    """The RFC 6962 tree of a log that grows, with no more of it than its root needs."""

    def __init__(self) -> None:
        self._tops: list[tuple[int, bytes]] = []

    def append(self, entry: bytes) -> None:
        level, digest = 0, merkle.leaf_hash(entry)
        while self._tops and self._tops[-1][0] == level:
            digest = merkle.node_hash(self._tops.pop()[1], digest)
            level += 1
        self._tops.append((level, digest))

    def root(self) -> bytes:
        *before, (_, digest) = self._tops
        for _, left in reversed(before):
            digest = merkle.node_hash(left, digest)
        return digest


def differing_leaves(packed: list[bytes], file: SealFile) -> Iterator[tuple[bytes, Leaf | None, Leaf | None]]:
    """The keys of which the states of the ranges and the leaves in `file` have not the same.

    Groups are compared as bytes, and only those that differ leaf by leaf.
    """
    logged = ((group, 0, leaves) for group, leaves in groups_in(packed))
    stored = ((group, 1, leaves) for group, leaves in file.leaf_groups())
    for _, found in groupby(merge(logged, stored), key=itemgetter(0)):
        sides = {side: leaves for _, side, leaves in found}
        if sides.get(0) != sides.get(1):
            yield from _differing(unpack_leaves(sides.get(0, b"")), unpack_leaves(sides.get(1, b"")))


def _differing(
    logged: Iterator[Leaf], stored: Iterator[Leaf]
) -> Iterator[tuple[bytes, Leaf | None, Leaf | None]]:
    tagged = merge(((each.key, 0, each) for each in logged), ((each.key, 1, each) for each in stored))
    for key, found in groupby(tagged, key=itemgetter(0)):
        both = [(side, each) for _, side, each in found]
        sides = dict(both)
        if sides.get(0) != sides.get(1) or len(both) != 2:
            yield key, sides.get(0), sides.get(1)


def groups_in(packed: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """The states of all ranges, group by group, each group's in order of their keys."""
    places = [0] * len(packed)
    for group in range(256):
        records = []
        for number, states in enumerate(packed):
            place = places[number]
            while place < len(states) and states[place] == group:
                records.append(states[place : place + LEAF_BYTES])
                place += LEAF_BYTES
            places[number] = place
        if records:
            yield group, b"".join(sorted(records))


def root_in(packed: list[bytes]) -> Node:
    return root_of(
        [
            (prefix_of(group * PARTS_IN_GROUP), root_of(entries_of(leaves)))
            for group, leaves in groups_in(packed)
        ]
    )


def root_of_stream(entries: Iterator[tuple[int, bytes]]) -> Node:
    """As `root_of`, part by part."""
    below = KEY_BITS - PART_BITS
    parts = groupby(entries, key=lambda entry: entry[0] >> below)
    return root_of([(part << below, root_of(list(inside))) for part, inside in parts])


def tree_problems(file: SealFile) -> Iterator[str]:
    """What of the kept trees is not what the kept entries and leaves come to: all of both, made anew."""
    last = file.last()
    if last is None:
        return
    tree = merkle.Tree(entry.encode() for _, entry, *_ in file.stored_rows())
    if tree.subtrees() != file.subtrees():
        yield "the log"
    parts: dict[int, dict[int, bytes]] = {}
    for number, part in file.parts():
        keys = [part[at : at + KEY_BITS // 8] for at in range(0, len(part), LEAF_BYTES)]
        if len(part) % LEAF_BYTES or keys != sorted(set(keys)) or any(part_of(key) != number for key in keys):
            yield f"part {number}"
            return
        parts.setdefault(group_of(number), {})[number] = root_of_part(part)
    try:
        if any(file.group(place) != inside for place, inside in parts.items()):
            yield "the tree"
        elif file.root() != Node(last.seal.root, last.seal.outstanding):
            yield "the top of the tree"
    except LedgerUnusable:
        yield "the tree"
