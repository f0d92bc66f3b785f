"""Power cuts of files that are no database: nothing is lost, and a loss would show."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.torture.disk import Created, Deleted, Synced, Written
from tests.torture.file_cuts import SCENES, Scene, a_restore, cut, recorded
from tests.torture.nth_operation import check_strace
from tests.torture.round import CannotRun, Round
from tests.torture.traced import Told, tracer
from tests.torture.tree import DirectoryMade, Linked, Renamed, Tree, TreeOperation, put

_PROGRAM = """
import os, pathlib, shutil, sys
root, outside = map(pathlib.Path, sys.argv[1:])
(root / "made").mkdir()
(root / "kept").write_bytes(b"of before, cut")
shutil.copyfile(outside, root / "made" / "copied")
descriptor = os.open(root / "draft", os.O_RDWR | os.O_CREAT)
os.write(descriptor, b"first, ")
os.write(descriptor, b"second")
os.pwrite(descriptor, b"FIRST", 0)
os.fsync(descriptor)
os.ftruncate(descriptor, 9)
os.link(root / "draft", root / "made" / "linked")
os.close(descriptor)
(root / "draft").unlink()
(root / "made" / "linked").rename(root / "moved")
(root / "gone").mkdir()
(root / "gone" / "file").touch()
shutil.rmtree(root / "gone")
print("told")
"""


@pytest.fixture(scope="module", autouse=True)
def _strace() -> None:
    try:
        check_strace()
    except CannotRun as why:
        pytest.skip(f"power cuts of files were NOT tested: {why}")


@pytest.fixture(scope="module", params=SCENES, ids=lambda act: act.__name__)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """What each program did; whoever starts with its files uses copies."""
    recorded: Scene = request.param(tmp_path_factory.mktemp("scene"))
    return recorded


def test_power_cuts_lose_no_file(scene: Scene, tmp_path: Path) -> None:
    round = Round("files", tmp_path, 0)
    cut(round, scene)
    assert round.broken == []
    assert round.tally[f"power cuts of {scene.name}"] > 20


# -- the recording ---------------------------------------------------------------------------------------


def test_what_is_replayed_is_what_the_program_left(tmp_path: Path) -> None:
    before, root, outside = tmp_path / "before", tmp_path / "root", tmp_path / "outside"
    for place in (before, root):
        place.mkdir()
        (place / "kept").write_bytes(b"of before, and longer than it is then")
    outside.write_bytes(b"copied " * 5000)
    report = tmp_path / "strace"
    subprocess.run(
        [*tracer(report), sys.executable, "-S", "-c", _PROGRAM, root, outside], check=True, capture_output=True
    )
    tree = Tree.of(before)
    entries = recorded(report, root, before)
    for entry in entries:
        if not isinstance(entry, Told):
            tree.apply(entry)
    assert b"".join(entry.data for entry in entries if isinstance(entry, Told)) == b"told\n"
    assert tree.whole() == Tree.of(root).whole()
    assert tree.whole()["moved"] == b"FIRST, se"


# -- the disk --------------------------------------------------------------------------------------------


def left(*operations: TreeOperation) -> list[dict[str, bytes | None]]:
    """All that hundreds of cuts leave after these, each once."""
    tree = Tree()
    for operation in operations:
        tree.apply(operation)
    found: list[dict[str, bytes | None]] = []
    for seed in range(300):
        if (cut := tree.cut(Random(seed))) not in found:
            found.append(cut)
    return found


WHOLE = (Created("a"), Written("a", 0, b"text"), Synced("a"))


def test_a_synced_file_has_all_of_it_or_no_name() -> None:
    assert sorted(map(len, left(*WHOLE))) == [0, 1]
    assert {cut.get("a") for cut in left(*WHOLE)} == {None, b"text"}
    assert left(*WHOLE, Synced("")) == [{"a": b"text"}]


def test_a_file_that_was_not_synced_may_be_empty_under_its_name() -> None:
    assert {cut["a"] for cut in left(Created("a"), Written("a", 0, b"text"), Synced(""))} >= {b"", b"text"}


def test_a_rename_is_one_step_and_durable_with_either_directory() -> None:
    before = (*WHOLE, DirectoryMade("d"), Synced(""), Renamed("a", "d/b"))
    assert sorted(map(sorted, left(*before))) == [["a", "d"], ["d", "d/b"]]
    for synced in ("", "d"):
        assert left(*before, Synced(synced)) == [{"d": None, "d/b": b"text"}]


def test_what_is_moved_to_a_directory_without_a_durable_name_may_be_lost() -> None:
    moved = left(*WHOLE, Synced(""), DirectoryMade("d"), Renamed("a", "d/b"), Synced("d"))
    assert {} in moved
    assert {"d": None, "d/b": b"text"} in moved


def test_a_link_may_be_lost_and_the_draft_be_there_still() -> None:
    linked = left(*WHOLE, Synced(""), Linked("a", "b"), Deleted("a"))
    assert sorted(map(sorted, linked)) == [[], ["a"], ["a", "b"], ["b"]]


# -- the checks ------------------------------------------------------------------------------------------


def all_told(scene: Scene) -> bytes:
    return b"".join(entry.data for entry in scene.entries if isinstance(entry, Told))


def as_before(scene: Scene, directory: Path) -> Path:
    put(directory, Tree.of(scene.before).whole())
    return directory / "data"


def as_left(scene: Scene, directory: Path) -> Path:
    tree = Tree.of(scene.before)
    for entry in scene.entries:
        if not isinstance(entry, Told):
            tree.apply(entry)
    put(directory, tree.whole())
    return directory / "data"


def test_what_a_program_left_without_a_cut_breaks_no_promise(scene: Scene, tmp_path: Path) -> None:
    assert list(scene.broken(as_left(scene, tmp_path), all_told(scene))) == []


def test_what_was_told_and_is_gone_is_reported(scene: Scene, tmp_path: Path) -> None:
    broken = list(scene.broken(as_before(scene, tmp_path), all_told(scene)))
    assert (
        broken
        == {
            "a first start": ["a token that was given out does not work"] * 3,
            "an exchange that a key finishes": ["a key that was printed does not work"],
            "a restore": ["the files are as before, and done was told: True"],
        }[scene.name]
    )


def test_a_start_that_is_refused_after_something_was_told_is_reported(scene: Scene, tmp_path: Path) -> None:
    data = as_left(scene, tmp_path)
    (data / "secret.key").write_text("")
    (broken,) = scene.broken(data, all_told(scene))
    assert "the next start says: " in broken
    assert "does not hold a secret key" in broken


@pytest.mark.parametrize("scene", [a_restore], ids=["a_restore"], indirect=True)
def test_files_of_two_states_are_reported(scene: Scene, tmp_path: Path) -> None:
    data = as_left(scene, tmp_path)
    (replaced,) = data.glob("replaced-*")
    (replaced / "access.db").rename(data / "access.db")
    assert list(scene.broken(data, b"")) == ["the files are half of each, and done was told: False"]


@pytest.mark.parametrize("scene", [a_restore], ids=["a_restore"], indirect=True)
def test_what_was_not_moved_aside_is_reported(scene: Scene, tmp_path: Path) -> None:
    data = as_left(scene, tmp_path)
    (replaced,) = data.glob("replaced-*")
    (replaced / "ledger.db").unlink()
    assert list(scene.broken(data, b"")) == ["of what was there, only ['access.db'] was moved aside"]
