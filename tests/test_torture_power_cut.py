"""The part of the torture suite that cuts the power: it cuts, finds nothing, and would find what is lost."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from ledger.sqlite import connect
from tests.torture.disk import (
    SECTOR_BYTES,
    Created,
    Deleted,
    DirectorySynced,
    Disk,
    Operation,
    Synced,
    Truncated,
    Written,
)
from tests.torture.power_check import Standing, broken_promises
from tests.torture.power_cut import cuts, power_cut, put, record
from tests.torture.power_story import ACCESS, FILES, LEDGER, SEALS, Began, Entry, Told
from tests.torture.round import Round

A, B = b"a" * SECTOR_BYTES, b"b" * SECTOR_BYTES


def test_a_round_of_power_cuts_loses_nothing(tmp_path: Path) -> None:
    round = Round("power", tmp_path, 0)
    power_cut(round)
    assert round.broken == []
    assert round.tally["power cuts"] > 70
    assert round.tally["changes acknowledged"] > 80
    assert round.tally["file systems refused"] == 1


# -- the disk --------------------------------------------------------------------------------------------


def found(*operations: Operation) -> list[dict[str, bytes]]:
    """What 200 power cuts after `operations` left."""
    disk = Disk()
    for operation in operations:
        disk.apply(operation)
    chance = Random(1)
    return [disk.cut(chance) for _ in range(200)]


def test_what_was_synced_is_there_after_every_cut() -> None:
    synced = (Created("f"), Written("f", 0, A + B), Synced("f"), DirectorySynced())
    assert all(files == {"f": A + B} for files in found(*synced))


def test_what_was_not_synced_is_there_sector_by_sector_or_not() -> None:
    synced = (Created("f"), Written("f", 0, A + A), Synced("f"), DirectorySynced())
    contents = Counter(files["f"] for files in found(*synced, Written("f", 0, B + B)))
    assert set(contents) == {A + A, A + B, B + A, B + B}


def test_an_earlier_unsynced_write_may_be_there_without_a_later_one() -> None:
    synced = (Created("f"), Synced("f"), DirectorySynced())
    contents = {files["f"] for files in found(*synced, Written("f", 0, A), Written("f", 0, B))}
    assert {b"", A, B} <= contents


def test_a_length_may_be_there_without_its_sectors_which_then_hold_anything() -> None:
    synced = (Created("f"), Synced("f"), DirectorySynced())
    contents = {files["f"] for files in found(*synced, Written("f", 0, A))}
    assert {b"", A, b"\0" * SECTOR_BYTES} < contents
    assert all(len(content) in (0, SECTOR_BYTES) for content in contents)


def test_a_file_that_was_cut_short_may_have_its_old_end() -> None:
    synced = (Created("f"), Written("f", 0, A + B), Synced("f"), DirectorySynced())
    assert {files["f"] for files in found(*synced, Truncated("f", SECTOR_BYTES))} == {A, A + B}


def test_a_name_is_durable_when_its_directory_was_synced() -> None:
    made = (Created("f"), Written("f", 0, A), Synced("f"))
    assert {tuple(files) for files in found(*made)} == {(), ("f",)}
    deleted = (*made, DirectorySynced(), Deleted("f"))
    assert {tuple(files) for files in found(*deleted)} == {(), ("f",)}
    assert {tuple(files) for files in found(*deleted, DirectorySynced())} == {()}


# -- the checks ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    return record(tmp_path_factory.mktemp("power") / "recorded", "checks")


class Ended:
    """The files as the whole recording leaves them, and what was told of them."""

    def __init__(self, directory: Path, entries: list[Entry]) -> None:
        self.directory = directory
        self.standings = {file: Standing([], None) for file in FILES}
        disk = Disk()
        began: dict[str, Began] = {}
        for entry in entries:
            if isinstance(entry, Began):
                began[entry.file] = entry
            elif isinstance(entry, Told):
                self.standings[entry.file].told.append((began[entry.file], entry))
            else:
                disk.apply(entry)  # type: ignore[arg-type]
        for name in FILES:
            disk.apply(Synced(name))
        disk.apply(DirectorySynced())
        put(directory, disk.cut(Random(1)))

    def forge(self, file: str, *statements: str) -> None:
        with closing(connect(self.directory / file)) as connection:
            for statement in statements:
                connection.execute(statement)

    def broken(self) -> str:
        return "\n".join(broken_promises(self.directory, self.standings, thorough=True))


@pytest.fixture
def ended(tmp_path: Path, entries: list[Entry]) -> Ended:
    return Ended(tmp_path, entries)


def test_files_that_nothing_happened_to_break_no_promise(ended: Ended) -> None:
    assert ended.broken() == ""


def test_a_change_that_was_acknowledged_and_is_gone_is_reported(tmp_path: Path, entries: list[Entry]) -> None:
    """The last change is told a second time, as if it had been one more of which nothing is there."""
    ended = Ended(tmp_path, entries)
    began, told = ended.standings[LEDGER].told[-1]
    ended.standings[LEDGER].told.append((began, Told(LEDGER, b"another", told.recorded)))
    assert "ledger.db lost the last 1 of" in ended.broken()


def test_a_change_on_its_way_may_be_there_or_not(tmp_path: Path, entries: list[Entry]) -> None:
    ended = Ended(tmp_path, entries)
    standing = ended.standings[LEDGER]
    standing.on_its_way = standing.told.pop()
    assert ended.broken() == ""


def test_half_a_batch_is_reported(ended: Ended) -> None:
    ended.forge(
        LEDGER,
        "DROP TRIGGER event_is_never_deleted",
        "DELETE FROM event WHERE position = (SELECT max(position) FROM event)",
    )
    broken = ended.broken()
    assert "ledger.db is as no acknowledged change left it" in broken
    assert "does not settle them to exactly once" in broken


def test_a_token_that_is_gone_or_came_back_is_reported(ended: Ended) -> None:
    standing = ended.standings[ACCESS]
    began, told = standing.told[-1]
    standing.told[-1] = (began, Told(ACCESS, told.state, tokens=(*told.tokens, "never stored")))
    assert "a token that was given out does not work" in ended.broken()
    live = next(
        token
        for _, told in standing.told
        for token in told.tokens
        if not any(token in other.ended for _, other in standing.told)
    )
    standing.told[-1] = (began, Told(ACCESS, told.state, ended=(live,)))
    assert "a token that was ended works" in ended.broken()


@pytest.mark.parametrize("file", [LEDGER, ACCESS, SEALS])
def test_damage_to_a_page_is_reported(ended: Ended, file: str) -> None:
    path = ended.directory / file
    content = bytearray(path.read_bytes())
    for at in range(4096, len(content), 4096):
        content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    assert "damaged" in ended.broken() or "cannot be worked with" in ended.broken()


def test_a_file_that_is_gone_is_reported(ended: Ended) -> None:
    for path in ended.directory.glob(f"{LEDGER}*"):
        path.unlink()
    assert "ledger.db lost the last" in ended.broken()


def test_every_file_is_cut_with_a_change_on_its_way(entries: list[Entry]) -> None:
    on_its_way: Counter[str] = Counter()
    chance = Random(2)
    for _ in range(3):
        for _, _, standings in cuts(entries, chance):
            on_its_way.update(file for file, standing in standings.items() if standing.on_its_way)
    assert set(on_its_way) == set(FILES)
