"""`credit-ledger key`: the API keys of the backends that use `/v1`."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from api import access
from api.accounts import SCOPES
from api.settings import access_path
from ledger.committer import microseconds_now
from ledger.statement import rfc3339
from scripts.credit_ledger_terminal import the_ledger

_DAY_US: Final = 86_400_000_000


@click.group()
def key() -> None:
    """Create, list and revoke the API keys of backends."""


@key.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(sorted(SCOPES)),
    help="read, grant, spend, operate (freeze; act on frozen accounts) or audit; may be given again.",
)
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 3650), help="When it expires.")
def create(name: str, scopes: tuple[str, ...], days: int) -> None:
    """Make a key for the backend called NAME and print it, this once: only its hash is kept.

    \b
    Example:
      credit-ledger key create shop --scope read --scope grant --scope spend
    """
    if not (1 <= len(name) <= 64 and name.isprintable()):
        raise click.UsageError("NAME must be 1 to 64 printable characters")
    now_us = microseconds_now()
    with _access() as path:
        (made,) = _commit(
            path,
            partial(
                access.create_key,
                name=name,
                scopes=frozenset(scopes),
                now_us=now_us,
                expires_at_us=now_us + days * _DAY_US,
            ),
        )
    made_key, secret = made
    click.echo(secret)
    click.echo(
        f"key {made_key.id} for {name}: {' '.join(sorted(scopes))}, until {rfc3339(made_key.expires_at_us)}",
        err=True,
    )


@key.command("list")
def list_() -> None:
    """Print every key: its id, state, scopes, end, last use (to the minute) and name."""
    now_us = microseconds_now()
    with _access() as path, closing(access.open_access(path, read_only=True)) as connection:
        keys = access.list_keys(connection)
    click.echo(f"{'id':<12}  {'state':<7}  {'expires':<10}  {'last used (UTC)':<16}  {'scopes':<30}  name")
    for each in keys:
        state = "revoked" if each.revoked_at_us else "live" if each.is_live(now_us) else "expired"
        used = "never" if each.last_used_at_us is None else rfc3339(each.last_used_at_us)[:16].replace("T", " ")
        ends = rfc3339(each.expires_at_us)[:10]
        click.echo(
            f"{each.id}  {state:<7}  {ends}  {used:<16}  {' '.join(sorted(each.scopes)):<30}  {each.name}"
        )


@key.command()
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """End the key ID (the first column of `key list`) now, in all workers."""
    with _access() as path:
        (found,) = _commit(path, partial(access.revoke_key, key_id=key_id, now_us=microseconds_now()))
    if not found:
        raise click.ClickException(f"there is no key {key_id}: see credit-ledger key list")
    click.echo(f"key {key_id} is revoked")


def _commit(path: Path, change: access.Change) -> list[Any]:
    committer = access.access_committer(path)
    try:
        outcomes = committer.commit([change])
    finally:
        committer.close()
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return outcomes


@contextmanager
def _access() -> Iterator[Path]:
    """The path of access.db; what goes wrong with it becomes one sentence."""
    with the_ledger() as ledger:
        yield access_path(ledger.parent)
