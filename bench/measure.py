"""The order of a run: servers side by side in turns, then what each part measures alone."""

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from bench import library
from bench.contender import CONTENDERS, HTTP_CONTENDERS, Contender, NotInstalled, contending, installed
from bench.figures import FLOOR, LIMIT, Results
from bench.growth import make_ledgers, measure_growth, measure_whole_logs
from bench.latency import measure_latency
from bench.limits import syncs_per_second
from bench.machine import Failed
from bench.people import users_of
from bench.plan import CONNECTIONS, Plan
from bench.product import PRODUCT, Product, producing, restarting, wechat
from bench.server import Load, Server, wrk
from scripts import sandbox_wechat

HEAD: Final = ("credit", "grant")
OTHER: Final = ("login", "login-cold", "spend", "hold", "page", "mixed")
# What the product's own app does in the place of that work: nothing, and the least.
_BOUNDS: Final = {
    "credit": {LIMIT: "hello-get", FLOOR: "lookups"},
    "grant": {LIMIT: "hello-post", FLOOR: "rows"},
}


class Turn(NamedTuple):
    """One contender at one work, `run(seconds, connections)` being what is done."""

    work: str
    contender: str
    run: Callable[[float, int], Load]


class Stage:
    """Everything that serves, side by side, and what it was found to do."""

    def __init__(self, product: Product, others: list[Server], wechat_api: str, results: Results) -> None:
        self.servers = [product, *others]
        self._product = product
        self._wechat_api = wechat_api
        self._results = results
        self._failed: set[tuple[str, str, int]] = set()

    def turns(self, works: Iterable[str]) -> list[Turn]:
        """Those of a work next to each other, the limit first: what is compared shares the machine's mood."""
        found = []
        for work in works:
            found += [
                Turn(work, bound, partial(self._product.load, route))
                for bound, route in _BOUNDS.get(work, {}).items()
            ]
            if work == "login":
                found.append(Turn(work, LIMIT, self._ask_wechat))
            found += [
                Turn(work, server.name, partial(server.load, work))
                for server in self.servers
                if work in server.works
            ]
        return found

    def measure(self, turns: list[Turn], rounds: int, seconds: float, connections: int) -> None:
        """Round after round, every second one backwards, so that nobody always comes after the same one."""
        for number in range(rounds):
            for turn in turns if number % 2 == 0 else turns[::-1]:
                self._take(turn, seconds, connections)

    def warm(self, turns: list[Turn], seconds: float) -> None:
        """What is done once per process, and what a compiler learns, is done before the first round."""
        for turn in turns if seconds else ():
            self._run(turn, seconds, CONNECTIONS)

    def is_sound(self, server: Server) -> bool:
        """Whether nothing that it was asked failed, so that it can be held to what it answered."""
        return not any(name == server.name for _, name, _ in self._failed)

    def _take(self, turn: Turn, seconds: float, connections: int) -> None:
        load = self._run(turn, seconds, connections)
        if load is None:
            return
        figures = self._results.into(turn.work, turn.contender, connections, "/s")
        # A hold and its capture are one piece of work.
        figures.values.append(load.per_second / (2 if turn.work == "hold" else 1))
        figures.p50_ms.append(load.p50_us / 1e3)
        figures.p99_ms.append(load.p99_us / 1e3)

    def _run(self, turn: Turn, seconds: float, connections: int) -> Load | None:
        """What wrk counted, or None where a contender failed, now or before; nothing else may fail."""
        place = (turn.work, turn.contender, connections)
        if place in self._failed:
            return None
        try:
            return turn.run(seconds, connections)
        except Failed as failure:
            if turn.contender in (PRODUCT, LIMIT, FLOOR):
                raise
            self._failed.add(place)
            self._results.failures.append(f"{turn.contender}: {failure.message}")
            return None

    def _ask_wechat(self, seconds: float, connections: int) -> Load:
        query = f"appid={sandbox_wechat.APPID}&secret={sandbox_wechat.SECRET}"
        run = f"w{time.monotonic_ns()}"
        people = self._product.people["everybody"]
        load = wrk(self._wechat_api, "wechat", run, people, query, seconds, connections)
        return load if load.requests else self._ask_wechat(seconds * 4, connections)


def measure(directory: Path, plan: Plan, cache: Path, results: Results, tell: Callable[[str], None]) -> None:
    """Everything, in `directory`, added to `results`; `tell` is told what comes next."""
    tell("packages and ledgers")
    install(cache, results)
    make_ledgers(plan.sizes, cache)
    results.into("syncs", LIMIT, 0, "/s").values.append(syncs_per_second(directory, plan.library[1]))
    with ExitStack() as stack:
        wechat_api = stack.enter_context(wechat())
        tell("servers side by side")
        _measure_servers(directory, wechat_api, plan, cache, results)
        tell("cold starts")
        _measure_starts(directory, wechat_api, plan, cache, results)
        tell("the library")
        _measure_library(directory, plan, cache, results)
        tell("growth")
        measure_growth(directory, wechat_api, plan, cache, results)
    tell("audit, replay and seals")
    measure_whole_logs(directory, plan, cache, results)


