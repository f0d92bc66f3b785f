"""How long each part of the benchmark takes. The order is measure.py's."""

from typing import Final

import msgspec

# At which contenders are compared, and of which the targets speak.
CONNECTIONS: Final = 64


class Plan(msgspec.Struct, frozen=True):
    """Rounds and seconds by part.

    `head` is what the targets compare: hello world, GET /credit and the durable grant; `other` is every other
    work at 64 connections; `sweep` the same at other `connections`; `library` grants without HTTP; `growth` the
    service on ledgers of `sizes` events; `latency` the open loops. `soak_s` is a mixed load before memory is
    read.
    """

    head: tuple[int, float]
    other: tuple[int, float]
    sweep: tuple[int, float]
    library: tuple[int, float]
    growth: tuple[int, float]
    latency: tuple[int, float]
    warm_s: float
    people: int
    long_events: int
    connections: tuple[int, ...]
    batches: tuple[int, ...]
    sizes: tuple[int, ...]
    bulk_lines: int
    starts: int
    soak_s: float = 0.0


FULL: Final = Plan(
    head=(5, 2.0),
    other=(3, 2.0),
    sweep=(1, 1.5),
    library=(3, 1.5),
    growth=(3, 1.5),
    latency=(3, 7.0),
    warm_s=1.0,
    people=1000,
    long_events=100_000,
    connections=(1, 16, 256),
    batches=(1, 64, 1000),
    sizes=(1_000, 100_000, 1_000_000),
    bulk_lines=20_000,
    starts=3,
)
QUICK: Final = Plan(
    head=(3, 0.6),
    other=(1, 0.6),
    sweep=(1, 0.5),
    library=(1, 0.5),
    growth=(1, 0.6),
    latency=(1, 3.0),
    warm_s=0.2,
    people=200,
    long_events=10_000,
    connections=(1,),
    batches=(1, 1000),
    sizes=(1_000, 100_000),
    bulk_lines=5_000,
    starts=1,
)
