"""What a real process did to the files below a directory, and what it told meanwhile, in order: from strace."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tests.torture.disk import Created, Deleted, Synced, Truncated, Written
from tests.torture.tree import DirectoryMade, Linked, Renamed, Tree, TreeOperation

_CALLS: Final = (
    "openat,write,writev,pwrite64,sendfile,sendto,sendmsg,ftruncate,fsync,fdatasync,rename,renameat,renameat2,"
    "link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir"
)
_LINE: Final = re.compile(r"(\d+) +(\w+)\((.*)\) += (\d+)")
_UNFINISHED: Final = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>$")
_RESUMED: Final = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_TEXT: Final = re.compile(r'"([^"]*)"')
_DESCRIPTOR: Final = re.compile(r"(?:\d+|AT_FDCWD)<([^>]*)>(\(deleted\))?")


class Told(msgspec.Struct, frozen=True):
    """What went to whoever asked, over a socket or a pipe."""

    data: bytes


def tracer(report: Path) -> list[str]:
    """What to put before a program: its calls go to `report`, which tells in the end that it exited.

    strace has a session of its own, so that it is not killed with the service before it has told.
    """
    return [
        "strace", "-DDD", "-f", "-y", "-xx", "-s", "10000000", "--seccomp-bpf", "-q",
        "-o", str(report), "-e", f"trace={_CALLS}",
    ]  # fmt: skip


def story(report: Path, root: Path, before: Tree) -> Iterator[TreeOperation | Told]:
    """The calls of `report`, as what they did below `root`; `before` is the tree at the start, and follows."""
    positions: dict[str, int] = {}
    for call, arguments, result in _calls(report):
        for operation in _Call(call, arguments, result, root, positions).operations(before):
            if not isinstance(operation, Told):
                before.apply(operation)
            yield operation


def _calls(report: Path) -> Iterator[tuple[str, str, int]]:
    """Those that came to something, in the order in which they ended."""
    begun: dict[str, str] = {}
    for line in report.read_text().splitlines():
        whole = line
        if unfinished := _UNFINISHED.match(line):
            begun[unfinished[1]] = unfinished[2]
            continue
        if resumed := _RESUMED.match(line):
            whole = f"{resumed[1]} {begun.pop(resumed[1])}{resumed[2]}"
        if match := _LINE.match(whole):
            yield match[2], match[3], int(match[4])


class _Call:
    def __init__(self, name: str, arguments: str, result: int, root: Path, positions: dict[str, int]) -> None:
        self._name = name
        self._arguments = arguments
        self._result = result
        self._root = str(root)
        self._positions = positions
        self._texts = [_bytes(text) for text in _TEXT.findall(arguments)]
        self._descriptors = [
            (_bytes(path).decode(errors="replace"), bool(deleted))
            for path, deleted in _DESCRIPTOR.findall(arguments)
        ]

    def operations(self, tree: Tree) -> Iterator[TreeOperation | Told]:
        match self._name:
            case "openat":
                yield from self._open(tree)
            case (
                "write"
                | "writev"
                | "sendto"
                | "sendmsg"
                | "pwrite64"
                | "sendfile"
                | "ftruncate"
                | "fsync"
                | "fdatasync"
            ):
                yield from self._on_descriptor()
            case _:
                yield from self._on_names()

    def _open(self, tree: Tree) -> Iterator[TreeOperation]:
        (name,) = self._names()
        if name is None or not re.search("O_WRONLY|O_RDWR", self._arguments):
            return
        self._positions[name] = 0
        if not tree.has(name):
            yield Created(name)
        elif "O_TRUNC" in self._arguments:
            yield Truncated(name, 0)

    def _on_descriptor(self) -> Iterator[TreeOperation | Told]:
        path, deleted = self._descriptors[0] if self._descriptors else ("", False)
        name = self._below(path)
        if name is None:
            if path.startswith(("socket:", "pipe:", "TCP:")):
                yield Told(b"".join(self._texts))
        elif deleted:
            pass
        elif self._name in ("fsync", "fdatasync"):
            yield Synced(name)
        elif self._name == "ftruncate":
            yield Truncated(name, int(self._arguments.rpartition(", ")[2]))
        elif self._name == "pwrite64":
            yield Written(name, int(self._arguments.rpartition(", ")[2]), self._texts[0][: self._result])
        else:
            at = self._positions[name]
            self._positions[name] += self._result
            yield Written(
                name, at, self._sent() if self._name == "sendfile" else self._texts[0][: self._result]
            )

    def _sent(self) -> bytes:
        """From a file outside, that nobody changed since."""
        source = Path(self._descriptors[1][0])
        offset = re.search(r", \[(\d+)\]", self._arguments)
        assert offset is not None
        assert self._below(str(source)) is None, f"a file of the tree is copied: {source}"
        return source.read_bytes()[int(offset[1]) :][: self._result]

    def _on_names(self) -> Iterator[TreeOperation]:
        names = self._names()
        if None in names:
            assert set(names) == {None}, f"a name goes out of the tree, or comes in: {names}"
            return
        match self._name.removesuffix("2").removesuffix("at"), names:
            case "rename", [str(old), str(new)]:
                yield Renamed(old, new)
            case "link", [str(old), str(new)]:
                yield Linked(old, new)
            case "unlink" | "rmdir", [str(name)]:
                yield Deleted(name)
            case "mkdir", [str(name)]:
                yield DirectoryMade(name)

    def _names(self) -> list[str | None]:
        """What a call names, below the root; None for each that is not."""
        directories = [path for path, _ in self._descriptors] or ["/"] * len(self._texts)
        paths = zip(directories, self._texts, strict=False)
        return [self._below(str(Path(directory) / text.decode())) for directory, text in paths]

    def _below(self, path: str) -> str | None:
        if path == self._root:
            return ""
        return path.removeprefix(f"{self._root}/") if path.startswith(f"{self._root}/") else None


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
