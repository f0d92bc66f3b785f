"""The command line: audit, replay, statement, grant, expire, key. Safe while the service runs."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from getpass import getuser
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from api.settings import SettingError, data_directory, ledger_path
from ledger import replay as replaying
from ledger import verify
from ledger.commands import GrantCredit, RecordLapses, Submission
from ledger.committer import ledger_committer, microseconds_now
from ledger.errors import InvalidCommand, LedgerFault, Refusal
from ledger.events import Recorded
from ledger.execute import Outcome
from ledger.statement import BEFORE_ALL_DUE, MAX_PAGE, Reader, rfc3339
from scripts.credit_ledger_keys import key
from scripts.credit_ledger_seal import seal, seals
from scripts.credit_ledger_terminal import MOMENT
from scripts.credit_ledger_totals import totals

# Exit statuses: 0 good, 1 wrong or refused, 2 the command line itself was wrong (click's own).
_WRONG: Final = 1
_SHOWN_FAULTS: Final = 100
_AT_ONCE: Final = 100


class _Failure(click.ClickException):
    """Something the operator can act on: said in one sentence, exit status 1."""

    exit_code = _WRONG


@click.group(
    epilog="The data is in CREDIT_DATA (default: data in the checkout).",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def cli() -> None:
    """Audit, replay and read the credit ledger, and grant credit by hand. Safe while the service runs."""


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as one JSON object.")
def audit(as_json: bool) -> None:
    """Recompute every chain and every fold from the stored events, and compare the account rows.

    Names the first wrong event of each account. Exit status 0 means that nothing is wrong, 1 that something
    is. It trusts the stored events' own hashes only: that no whole account and no tail of the log was
    removed needs a witness outside this file.
    """
    with _ledger() as path, _progress("Auditing") as progress:
        report = verify.audit(path, progress)
    if as_json:
        click.echo(json.dumps({"good": report.good, **msgspec.to_builtins(report)}, ensure_ascii=False))
    else:
        for fault in report.faults[:_SHOWN_FAULTS]:
            click.echo(f"WRONG  {_where(fault)}: {fault.what}: {fault.detail}")
        if len(report.faults) > _SHOWN_FAULTS:
            click.echo(f"... and {len(report.faults) - _SHOWN_FAULTS} more: --json lists all")
        verdict = "good" if report.good else f"{len(report.faults)} wrong"
        click.echo(
            f"{report.events} events, {report.accounts} accounts, {report.outstanding} credits: {verdict}"
        )
    sys.exit(0 if report.good else _WRONG)


@cli.command()
@click.option("--write", is_flag=True, help="Put the account rows that differ right, in one transaction.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as one JSON object.")
def replay(write: bool, as_json: bool) -> None:
    """Rebuild the account table in memory from the log, and print which stored rows differ.

    Exit status 0 when none differs, or when --write put them right; otherwise 1. With --write the service
    waits for its next commit until the replay is done. Nothing is written where the log itself is damaged.
    """
    run = replaying.replay_and_write if write else replaying.replay
    with _ledger() as path, _progress("Replaying") as progress:
        rebuilt = run(path, progress)
    repaired = write and not rebuilt.faults
    if as_json:
        found = [
            {"openid": _text(difference.openid), "differs": verify.describe(difference)}
            for difference in rebuilt.differences
        ]
        click.echo(
            json.dumps(
                {
                    "events": rebuilt.events,
                    "accounts": rebuilt.accounts,
                    "written": repaired,
                    "differences": found,
                    "faults": msgspec.to_builtins(rebuilt.faults),
                },
                ensure_ascii=False,
            )
        )
    else:
        for fault in rebuilt.faults:
            click.echo(f"CANNOT FOLLOW  {_where(fault)}: {fault.what}: {fault.detail}")
        for difference in rebuilt.differences:
            click.echo(f"DIFFERS  {_text(difference.openid)}: {verify.describe(difference)}")
        differ = len(rebuilt.differences)
        done = " and were put right" if repaired and differ else ""
        click.echo(f"{rebuilt.events} events, {rebuilt.accounts} accounts: {differ} rows differ{done}")
        if write and rebuilt.faults:
            click.echo("Nothing was written: the log is damaged, see credit-ledger audit", err=True)
    sys.exit(_WRONG if rebuilt.faults or (rebuilt.differences and not repaired) else 0)


@cli.command()
@click.argument("openid")
@click.option("--before", type=click.IntRange(1), help="Only events with a version below this one.")
@click.option("--limit", type=click.IntRange(1), help="At most this many events (default: all).")
@click.option("--as-of", "as_of_us", type=MOMENT, help="Only what a read at this moment found (default: now).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as the log keeps them.")
def statement(openid: str, before: int | None, limit: int | None, as_of_us: int | None, as_json: bool) -> None:
    """Print the events of OPENID, newest first, with the credit after each."""
    if not openid.isascii():
        raise _Failure("an openid is ASCII")
    with _ledger() as path:
        reader = Reader(path)
        now_us = microseconds_now()
        account = reader.account(openid, now_us)
        if account is None:
            raise _Failure(f"nobody registered as {openid}")
        if as_of_us is not None and as_of_us > max(now_us, account.recorded_at_us):
            raise _Failure("--as-of must not be in the future")
        if as_of_us is not None and as_of_us < account.registered_at_us:
            raise _Failure(f"nobody was registered as {openid} by {rfc3339(as_of_us)}")
        if not as_json:
            click.echo(f"{'version':>8}  {'recorded at (UTC)':<27}  {'credit':>16}  event")
        for entry in _entries(reader, openid, before, limit, as_of_us):
            data = entry.data.decode()
            when = rfc3339(entry.recorded_at_us)
            if as_json:
                line = {
                    "version": entry.version,
                    "type": entry.type,
                    "data": msgspec.Raw(entry.data),
                    "credit": entry.credit,
                    "recorded_at": when,
                    "hash": entry.hash.hex(),
                }
                click.echo(msgspec.json.encode(line).decode())
            else:
                click.echo(f"{entry.version:>8}  {when:<27}  {entry.credit:>16}  {entry.type} {data}")
        reader.close()


@cli.command()
@click.argument("openid")
@click.argument("amount", type=click.IntRange(min=1))
@click.option("--reason", required=True, help="Why, for the statement that the user reads.")
@click.option("--key", required=True, help="Idempotency key: under the same key it is granted once.")
def grant(openid: str, amount: int, reason: str, key: str) -> None:
    """Grant AMOUNT credits to OPENID, durably, and print the credit afterwards.

    \b
    Example:
      credit-ledger grant oQ5Lz... 50 --reason "sorry for the delay" --key ticket-1234
    """
    try:
        command = Submission(GrantCredit(openid, amount, reason, key), f"operator:{getuser()}", operator=True)
    except InvalidCommand as error:
        raise click.UsageError(str(error)) from None
    with _ledger() as path:
        committer = ledger_committer(path)
        (outcome,) = committer.commit([command])
        committer.close()
    if isinstance(outcome, Refusal):
        raise _Failure(f"refused: {outcome}")
    if not isinstance(outcome, Outcome):
        raise outcome
    before = "granted before under this key" if outcome.replayed else "granted"
    click.echo(f"{before}: {amount} to {openid}; credit {outcome.credit} after version {outcome.version}")


@cli.command()
def expire() -> None:
    """Record what has lapsed by now: expired credit, and holds past their deadline.

    Nobody's credit changes by it, because every answer counts what has lapsed whether or not it is recorded;
    it brings the log, and the sums over all accounts, up to date. The service does the same once an hour.
    """
    now_us, last, done, failed = microseconds_now(), BEFORE_ALL_DUE, 0, 0
    with (
        _ledger() as path,
        _progress("Recording") as progress,
        closing(Reader(path)) as reader,
        closing(ledger_committer(path)) as committer,
    ):
        while due := reader.due(now_us, last, _AT_ONCE):
            last = due[-1]
            commands = [Submission(RecordLapses(openid), "rule:sweep") for _, openid in due]
            for (_, openid), outcome in zip(due, committer.commit(commands), strict=True):
                if isinstance(outcome, Exception):
                    click.echo(f"NOT RECORDED  {openid}: {outcome}", err=True)
                    failed += 1
            done += len(due)
            progress(done, done + _AT_ONCE)
    click.echo(f"{done - failed} accounts had something lapsed; it is recorded now")
    sys.exit(_WRONG if failed else 0)


def _entries(
    reader: Reader, openid: str, before: int | None, limit: int | None, as_of_us: int | None
) -> Iterator[Recorded]:
    """Page by page, so that neither memory nor a read transaction grows with the account."""
    left, now_us = sys.maxsize if limit is None else limit, microseconds_now()
    until_us = None if as_of_us is None else as_of_us + 1
    while left > 0:
        page = reader.page(openid, now_us, before=before, limit=min(left, MAX_PAGE), until_us=until_us)
        yield from page.events
        left -= len(page.events)
        before = page.next_before
        if before is None:
            return


@contextmanager
def _ledger() -> Iterator[Path]:
    """The ledger's path; what goes wrong with it becomes one sentence."""
    try:
        yield ledger_path(data_directory())
    except (LedgerFault, SettingError, PermissionError) as fault:
        raise _Failure(str(fault)) from None


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error where that is a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield verify.silent
        return
    bar: Any = click.progressbar(length=1, label=label, file=sys.stderr)
    with bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield show


def _where(fault: verify.Fault) -> str:
    if not fault.openid:
        return f"position {fault.position}" if fault.position else "file"
    if not fault.version:
        return f"{fault.openid} account row"
    return f"{fault.openid} version {fault.version} (position {fault.position})"


def _text(openid: bytes) -> str:
    return openid.decode("utf-8", "backslashreplace")


cli.add_command(key)
cli.add_command(seal)
cli.add_command(seals)
cli.add_command(totals)


def main() -> None:
    cli(prog_name="credit-ledger")
