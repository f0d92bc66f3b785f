"""Latency at half load, open loop: reads while writes run, and writes while a seal and an audit run."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

from bench.figures import LIMIT, Results, percentile
from bench.machine import Failed, credit_ledger, run_to_end
from bench.open_loop import Exchange, exchange, get, poisson, post
from bench.plan import CONNECTIONS, Plan
from bench.product import PRODUCT, Product

# Of what each kind reaches alone, so that together they are half of what the machine can do.
_READS: Final = 0.4
_WRITES_BESIDE: Final = 0.1
_HALF: Final = 0.5
# Enough that a request hardly ever waits for one to be free.
_CONNECTIONS: Final = 200
_HELLO: Final = "/bench/hello"


def measure_latency(product: Product, plan: Plan, results: Results) -> None:
    """Needs the closed loops' figures, of whose medians it takes half."""
    reads, writes = (results.find(work, PRODUCT, CONNECTIONS) for work in ("credit", "grant"))
    if reads is None or writes is None:
        raise Failed("the open loops need the closed loops' figures")
    rounds, seconds = plan.latency
    rates = reads.median * _READS, writes.median * _WRITES_BESIDE
    for number in range(rounds):
        for who in (LIMIT, PRODUCT):
            both = _reads_and_writes(product, who, rates, seconds, number)
            for work, exchanges in zip(("read-while-writing", "write-beside-reads"), both, strict=True):
                _record(work, who, exchanges, seconds, results)
        with _sealing_and_auditing(product):
            alone = _writes(product, writes.median * _HALF, seconds, f"half{number}")
        _record("write-while-auditing", PRODUCT, alone, seconds, results)


def _reads_and_writes(
    product: Product, who: str, rates: tuple[float, float], seconds: float, number: int
) -> tuple[list[Exchange], list[Exchange]]:
    """One generator for both, so that they come as one crowd would; for the limit each is a hello world."""
    tokens = product.tokens
    asked = [get(_HELLO)] if who == LIMIT else [get(f"/credit?token={token}") for token in tokens]
    reads = [(due, False) for due in poisson(rates[0], seconds, 2 * number)]
    writes = [(due, True) for due in poisson(rates[1], seconds, 2 * number + 1)]
    schedule = sorted(reads + writes)
    keys = count()
    requests = [
        _grant(product, f"beside{number}", next(keys), who) if is_write else asked[place % len(asked)]
        for place, (_, is_write) in enumerate(schedule)
    ]
    exchanges = exchange(product.port, [due for due, _ in schedule], requests, _CONNECTIONS)
    if who == PRODUCT:
        product.count("grant", len(writes), len(writes))
    found: tuple[list[Exchange], list[Exchange]] = ([], [])
    for each, (_, is_write) in zip(exchanges, schedule, strict=True):
        found[is_write].append(each)
    return found


def _writes(product: Product, per_s: float, seconds: float, name: str) -> list[Exchange]:
    schedule = list(poisson(per_s, seconds, len(name)))
    requests = [_grant(product, name, place, PRODUCT) for place in range(len(schedule))]
    exchanges = exchange(product.port, schedule, requests, _CONNECTIONS)
    product.count("grant", len(schedule), len(schedule))
    return exchanges


def _grant(product: Product, name: str, number: int, who: str) -> bytes:
    openid = product.openids[number % len(product.openids)]
    path = _HELLO if who == LIMIT else f"/v1/accounts/{openid}/grants"
    headers = {"authorization": f"Bearer {product.api_key}", "idempotency_key": f"{name}-{number}"}
    return post(path, b'{"amount":1,"reason":"benchmark"}', **headers)


@contextmanager
def _sealing_and_auditing(product: Product) -> Iterator[None]:
    """Seal and audit the ledger that is written, one after the other and again, until the block is left."""
    stop = threading.Event()
    failures: list[Failed] = []

    def work() -> None:
        try:
            while not stop.is_set():
                command = [sys.executable, "-P", "-m", "scripts.credit_ledger", "seal", "--background"]
                run_to_end(command, "", {"CREDIT_DATA": str(product.data)})
                credit_ledger(product.data, "good", "audit")
        except Failed as failure:
            failures.append(failure)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


def _record(work: str, who: str, exchanges: list[Exchange], seconds: float, results: Results) -> None:
    wrong = [each for each in exchanges if not 200 <= each.status < 300]
    if wrong or not exchanges:
        raise Failed(f"{work}: {len(wrong)} of {len(exchanges)} answers other than 2xx: {wrong[:1]}")
    latencies = sorted(each.latency_s * 1e3 for each in exchanges)
    figures = results.into(work, who, 0, "/s")
    figures.values.append(len(exchanges) / seconds)
    figures.p50_ms.append(percentile(latencies, 0.5))
    figures.p99_ms.append(percentile(latencies, 0.99))
    figures.p999_ms.append(percentile(latencies, 0.999))
