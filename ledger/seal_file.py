"""seals.db: the seals, the log that they make, and the sum tree as the last of them found it.

A file of its own, so that sealing takes nothing from those who write to the ledger. It has no secret in it,
and no openid. The seals are append-only; the tree is derived, and is there so that a seal costs what changed.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec

from ledger.errors import LedgerUnusable
from ledger.seal import Seal, seal_of
from ledger.sealed_leaf import (
    LEAF_BYTES,
    PARTS_IN_GROUP,
    Leaf,
    entries_of,
    group_of,
    node_of,
    part_of,
    place_of,
    prefix_of,
    root_of_part,
    unpack_leaf,
    unpack_leaves,
)
from ledger.sqlite import UNREADABLE, Identity, WritableFile, connect, create_file
from ledger.sums import NODE_BYTES, NOTHING, Node, Step, climb, path_of, root_of

IDENTITY: Final = Identity(application_id=0x43524C53, schema_version=1)  # "CRLS"

# What helps where seals that were published are damaged or gone: nobody can make them anew.
RESTORE: Final = "restore the newest copy of seals.db from a backup, and see credit-ledger audit"
# And what helps where only what can be made anew of them is.
REBUILD: Final = "run credit-ledger seal --rebuild"

_SCHEMA: Final = """
CREATE TABLE log (only INTEGER PRIMARY KEY CHECK (only = 1), vkey TEXT NOT NULL) STRICT;

