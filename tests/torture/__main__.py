"""What `scripts/torture` runs: rounds of every part in turn until the time is up, and the verdict."""

import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from secrets import token_hex
from tempfile import mkdtemp

import click

from tests.torture.guards import guards, without_each
from tests.torture.parts import PARTS
from tests.torture.round import CannotRun, Round


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", type=click.FloatRange(0, 24 * 60), default=5, help="How long (5).")
@click.option("--seed", default=lambda: token_hex(4), help="Where all chance comes from; printed (a new one).")
@click.option(
    "--part", "names", multiple=True, type=click.Choice(list(PARTS)), help="This part alone; may be repeated."
)
@click.option(
    "--round", "number", type=click.IntRange(1), help="This round of the part alone: a failure again."
)
@click.option("--stop", is_flag=True, help="End with the first round in which a promise is broken.")
@click.option(
    "--guards",
    "without_guards",
    is_flag=True,
    help="Show that each fault bites: the suite without each guard in turn.",
)
@click.option("--round-s", type=click.FloatRange(1), default=15, help="How long a round is, in seconds (15).")
@click.option(
    "--scratch",
    default=Path("/var/tmp"),
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where the rounds have their data; that of a failed one is kept (/var/tmp).",
)
def main(
    minutes: float,
    seed: str,
    names: tuple[str, ...],
    number: int | None,
    stop: bool,
    without_guards: bool,
    round_s: float,
    scratch: Path,
) -> None:
    """Try to lose a credit: real services, real files, real clients, and faults at random moments.

    Runs rounds of every part in turn until the time is up, and prints what was done, what the clients were
    told, and the verdict. Ends with status 1 when a promise was broken; the history and the data of that round
    are kept, and the command that runs it again is printed. What is promised: docs/reliability.md.

    \b
    Examples:
      scripts/torture                                     five minutes of everything
      scripts/torture --part power-cut --minutes 30
      scripts/torture --seed 5f1c --part power-cut --round 3    a round that failed, again
      scripts/torture --part soak --minutes 60 --round-s 3600   an hour of load: nothing grows
      scripts/torture --guards                            the product without each guard: all must fail
    """
    for signal_number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, lambda number, _: sys.exit(128 + number))
    if without_guards:
        sys.exit(remove_guards(names, scratch))
    parts = names or tuple(PARTS)
    sys.exit(run(seed, minutes * 60, parts, number, scratch, round_s=round_s, stop=stop))


def remove_guards(names: tuple[str, ...], scratch: Path) -> int:
    """A line of a table for each guard of those parts; the exit status, 1 where one was not missed."""
    chosen = [guard for guard in guards() if not names or guard.part in names]
    status = 0
    click.echo("| guard | part | what was found without it |\n| --- | --- | --- |")
    for guard, said in without_each(chosen, scratch):
        click.echo(f"| {guard.name} | {guard.part} | {said or '**nothing**'} |")
        status |= said is None
    return status


def run(
    seed: str,
    seconds: float,
    names: tuple[str, ...],
    number: int | None,
    scratch: Path,
    *,
    round_s: float = 15,
    stop: bool = False,
) -> int:
    """All of it; the exit status."""
    click.echo(f"seed {seed}")
    deadline = time.monotonic() + seconds
    tallies: dict[str, Counter[str]] = {}
    left_out: dict[str, str] = {}
    broken = 0
    at = number or 1
    while at == (number or 1) or (number is None and time.monotonic() < deadline):
        for name in names:
            if name in left_out or (at > 1 and number is None and time.monotonic() >= deadline):
                continue
            begun = time.monotonic()
            directory = Path(mkdtemp(prefix=f"torture-{name}-{at}-", dir=scratch))
            part = Round(f"{seed}/{name}/{at}", directory, round_s)
            try:
                PARTS[name](part)
            except CannotRun as why:
                left_out[name] = str(why)
                shutil.rmtree(directory)
                continue
            except BaseException:
                click.echo(f"{name} {at}: ended by an error. {_again(seed, name, at, directory)}", err=True)
                raise
            tallies.setdefault(name, Counter({"rounds": 0})).update(part.tally + Counter({"rounds": 1}))
            told = ", ".join(f"{count:,} {what}" for what, count in part.tally.items())
            click.echo(f"{name} {at}: {told} ({time.monotonic() - begun:.0f} s)", err=True)
            if part.broken:
                broken += len(part.broken)
                for promise in part.broken[:20]:
                    click.echo(f"  BROKEN: {promise}")
                click.echo(f"  {_again(seed, name, at, directory)}")
                if stop:
                    return 1
            else:
                shutil.rmtree(directory)
        at += 1
    _report(tallies, left_out, broken)
    return 1 if broken else 0


def _again(seed: str, name: str, number: int, directory: Path) -> str:
    return f"Again: scripts/torture --seed {seed} --part {name} --round {number}. Kept: {directory}"


def _report(tallies: dict[str, Counter[str]], left_out: dict[str, str], broken: int) -> None:
    for name, tally in tallies.items():
        click.echo(f"\n{name}")
        for what, count in tally.items():
            click.echo(f"  {count:>10,} {what}")
    for name, why in left_out.items():
        click.echo(f"\n{name} was NOT run: {why}")
    click.echo(f"\n{broken} promises were broken." if broken else "\nNo promise was broken.")


if __name__ == "__main__":
    main(prog_name="scripts/torture")
