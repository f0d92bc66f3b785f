"""The service on ledgers of growing size: what a request costs when there is more behind it."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click

from bench.figures import FLOOR, Results
from bench.library import grown_inserts_per_second
from bench.people import accounts_of, copy_grown, make_grown
from bench.plan import CONNECTIONS, Plan
from bench.product import PRODUCT, producing_grown, service_environ
from bench.whole_log import append_beside_sealer, read_whole, seal_changed

# Reads first: writes make the ledger larger.
WORKS: Final = ("credit", "statement", "grant", "spend")
_TURNS: Final = [("credit", FLOOR, "lookups"), *((work, PRODUCT, work) for work in WORKS)]
# What comes first of the reads and of the writes.
_WARMED: Final = ("lookups", "grant")
# About what a commit of the service has at so many connections.
_BATCH: Final = 18


def growth_work(work: str) -> str:
    """The name of the figures of a work on ledgers of different sizes."""
    return f"{work}-by-events"


def make_ledgers(sizes: tuple[int, ...], cache: Path) -> None:
    """Those that are not in the cache yet."""
    for events in sizes:
        with click.progressbar(
            length=events, label=f"Making {events:,} events", file=sys.stderr, hidden=not sys.stderr.isatty()
        ) as bar:
            make_grown(events, cache, bar.update)


def measure_growth(directory: Path, wechat_api: str, plan: Plan, cache: Path, results: Results) -> None:
    """Each round and size begins with a copy of the ledger as it was made, so all rounds measure the same."""
    rounds, seconds = plan.growth
    for number in range(rounds):
        sizes = plan.sizes if number % 2 == 0 else plan.sizes[::-1]
        for events in sizes:
            with TemporaryDirectory(dir=directory) as name:
                with producing_grown(Path(name), wechat_api, events, cache) as product:
                    for work, who, route in _TURNS:
                        if plan.warm_s and route in _WARMED:
                            product.load(route, plan.warm_s, CONNECTIONS)
                        load = product.load(route, seconds, CONNECTIONS)
                        figures = results.into(growth_work(work), who, events, "/s")
                        figures.values.append(load.per_second)
                        figures.p50_ms.append(load.p50_us / 1e3)
                        figures.p99_ms.append(load.p99_us / 1e3)
                rows = grown_inserts_per_second(product.data / "ledger.db", product.openids, _BATCH, seconds)
                results.into(growth_work("grant"), FLOOR, events, "/s").values.append(rows)


def measure_whole_logs(directory: Path, plan: Plan, cache: Path, results: Results) -> None:
    """Readings of each whole ledger, and seals and appends on the largest."""
    rounds, seconds = plan.growth
    for events in plan.sizes:
        with TemporaryDirectory(dir=directory) as name:
            data = Path(name) / "data"
            copy_grown(service_environ(data, "http://127.0.0.1"), events, cache)
            largest = events == max(plan.sizes)
            for _ in range(rounds if largest else 1):
                read_whole(data, events, results)
            if largest:
                for number in range(rounds):
                    seal_changed(data, accounts_of(events), number, results)
                    append_beside_sealer(data, accounts_of(events), number, seconds, results)
