"""One round of one part: what it may use, and what it found."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Final

import msgspec

HISTORY: Final = "history.jsonl"
# For a round of some seconds on a machine that does much else: its service alone can take as long to start.
_PATIENCE_S: Final = 120


class CannotRun(Exception):
    """A part needs what this machine lacks; the message says what, and how to get it."""


class Round:
    """What a part is given: chance that comes from the seed, an empty directory, and a time to be done in.

    However busy the machine is, it goes on until the tally has the `least` of each, or two minutes longer.

    `tally` is what was done, by name in the plural: what clients were told (`acknowledged`, `refused`,
    `unknown`), and each kind of fault (`workers killed`, `power cuts`). `broken` is every promise that was
    seen broken, in sentences that name what was lost: one is a defect. `walked` is what was tried one by one,
    as numbers: the report has those of all rounds, so that a gap shows.

    Rounds of a part are numbered from 1. What is walked through in order begins at a place that follows from
    the `number`, so that a round is the same when it is run alone.
    """

    def __init__(
        self,
        seed: str,
        directory: Path,
        seconds: float,
        least: Mapping[str, int] = MappingProxyType({}),
        number: int = 1,
    ) -> None:
        self.random = Random(seed)
        self.number = number
        self.directory = directory
        self.tally: Counter[str] = Counter()
        self.broken: list[str] = []
        self.walked: defaultdict[str, set[int]] = defaultdict(set)
        self._deadline = time.monotonic() + seconds
        self._least = least

    @property
    def over(self) -> bool:
        """Whether the time is up: begin nothing new."""
        over_s = time.monotonic() - self._deadline
        if over_s < 0:
            return False
        enough = all(self.tally[what] >= count for what, count in self._least.items())
        return enough or over_s >= _PATIENCE_S

    def expect(self, holds: bool, promise: str) -> None:
        """Note that `promise` is broken unless it `holds`; the round goes on."""
        if not holds:
            self.broken.append(promise)

    def record(self, **entry: object) -> None:
        """Add a line to the history of this round, which is kept where a promise was broken."""
        with (self.directory / HISTORY).open("ab") as history:
            history.write(msgspec.json.encode(entry) + b"\n")


Part = Callable[[Round], None]
