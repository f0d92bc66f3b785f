"""What is made of figures: ratios within a round, verdicts, tables, JSON and drawings."""

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from bench.figures import Figures, Results, Target, ratios
from bench.plots import bars, drawings, lines
from bench.report import BEGIN, END, markdown, number, readme, table, write_between_markers
from bench.run import record
from bench.targets import targets

SVG = "{http://www.w3.org/2000/svg}"
ABOUT: Mapping[str, object] = {
    "date": "2026-01-02", "cpu": "a CPU", "cores": 2, "load_before": 0.1, "kernel": "6", "file_system": "ext4",
    "python": "3.11", "sqlite": "3.53", "gunicorn": "27", "falcon": "4.4", "plan": "made up", "minutes": 1.5,
}  # fmt: skip


@pytest.fixture
def results() -> Results:
    """Where everything that there is a target for was measured, and is met by far; each round the same."""
    made = Results(dict(ABOUT))

    def have(work: str, contender: str, at: int, value: float, unit: str = "/s") -> None:
        figures = made.into(work, contender, at, unit)
        figures.values += [value, value, value]
        if unit == "/s":
            figures.p50_ms += [2.0] * 3
            figures.p99_ms += [4.0] * 3
            figures.p999_ms += [6.0] * 3

    for connections in (1, 64):
        for contender, rate in (
            ("limit", 10_000),
            ("floor", 9_500),
            ("ledger", 9_000),
            ("express-memory", 3_000),
            ("fastapi", 900),
        ):
            have("credit", contender, connections, rate)
        for contender, rate in (("limit", 6_000), ("ledger", 5_000), ("express-sqlite", 500), ("fastapi", 400)):
            have("grant", contender, connections, rate)
        for work in ("spend", "page"):
            have(work, "ledger", connections, 4_000)
    for contender, rate in (("limit", 40_000), ("ledger", 30_000)):
        have("library-grant", contender, 1000, rate)
    have("library-grant", "eventsourcing", 1, 1_000)
    for work in ("read-while-writing", "write-while-auditing"):
        have(work, "ledger", 0, 3_000)
    for work in ("credit", "statement", "grant", "spend"):
        for events, rate in ((1_000, 5_000), (100_000, 4_500)):
            have(f"{work}-by-events", "ledger", events, rate)
    for work, rate in (("replay-one-core", 300_000), ("replay", 580_000), ("audit", 200_000)):
        have(work, "ledger", 100_000, rate)
    have("audit", "floor", 100_000, 250_000)
    have("scan", "limit", 100_000, 500_000)
    have("seal", "ledger", 10_000, 0.5, "s")
    have("seal-memory", "ledger", 10_000, 80, "MiB")
    have("append", "ledger", 64, 20_000)
    have("append-beside-seal", "ledger", 64, 19_900)
    have("bulk", "ledger", 20_000, 12_000)
    have("bulk-memory", "ledger", 20_000, 3, "MiB")
    have("start", "ledger", 0, 0.9, "s")
    have("memory", "ledger", 0, 60, "MiB")
    have("syncs", "limit", 0, 4_000)
    return made


def found(results: Results, work: str, contender: str, at: int) -> Figures:
    figures = results.find(work, contender, at)
    assert figures is not None
    return figures


def test_ratios_are_taken_within_a_round() -> None:
    """The machine was half as fast in the second round, for both."""
    one, other = Figures("a", "x", 1, "/s", [100, 50]), Figures("a", "y", 1, "/s", [200, 100])
    assert ratios(one, other) == [0.5, 0.5]
    assert ratios(one, Figures("a", "y", 1, "/s", [300, 150, 100])) == [0.5]
    assert ratios(one, None) == ratios(None, one) == []


@pytest.mark.parametrize(
    ("at_least", "values", "verdict"),
    [
        (True, [1.0, 3.0, 2.0], "met"),
        (True, [1.0, 3.0, 1.9], "missed"),
        (False, [1.0, 3.0, 2.0], "met"),
        (False, [2.1, 3.0, 2.0], "missed"),
        (True, [], "not measured"),
    ],
)
def test_the_median_decides(at_least: bool, values: list[float], verdict: str) -> None:
    assert Target("", 2.0, at_least, values).verdict == verdict


def test_every_target_can_be_met(results: Results) -> None:
    assert [target.title for target in targets(results) if target.verdict != "met"] == []


def test_a_target_is_missed_by_what_it_speaks_of_alone(results: Results) -> None:
    found(results, "grant", "limit", 64).values[:] = [9_000] * 3
    found(results, "read-while-writing", "ledger", 0).p99_ms[:] = [8.1] * 3
    found(results, "spend-by-events", "ledger", 100_000).values[:] = [3_800] * 3
    found(results, "replay", "ledger", 100_000).values[:] = [500_000] * 3
    found(results, "memory", "ledger", 0).values[:] = [101]
    assert [target.title for target in targets(results) if target.verdict == "missed"] == [
        "durable grant to hello world `POST`",
        "p99 to p50 of reads at half load while writes run",
        "cost of a spend with 100,000 events to that with 1,000",
        "replay on all cores to one",
        "MiB of a worker after the load",
    ]


