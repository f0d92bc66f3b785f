"""What a person is shown: standing and statement."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.commands import GrantCredit, RegisterUser
from ledger.events import Recorded
from ledger.schema import open_ledger
from ledger.sqlite import OperationalError, connect
from ledger.statement import BEFORE_ALL_DUE, MAX_PAGE, Page, Reader, Standing
from tests.ledger_samples import SINCE_US, commit, committed, log_of, new_ledger, sample_ledger, ticking

GRANTS = 12
NOW_US = SINCE_US + 1_000_000


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """oAnna with 14 events between those of oBo, in a file that nothing changes."""
    with new_ledger() as path:
        clock_us = ticking()
        committed(path, RegisterUser("oAnna", 100), RegisterUser("oBo", 0), clock_us=clock_us)
        for number in range(GRANTS):
            committed(
                path,
                GrantCredit("oAnna", 1, f"签到 {number}", f"k{number}"),
                GrantCredit("oBo", 5, "gift", f"k{number}"),
                clock_us=clock_us,
            )
        yield path


def read_all(path: Path, openid: str, limit: int) -> list[Recorded]:
    """The whole statement by its cursor, as a client reads it."""
    reader = Reader(path)
    entries, before = [], None
    while True:
        page = reader.page(openid, NOW_US, before=before, limit=limit)
        assert 1 <= len(page.events) <= limit
        assert before is None or page.events[0].version == before - 1, "skipped, repeated or read in a circle"
        entries += page.events
        before = page.next_before
        if before is None:
            reader.close()
            return entries
        assert before == page.events[-1].version


@given(st.integers(1, MAX_PAGE), st.sampled_from(["oAnna", "oBo"]))
@settings(max_examples=30, deadline=None)
def test_pages_of_any_size_make_the_whole_statement_newest_first(shared: Path, limit: int, openid: str) -> None:
    expected = [
        (row.version, row.type.decode(), row.data, row.credit, row.recorded_at_us)
        for row in reversed(log_of(shared))
        if row.openid == openid.encode()
    ]
    entries = read_all(shared, openid, limit)
    assert [(each.version, each.type, each.data, each.credit, each.recorded_at_us) for each in entries] == (
        expected
    )
    assert [each.version for each in entries] == list(range(len(expected), 0, -1))


@pytest.mark.parametrize(
    ("before", "versions"), [(1, []), (0, []), (-1, []), (2, [1]), (3, [2, 1]), (99, [14, 13])]
)
def test_a_page_holds_the_versions_right_below_its_cursor(
    shared: Path, before: int, versions: list[int]
) -> None:
    reader = Reader(shared)
    assert [entry.version for entry in reader.page("oAnna", NOW_US, before=before, limit=2).events] == versions
    reader.close()


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1, 2**63])
def test_a_page_of_no_or_of_too_many_events_is_refused(shared: Path, limit: int) -> None:
    reader = Reader(shared)
    with pytest.raises(ValueError, match="limit must be 1 to 100"):
        reader.page("oAnna", NOW_US, limit=limit)
    assert len(reader.page("oAnna", NOW_US, limit=1).events) == 1
    assert len(reader.page("oAnna", NOW_US, limit=MAX_PAGE).events) == GRANTS + 2
    reader.close()


def test_a_page_has_twenty_events_unless_told_otherwise(ledger_path: Path) -> None:
    committed(
        ledger_path, RegisterUser("oAnna", 0), *(GrantCredit("oAnna", 1, "gift", f"k{n}") for n in range(30))
    )
    reader = Reader(ledger_path)
    assert len(reader.page("oAnna", NOW_US).events) == 20
    reader.close()


def test_nobody_registered_has_no_standing_and_an_empty_statement(ledger_path: Path) -> None:
    sample_ledger(ledger_path)
    reader = Reader(ledger_path)
    for stranger in ("oNobody", "oann", "OANNA", "", "oAnna ", "%"):
        assert reader.standing(stranger, NOW_US) is None
        assert reader.page(stranger, NOW_US) == Page([], None)
        assert reader.account(stranger, NOW_US) is None
        assert reader.account_as_of(stranger, NOW_US) is None
    reader.close()


def test_a_reader_sees_each_commit_as_soon_as_it_is_answered(ledger_path: Path) -> None:
    reader = Reader(ledger_path)
    assert reader.standing("oAnna", NOW_US) is None
    for version, credit, command in (
        (2, 100, RegisterUser("oAnna", 100)),
        (3, 101, GrantCredit("oAnna", 1, "gift", "k1")),
        (4, 103, GrantCredit("oAnna", 2, "gift", "k2")),
    ):
        commit(ledger_path, command)
        assert reader.standing("oAnna", NOW_US) == Standing(version, credit)
        assert reader.page("oAnna", NOW_US).events[0].version == version
    reader.close()


def test_a_statement_goes_on_where_it_was_while_new_events_arrive(ledger_path: Path) -> None:
    """A cursor is a version, not an offset: what is appended meanwhile shifts nothing."""
    sample_ledger(ledger_path)
    reader = Reader(ledger_path)
    first = reader.page("oAnna", NOW_US, limit=2)
    committed(ledger_path, GrantCredit("oAnna", 1, "gift", "k8"))
    second = reader.page("oAnna", NOW_US, before=first.next_before, limit=2)
    assert [entry.version for entry in first.events + second.events] == [4, 3, 2, 1]
    reader.close()


def test_a_reader_cannot_write(ledger_path: Path) -> None:
    connection = open_ledger(ledger_path, read_only=True)
    with pytest.raises(OperationalError, match="readonly"):
        connection.execute("UPDATE account SET credit = 1")
    connection.close()


def test_a_reader_leaves_no_read_transaction_open(ledger_path: Path) -> None:
    """One open reader lets the write-ahead log grow without bound: a checkpoint must come through."""
    sample_ledger(ledger_path)
    reader = Reader(ledger_path)
    reader.standing("oAnna", NOW_US)
    reader.page("oAnna", NOW_US, limit=1)
    reader.account("oAnna", NOW_US)
    reader.account_as_of("oAnna", NOW_US)
    reader.due(NOW_US, BEFORE_ALL_DUE, 10)
    committed(ledger_path, GrantCredit("oAnna", 1, "gift", "k8"))
    connection = connect(ledger_path)
    busy, in_log, checkpointed = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.close()
    reader.close()
    assert (busy, in_log, checkpointed) == (0, 0, 0)


def test_no_look_up_keeps_an_old_state_of_the_file_in_sight() -> None:
    """A statement that is not read to its end would: later reads would be of that state, and the write-ahead
    log could not be reset."""
    with new_ledger() as path, closing(Reader(path)) as reader:
        committed(path, RegisterUser("oAnna", 100), RegisterUser("oBo", 0))
        with closing(connect(path)) as other:
            for number in range(2):
                assert reader.standing("oAnna", NOW_US) == Standing(2 + number, 100 + number)
                assert reader.account("oAnna", NOW_US) is not None
                assert reader.standing("nobody", NOW_US) is None
                committed(path, GrantCredit("oAnna", 1, "gift", f"k{number}"))
                (busy, _, _) = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                assert not busy
