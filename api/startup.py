"""Before the first worker: the data directory, made and checked. Imports nothing that counts or serves."""

from contextlib import closing

from api import access
from api.settings import Settings
from api.vault import create_secret_key, open_signer, open_vault
from ledger import directory, schema, seal_file
from ledger.errors import LedgerUnusable
from ledger.file_system import refuse_network_file_system
from ledger.seal import origin_of


def prepare(settings: Settings) -> None:
    """Make the data directory and what belongs in it, and check all of it; leaves nothing open.

    Raises LedgerUnusable, naming the file and what to do. Run it once before workers are forked.
    """
    try:
        directory.make_directory(settings.data)
    except OSError as error:
        raise LedgerUnusable(f"cannot make {settings.data}: {error.strerror}; set CREDIT_DATA") from None
    refuse_network_file_system(settings.data)
    directory.settle(settings.data)
    if not settings.access_path.exists():
        create_secret_key(settings.secret_key_path)
    elif not settings.secret_key_path.exists():
        raise LedgerUnusable(
            f"{settings.secret_key_path} is missing, and {settings.access_path} needs it: restore it, or "
            "remove access.db, after which everybody logs in again"
        )
    vault = open_vault(settings.secret_key_path)
    schema.create(settings.ledger_path, settings.appid)
    schema.open_ledger(settings.ledger_path, appid=settings.appid).close()
    access.create(settings.access_path, vault.check())
    connection = access.open_access(settings.access_path)
    try:
        if not vault.made(access.key_check(connection)):
            raise LedgerUnusable(
                f"{settings.secret_key_path} is not the key that {settings.access_path} was made with: restore "
                "it, or remove access.db, after which everybody logs in again"
            )
    finally:
        connection.close()
    _prepare_seals(settings)


def _prepare_seals(settings: Settings) -> None:
    if not settings.seals_path.exists():
        create_secret_key(settings.signing_key_path)
    elif not settings.signing_key_path.exists():
        raise LedgerUnusable(
            f"{settings.signing_key_path} is missing, and {settings.seals_path} was begun with it: restore it, "
            "or move seals.db away, after which a new log of seals begins"
        )
    vkey = open_signer(settings.signing_key_path, origin_of(settings.appid)).verifier.vkey
    seal_file.create(settings.seals_path, vkey)
    with closing(seal_file.SealFile(settings.seals_path)) as seals:
        if seals.vkey() != vkey:
            raise LedgerUnusable(
                f"{settings.signing_key_path} is not the key that {settings.seals_path} was begun with: "
                "restore that one, or move seals.db away, after which a new log of seals begins"
            )
