"""What was measured, in one form for every kind of work: figures by round, and targets held against them."""

from collections.abc import Sequence
from math import ceil
from statistics import median
from typing import Final

import msgspec

# In the place of a contender: what the machine and the app allow, and the least that the work takes in the app.
LIMIT: Final = "limit"
FLOOR: Final = "floor"


class Figures(msgspec.Struct):
    """One contender at one work, at so many connections, grants a batch or events in the log.

    `values` is one a round, in `unit`: "/s", "s", "ms" or "MiB". Latencies, where there are any, too.
    """

    work: str
    contender: str
    at: int
    unit: str
    values: list[float] = []
    p50_ms: list[float] = []
    p99_ms: list[float] = []
    p999_ms: list[float] = []

    @property
    def median(self) -> float:
        return median(self.values)


class Results(msgspec.Struct):
    """Everything one run found. `left_out` says which contender could not be had, and why; `failures` what a
    contender that was there could not do."""

    conditions: dict[str, object]
    left_out: dict[str, str] = {}
    failures: list[str] = []
    figures: list[Figures] = []

    def find(self, work: str, contender: str, at: int) -> Figures | None:
        for figures in self.figures:
            if (figures.work, figures.contender, figures.at) == (work, contender, at):
                return figures
        return None

    def into(self, work: str, contender: str, at: int, unit: str) -> Figures:
        """The figures of that name, to which a round can be added."""
        found = self.find(work, contender, at)
        if found is None:
            found = Figures(work, contender, at, unit)
            self.figures.append(found)
        return found

    def at_of(self, work: str) -> list[int]:
        return sorted({figures.at for figures in self.figures if figures.work == work})


class Target(msgspec.Struct):
    """Figures held against a bound: one value a round, of which the median counts; none where not measured.

    `floor` is what the least that any code does for that work comes to, where that was measured.
    """

    title: str
    bound: float
    at_least: bool
    values: list[float]
    floor: list[float] = []

    @property
    def verdict(self) -> str:
        if not self.values:
            return "not measured"
        found = median(self.values)
        return "met" if (found >= self.bound if self.at_least else found <= self.bound) else "missed"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed (nearest rank); `values` ascending."""
    return values[max(1, ceil(share * len(values))) - 1]


def ratios(of: Figures | None, to: Figures | None) -> list[float]:
    """Round by round, since two runs of a round shared the machine's mood; none where one was not measured.

    Where the two took another number of rounds, the medians are compared instead.
    """
    if of is None or to is None:
        return []
    if len(of.values) != len(to.values):
        return [of.median / to.median]
    return [a / b for a, b in zip(of.values, to.values, strict=True)]
