"""seals.db: the seals, the log that they make, and the sum tree as the last of them found it.

A file of its own, so that sealing takes nothing from those who write to the ledger. It has no secret in it,
and no openid. The seals are append-only; the tree is derived, and is there so that a seal costs what changed.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from ledger.errors import LedgerUnusable
from ledger.seal import Seal, seal_of
from ledger.sqlite import Identity, WritableFile, connect, create_file
from ledger.sums import HASH_BYTES, KEY_BITS, NODE_BYTES, NOTHING, Node, Step, leaf, path_of, root_of

IDENTITY: Final = Identity(application_id=0x43524C53, schema_version=1)  # "CRLS"

# Accounts whose keys begin with the same 16 bits are a part, stored as one row; 256 neighbouring parts are a
# group, one row of the crown. So a seal reads and writes the parts that changed and what is above them.
PART_BITS: Final = 16
_GROUP_BITS: Final = 8
_PARTS_IN_GROUP: Final = 1 << PART_BITS - _GROUP_BITS

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

# A stored leaf: key, version, head, held, and its node in the sum tree (hash and credit).
_LEAF: Final = struct.Struct(f">32sQ32sQ{NODE_BYTES}s")
LEAF_BYTES: Final = _LEAF.size
_NODE_AT: Final = LEAF_BYTES - NODE_BYTES
_KEY_BYTES: Final = KEY_BITS // 8


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
        """Its leaf in the sum tree."""
        return self.packed[_NODE_AT:]


class Change(NamedTuple):
    """An account as the ledger has it now; event `first` is the oldest that is new, and `follows` the hash of
    the one before it."""

    key: bytes
    openid: bytes
    version: int
    head: bytes
    credit: int
    held: int
    first: int
    follows: bytes


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


def part_of(key: bytes) -> int:
    return int.from_bytes(key[: PART_BITS // 8], "big")


def group_of(part: int) -> int:
    return part // _PARTS_IN_GROUP


class SealFile(WritableFile):
    """seals.db, opened by one thread; read-only for everybody but the sealer."""

    def __init__(self, path: Path, *, read_only: bool = True) -> None:
        if not path.exists():
            raise LedgerUnusable(f"no seals at {path}: start the service once, or run credit-ledger seal")
        super().__init__(connect(path, IDENTITY, read_only=read_only), path.name)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within it every read sees the same seal. Keep it short: the write-ahead log cannot be reset."""
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("COMMIT")

    # -- the log of seals ------------------------------------------------------------------------------

    def vkey(self) -> str:
        (vkey,) = self.connection.execute("SELECT vkey FROM log").fetchone()
        return str(vkey)

    def last(self) -> Stored | None:
        return next(self.seals(None, 1), None)

    def at(self, number: int) -> Stored | None:
        found = next(self.seals(number + 1, 1), None)
        return found if found is not None and found.seal.number == number else None

    def seals(self, before: int | None, limit: int) -> Iterator[Stored]:
        """Up to `limit` seals with a number below `before`, newest first."""
        rows = self.connection.execute(
            "SELECT entry, note, position, hash FROM seal WHERE number < ? ORDER BY number DESC LIMIT ?",
            (2**63 - 1 if before is None else before, limit),
        ).fetchall()
        return (Stored(seal_of(entry), entry, *rest) for entry, *rest in rows)

    def stored_rows(self) -> Iterator[tuple[Any, ...]]:
        """Every seal as it is stored, oldest first, before anybody trusts it: number, entry, note, position
        and hash."""
        return iter(
            self.connection.execute("SELECT number, entry, note, position, hash FROM seal ORDER BY number")
        )

    def subtree(self, level: int, place: int) -> bytes:
        """A complete subtree of the log of entries, for the functions of `ledger.merkle`."""
        (digest,) = self.connection.execute(
            "SELECT hash FROM subtree WHERE level = ? AND place = ?", (level, place)
        ).fetchone()
        return bytes(digest)

    def append(self, stored: Stored, subtrees: Iterable[tuple[int, int, bytes]]) -> None:
        self.connection.execute(
            "INSERT INTO seal (number, entry, note, position, hash) VALUES (?, ?, ?, ?, ?)",
            (stored.seal.number, stored.entry, stored.note, stored.position, stored.hash),
        )
        self.connection.executemany("INSERT INTO subtree (level, place, hash) VALUES (?, ?, ?)", subtrees)

    # -- the sum tree ----------------------------------------------------------------------------------

    def sealed(self, key: bytes) -> Sealed | None:
        """The account of that key in the last seal, and the path to its root; None where it has none yet."""
        with self.snapshot():
            stored = self.last()
            part = self.part(part_of(key))
            at, found = place_of(key, part)
            if stored is None or not found:
                return None
            parts = self.group(group_of(part_of(key)))
            groups = self._groups()
        beneath = path_of(int.from_bytes(key, "big"), _entries(part))
        within = path_of(_prefix(part_of(key)), [(_prefix(part), node) for part, node in sorted(parts.items())])
        above = path_of(_prefix(group_of(part_of(key)) * _PARTS_IN_GROUP), groups)
        return Sealed(unpack_leaf(part[at : at + LEAF_BYTES]), beneath + within + above, stored)

    def part(self, number: int) -> bytes:
        """The packed leaves of a part, in order of their keys."""
        row = self.connection.execute("SELECT leaves FROM part WHERE part = ?", (number,)).fetchone()
        return b"" if row is None else bytes(row[0])

    def leaves(self) -> Iterator[Leaf]:
        """All accounts of the last seal in order of their keys; keep a snapshot around it."""
        for (part,) in self.connection.execute("SELECT leaves FROM part ORDER BY part"):
            yield from (unpack_leaf(part[at : at + LEAF_BYTES]) for at in range(0, len(part), LEAF_BYTES))

    def put_part(self, number: int, part: bytes) -> Node:
        """Store a part and return its root."""
        self.connection.execute("INSERT OR REPLACE INTO part (part, leaves) VALUES (?, ?)", (number, part))
        return root_of(_entries(part))

    def group(self, place: int) -> dict[int, bytes]:
        """The roots of the parts of a group, by the numbers of those that are there."""
        row = self.connection.execute("SELECT parts FROM crown WHERE place = ?", (place,)).fetchone()
        if row is None:
            return {}
        nodes = (row[0][at : at + NODE_BYTES] for at in range(0, len(row[0]), NODE_BYTES))
        return {part: node for part, node in enumerate(nodes, place * _PARTS_IN_GROUP) if node != NOTHING}

    def put_group(self, place: int, parts: dict[int, bytes]) -> None:
        first = place * _PARTS_IN_GROUP
        packed = b"".join([parts.get(part, NOTHING) for part in range(first, first + _PARTS_IN_GROUP)])
        root = root_of([(_prefix(part), node) for part, node in sorted(parts.items())])
        self.connection.execute(
            "INSERT OR REPLACE INTO crown (place, root, parts) VALUES (?, ?, ?)", (place, root, packed)
        )

    def root(self) -> Node:
        return root_of(self._groups())

    def collect(self, changes: Iterable[Change]) -> None:
        """Take in changed accounts, any number of them, in any order: they wait on disk, not in memory."""
        self.connection.execute(
            "CREATE TEMP TABLE IF NOT EXISTS change (key BLOB PRIMARY KEY, openid BLOB, version INTEGER,"
            " head BLOB, credit INTEGER, held INTEGER, first INTEGER, follows BLOB) STRICT, WITHOUT ROWID"
        )
        self.connection.execute("DELETE FROM change")
        self.connection.executemany("INSERT INTO change VALUES (?, ?, ?, ?, ?, ?, ?, ?)", changes)

    def collected(self) -> Iterator[Change]:
        """What was collected, in order of the keys."""
        return (Change(*row) for row in self.connection.execute("SELECT * FROM change ORDER BY key"))

    def clear_tree(self) -> None:
        """Forget all leaves, for a tree that is made anew."""
        self.connection.execute("DELETE FROM part")
        self.connection.execute("DELETE FROM crown")

    def _groups(self) -> list[tuple[int, bytes]]:
        rows = self.connection.execute("SELECT place, root FROM crown ORDER BY place").fetchall()
        return [(_prefix(place * _PARTS_IN_GROUP), root) for place, root in rows]


