"""What is to be reached, each target as figures held against a bound."""

from typing import Final

from bench.figures import FLOOR, LIMIT, Figures, Results, Target, ratios
from bench.growth import WORKS, growth_work
from bench.plan import CONNECTIONS
from bench.product import PRODUCT
from bench.whole_log import CHANGED

_NAMES: Final = {"credit": "`GET /credit`", "grant": "grant", "spend": "spend", "statement": "statement"}


def targets(results: Results) -> list[Target]:
    """All of them, also those that this run did not measure."""
    return [*_served(results), *_latency(results), *_growth(results), *_whole_log(results), *_alone(results)]


def _served(results: Results) -> list[Target]:
    def of(work: str, contender: str = PRODUCT, at: int = CONNECTIONS) -> Figures | None:
        return results.find(work, contender, at)

    def to(title: str, bound: float, work: str, other: Figures | None) -> Target:
        return Target(title, bound, True, ratios(of(work), other), ratios(of(work, FLOOR), other))

    grant = of("grant")
    batches = results.at_of("library-grant")
    batch = max(batches, default=0)
    rows, saves = of("library-grant", LIMIT, batch), of("library-grant", "eventsourcing", 1)
    library, guarded = of("library-grant", at=batch), of("library-grant", FLOOR, batch)
    return [
        to("`GET /credit` to hello world `GET`", 0.85, "credit", of("credit", LIMIT)),
        to("`GET /credit` to express-memory's", 2.5, "credit", of("credit", "express-memory")),
        to("`GET /credit` to fastapi's", 4, "credit", of("credit", "fastapi")),
        to("durable grant to hello world `POST`", 0.6, "grant", of("grant", LIMIT)),
        to("durable grant to express-memory's `GET /credit`", 1, "grant", of("credit", "express-memory")),
        to("durable grant to express-sqlite's", 4, "grant", of("grant", "express-sqlite")),
        to("durable grant to fastapi's", 4, "grant", of("grant", "fastapi")),
        Target(
            f"grant in the library, {batch:,} a batch, to bare inserts of the same rows",
            0.65,
            True,
            ratios(library, rows),
            ratios(guarded, rows),
        ),
        Target(
            "the same to eventsourcing, which saves each",
            20,
            True,
            ratios(library, saves),
            ratios(guarded, saves),
        ),
        # What a request costs is the inverse of how many there are a second.
        Target("cost of a spend with 5 expiring lots to a grant's", 1.5, False, ratios(grant, of("spend"))),
        Target("p99 of a page of 50, one connection, ms", 5, False, _p99(of("page", at=1))),
    ]


def _latency(results: Results) -> list[Target]:
    titles = {
        "read-while-writing": "p99 to p50 of reads at half load while writes run",
        "write-while-auditing": "p99 to p50 of grants at half load while a seal and an audit run",
    }
    return [
        Target(title, 4, False, *(_tail(results.find(work, who, 0)) for who in (PRODUCT, LIMIT)))
        for work, title in titles.items()
    ]


def _growth(results: Results) -> list[Target]:
    found = []
    for work in WORKS:
        name = growth_work(work)
        sizes = results.at_of(name)
        least, most = (sizes[0], sizes[-1]) if len(sizes) > 1 else (0, 0)
        cost, floor = (
            ratios(results.find(name, who, least), results.find(name, who, most)) for who in (PRODUCT, FLOOR)
        )
        title = f"cost of a {_NAMES[work]} with {most:,} events to that with {least:,}"
        found.append(Target(title, 1.3, False, cost, floor))
    return found


def _whole_log(results: Results) -> list[Target]:
    events = max(results.at_of("scan"), default=0)
    scan = results.find("scan", LIMIT, events)
    seal = max(results.at_of("seal"), default=CHANGED)

    def of(work: str, at: int = events) -> tuple[Figures | None, Figures | None]:
        return results.find(work, PRODUCT, at), results.find(work, FLOOR, at)

    one, both = of("replay-one-core"), of("replay")
    return [
        Target("replay on one core to a bare scan", 0.5, True, *(ratios(each, scan) for each in one)),
        Target("replay on all cores to one", 1.7, True, *map(ratios, both, one)),
        Target("events/s audited", 150_000, True, *map(_values, of("audit"))),
        Target("events/s replayed", 200_000, True, *map(_values, both)),
        Target(f"s to seal {seal:,} changed accounts", 1.5, False, *map(_values, of("seal", seal))),
        Target("MiB of the sealer", 200, False, _values(results.find("seal-memory", PRODUCT, seal))),
        Target(
            "appends beside a sealer to those without",
            0.95,
            True,
            ratios(results.find("append-beside-seal", PRODUCT, 64), results.find("append", PRODUCT, 64)),
        ),
    ]


def _alone(results: Results) -> list[Target]:
    lines = max(results.at_of("bulk"), default=0)
    return [
        Target(
            "lines/s of a bulk grant",
            10_000,
            True,
            _values(results.find("bulk", PRODUCT, lines)),
            _values(results.find("bulk", FLOOR, lines)),
        ),
        Target(
            f"MiB that a worker grows by {lines:,} lines",
            10,
            False,
            _values(results.find("bulk-memory", PRODUCT, lines)),
        ),
        Target("s from start to first answer", 1.5, False, _values(results.find("start", PRODUCT, 0))),
        Target("MiB of a worker after the load", 100, False, _values(results.find("memory", PRODUCT, 0))),
    ]


def _values(figures: Figures | None) -> list[float]:
    return [] if figures is None else figures.values


def _p99(figures: Figures | None) -> list[float]:
    return [] if figures is None else figures.p99_ms


def _tail(figures: Figures | None) -> list[float]:
    if figures is None:
        return []
    return [p99 / p50 for p99, p50 in zip(figures.p99_ms, figures.p50_ms, strict=True)]
