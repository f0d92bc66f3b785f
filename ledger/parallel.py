"""A reading of the whole log on all cores: accounts in ranges, each range in a process of its own."""

import gc
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import connection, get_context, parent_process
from typing import Any, Final, TypeVar

from ledger.log import Range

ResultT = TypeVar("ResultT")

# Told how many rows of how many were read, about ten times a second.
Progress = Callable[[int, int], None]
# What a worker calls with the number of rows that it read since it called last.
Tick = Callable[[int], None]

_POLL_S: Final = 0.1
# Below so many rows, starting processes takes longer than reading.
_WORTH_A_PROCESS: Final = 50_000
_NICENESS: Final = 10

_rows_read: Any = None


def cores() -> int:
    """How many ranges are best: fewer leave a core idle, and each one is a reading of the whole table."""
    return len(os.sched_getaffinity(0))


def silent(done: int, total: int) -> None:
    """The progress that nobody watches."""


def over_ranges(
    work: Callable[[Range, Tick], ResultT],
    ranges: Sequence[Range],
    rows: int,
    progress: Progress = silent,
    *,
    gives_way: bool = True,
) -> list[ResultT]:
    """What `work` makes of each range, in their order, `rows` being how many there are to read in all.

    As many at once as there are cores; in this process where the log is small. `work` and what it returns are
    pickled: a function of a module, or a `partial` of one. An exception of one ends all. Since they take all
    cores, the processes give way to whoever serves, but where they hold a lock that somebody waits for.
    """
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress(done, max(rows, done))

    processes = min(cores(), len(ranges))
    if processes < 2 or rows < _WORTH_A_PROCESS:
        return [work(each, tick) for each in ranges]
    # Not forked: a child must not inherit an open ledger, and whoever calls may have one.
    context = get_context("spawn")
    counter = context.Value("q", 0)
    begin = partial(_begin, counter, _NICENESS if gives_way else 0)
    with ProcessPoolExecutor(processes, context, initializer=begin) as pool:
        running = [pool.submit(partial(work, each, _tick)) for each in ranges]
        waiting = set(running)
        while waiting:
            finished, waiting = wait(waiting, _POLL_S, FIRST_COMPLETED)
            tick(counter.value - done)
            if any(each.exception() is not None for each in finished):
                pool.shutdown(cancel_futures=True)
                break
        return [each.result() for each in running]


def _begin(counter: Any, niceness: int) -> None:
    global _rows_read
    _rows_read = counter
    os.nice(niceness)
    _end_with_parent()


def _tick(count: int) -> None:
    with _rows_read.get_lock():
        _rows_read.value += count


@cache
def _end_with_parent() -> None:
    """End this process when the one that started it is gone, which may have been killed: a worker of a pool
    waits for its next task for ever."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def without_collection() -> Iterator[None]:
    """A fold makes millions of objects and not one cycle: looking for cycles would take half of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