def _there(results: Results) -> list[Contender]:
    """The contenders with a server that were not left out by now."""
    return [each for each in HTTP_CONTENDERS if each.name not in results.left_out]


def install(cache: Path, results: Results) -> None:
    """Install every contender that is not, or say in `results` why it is left out."""
    for each in CONTENDERS:
        try:
            installed(each, cache)
        except NotInstalled as lacking:
            results.left_out[each.name] = str(lacking)


def _measure_servers(directory: Path, wechat_api: str, plan: Plan, cache: Path, results: Results) -> None:
    with ExitStack() as stack:
        product = stack.enter_context(producing(directory, wechat_api, plan.people, plan.long_events))
        others, before = [], {}
        for each in _there(results):
            try:
                server = stack.enter_context(contending(each, cache, directory, wechat_api))
                server.log_in(users_of(plan.people))
                before[server.name] = server.credit_of_all()
            except Failed as failure:
                results.left_out[each.name] = failure.message
            else:
                others.append(server)
        stage = Stage(product, others, wechat_api, results)
        head, other = stage.turns(HEAD), stage.turns(OTHER)
        stage.warm(head + other, plan.warm_s)
        stage.measure(head, *plan.head, CONNECTIONS)
        stage.measure(other, *plan.other, CONNECTIONS)
        stage.measure([turn for turn in other if turn.work == "page"], *plan.other, 1)
        for connections in plan.connections:
            stage.measure(head, *plan.sweep, connections)
        for server in others:
            if stage.is_sound(server):
                server.check_credit(before[server.name])
        _measure_bulk(product, plan, results)
        measure_latency(product, plan, results)
        if plan.soak_s:
            product.load("mixed", plan.soak_s, CONNECTIONS)
        for server in stage.servers:
            if server.process.poll() is None:
                results.into("memory", server.name, 0, "MiB").values.append(server.largest_memory_mib())
        results.conditions["commands_per_commit"] = round(product.commands_per_commit())
        credit_shown = product.credit_of_all()
    product.check_ledger(credit_shown)


def _measure_bulk(product: Product, plan: Plan, results: Results) -> None:
    for _ in range(plan.other[0]):
        bulk = product.bulk(plan.bulk_lines, product.openids)
        results.into("bulk", PRODUCT, bulk.lines, "/s").values.append(bulk.lines / bulk.seconds)
        results.into("bulk-memory", PRODUCT, bulk.lines, "MiB").values.append(bulk.growth_mib)
        seconds = product.send_lines("/bench/lines", plan.bulk_lines, product.openids)
        results.into("bulk", FLOOR, bulk.lines, "/s").values.append(bulk.lines / seconds)


def _measure_starts(directory: Path, wechat_api: str, plan: Plan, cache: Path, results: Results) -> None:
    """From the start of the process to its first answer, on the data that the load left."""
    for _ in range(plan.starts):
        begun = time.perf_counter()
        with restarting(directory, wechat_api):
            seconds = time.perf_counter() - begun
        results.into("start", PRODUCT, 0, "s").values.append(seconds)
        for each in _there(results):
            begun = time.perf_counter()
            try:
                with contending(each, cache, directory, wechat_api):
                    seconds = time.perf_counter() - begun
            except Failed as failure:
                results.failures.append(f"{each.name}, started again: {failure.message}")
            else:
                results.into("start", each.name, 0, "s").values.append(seconds)


def _measure_library(directory: Path, plan: Plan, cache: Path, results: Results) -> None:
    rounds, seconds = plan.library
    for _ in range(rounds):
        for batch in plan.batches:
            limit = library.inserts_per_second(directory, batch, seconds)
            floor = library.inserts_per_second(directory, batch, seconds, guarded=True)
            ours = library.grants_per_second(directory, batch, seconds)
            results.into("library-grant", LIMIT, batch, "/s").values.append(limit)
            results.into("library-grant", FLOOR, batch, "/s").values.append(floor)
            results.into("library-grant", PRODUCT, batch, "/s").values.append(ours)
            if "eventsourcing" not in results.left_out:
                try:
                    theirs = library.eventsourcing_per_second(directory, batch, seconds, cache)
                except NotInstalled as lacking:
                    results.left_out["eventsourcing"] = str(lacking)
                else:
                    results.into("library-grant", "eventsourcing", batch, "/s").values.append(theirs)
