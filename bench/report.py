"""What was found, as the Markdown of docs/bench and the short table of the READMEs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import click

from bench.figures import FLOOR, LIMIT, Figures, Results
from bench.growth import WORKS as GROWTH_WORKS
from bench.growth import growth_work
from bench.plan import CONNECTIONS
from bench.product import PRODUCT
from bench.targets import targets

BEGIN: Final = "<!-- bench:begin -->"
END: Final = "<!-- bench:end -->"
PLOTS: Final = ("rates", "connections", "growth", "latency")
CONTENDERS: Final = (LIMIT, FLOOR, PRODUCT, "express-memory", "express-sqlite", "fastapi", "eventsourcing")
TITLES: Final = {
    "credit": "`GET /credit`",
    "grant": "durable grant",
    "login": "login, known user",
    "login-cold": "login, new user",
    "spend": "spend",
    "hold": "hold and its capture",
    "page": "page of a statement",
    "mixed": "mixed: 90 % reads, 8 % spends, 2 % logins",
    "statement": "statement",
    "library-grant": "grant in the library",
    "read-while-writing": "reads while writes run",
    "write-beside-reads": "those writes",
    "write-while-auditing": "grants while a seal and an audit run",
    "scan": "bare scan, one core",
    "replay-one-core": "replay, one core",
    "replay": "replay, all cores",
    "audit": "audit, all cores",
    "bulk": "bulk grant, lines/s",
    "append": "appends, 64 a batch",
    "append-beside-seal": "appends beside a seal",
    "syncs": "fdatasync/s of 4 KiB",
}
# The README's words: its heads, and its sentence about the targets.
LANGUAGES: Final = {
    "README.md": {
        "work": "requests/s, 64 connections",
        "limit": "hello world, same app",
        "told": "{met} of {all} targets are met, {missed} missed; all figures, plots and the method are in"
        " [docs/bench](docs/bench/README.md).",
    },
    "README.zh-CN.md": {
        "work": "请求/秒，64 个连接",
        "limit": "同一应用的 hello world",
        "told": "{all} 项指标达到 {met} 项，未达到 {missed} 项；全部数据、图表和方法见"
        " [docs/bench](docs/bench/README.md)（英文）。",
    },
}


def markdown(results: Results) -> str:
    """The whole page of results."""
    parts = [
        "# Results\n\nWritten by `scripts/bench`; how to read them: [README.md](README.md).\n",
        _conditions(results),
        "## Targets\n\n" + _targets(results),
        f"## Side by side, {CONNECTIONS} connections\n\nRequests a second; in brackets p50 and p99 in ms.\n\n"
        + _side_by_side(results),
        "![Requests a second by contender](rates.svg)\n",
        "## By connections\n\nRequests a second.\n\n" + _by_connections(results),
        "![Requests a second by connections](connections.svg)\n",
        "## Latency at half load, open loop\n\n" + _open_loop(results),
        "![Latency at half load](latency.svg)\n",
        "## Growth\n\nRequests a second of the product with so many events in the log.\n\n" + _growth(results),
        "![Requests a second by events in the log](growth.svg)\n",
        "## The whole log\n\nEvents a second.\n\n" + _whole_log(results),
        "## In the library\n\nGrants a second by so many a batch.\n\n" + _library(results),
        "## Start and memory\n\n" + _alone(results),
    ]
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all but its first column are figures."""
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(value: float) -> str:
    """Three digits or, where there are more before the point, all of those."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cell(figures: Figures | None, *, latency: bool = False) -> str:
    if figures is None:
        return ""
    text = number(figures.median)
    if latency and figures.p50_ms:
        text += f" ({number(median(figures.p50_ms))}, {number(median(figures.p99_ms))})"
    return text


def _grid(
    results: Results, works: Sequence[str], columns: Sequence[int], heads: Callable[[int], str], **options: bool
) -> str:
    """A row for each work and contender that was measured, a column for each of `columns`."""
    rows = []
    for work in works:
        for who in CONTENDERS:
            found = [results.find(work, who, at) for at in columns]
            if any(found):
                rows.append([f"{TITLES[work]}, {who}", *(_cell(each, **options) for each in found)])
    return table(["", *map(heads, columns)], rows)


def _side_by_side(results: Results) -> str:
    works = ("credit", "grant", "login", "login-cold", "spend", "hold", "page", "mixed")
    who = [name for name in CONTENDERS if any(results.find(work, name, CONNECTIONS) for work in works)]
    rows = [
        [TITLES[work], *(_cell(results.find(work, name, CONNECTIONS), latency=True) for name in who)]
        for work in works
    ]
    bounds = (
        "\nlimit: hello world in the product's own app; for a login, the stand-in for WeChat alone."
        " floor: in the same app the look-ups of that work, or its rows on disk, and nothing else.\n"
    )
    return table(["", *who], rows) + bounds


def _by_connections(results: Results) -> str:
    return _grid(results, ("credit", "grant"), results.at_of("grant"), lambda at: f"{at:,}")


def _growth(results: Results) -> str:
    sizes = results.at_of(growth_work(GROWTH_WORKS[0]))
    rows = []
    for work in GROWTH_WORKS:
        for who in (FLOOR, PRODUCT):
            found = [results.find(growth_work(work), who, events) for events in sizes]
            if any(found):
                rows.append([f"{TITLES[work]}, {who}", *(_cell(each, latency=True) for each in found)])
    return table(["", *(f"{events:,} events" for events in sizes)], rows)


def _whole_log(results: Results) -> str:
    works = ("scan", "replay-one-core", "replay", "audit")
    text = _grid(results, works, results.at_of("scan"), lambda at: f"{at:,} events")
    rows = [[TITLES[work], _cell(results.find(work, PRODUCT, 64))] for work in ("append", "append-beside-seal")]
    for accounts in results.at_of("seal"):
        seconds, mib = (results.find(work, PRODUCT, accounts) for work in ("seal", "seal-memory"))
        rows.append([f"seal of {accounts:,} changed accounts, s", _cell(seconds)])
        rows.append([f"the floor of {accounts:,}, s", _cell(results.find("seal", FLOOR, accounts))])
        rows.append(["MiB of the sealer", _cell(mib)])
    return text + "\n" + table(["on the largest of them", ""], rows)


def _library(results: Results) -> str:
    return _grid(results, ("library-grant",), results.at_of("library-grant"), lambda at: f"{at:,}")


def _open_loop(results: Results) -> str:
    rows = []
    for work in ("read-while-writing", "write-beside-reads", "write-while-auditing"):
        for who in (LIMIT, PRODUCT):
            found = results.find(work, who, 0)
            if found is not None:
                latencies = (found.p50_ms, found.p99_ms, found.p999_ms)
                title = f"{TITLES[work]}, {who}"
                rows.append([title, _cell(found), *(number(median(each)) for each in latencies)])
    return table(["", "offered/s", "p50 ms", "p99 ms", "p99.9 ms"], rows)


def _alone(results: Results) -> str:
    who = [name for name in CONTENDERS if results.find("start", name, 0)]
    titles = {"start": "s from start to first answer", "memory": "MiB of the largest process after the load"}
    rows = [[title, *(_cell(results.find(work, name, 0)) for name in who)] for work, title in titles.items()]
    text = table(["", *who], rows)
    for lines in results.at_of("bulk"):
        rate, growth = (results.find(work, PRODUCT, lines) for work in ("bulk", "bulk-memory"))
        text += (
            f"\nA bulk grant of {lines:,} lines: {_cell(rate)} lines/s, a worker grew by {_cell(growth)} MiB.\n"
        )
    return text


def _targets(results: Results) -> str:
    rows = []
    for target in targets(results):
        bound = f"{'≥' if target.at_least else '≤'} {target.bound:,g}"
        values = target.values
        middle = number(median(values)) if values else ""
        spread = f"{number(min(values))}–{number(max(values))}" if values else ""
        verdict = "**missed**" if target.verdict == "missed" else target.verdict
        floor = number(median(target.floor)) if target.floor else ""
        rows.append([target.title, bound, middle, spread, verdict, floor])
    return table(["", "bound", "median", "rounds", "", "floor"], rows)


def _conditions(results: Results) -> str:
    about = results.conditions
    syncs = results.find("syncs", LIMIT, 0)
    text = (
        f"Measured on {about['date']}: {about['cores']} × {about['cpu']}, Linux {about['kernel']},"
        f" {about['file_system']}, {_cell(syncs)} fdatasync/s of 4 KiB; Python {about['python']},"
        f" SQLite {about['sqlite']}, gunicorn {about['gunicorn']}, Falcon {about['falcon']};"
        f" load average at the start {about['load_before']}; plan: {about['plan']}; {about['minutes']} minutes."
        f" Medians of the rounds. {about.get('commands_per_commit', '')} commands a commit on average.\n"
    )
    text += "".join(f"\nLeft out: **{name}**: {why}\n" for name, why in results.left_out.items())
    return text + "".join(f"\nFailed: {failure}\n" for failure in results.failures)


def readme(results: Results, file_name: str) -> str:
    """The short table of a README, and the circumstances under it."""
    words = LANGUAGES[file_name]
    who = [name for name in CONTENDERS if name not in (FLOOR, "eventsourcing")]
    names = [words["limit"] if name == LIMIT else name for name in who]
    rows = [
        [f"`{work}`", *(_cell(results.find(work, name, CONNECTIONS)) for name in who)]
        for work in ("credit", "grant", "login", "spend", "mixed")
    ]
    verdicts = [target.verdict for target in targets(results)]
    told = words["told"].format(met=verdicts.count("met"), missed=verdicts.count("missed"), all=len(verdicts))
    about = results.conditions
    machine = (
        f"{about['date']}: {about['cores']} × {about['cpu']}, {about['file_system']}, Python {about['python']}."
    )
    return table([words["work"], *names], rows) + f"\n{told}\n\n{machine}\n"


def parts(path: Path) -> tuple[str, str]:
    """What stands before and behind the markers of the file at `path`, they included."""
    try:
        before, begin, rest = path.read_bytes().decode().partition(BEGIN)
    except FileNotFoundError:
        raise click.ClickException(f"{path} does not exist") from None
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise click.ClickException(f"{path} has no {BEGIN} ... {END} to write between")
    return before + begin, end + after


def write_between_markers(path: Path, text: str) -> None:
    """Put `text` between the markers of the file at `path`, and leave every other byte as it is."""
    before, after = parts(path)
    path.write_bytes(f"{before}\n{text}{after}".encode())
