"""`credit-ledger seal` and `seals`: commit to the whole ledger, and show what was committed to."""

import json
import os
from contextlib import closing
from typing import Final

import click

from api.settings import data_directory, seals_path, signing_key_path
from api.vault import open_signer
from ledger.committer import microseconds_now
from ledger.note import InvalidNote, Verifier
from ledger.seal_file import RESTORE, SealFile, Stored
from ledger.sealer import make_seal
from ledger.statement import rfc3339
from scripts.credit_ledger_terminal import Failure, the_ledger

_NICENESS: Final = 10


@click.command()
@click.option(
    "--background", is_flag=True, help="Give way to all else on this machine; say only what was sealed."
)
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Seal a ledger that lacks sealed events as it is; the seal says for ever how many were lost.",
)
@click.option(
    "--rebuild", is_flag=True, help="Make the tree in seals.db anew from the ledger, if it was damaged."
)
def seal(background: bool, accept_loss: bool, rebuild: bool) -> None:
    """Seal all that was recorded since the last seal, now; the service does it every minute.

    A seal is a signed hash over every account and the total of their credit. Whoever keeps its note
    (credit-ledger seals --note) can show later that an account was removed or rewritten, or the log cut.
    """
    if background:
        os.nice(_NICENESS)
    with the_ledger() as ledger:
        data = data_directory()
        with closing(SealFile(seals_path(data))) as file:
            try:
                origin = Verifier.of(file.vkey()).name
            except InvalidNote as error:
                raise Failure(f"seals.db is damaged: {error}; {RESTORE}") from None
        signer = open_signer(signing_key_path(data), origin)
        made = make_seal(
            ledger, seals_path(data), signer, microseconds_now(), accept_loss=accept_loss, rebuild=rebuild
        )
    if made is not None:
        click.echo(_line(made))
    elif not background:
        click.echo("Nothing was recorded since the last seal.")


@click.command()
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 100_000), help="How many at most."
)
@click.option(
    "--note", "as_note", is_flag=True, help="Print the note of the last one, to be kept or published."
)
@click.option("--vkey", "as_vkey", is_flag=True, help="Print the public key that checks them.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with entry and note.")
def seals(limit: int, as_note: bool, as_vkey: bool, as_json: bool) -> None:
    """Print the seals, newest first."""
    with the_ledger(), closing(SealFile(seals_path(data_directory()))) as file:
        vkey, found = file.vkey(), list(file.seals(None, 1 if as_note else limit))
    if as_vkey:
        click.echo(vkey)
    elif not found:
        raise Failure("there is no seal yet: run credit-ledger seal")
    elif as_note:
        click.echo(found[0].note, nl=False)
    else:
        for each in found:
            line = {"number": each.seal.number, "entry": each.entry, "note": each.note}
            click.echo(json.dumps(line, ensure_ascii=False) if as_json else _line(each))


def _line(stored: Stored) -> str:
    seal = stored.seal
    lost = f", {seal.lost} events LOST" if seal.lost else ""
    return (
        f"seal {seal.number} of {rfc3339(seal.sealed_at_us)}: {seal.events} events, {seal.accounts} accounts, "
        f"{seal.outstanding} credits, root {seal.root.hex()}{lost}"
    )


if __name__ == "__main__":
    seal(prog_name="credit-ledger seal")
