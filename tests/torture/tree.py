"""A directory tree on a disk that loses power: a name that was not synced may be gone, or be there again.

As disk.py, for whole trees: links, renames and directories. A file's name is durable once its directory was
synced, a directory's own name once the one above was. A rename is one step: as on every file system with a
journal, a cut leaves all of it or nothing.
"""

import os
from pathlib import Path
from random import Random

import msgspec

from tests.torture.disk import Created, Deleted, File, Operation, Synced, Truncated, Written


class DirectoryMade(msgspec.Struct, frozen=True):
    name: str


class Linked(msgspec.Struct, frozen=True):
    old: str
    new: str


class Renamed(msgspec.Struct, frozen=True):
    old: str
    new: str


TreeOperation = Operation | DirectoryMade | Linked | Renamed


class _Directory:
    """As it is for whoever looks; what is durable of it, the tree knows."""

    def __init__(self) -> None:
        self.entries: dict[str, File | _Directory] = {}


class _Change(msgspec.Struct):
    """Of names, in one step: in which directory, which, and what has it then."""

    parts: list[tuple[_Directory, str, File | _Directory | None]]
    durable: bool = False


class Tree:
    """Names are paths below the root, which is "". `apply` what was done, `cut` as often as you like."""

    def __init__(self) -> None:
        self._root = _Directory()
        self._changes: list[_Change] = []

    @classmethod
    def of(cls, directory: Path) -> "Tree":
        """What is in `directory`, all of it on disk."""
        tree = cls()
        for path in sorted(directory.rglob("*")):
            name = str(path.relative_to(directory))
            if path.is_dir():
                tree.apply(DirectoryMade(name))
            else:
                tree.apply(Created(name))
                tree.apply(Written(name, 0, path.read_bytes()))
                tree.apply(Synced(name))
        for change in tree._changes:
            change.durable = True
        return tree

    def has(self, name: str) -> bool:
        try:
            self._at(name)
        except KeyError:
            return False
        return True

    def apply(self, operation: TreeOperation) -> None:
        match operation:
            case Created(name):
                self._change((name, File()))
            case DirectoryMade(name):
                self._change((name, _Directory()))
            case Linked(old, new):
                self._change((new, self._at(old)))
            case Renamed(old, new):
                self._change((new, self._at(old)), (old, None))
            case Deleted(name):
                self._change((name, None))
            case Written(name) | Truncated(name):
                file = self._at(name)
                assert isinstance(file, File)
                file.pending.append(operation)
            case Synced(name):
                self._sync(self._at(name))

    def cut(self, chance: Random) -> dict[str, bytes | None]:
        """What may be found after a power cut now, by name: any subset of what was not synced, torn.

        A directory has no bytes, and comes before what is in it.
        """
        return self._left(chance, chance.choice((0.0, 0.5, 1.0, chance.random())))

    def whole(self) -> dict[str, bytes | None]:
        """What is there for whoever looks, synced or not."""
        return self._left(Random(0), 1.0)

    def _left(self, chance: Random, share: float) -> dict[str, bytes | None]:
        found: dict[int, dict[str, File | _Directory]] = {}
        for change in self._changes:
            if change.durable or chance.random() < share:
                for directory, name, node in change.parts:
                    entries = found.setdefault(id(directory), {})
                    if node is None:
                        entries.pop(name, None)
                    else:
                        entries[name] = node
        left: dict[str, bytes | None] = {}
        waiting: list[tuple[str, _Directory]] = [("", self._root)]
        while waiting:
            above, directory = waiting.pop()
            for name, node in sorted(found.get(id(directory), {}).items()):
                path = os.path.join(above, name)
                if isinstance(node, _Directory):
                    left[path] = None
                    waiting.append((path, node))
                else:
                    left[path] = node.after_a_cut(chance, share, b"\0")
        return left

    def _at(self, name: str) -> File | _Directory:
        node: File | _Directory = self._root
        for part in Path(name).parts:
            if not isinstance(node, _Directory):
                raise KeyError(name)
            node = node.entries[part]
        return node

    def _change(self, *named: tuple[str, File | _Directory | None]) -> None:
        change = _Change([])
        for path, node in named:
            directory = self._at(os.path.dirname(path))
            assert isinstance(directory, _Directory)
            name = os.path.basename(path)
            change.parts.append((directory, name, node))
            if node is None:
                del directory.entries[name]
            else:
                directory.entries[name] = node
        self._changes.append(change)

    def _sync(self, node: File | _Directory) -> None:
        if isinstance(node, File):
            node.sync()
            return
        for change in self._changes:
            change.durable |= any(directory is node for directory, _, _ in change.parts)


def put(root: Path, left: dict[str, bytes | None]) -> None:
    """Make the files that a cut left below `root`."""
    for name, content in left.items():
        path = root / name
        if content is None:
            path.mkdir(mode=0o700)
        else:
            path.write_bytes(content)
            path.chmod(0o600)
