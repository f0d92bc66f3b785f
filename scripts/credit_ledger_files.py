"""`credit-ledger export`, `import`, `backup`, `restore` and `erase`: what leaves the data and comes back."""

import json
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec

from api import access
from api.settings import access_path, ledger_path, seals_path, signing_key_path
from ledger import schema, seal_file
from ledger.backup import Files, Identities, make_backup
from ledger.committer import microseconds_now
from ledger.directory import new_file
from ledger.intake import Expected, import_export
from ledger.parallel import silent
from ledger.restore import Loss, Restored
from ledger.restore import restore as restore_backup
from ledger.sqlite import SqliteError, Turnstile, rewrite, turnstile_path
from ledger.statement import rfc3339
from ledger.transfer import Counts
from ledger.transfer import export as export_log
from scripts.credit_ledger_terminal import FILE, WRONG, Failure, progress_bar, text_in, the_ledger

_SHOWN_ACCOUNTS: Final = 100
_IDENTITIES: Final = Identities(seal_file.IDENTITY, schema.IDENTITY, access.IDENTITY)


@click.command("export")
@click.argument("file", default="-", type=click.Path(dir_okay=False, path_type=Path))
def export(file: Path) -> None:
    """Write the whole log with its seals to FILE, or to standard output, as lines of JSON.

    Safe while the service runs; what is recorded meanwhile is left out. FILE gets its name once it is whole,
    and is readable by you alone: openids are in it.
    """
    with the_ledger() as ledger:
        if str(file) == "-":
            export_log(ledger, seals_path(ledger.parent), sys.stdout.buffer.write, silent)
            return
        counts = _export_to(file, ledger)
    click.echo(f"{counts.events} events and {counts.seals} seals are in {file}")


def _export_to(file: Path, ledger: Path) -> Counts:
    try:
        if file.exists():
            raise FileExistsError
        with new_file(file) as out, progress_bar("Exporting") as progress:
            return export_log(ledger, seals_path(ledger.parent), out.write, progress)
    except FileExistsError:
        raise Failure(f"{file} is there already: give the name of a new file") from None
    except OSError as error:
        raise Failure(f"cannot write {file}: {error.strerror}") from None


@click.command("import")
@click.argument("file", type=FILE)
@click.option("--vkey", help="The public key that the seals must be signed by, known from elsewhere than FILE.")
@click.option("--note", type=FILE, help="A note of a seal that was kept: the export must go on from it.")
def import_(file: Path, vkey: str | None, note: Path | None) -> None:
    """Make the ledger, and its seals, from the export in FILE; only where there is none with events yet.

    Follows every event and makes every seal again, so what comes out has the roots that were published; a line
    that is wrong is named, and then nothing is changed. The service must not run.

    FILE names its own key. Whoever wrote all of it anew, under a key of his own, only --vkey or --note finds.
    """
    expected = Expected(vkey, None if note is None else text_in(note))
    with the_ledger() as ledger, progress_bar("Importing") as progress:
        seals = seals_path(ledger.parent)
        done = import_export(file, ledger, seals, microseconds_now(), progress, expected)
    click.echo(f"{done.events} events and {done.seals} seals are in {ledger.parent}")
    click.echo(f"{done.unsealed} events behind the last seal are signed by nobody")
    if expected == Expected():
        click.echo(
            "Compared with nothing from elsewhere: give --vkey or --note, or see credit-ledger seals --vkey",
            err=True,
        )
    key = signing_key_path(ledger.parent)
    if done.seals and not key.exists():
        click.echo(f"To go on sealing put the signing.key of where they come from at {key}", err=True)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
def backup(directory: Path) -> None:
    """Copy the databases into the new DIRECTORY while the service runs, and audit the copy.

    DIRECTORY gets its name once all of it is on disk and found good. secret.key and signing.key are not copied.
    """
    with the_ledger() as ledger:
        manifest = make_backup(_files(ledger), _IDENTITIES, directory, microseconds_now(), progress_bar)
    seal = "no seal yet" if manifest.seal is None else f"up to seal {manifest.seal}"
    click.echo(
        f"{directory}: {manifest.events} events, {manifest.accounts} accounts, {manifest.outstanding} credits, "
        f"{seal}; audited and good"
    )
    click.echo(
        f"Not in it, keep them in another place: {ledger.parent / 'secret.key'} (without it everybody logs in "
        f"again) and {signing_key_path(ledger.parent)} (without it a new log of seals begins)",
        err=True,
    )


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--note",
    type=FILE,
    help="The last note that was published (credit-ledger seals --note), to compare the backup with.",
)
@click.option("--accept-loss", is_flag=True, help="Restore also where events are lost by it.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is lost as one JSON object.")
def restore(directory: Path, note: Path | None, accept_loss: bool, as_json: bool) -> None:
    """Put the backup in DIRECTORY in the place of the databases; the service must not run.

    Audits the backup first, and says what it lacks of what is here now and of what was published. Where that
    is anything, nothing is changed without --accept-loss. What is replaced is moved aside, never deleted.
    Exit status 0 when it was restored, 1 when not.
    """
    published = None if note is None else text_in(note)
    with the_ledger() as ledger:
        done = restore_backup(
            directory,
            _files(ledger),
            _IDENTITIES,
            published,
            accept_loss=accept_loss,
            now_us=microseconds_now(),
            phase=progress_bar,
        )
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(done, enc_hook=str), ensure_ascii=False))
    else:
        _tell(done)
    sys.exit(0 if done.done else WRONG)


