"""What `scripts/torture` runs: rounds of every part in turn until the time is up, and the verdict."""

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from secrets import token_hex
from tempfile import mkdtemp

import click

from tests.torture.guards import guards, without_each
from tests.torture.parts import PARTS
from tests.torture.report import Report
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
@click.option("--stop", is_flag=True, help="End with the first round that does not hold.")
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
    told, and the verdict. Ends with status 1 when a promise was broken, and with 2 when none was, but an error
    ended a round; the history and the data of that round are kept, and the command that runs it again is
    printed. What is promised: docs/reliability.md.

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
    """All of it; the exit status, 1 for a broken promise and 2 for an error."""
    click.echo(f"seed {seed}")
    report = Report(seed)
    for name, at in _turns(names, number, time.monotonic() + seconds):
        if len(report.left_out) == len(names):
            break
        if name in report.left_out:
            continue
        directory = Path(mkdtemp(prefix=f"torture-{name}-{at}-", dir=scratch))
        part, error = Round(f"{seed}/{name}/{at}", directory, round_s, number=at), None
        begun = time.monotonic()
        try:
            PARTS[name](part)
            if not part.broken:
                shutil.rmtree(directory)
        except CannotRun as why:
            report.left_out[name] = str(why)
            shutil.rmtree(directory)
            continue
        except Exception as unexpected:  # noqa: BLE001 - it is this round's verdict, and the others go on
            error = unexpected
        except BaseException:
            click.echo(f"{name} {at}: ended. {report.again(name, at, directory)}", err=True)
            raise
        report.add(name, part, error, time.monotonic() - begun)
        if stop and report.status:
            break
    report.show()
    return report.status


def _turns(names: tuple[str, ...], number: int | None, deadline: float) -> Iterator[tuple[str, int]]:
    """Each part and the number of its round: all of them once, and on until the time is up."""
    if number is not None:
        yield from ((name, number) for name in names)
        return
    for at in count(1):
        for name in names:
            if at > 1 and time.monotonic() >= deadline:
                return
            yield name, at


if __name__ == "__main__":
    main(prog_name="scripts/torture")
