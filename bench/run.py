"""What `scripts/bench` runs: its options, one run, and where the results go."""

import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import msgspec

from bench.figures import Results
from bench.machine import ROOT, Failed, cache_directory, conditions, file_system, find_wrk
from bench.measure import measure
from bench.plan import FULL, QUICK, Plan
from bench.plots import drawings
from bench.report import LANGUAGES, markdown, parts, readme, write_between_markers
from bench.targets import targets


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--quick", is_flag=True, help="Under two minutes, for a look: fewer rounds, ledgers up to 100,000."
)
@click.option(
    "--events",
    type=click.IntRange(10_000),
    help="Have a ledger of so many events as well (10000000 takes long to make, once).",
)
@click.option(
    "--soak",
    "soak_s",
    type=click.IntRange(0, 7200),
    default=0,
    help="Mixed load for so many seconds before memory is read.",
)
@click.option(
    "--write",
    "checkout",
    type=click.Path(path_type=Path, file_okay=False),
    is_flag=False,
    flag_value=ROOT,
    help="Record the results in docs/bench and the READMEs, here or in that checkout.",
)
@click.option(
    "--scratch",
    default=Path("/var/tmp"),  # noqa: S108 - a directory of our own is made in it
    type=click.Path(path_type=Path),
    help="Where data is made, and removed again: the disk to be measured (/var/tmp).",
)
def main(quick: bool, events: int | None, soak_s: int, checkout: Path | None, scratch: Path) -> None:
    """Measure the service, what people would pick instead, and the limits of this machine, side by side.

    Starts everything itself and takes some 15 minutes on two cores. What it measures, and how to read it,
    is in docs/bench/README.md. The packages of the contenders, and ledgers to measure on, are made once and
    kept in ~/.cache/credit-ledger-bench. Ends with status 1 when a target is missed, or an answer was wrong.

    \b
    Examples:
      scripts/bench --quick          print a first look
      scripts/bench --write          record the results in this checkout
    """
    for signal_number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, lambda number, _: sys.exit(128 + number))
    plan = QUICK if quick else FULL
    if events is not None:
        plan = msgspec.structs.replace(plan, sizes=tuple(sorted({*plan.sizes, events})))
    plan = msgspec.structs.replace(plan, soak_s=soak_s)
    missed = run(plan, "quick" if quick else "full", checkout, scratch)
    if missed:
        click.echo(f"Missed: {'; '.join(missed)}", err=True)
        sys.exit(1)


def run(plan: Plan, name: str, checkout: Path | None, scratch: Path) -> list[str]:
    """Measure and report; the titles of the targets that were missed."""
    for file_name in LANGUAGES if checkout else ():
        parts((checkout or ROOT) / file_name)  # one that cannot be written is not found out after ten minutes
    find_wrk()
    begun = time.monotonic()
    with TemporaryDirectory(prefix="credit-bench-", dir=scratch) as directory:
        if file_system(Path(directory)) == "tmpfs":
            raise Failed(f"{scratch} is in memory, where nothing is durable: name a disk with --scratch")
        results = Results(conditions(Path(directory)) | {"plan": name})

        def tell(part: str) -> None:
            click.echo(f"{time.monotonic() - begun:4.0f} s  {part}", err=True)

        measure(Path(directory), plan, cache_directory(), results, tell)
    results.conditions["minutes"] = round((time.monotonic() - begun) / 60, 1)
    click.echo(markdown(results), nl=False)
    if checkout:
        record(results, checkout)
    for contender, why in results.left_out.items():
        click.echo(f"LEFT OUT: {contender}: {why}", err=True)
    for failure in results.failures:
        click.echo(f"FAILED: {failure}", err=True)
    return [target.title for target in targets(results) if target.verdict == "missed"]


def record(results: Results, checkout: Path) -> None:
    """Write docs/bench and the tables of the READMEs of that checkout."""
    place = checkout / "docs" / "bench"
    place.mkdir(parents=True, exist_ok=True)
    (place / "results.md").write_text(markdown(results), encoding="utf-8")
    verdicts = [msgspec.to_builtins(target) | {"verdict": target.verdict} for target in targets(results)]
    whole = msgspec.to_builtins(results) | {"targets": verdicts}
    (place / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")
    for name, drawing in drawings(results).items():
        (place / f"{name}.svg").write_text(drawing, encoding="utf-8")
    for file_name in LANGUAGES:
        write_between_markers(checkout / file_name, readme(results, file_name))


if __name__ == "__main__":
    main(prog_name="scripts/bench")