def _tell(restored: Restored) -> None:
    loss, made_at = restored.loss, rfc3339(restored.backup.made_at_us)
    _tell_loss(loss, done=restored.done)
    if not restored.done:
        click.echo(f"Nothing was changed. To restore the backup of {made_at} all the same give --accept-loss")
        return
    click.echo(f"restored: {restored.backup.events} events, {restored.backup.accounts} accounts of {made_at}")
    if restored.replaced is not None:
        click.echo(f"What was there is in {restored.replaced}")
    click.echo("Logins and profiles are those of then: erase again whoever was erased since")
    if loss.seals or loss.unknown:
        click.echo(
            "Seals may be out that are not here: move seals.db and signing.key away, then a new log begins"
        )
    elif loss and restored.kept_seals:
        click.echo("The seals say more than the ledger now: credit-ledger seal --accept-loss seals the loss")


def _tell_loss(loss: Loss, *, done: bool) -> None:
    what = "LOST" if done else "WOULD BE LOST"
    for lost in loss.accounts[:_SHOWN_ACCOUNTS]:
        versions = (
            f"version {lost.first}" if lost.first == lost.last else f"versions {lost.first} to {lost.last}"
        )
        click.echo(f"{what}  {lost.openid} {versions}")
    if len(loss.accounts) > _SHOWN_ACCOUNTS:
        click.echo(f"... of {len(loss.accounts) - _SHOWN_ACCOUNTS} accounts more: --json lists all")
    if loss.events:
        least = "" if loss.accounts else "at least "
        click.echo(f"{what}  {least}{loss.events} events")
    if loss.seals:
        click.echo(
            f"{what}  what the last {loss.seals} published seals cover: they are neither in the backup nor here"
        )
    for unknown in loss.unknown:
        click.echo(f"NOT KNOWN  {unknown}")


@click.command()
@click.argument("openid")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(openid: str, yes: bool) -> None:
    """Erase the person OPENID: sessions, WeChat's session keys and unionid, name and picture.

    The ledger stays as it is: there the openid is a pseudonym that nothing else here explains, and what was
    proven stays provable. Safe while the service runs, which then knows that person no more.
    """
    if not openid.isascii():
        raise Failure("an openid is ASCII")
    if not yes:
        click.confirm(f"Erase the sessions, name and picture of {openid}, for ever?", abort=True)
    with the_ledger() as ledger:
        (sessions, wechat_sessions, profiles), emptied = _erase(access_path(ledger.parent), openid)
        replaced = sorted(ledger.parent.glob("replaced-*/access.db"))
    click.echo(
        f"erased: {sessions} sessions, {wechat_sessions} WeChat session keys with unionid, {profiles} profiles"
    )
    click.echo("Events stay, under the openid as a pseudonym: the ledger is what accounts and proofs rest on")
    click.echo("Backups made before have that person still: delete them, or erase again after a restore")
    for path in replaced:
        click.echo(f"So has {path}, perhaps: delete it")
    if not emptied:
        raise Failure(
            "a reader keeps the write-ahead log of access.db, and the data in it: run this again soon"
        )


def _erase(path: Path, openid: str) -> tuple[list[int], bool]:
    """What was deleted, and whether no trace of it is left in the files."""
    with closing(access.access_committer(path)) as committer:
        (outcome,) = committer.commit([partial(access.erase_person, openid=openid)])
    if isinstance(outcome, Exception):
        raise outcome
    with (
        closing(Turnstile(turnstile_path(path))) as turnstile,
        turnstile,
        closing(access.open_access(path)) as connection,
    ):
        try:
            return outcome, rewrite(connection)
        except SqliteError as error:
            raise Failure(f"erased, but {path} cannot be rewritten: {error}; run this again") from None


def _files(ledger: Path) -> Files:
    data = ledger.parent
    return Files(seals_path(data), ledger_path(data), access_path(data))
