"""A short round of operators who do everything twice at once."""

from pathlib import Path

from tests.torture.operators import operators
from tests.torture.round import Round


def test_nothing_is_lost_or_doubled_by_two_operators_at_once(tmp_path: Path) -> None:
    part = Round("operators 3", tmp_path, 4, {"acknowledged": 150})
    operators(part)
    assert part.broken == []
    assert part.tally["seals by two at once"] >= 1
    assert part.tally["backups under load"] >= 1
    assert part.tally["events that a restore said it would lose"] > 10
    assert part.tally["old backups that were noticed"] == 3
    again = ("lists that two operators granted at once", "files that two operators sent at once")
    others = ("replays by two at once", "writes by hand refused by the file")
    assert sum(part.tally[doing] > 0 for doing in again + others) >= 1, part.tally
