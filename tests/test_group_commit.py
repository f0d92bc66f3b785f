"""Group commit on the event loop: who is told what, and when the process must end."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.group_commit import GroupCommit
from ledger.committer import Committer
from ledger.errors import NotCommitted, OutcomeUnknown
from ledger.sqlite import WritableFile, connect


class FailingDisk(WritableFile):
    """A file whose disk refuses to sync: the answer that SQLite gives is made here, all else is real."""

    def commit(self) -> None:
        raise OutcomeUnknown("EIO", disk_failed=True)


def group_commit(path: Path, store: type[WritableFile], ended: list[str]) -> GroupCommit[str, str]:
    path.touch()

    def perform(_: WritableFile, command: str) -> str:
        if command == "bug":
            raise ZeroDivisionError
        return command.upper()

    committer: Committer[WritableFile, str, str] = Committer(
        lambda: store(connect(path), path.name), perform, path.with_suffix(".lock")
    )
    return GroupCommit("test", committer, lambda: ended.append("ended"))


def run(work: Callable[[], Any]) -> Any:
    return asyncio.run(work())


@pytest.mark.parametrize("commands", [["good"], ["good", "bug"], ["bug", "good"]])
def test_a_disk_that_fails_ends_the_process_on_whichever_path_it_is_found(
    tmp_path: Path, commands: list[str]
) -> None:
    ended: list[str] = []

    async def submit() -> list[Any]:
        commits = group_commit(tmp_path / "file.db", FailingDisk, ended)
        return await asyncio.gather(*map(commits.submit, commands), return_exceptions=True)

    outcomes = run(submit)
    assert ended
    assert any(isinstance(outcome, OutcomeUnknown) for outcome in outcomes)
    assert not any(isinstance(outcome, str) for outcome in outcomes), "nobody is told that it is on disk"


def test_the_culprit_fails_and_its_neighbours_do_not(tmp_path: Path) -> None:
    ended: list[str] = []

    async def submit() -> list[Any]:
        commits = group_commit(tmp_path / "file.db", WritableFile, ended)
        outcomes = await asyncio.gather(*map(commits.submit, ["a", "bug", "b"]), return_exceptions=True)
        await commits.close()
        return outcomes

    first, culprit, last = run(submit)
    assert (first, last) == ("A", "B")
    assert isinstance(culprit, ZeroDivisionError)
    assert not ended


def test_a_client_that_left_leaves_the_others_their_answers(tmp_path: Path) -> None:
    async def submit() -> tuple[Any, Any]:
        commits = group_commit(tmp_path / "file.db", WritableFile, [])
        stays, leaves = asyncio.create_task(commits.submit("a")), asyncio.create_task(commits.submit("b"))
        await asyncio.sleep(0)
        leaves.cancel()
        answer = await stays
        again = await commits.submit("c")
        await commits.close()
        return answer, again

    assert run(submit) == ("A", "C")


def test_when_the_turn_cannot_be_waited_for_everybody_is_told(tmp_path: Path) -> None:
    async def submit() -> list[Any]:
        commits = group_commit(tmp_path / "file.db", WritableFile, [])
        (tmp_path / "file.lock").mkdir()
        return await asyncio.gather(*map(commits.submit, ["a", "b"]), return_exceptions=True)

    assert [type(outcome) for outcome in run(submit)] == [IsADirectoryError, IsADirectoryError]


def test_too_many_that_wait_are_refused_at_once(tmp_path: Path) -> None:
    async def submit() -> list[Any]:
        commits = group_commit(tmp_path / "file.db", WritableFile, [])
        return await asyncio.gather(*(commits.submit("a") for _ in range(5000)), return_exceptions=True)

    outcomes = run(submit)
    assert sum(isinstance(outcome, NotCommitted) for outcome in outcomes) == 5000 - 4096
    assert outcomes.count("A") == 4096


def test_commands_that_are_handed_in_together_are_answered_in_order_and_each_for_itself(tmp_path: Path) -> None:
    """Beside others that come one by one; and a bug among them fails its own place only."""

    async def submit() -> list[Any]:
        commits = group_commit(tmp_path / "file.db", WritableFile, [])
        many = [f"a{number}" for number in range(700)]  # more than one batch takes
        many[350] = "bug"
        outcomes = await asyncio.gather(
            commits.submit("first"),
            commits.submit_all(many),
            commits.submit("between"),
            commits.submit_all(["x", "bug", "y"]),
            commits.submit_all([]),
            commits.submit("last"),
        )
        await commits.close()
        return list(outcomes)

    first, many, between, few, none, last = run(submit)
    assert (first, between, last, none) == ("FIRST", "BETWEEN", "LAST", [])
    assert isinstance(many[350], ZeroDivisionError)
    assert [*many[:350], *many[351:]] == [f"A{number}" for number in range(700) if number != 350]
    assert (few[0], few[2]) == ("X", "Y")
    assert isinstance(few[1], ZeroDivisionError)


def test_when_the_commit_fails_all_that_were_handed_in_together_are_told(tmp_path: Path) -> None:
    ended: list[str] = []

    async def submit() -> list[Any]:
        commits = group_commit(tmp_path / "file.db", FailingDisk, ended)
        return await asyncio.gather(commits.submit_all(["a", "b"]), commits.submit("c"), return_exceptions=True)

    together, alone = run(submit)
    assert isinstance(together, OutcomeUnknown)
    assert isinstance(alone, OutcomeUnknown)
    assert ended


def test_whoever_left_with_many_leaves_the_others_theirs(tmp_path: Path) -> None:
    async def submit() -> tuple[Any, Any]:
        commits = group_commit(tmp_path / "file.db", WritableFile, [])
        leaves = asyncio.create_task(commits.submit_all(["a", "b", "c"]))
        stays = asyncio.create_task(commits.submit_all(["d", "e"]))
        await asyncio.sleep(0)
        leaves.cancel()
        answer = await stays
        await commits.close()
        return answer, leaves.cancelled()

    assert run(submit) == (["D", "E"], True)
