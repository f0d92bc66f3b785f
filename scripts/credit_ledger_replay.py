"""`credit-ledger replay`: build the account rows anew from the log, compare, swap them in, and undo that."""

import json
import sys
from typing import Final

import click
import msgspec

from ledger import replay as replaying
from ledger.fault import Fault
from ledger.projection import PROJECTION
from ledger.replay import Rebuilt
from scripts.credit_ledger_terminal import WRONG, progress_bar, the_ledger

_SHOWN: Final = 100


@click.command()
@click.option(
    "--write", is_flag=True, help="Build the rows in the file and swap them in while the service runs."
)
@click.option("--undo", is_flag=True, help="Bring the rows from before the last swap up to date, and back.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as one JSON object.")
def replay(write: bool, undo: bool, as_json: bool) -> None:
    """Build all account rows anew from the log, and print which of the stored ones differ.

    Folded up to the last seal, the rows must have its root. Nothing is written without --write, which puts the
    new rows in the place of the stored ones: beside the running service, in transactions of milliseconds, and
    only where every event can be followed and the root is right. If it is killed, the next --write goes on from
    there. The rows that were replaced are kept until the next --write.

    --undo brings back the rows that were there before, whatever they are, and then compares them as well.

    Exit status 0 when no row differs, or when --write put them right; otherwise 1.
    """
    if undo:
        if write:
            raise click.UsageError("--write and --undo exclude each other")
        _undo(as_json=as_json)
        return
    run = replaying.replay_and_write if write else replaying.replay
    with the_ledger() as path, progress_bar("Replaying") as progress:
        rebuilt = run(path, progress)
    if as_json:
        click.echo(json.dumps(_as_json(rebuilt), ensure_ascii=False))
    else:
        _print(rebuilt)
        if write and not rebuilt.swapped:
            click.echo("Nothing was written, see credit-ledger audit", err=True)
    sys.exit(0 if rebuilt.swapped or (_right(rebuilt) and not rebuilt.differences) else WRONG)


def _undo(*, as_json: bool) -> None:
    with the_ledger() as path:
        position = replaying.undo(path)
        if not as_json:  # before the comparison, which can take a while, or fail
            click.echo(
                f"The former account rows are live again, with all {position} events; another --undo undoes it"
            )
        with progress_bar("Comparing") as progress:
            found = replaying.replay(path, progress)
    good = _right(found) and not found.differences
    if as_json:
        click.echo(json.dumps({"undone": True, **_as_json(found)}, ensure_ascii=False))
    else:
        _print(found)
        if not good:
            click.echo(
                "They are live all the same: undo this with another --undo, or build them anew with --write",
                err=True,
            )
    sys.exit(0 if good else WRONG)


def _right(rebuilt: Rebuilt) -> bool:
    """Whether the log can be followed, has the sealed root, and is what this release's fold was used on."""
    proved = rebuilt.proof is None or rebuilt.proof.holds
    return proved and not rebuilt.faults and rebuilt.projection == PROJECTION


def _as_json(rebuilt: Rebuilt) -> dict[str, object]:
    return {
        "events": rebuilt.events,
        "accounts": rebuilt.accounts,
        "written": rebuilt.swapped,
        "resumed": rebuilt.resumed,
        "projection": {"live": rebuilt.projection, "built": PROJECTION},
        "proof": msgspec.to_builtins(rebuilt.proof),
        "differences": [
            {"openid": _text(each.openid), "differs": each.sentence()} for each in rebuilt.differences
        ],
        "faults": msgspec.to_builtins(rebuilt.faults),
    }


def _print(rebuilt: Rebuilt) -> None:
    if rebuilt.resumed:
        click.echo(f"Went on with a replay that was cut short after {rebuilt.resumed} events")
    lines = [f"CANNOT FOLLOW  {_where(fault)}: {fault.what}: {fault.detail}" for fault in rebuilt.faults]
    lines += [f"DIFFERS  {_text(each.openid)}: {each.sentence()}" for each in rebuilt.differences]
    for line in lines[:_SHOWN]:
        click.echo(line)
    if len(lines) > _SHOWN:
        click.echo(f"... and {len(lines) - _SHOWN} more: --json lists all")
    if rebuilt.proof is None:
        if not rebuilt.faults:
            click.echo("No seal was made yet, so there is no root to prove this against", err=True)
    elif rebuilt.proof.holds:
        click.echo(f"Proved: up to seal {rebuilt.proof.seal} the log comes to the root that was sealed")
    else:
        click.echo(f"WRONG  the log does not come to the root of seal {rebuilt.proof.seal}")
    counted = f"{rebuilt.events} events, {rebuilt.accounts} accounts"
    if rebuilt.projection != PROJECTION:
        done = (
            f"are live, of projection {PROJECTION}"
            if rebuilt.swapped
            else f"would be of projection {PROJECTION}"
        )
        click.echo(f"{counted}: the rows, which were of projection {rebuilt.projection}, {done}")
        return
    differ = len(rebuilt.differences)
    click.echo(f"{counted}: {differ} rows differ{' and were put right' if rebuilt.swapped and differ else ''}")


def _where(fault: Fault) -> str:
    if not fault.openid:
        return f"position {fault.position}"
    return f"{fault.openid} version {fault.version}" + (
        f" (position {fault.position})" if fault.position else ""
    )


def _text(openid: bytes) -> str:
    return openid.decode("utf-8", "backslashreplace")