def pack_leaf(change: Change) -> bytes:
    """What is stored of an account as the ledger has it now."""
    node = leaf(change.key, change.version, change.head, change.credit, change.held)
    return _LEAF.pack(change.key, change.version, change.head, change.held, node)


def unpack_leaf(packed: bytes) -> Leaf:
    key, version, head, held, node = _LEAF.unpack(packed)
    return Leaf(key, version, head, int.from_bytes(node[HASH_BYTES:], "big"), held, packed)


def place_of(key: bytes, part: bytes) -> tuple[int, bool]:
    """Where in a part the leaf of `key` is, or belongs, in bytes; and whether it is there."""
    at = bisect_left(range(0, len(part), LEAF_BYTES), key, key=lambda at: part[at : at + _KEY_BYTES])
    at *= LEAF_BYTES
    return at, part.startswith(key, at)


def _entries(part: bytes) -> list[tuple[int, bytes]]:
    """The leaves of a part as the sum tree takes them."""
    return [
        (int.from_bytes(part[at : at + _KEY_BYTES], "big"), part[at + _NODE_AT : at + LEAF_BYTES])
        for at in range(0, len(part), LEAF_BYTES)
    ]


def _prefix(part: int) -> int:
    """The lowest key of a part: it stands for all of them where only the parts are told apart."""
    return part << KEY_BITS - PART_BITS
