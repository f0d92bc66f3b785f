"""What the product makes outlives a power cut: its contents are on disk before its name, and then the name is.

Seen from outside: strace writes down what a real process does to files, and what is not synced yet at a moment
is what a power cut could take then.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from scripts.sandbox_wechat import APPID, SECRET
from tests.data_directories import COMMAND, ROOT, Data

WRITES = ("write", "pwrite64", "ftruncate", "sendfile")
SYNCS = ("fsync", "fdatasync")
CALLS = ",".join(
    (*WRITES, *SYNCS, "openat", "rename", "renameat2", "link", "linkat", "mkdir", "unlink", "rmdir")
)
PREPARE = "from api.settings import read_settings; from api.startup import prepare; prepare(read_settings())"
# Locks, and what SQLite makes anew or syncs the names of itself.
PASSING = re.compile(r"\.lock$|-(shm|wal|journal)$")
LINE = re.compile(r"(?P<process>\d+) +(?P<call>\w+)\((?P<given>.*)\) += (?P<answer>\d+)")
UNFINISHED = re.compile(r"(?P<process>\d+) +(?P<begun>.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"(?P<process>\d+) +<\.\.\. \w+ resumed>(?P<rest>.*)$")
PATH = re.compile(r'(?:\d+<(/[^>]*)>)|"(/[^"]*)"')


class Did(msgspec.Struct, frozen=True):
    """A system call that succeeded, and the one or two paths that it was about."""

    call: str
    paths: list[str]
    creates: bool


@pytest.fixture(scope="module", autouse=True)
def _strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is missing: what is synced was NOT tested (apt-get install strace)")
    tried = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: what is synced was NOT tested: {tried.stderr.strip()}")


def watched(root: Path, *command: object, **environ: str) -> list[Did]:
    """What the command did to files below `root`, in order."""
    report = root.with_name("strace")
    tracing = ["strace", "-f", "-y", "-qq", "-s", "4096", "-o", str(report), "-e", f"trace={CALLS}"]
    done = subprocess.run(
        [*tracing, *map(str, command)], env={**os.environ, **environ}, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return [did for did in calls(report) if all(path.startswith(str(root)) for path in did.paths)]


def calls(report: Path) -> Iterator[Did]:
    begun: dict[str, str] = {}
    for line in report.read_text(errors="replace").splitlines():
        if unfinished := UNFINISHED.match(line):
            begun[unfinished["process"]] = line.removesuffix(" <unfinished ...>")
            continue
        if resumed := RESUMED.match(line):
            line = begun.pop(resumed["process"]) + resumed["rest"]
        found = LINE.match(line)
        if found is None:  # a call that failed, or the end of a process
            continue
        given = found["given"]
        by_descriptor = found["call"] in (*WRITES, *SYNCS)
        paths = [by or name for by, name in PATH.findall(given)]
        if paths:
            yield Did(found["call"], paths[:1] if by_descriptor else paths, "O_CREAT" in given)


class Disk:
    """What a power cut could take: contents that are not synced, and the names of new files by directory."""

    def __init__(self) -> None:
        self.contents: set[str] = set()
        self.names: defaultdict[str, set[str]] = defaultdict(set)
        self.known: set[str] = set()
        self.broken: list[str] = []

    def take(self, did: Did) -> None:
        first, last = did.paths[0], did.paths[-1]
        match did.call:
            case call if call in WRITES:
                self.contents.add(first)
            case call if call in SYNCS:
                self.contents.discard(first)
                self.names.pop(first, None)
            case "openat" if did.creates:
                self._named(first)
            case "mkdir":
                self._named(first)
            case "unlink":
                self.contents.discard(first)
            case "rename" | "renameat2" | "link" | "linkat":
                self._check(first, last)
                self._named(last)
                self.contents = {path for path in self.contents if not beneath(path, first)}

    def _named(self, path: str) -> None:
        if path not in self.known:
            self.known.add(path)
            self.names[os.path.dirname(path)].add(path)

    def _check(self, path: str, name: str) -> None:
        lost = {each for each in self.contents if beneath(each, path)}
        lost |= {each for place, names in self.names.items() if beneath(place, path) for each in names}
        lost = {each for each in lost if not PASSING.search(each)}
        if lost:
            self.broken.append(f"{path} got the name {name}, and not on disk were {sorted(lost)}")

    def could_be_lost(self) -> set[str]:
        """What is there and would not surely be there after a power cut now."""
        unsynced = self.contents.union(*self.names.values())
        return {path for path in unsynced if os.path.exists(path) and not PASSING.search(path)}


def beneath(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")


def judged(done: list[Did]) -> None:
    disk = Disk()
    for did in done:
        disk.take(did)
    assert disk.broken == []
    assert disk.could_be_lost() == set()


def place(done: list[Did], call: str, path: Path, since: int = 0) -> int:
    """Where the first call about that path, as its last one, is from the place `since` on."""
    calls = {"link": ("link", "linkat"), "creation": ("openat",)}.get(call, (call,))
    for number, did in enumerate(done[since:], since):
        if did.call in calls and did.paths[-1] == str(path) and (did.call != "openat" or did.creates):
            return number
    raise AssertionError(f"no {call} of {path} from {since} on in {done}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def data(root: Path) -> Data:
    made = Data.made(root / "data")
    made.register("oAnna", "oBo")
    made.seal()
    return made


def test_a_first_start_has_each_key_on_disk_before_the_file_that_needs_it(root: Path) -> None:
    """Else there could be a database after a power cut that nothing opens any more."""
    data = root / "var" / "data"
    environ = {"CREDIT_DATA": str(data), "WECHAT_APPID": APPID, "WECHAT_SECRET": SECRET}
    done = watched(root, sys.executable, "-c", PREPARE, **environ)
    judged(done)
    assert place(done, "fsync", data.parent) < place(done, "creation", data / "access.db")
    for key, database in (("secret.key", "access.db"), ("signing.key", "seals.db")):
        named = place(done, "link", data / key)
        assert place(done, "fsync", data, named) < place(done, "creation", data / database)


def test_a_start_after_one_that_was_cut_short_syncs_the_key_that_it_finds(root: Path) -> None:
    data = root / "data"
    data.mkdir()
    (data / "secret.key").touch(mode=0o600)
    (data / "secret.key").write_text("ab" * 32)
    environ = {"CREDIT_DATA": str(data), "WECHAT_APPID": APPID, "WECHAT_SECRET": SECRET}
    done = watched(root, sys.executable, "-c", PREPARE, **environ)
    assert place(done, "fsync", data) < place(done, "creation", data / "ledger.db")
    assert (data / "secret.key").read_text() == "ab" * 32


def test_an_export_and_a_backup_have_their_names_once_they_are_on_disk(data: Data, root: Path) -> None:
    for command in ("export", "backup"):
        target = root / command
        done = watched(root, *COMMAND, command, target, **data.environ)
        judged(done)
        named = place(done, {"export": "link", "backup": "rename"}[command], target)
        place(done, "fsync", root, named)


def test_a_restore_leaves_at_every_moment_the_one_or_the_other(data: Data, root: Path) -> None:
    data.says("backup", root / "backup")
    done = watched(root, *COMMAND, "restore", root / "backup", **data.environ)
    judged(done)
    (replaced,) = data.path.glob("replaced-*")
    gone = place(done, "rmdir", data.path / replaced.name.replace("replaced", ".incoming"))
    for name in ("access.db", "ledger.db"):
        aside = place(done, "rename", replaced / name)
        there = place(done, "rename", data.path / name)
        for directory in (replaced, data.path):
            assert aside < place(done, "fsync", directory, aside) < there, "nothing of before is beside the new"
        assert place(done, "fsync", data.path, there) < gone
    made = place(done, "mkdir", replaced)
    assert place(done, "fsync", data.path, made) < place(done, "rename", replaced / "access.db")


def test_what_an_import_makes_is_on_disk(data: Data, root: Path) -> None:
    data.says("export", root / "export")
    judged(watched(root, *COMMAND, "import", root / "export", CREDIT_DATA=str(root / "new" / "data")))


def test_an_exchange_that_broke_off_is_finished_on_disk_before_a_key_is_made(data: Data) -> None:
    incoming = data.path / ".incoming-20260101T000000.000000Z"
    incoming.mkdir()
    shutil.copy(data.access, incoming / "access.db")
    done = watched(data.path.parent, *COMMAND, "key", "create", "shop", "--scope", "read", **data.environ)
    judged(done)
    there = place(done, "rename", data.access)
    place(done, "fsync", data.path, there)