CREATE TABLE seal (
    number INTEGER PRIMARY KEY CHECK (number >= 1), -- also the size of the log of seals with this one in it
    entry TEXT NOT NULL,
    note TEXT NOT NULL,
    -- the last event that it covers, as the ledger file numbers them, and its hash
    position INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;

-- The complete subtrees of the RFC 6962 tree over the entries.
CREATE TABLE subtree (
    level INTEGER NOT NULL, place INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE part (part INTEGER PRIMARY KEY, leaves BLOB NOT NULL) STRICT;
CREATE TABLE crown (place INTEGER PRIMARY KEY, root BLOB NOT NULL, parts BLOB NOT NULL) STRICT;

CREATE TRIGGER seal_is_never_updated BEFORE UPDATE ON seal
BEGIN SELECT RAISE(ABORT, 'seals are append-only: what was published cannot be changed'); END;
CREATE TRIGGER seal_is_never_deleted BEFORE DELETE ON seal
BEGIN SELECT RAISE(ABORT, 'seals are append-only: what was published cannot be taken back'); END;
CREATE TRIGGER seal_is_never_replaced BEFORE INSERT ON seal
WHEN EXISTS (SELECT 1 FROM seal WHERE number = NEW.number) OR NEW.number <> (SELECT count(*) + 1 FROM seal)
BEGIN SELECT RAISE(ABORT, 'seals are numbered 1, 2, 3 without a gap, and none is replaced'); END;
"""


class Stored(msgspec.Struct, frozen=True):
    """A seal, its published note, and up to which event of the ledger file it goes (position and hash)."""

    seal: Seal
    entry: str
    note: str
    position: int
    hash: bytes


class Sealed(msgspec.Struct, frozen=True):
    """An account's leaf in the tree of the seal `stored`, and the path from there to its root."""

    leaf: Leaf
    path: list[Step]
    stored: Stored


def create(path: Path, vkey: str) -> None:
    """Create seals.db for what the key `vkey` signs; one that exists is left alone."""
    create_file(path, IDENTITY, _SCHEMA, "INSERT INTO log (only, vkey) VALUES (1, ?)", (vkey,))


def _stored(number: int, entry: str, *rest: Any) -> Stored:
    try:
        seal = seal_of(entry)
    except ValueError as error:
        raise LedgerUnusable(f"seals.db is damaged, seal {number}: {error}: {RESTORE}") from None
    if seal.number != number:
        raise LedgerUnusable(f"seals.db is damaged, seal {number} calls itself {seal.number}: {RESTORE}")
    return Stored(seal, entry, *rest)


class SealFile(WritableFile):
    """seals.db, opened by one thread; read-only for everybody but the sealer."""

    def __init__(self, path: Path, *, read_only: bool = True) -> None:
        if not path.exists():
            raise LedgerUnusable(f"no seals at {path}: start the service once, or restore that file")
        super().__init__(connect(path, IDENTITY, read_only=read_only), path.name)
        self._cursor = self.connection.cursor()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within it every read sees the same seal. Keep it short: the write-ahead log cannot be reset."""
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("COMMIT")

    def vkey(self) -> str:
        for (vkey,) in self._rows("SELECT vkey FROM log"):
            return str(vkey)
        raise LedgerUnusable(f"seals.db is damaged, it does not say whose seals are in it: {RESTORE}")

    def last(self) -> Stored | None:
        return next(self.seals(None, 1), None)

    def at(self, number: int) -> Stored | None:
        return next((found for found in self.seals(number + 1, 1) if found.seal.number == number), None)

    def first_since(self, at_us: int) -> tuple[int, int, int]:
        """Of the first seal that is of `at_us` or later: when the one before it was made, when it was, and the
        position of its end. There is one. Seals are in order of their times, so it is found by halving."""
        last = self.last()
        numbers = range(1, 1 if last is None else last.seal.number + 1)
        number = bisect_left(numbers, at_us, key=lambda number: self._made(number)[0]) + 1
        return (self._made(number - 1)[0] if number > 1 else -1), *self._made(number)

    def _made(self, number: int) -> tuple[int, int]:
        """When that seal was made, and the position of its end."""
        stored = self.at(number)
        if stored is None:
            raise LedgerUnusable(f"seals.db is damaged, seal {number} is missing: {RESTORE}")
        return stored.seal.sealed_at_us, stored.position

    def seals(self, before: int | None, limit: int) -> Iterator[Stored]:
        """Up to `limit` seals with a number below `before`, newest first."""
        rows = self._rows(
            "SELECT number, entry, note, position, hash FROM seal WHERE number < ?"
            " ORDER BY number DESC LIMIT ?",
            2**63 - 1 if before is None else before,
            limit,
        )
        return (_stored(*row) for row in rows)

    def stored_rows(self) -> Iterator[tuple[Any, ...]]:
        """Every seal as it is stored, oldest first, before anybody trusts it: number, entry, note, position
        and hash."""
        return iter(
            self.connection.execute("SELECT number, entry, note, position, hash FROM seal ORDER BY number")
        )

    def subtree(self, level: int, place: int) -> bytes:
        """A complete subtree of the log of entries, for the functions of `ledger.merkle`."""
        for (digest,) in self._rows("SELECT hash FROM subtree WHERE level = ? AND place = ?", level, place):
            return bytes(digest)
        raise LedgerUnusable(f"seals.db is damaged: subtree {place} of level {level} is missing: {REBUILD}")

    def subtrees(self) -> dict[tuple[int, int], bytes]:
        """All that is kept of the log's tree, by level and place."""
        rows = self.connection.execute("SELECT level, place, hash FROM subtree")
        return {(level, place): digest for level, place, digest in rows}

    def log_size(self) -> int:
        """How many entries the log's tree was made of, whether or not their seals are still there."""
        (last,) = self.connection.execute("SELECT max(place) FROM subtree WHERE level = 0").fetchone()
        return 0 if last is None else int(last) + 1

    def append(self, stored: Stored, subtrees: Iterable[tuple[int, int, bytes]]) -> None:
        self.connection.execute(
            "INSERT INTO seal (number, entry, note, position, hash) VALUES (?, ?, ?, ?, ?)",
            (stored.seal.number, stored.entry, stored.note, stored.position, stored.hash),
        )
        self.put_subtrees(subtrees)

    def put_subtrees(self, subtrees: Iterable[tuple[int, int, bytes]]) -> None:
        self.connection.executemany("INSERT INTO subtree (level, place, hash) VALUES (?, ?, ?)", subtrees)

    def clear_log(self) -> None:
        self.connection.execute("DELETE FROM subtree")  # they can be made from the entries

    def sealed(self, key: bytes) -> Sealed | None:
        """The account of that key in the last seal, and the path to its root; None where it has none yet.

        Raises LedgerUnusable where the seal's root says otherwise, also of an account that is not there.
        """
        number = part_of(key)
        with self.snapshot():
            stored = self.last()
            part, parts, groups = self.part(number), self.group(group_of(number)), self._groups()
        if stored is None:
            return None
        at, found = place_of(key, part)
        damaged = LedgerUnusable(f"seals.db is damaged: its tree does not lead to its last seal: {REBUILD}")
        if not found:
            if root_of_part(part) != parts.get(number, NOTHING) or root_of(groups).hash != stored.seal.root:
                raise damaged
            return None
        beneath = path_of(int.from_bytes(key, "big"), entries_of(part))
        within = path_of(prefix_of(number), [(prefix_of(part), node) for part, node in sorted(parts.items())])
        above = path_of(prefix_of(group_of(number) * PARTS_IN_GROUP), groups)
        leaf, path = unpack_leaf(part[at : at + LEAF_BYTES]), beneath + within + above
        if climb(int.from_bytes(key, "big"), node_of(leaf), path).hash != stored.seal.root:
            raise damaged
        return Sealed(leaf, path, stored)

    def part(self, number: int) -> bytes:
        """The packed leaves of a part, in order of their keys."""
        part = b"".join(leaves for (leaves,) in self._rows("SELECT leaves FROM part WHERE part = ?", number))
        if len(part) % LEAF_BYTES:
            raise LedgerUnusable(f"seals.db is damaged: part {number} is cut: {REBUILD}")
        return part

    def leaves(self) -> Iterator[Leaf]:
        """All accounts of the last seal in order of their keys; keep a snapshot around it."""
        for _, part in self.parts():
            yield from unpack_leaves(part)

    def leaf_groups(self) -> Iterator[tuple[int, bytes]]:
        """The packed leaves of each group that are whole, as they are stored, in the order of the groups."""
        for group, parts in groupby(self.parts(), lambda part: group_of(part[0])):
            yield group, b"".join(part[: len(part) - len(part) % LEAF_BYTES] for _, part in parts)

    def parts(self) -> Iterator[tuple[int, bytes]]:
        """Every part as it is stored, in the order of their numbers."""
        return iter(self.connection.execute("SELECT part, leaves FROM part ORDER BY part"))

    def put_part(self, number: int, part: bytes) -> Node:
        """Store a part and return its root."""
        self._cursor.execute("INSERT OR REPLACE INTO part (part, leaves) VALUES (?, ?)", (number, part))
        return root_of_part(part)

    def group(self, place: int) -> dict[int, bytes]:
        """The roots of the parts of a group, by the numbers of those that are there."""
        rows = self._rows("SELECT root, parts FROM crown WHERE place = ?", place)
        if not rows:
            return {}
        ((root, packed),) = rows
        nodes = (packed[at : at + NODE_BYTES] for at in range(0, len(packed), NODE_BYTES))
        parts = {part: node for part, node in enumerate(nodes, place * PARTS_IN_GROUP) if node != NOTHING}
        if root_of([(prefix_of(part), node) for part, node in parts.items()]) != root:
            raise LedgerUnusable(f"seals.db is damaged: group {place} is not what its parts come to: {REBUILD}")
        return parts

    def put_group(self, place: int, parts: dict[int, bytes]) -> None:
        first = place * PARTS_IN_GROUP
        packed = b"".join([parts.get(part, NOTHING) for part in range(first, first + PARTS_IN_GROUP)])
        root = root_of([(prefix_of(part), node) for part, node in sorted(parts.items())])
        self.connection.execute(
            "INSERT OR REPLACE INTO crown (place, root, parts) VALUES (?, ?, ?)", (place, root, packed)
        )

    def root(self) -> Node:
        return root_of(self._groups())

    def clear_tree(self) -> None:
        """Forget all leaves, for a tree that is made anew."""
        self.connection.execute("DELETE FROM part")
        self.connection.execute("DELETE FROM crown")

    def _groups(self) -> list[tuple[int, bytes]]:
        rows = self._rows("SELECT place, root FROM crown ORDER BY place")
        return [(prefix_of(place * PARTS_IN_GROUP), root) for place, root in rows]

    def _rows(self, statement: str, *values: int) -> list[Any]:
        try:
            return list(self._cursor.execute(statement, values).fetchall())
        except UNREADABLE as error:
            raise LedgerUnusable(f"seals.db cannot be read: {error}: {RESTORE}") from None