def test_what_was_not_measured_is_no_miss() -> None:
    assert {target.verdict for target in targets(Results(dict(ABOUT)))} == {"not measured"}


def test_the_page_says_what_was_left_out_and_what_failed(results: Results) -> None:
    results.left_out["express-sqlite"] = "npm is not installed"
    results.failures.append("fastapi: grant, 256 connections: socket errors")
    page = markdown(results)
    assert "Left out: **express-sqlite**: npm is not installed" in page
    assert "Failed: fastapi: grant, 256 connections: socket errors" in page


def test_a_row_has_a_figure_for_each_contender_and_none_where_it_was_not_measured(results: Results) -> None:
    page = markdown(results)
    assert "|  | limit | floor | ledger | express-memory | express-sqlite | fastapi |" in page
    assert "| durable grant | 6,000 (2, 4) |  | 5,000 (2, 4) |  | 500 (2, 4) | 400 (2, 4) |" in page
    assert "| `GET /credit` to fastapi's | ≥ 4 | 10 | 10–10 | met | 10.6 |" in page
    assert "| events/s audited | ≥ 150,000 | 200,000 | 200,000–200,000 | met | 250,000 |" in page
    assert "| durable grant to express-memory's `GET /credit` | ≥ 1 | 1.67 | 1.67–1.67 | met |  |" in page


def test_numbers_keep_three_digits() -> None:
    assert [number(value) for value in (0.01234, 1.236, 99.44, 12_345.6)] == [
        "0.0123",
        "1.24",
        "99.4",
        "12,346",
    ]


def test_a_table_is_markdown() -> None:
    assert table(["a", "b"], [["c", "1"]]) == "| a | b |\n| --- | --: |\n| c | 1 |\n"


def test_the_json_is_all_that_was_found(results: Results, tmp_path: Path) -> None:
    for file in ("README.md", "README.zh-CN.md"):
        (tmp_path / file).write_text(f"{BEGIN}{END}")
    record(results, tmp_path)
    written = (tmp_path / "docs" / "bench" / "results.json").read_bytes()
    assert msgspec.json.decode(written, type=Results) == results
    told = msgspec.json.decode(written)["targets"]
    assert told[0] == {
        "title": "`GET /credit` to hello world `GET`",
        "bound": 0.85,
        "at_least": True,
        "values": [0.9, 0.9, 0.9],
        "floor": [0.95, 0.95, 0.95],
        "verdict": "met",
    }


def test_both_readmes_have_the_same_figures_in_their_own_words(results: Results) -> None:
    english, chinese = readme(results, "README.md"), readme(results, "README.zh-CN.md")
    row = "| `credit` | 10,000 | 9,000 | 3,000 |  | 900 |"
    assert row in english
    assert row in chinese
    count = len(targets(results))
    assert f"{count} of {count} targets are met, 0 missed" in english
    assert f"{count} 项指标达到 {count} 项，未达到 0 项" in chinese


def test_only_what_is_between_the_markers_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_bytes(f"before\r\n{BEGIN}\nold\n{END}\tafter".encode())
    write_between_markers(page, "new\n")
    assert page.read_bytes() == f"before\r\n{BEGIN}\nnew\n{END}\tafter".encode()


def test_a_bar_is_as_long_as_its_value() -> None:
    drawing = ElementTree.fromstring(bars("<speed>", {"one": {"a": 100.0, "b": 25.0}, "two": {"a": 50.0}}))
    widths = [float(bar.get("width", 0)) for bar in drawing.iter(f"{SVG}rect")][:3]
    assert [width / widths[0] for width in widths] == pytest.approx([1, 0.25, 0.5], abs=0.01)
    fills = [bar.get("fill") for bar in drawing.iter(f"{SVG}rect")]
    assert fills[0] == fills[2] != fills[1]
    assert fills[3:] == fills[:2], "the legend"


def test_a_line_goes_through_its_points() -> None:
    drawing = ElementTree.fromstring(lines("growth", {"a": {1: 10.0, 10: 5.0, 100: 10.0}}))
    points = [(float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in drawing.iter(f"{SVG}circle")]
    (x1, y1), (x2, y2), (x3, y3) = points
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2), "each place ten times the one before"
    assert y1 == y3 < y2


def test_every_drawing_follows_the_readers_theme(results: Results) -> None:
    for drawing in drawings(results).values():
        ElementTree.fromstring(drawing)
        assert "prefers-color-scheme:dark" in drawing
        assert "fill:currentColor" in drawing


def test_nothing_measured_is_drawn_as_nothing() -> None:
    for drawing in drawings(Results(dict(ABOUT))).values():
        ElementTree.fromstring(drawing)
