"""What all rounds of a run came to: each is told as it ends, and the sums and the verdict at the end."""

import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from tests.torture.round import Round

BROKEN: Final = 1
ERROR: Final = 2
_TOLD_OF_A_ROUND: Final = 20


class Report:
    """Told of every round; `status` is that of the whole run."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._tallies: dict[str, Counter[str]] = {}
        self._walked: dict[str, defaultdict[str, set[int]]] = {}
        self._broken = 0
        self._errors = 0
        self.left_out: dict[str, str] = {}

    @property
    def status(self) -> int:
        """1 where a promise was broken, 2 where none was and a round was ended by an error."""
        return BROKEN if self._broken else ERROR if self._errors else 0

    def add(self, name: str, part: Round, error: Exception | None, took_s: float) -> None:
        """A round of the part `name` is over; what it found before an `error` counts."""
        self._tallies.setdefault(name, Counter()).update(Counter({"rounds": 1}) + part.tally)
        walked = self._walked.setdefault(name, defaultdict(set))
        for what, numbers in part.walked.items():
            walked[what] |= numbers
        told = ", ".join(f"{count:,} {what}" for what, count in part.tally.items())
        click.echo(f"{name} {part.number}: {told} ({took_s:.0f} s)", err=True)
        self._broken += len(part.broken)
        for promise in part.broken[:_TOLD_OF_A_ROUND]:
            click.echo(f"  BROKEN: {promise}")
        if error is not None:
            self._errors += 1
            click.echo(f"  ERROR in {name} {part.number}: {''.join(traceback.format_exception(error))}")
        if part.broken or error is not None:
            click.echo(f"  {self.again(name, part.number, part.directory)}")

    def again(self, name: str, number: int, directory: Path) -> str:
        """How a round is run once more, and where that one has left its data."""
        return f"Again: scripts/torture --seed {self._seed} --part {name} --round {number}. Kept: {directory}"

    def show(self) -> None:
        """The sums of each part, and the verdict."""
        for name, tally in self._tallies.items():
            click.echo(f"\n{name}")
            for what, count in tally.items():
                click.echo(f"  {count:>10,} {what}")
            for what, numbers in self._walked[name].items():
                click.echo(f"  {what} {spans(numbers)}")
        for name, why in self.left_out.items():
            click.echo(f"\n{name} was NOT run: {why}")
        click.echo(f"\n{self._broken} promises were broken." if self._broken else "\nNo promise was broken.")
        if self._errors:
            click.echo(f"{self._errors} rounds were ended by an error: what they did not try is not known.")


def spans(numbers: Iterable[int]) -> str:
    """Numbers in words, those in a row as one: 1-3, 7."""
    rows: list[list[int]] = []
    for number in sorted(numbers):
        if rows and rows[-1][-1] == number - 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    return ", ".join(f"{row[0]}-{row[-1]}" if len(row) > 1 else str(row[0]) for row in rows)
