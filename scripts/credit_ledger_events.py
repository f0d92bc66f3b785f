"""`credit-ledger` statement, grant and expire: the events of an account, read and appended by hand."""

import sys
from collections.abc import Iterator
from contextlib import closing
from getpass import getuser
from typing import Final

import click
import msgspec

from ledger.commands import GrantCredit, RecordLapses, Submission
from ledger.committer import ledger_committer, microseconds_now
from ledger.errors import InvalidCommand, Refusal
from ledger.events import Recorded
from ledger.execute import Outcome
from ledger.statement import BEFORE_ALL_DUE, MAX_PAGE, Reader, rfc3339
from scripts.credit_ledger_terminal import MOMENT, WRONG, Failure, progress_bar, the_ledger

_AT_ONCE: Final = 100


@click.command()
@click.argument("openid")
@click.option("--before", type=click.IntRange(1), help="Only events with a version below this one.")
@click.option("--limit", type=click.IntRange(1), help="At most this many events (default: all).")
@click.option("--as-of", "as_of_us", type=MOMENT, help="Only what a read at this moment found (default: now).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as the log keeps them.")
def statement(openid: str, before: int | None, limit: int | None, as_of_us: int | None, as_json: bool) -> None:
    """Print the events of OPENID, newest first, with the credit after each."""
    if not openid.isascii():
        raise Failure("an openid is ASCII")
    with the_ledger() as path:
        reader = Reader(path)
        now_us = microseconds_now()
        account = reader.account(openid, now_us)
        if account is None:
            raise Failure(f"nobody registered as {openid}")
        if as_of_us is not None and as_of_us > max(now_us, account.recorded_at_us):
            raise Failure("--as-of must not be in the future")
        if as_of_us is not None and as_of_us < account.registered_at_us:
            raise Failure(f"nobody was registered as {openid} by {rfc3339(as_of_us)}")
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


@click.command()
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
    with the_ledger() as path:
        committer = ledger_committer(path)
        (outcome,) = committer.commit([command])
        committer.close()
        if isinstance(outcome, Refusal):
            raise Failure(f"refused: {outcome}")
        if not isinstance(outcome, Outcome):
            raise outcome
    before = "granted before under this key" if outcome.replayed else "granted"
    click.echo(f"{before}: {amount} to {openid}; credit {outcome.credit} after version {outcome.version}")


@click.command()
def expire() -> None:
    """Record what has lapsed by now: expired credit, and holds past their deadline.

    Nobody's credit changes by it, because every answer counts what has lapsed whether or not it is recorded;
    it brings the log, and the sums over all accounts, up to date. The service does the same once an hour.
    """
    now_us, last, done, failed = microseconds_now(), BEFORE_ALL_DUE, 0, 0
    with (
        the_ledger() as path,
        progress_bar("Recording") as progress,
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
    sys.exit(WRONG if failed else 0)


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
