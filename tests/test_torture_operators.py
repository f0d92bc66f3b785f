"""A short round of operators who do everything twice at once."""

from pathlib import Path

from tests.torture.operators import operators
from tests.torture.round import Round


def test_nothing_is_lost_or_doubled_by_two_operators_at_once(tmp_path: Path) -> None:
    part = Round("operators", tmp_path, 0)
    operators(part)
    assert part.broken == []
    for doing in (
        "lists that two operators granted at once",
        "files that two operators sent at once",
        "seals by two at once",
        "replays by two at once",
        "backups under load",
        "writes by hand refused by the file",
        "events that a restore said it would lose",
        "old backups that were noticed",
    ):
        assert part.tally[doing] >= 1, doing
