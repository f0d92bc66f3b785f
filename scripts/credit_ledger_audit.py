"""`credit-ledger audit`: say all that is wrong with the ledger, on the terminal, as JSON and as a page."""

import json
import sys
from pathlib import Path
from typing import Final

import click
import msgspec

from api.settings import data_directory, seals_path
from ledger.committer import microseconds_now
from ledger.verify import Report, Witness, audit_quickly
from ledger.verify import audit as audit_whole
from scripts.audit_chart import points_of
from scripts.audit_page import page, where
from scripts.credit_ledger_terminal import FILE, WRONG, Failure, progress_bar, text_in, the_ledger

_SHOWN_FAULTS: Final = 100


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as one JSON object.")
@click.option(
    "--page",
    "page_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it as one HTML file, too.",
)
@click.option(
    "--since", type=click.IntRange(1), help="Quick: only what happened since this seal, which is trusted."
)
@click.option("--note", type=FILE, help="A note of a seal that was kept: is all that it covers still there?")
@click.option("--vkey", help="The public key, where it is known from elsewhere than seals.db.")
@click.option("--receipts", type=FILE, help="Receipts as the API answered them, one JSON object a line.")
def audit(
    as_json: bool,
    page_path: Path | None,
    since: int | None,
    note: Path | None,
    vkey: str | None,
    receipts: Path | None,
) -> None:
    """Recompute every chain, every fold and every seal from the stored events, and compare the account rows.

    Names the first wrong event of each account, and what was done to it. Exit status 0 means that nothing is
    wrong, 1 that something is. What somebody removed who also made the seals anew, only a note, a public key
    or receipts from elsewhere show.

    \b
    Example:
      credit-ledger audit --page audit.html --note kept-note.txt
    """
    if since is not None and receipts is not None:
        raise click.UsageError("--receipts needs a whole audit: leave --since out")
    witness = Witness(
        None if note is None else text_in(note),
        vkey,
        ()
        if receipts is None
        else text_in(receipts).split("\n"),  # splitlines() also divides at what may stand in a JSON text
    )
    with the_ledger() as path, progress_bar("Auditing") as progress:
        seals = seals_path(data_directory())
        if not seals.exists() and (witness != Witness() or since is not None):
            raise Failure(f"no seals at {seals} to compare with: restore that file, or start the service once")
        if since is None:
            report = audit_whole(path, progress, seals, witness)
        else:
            report = audit_quickly(path, progress, seals, since, witness)
    click.echo(_json(report) if as_json else _words(report))
    if page_path is not None:
        try:
            page_path.write_text(page(report, str(path), microseconds_now()), encoding="utf-8")
        except OSError as error:  # what was found, perhaps for hours, is printed by now
            raise Failure(f"cannot write {page_path}: {error.strerror}") from None
    sys.exit(0 if report.good else WRONG)


def _json(report: Report) -> str:
    whole = msgspec.to_builtins(report)
    whole["days"] = [point._asdict() for point in points_of(report.days, most=None)]
    return json.dumps({"good": report.good, **whole}, ensure_ascii=False)


def _words(report: Report) -> str:
    lines = [f"WRONG  {where(fault)}: {fault.what}: {fault.detail}" for fault in report.faults[:_SHOWN_FAULTS]]
    if len(report.faults) > _SHOWN_FAULTS:
        lines.append(f"... and {len(report.faults) - _SHOWN_FAULTS} more: --json lists all")
    if report.seals is not None and report.seals.count:
        count, checked = report.seals.count, report.seals.checked
        lines.append(f"{count} seals, of which {checked} were compared with the events")
        lines += report.skipped
    verdict = "good" if report.good else f"{len(report.faults)} wrong"
    lines.append(f"{report.events} events, {report.accounts} accounts, {report.outstanding} credits: {verdict}")
    return "\n".join(lines)
