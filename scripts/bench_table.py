"""What scripts/bench found, as the Markdown that README.md and README.zh-CN.md show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import click
import msgspec

BEGIN: Final = "<!-- bench:begin -->"
END: Final = "<!-- bench:end -->"


class Load(msgspec.Struct, forbid_unknown_fields=True):
    """What wrk counted in one run; latencies in microseconds."""

    requests: int
    duration_us: int
    p50_us: int
    p99_us: int
    not_2xx: int
    socket_errors: int

    @property
    def per_second(self) -> float:
        return self.requests * 1e6 / self.duration_us


class Bulk(msgspec.Struct):
    """One bulk grant: so many lines in so many seconds, and how much the worker grew meanwhile."""

    lines: int
    seconds: float
    growth_mib: float


class Measured(msgspec.Struct):
    """Everything one benchmark found: the runs of each contender by round, and the circumstances."""

    loads: Mapping[str, Sequence[Load]]
    bulk: Sequence[Bulk]
    rss_mib: float
    pss_mib: float
    conditions: Mapping[str, object]


class Target(msgspec.Struct):
    """A figure held against its bound: `values` one by round, of which the median counts."""

    name: str
    bound: float
    at_least: bool
    values: Sequence[float]

    @property
    def met(self) -> bool:
        found = median(self.values)
        return found >= self.bound if self.at_least else found <= self.bound


def targets(measured: Measured) -> list[Target]:
    """Ratios are taken within a round, whose two runs shared the machine's mood, and never across rounds."""
    loads = measured.loads

    def ratios(of: str, to: str) -> list[float]:
        return [a.per_second / b.per_second for a, b in zip(loads[of], loads[to], strict=True)]

    tail = [load.p99_us / load.p50_us for load in loads["grant"]]
    return [
        Target("credit", 0.6, True, ratios("credit", "hello-get")),
        Target("grant", 0.4, True, ratios("grant", "hello-post")),
        Target("tail", 4.0, False, tail),
        # What a request costs is the inverse of how many there are a second.
        Target("spend", 1.5, False, ratios("grant", "spend")),
        Target("page", 5.0, False, [load.p99_us / 1e3 for load in loads["page"]]),
        Target("bulk", 10_000.0, True, [bulk.lines / bulk.seconds for bulk in measured.bulk]),
        Target("flat", 10.0, False, [bulk.growth_mib for bulk in measured.bulk]),
        Target("memory", 80.0, False, [measured.rss_mib]),
    ]


_ENGLISH: Final = {
    "head": "| 64 connections | requests/s | p50 ms | p99 ms |",
    "hello-get": "Falcon hello world, `GET`",
    "credit": "`GET /credit`",
    "hello-post": "Falcon hello world, `POST` of a JSON body",
    "grant": "durable grant, `POST /v1/accounts/…/grants`",
    "spend": "durable spend of an account with 5 expiring lots",
    "page": "page of 50 events out of 100,000, one connection",
    "login": "`POST /login`, sandbox",
    "target-head": "| target | bound | measured | lowest to highest | |",
    "credit-target": "`GET /credit` to hello world `GET`",
    "grant-target": "durable grant to hello world `POST`",
    "tail-target": "p99 to p50 of the durable grant",
    "spend-target": "cost of that spend to a grant's",
    "page-target": "p99 of that page, ms",
    "bulk-target": "bulk grant, `POST /v1/grants`, lines/s",
    "flat-target": "growth of a worker by {lines} lines, MiB (RSS)",
    "memory-target": "memory of a worker after the load, MiB (RSS)",
    "met": "met",
    "missed": "**missed**",
    "conditions": (
        "Measured by `scripts/bench` on {date}: {cores} × {cpu}, Linux {kernel}, {file_system}, {syncs}"
        " fdatasync/s of 4 KiB; Python {python}, SQLite {sqlite}, gunicorn {gunicorn} ({workers} workers),"
        " Falcon {falcon}; wrk on the same cores, {rounds} rounds of {seconds} s each, in turn, medians of the"
        " rounds. {batch} commands a commit on average; every answered write was found in the log afterwards,"
        " which verified. PSS of a worker {pss} MiB."
    ),
}
_CHINESE: Final = {
    "head": "| 64 个连接 | 请求/秒 | p50 毫秒 | p99 毫秒 |",
    "hello-get": "Falcon hello world，`GET`",
    "credit": "`GET /credit`",
    "hello-post": "Falcon hello world，`POST` JSON 正文",
    "grant": "落盘的积分发放，`POST /v1/accounts/…/grants`",
    "spend": "落盘的积分消费，账户有 5 笔会过期的积分",
    "page": "100,000 条事件中的一页 50 条，单个连接",
    "login": "`POST /login`，沙箱",
    "target-head": "| 指标 | 要求 | 实测 | 最低到最高 | |",
    "credit-target": "`GET /credit` 与 hello world `GET` 之比",
    "grant-target": "落盘的积分发放与 hello world `POST` 之比",
    "tail-target": "积分发放的 p99 与 p50 之比",
    "spend-target": "上述消费与发放的开销之比",
    "page-target": "上述一页的 p99，毫秒",
    "bulk-target": "批量发放，`POST /v1/grants`，行/秒",
    "flat-target": "处理 {lines} 行后工作进程的内存增长，MiB（RSS）",
    "memory-target": "压测后一个工作进程的内存，MiB（RSS）",
    "met": "达到",
    "missed": "**未达到**",
    "conditions": (
        "由 `scripts/bench` 于 {date} 测得：{cores} × {cpu}，Linux {kernel}，{file_system}，每秒 {syncs} 次"
        " 4 KiB fdatasync；Python {python}、SQLite {sqlite}、gunicorn {gunicorn}（{workers} 个工作进程）、"
        "Falcon {falcon}；wrk 占用同样的核，各项轮流、共 {rounds} 轮、每次 {seconds} 秒，取各轮的中位数。"
        "平均每次提交 {batch} 条命令；每一笔得到应答的写入事后都在日志中找到，日志校验无误。"
        "一个工作进程的 PSS 为 {pss} MiB。"
    ),
}
LANGUAGES: Final = {"README.md": _ENGLISH, "README.zh-CN.md": _CHINESE}


def markdown(measured: Measured, words: Mapping[str, str]) -> str:
    """The two tables and the circumstances under them."""
    lines = [words["head"], "|---|--:|--:|--:|"]
    for name, loads in measured.loads.items():
        speed = median(load.per_second for load in loads)
        p50_ms = median(load.p50_us for load in loads) / 1e3
        p99_ms = median(load.p99_us for load in loads) / 1e3
        lines.append(f"| {words[name]} | {speed:,.0f} | {p50_ms:.1f} | {p99_ms:.1f} |")
    lines += ["", words["target-head"], "|---|--:|--:|--:|---|"]
    for target in targets(measured):
        bound = f"{'≥' if target.at_least else '≤'} {target.bound:g}"
        digits = {"memory": 1, "flat": 1, "bulk": 0}.get(target.name, 3)
        found, low, high = (f"{f(target.values):.{digits}f}" for f in (median, min, max))
        verdict = words["met" if target.met else "missed"]
        name = words[target.name + "-target"].format(**measured.conditions)
        lines.append(f"| {name} | {bound} | {found} | {low}–{high} | {verdict} |")
    lines += ["", words["conditions"].format(**measured.conditions, pss=f"{measured.pss_mib:.1f}")]
    return "\n".join(lines) + "\n"


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
