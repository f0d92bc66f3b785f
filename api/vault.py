"""The two key files: what WeChat's session keys are encrypted with at rest, and what seals are signed with."""

import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.directory import new_file, sync
from ledger.errors import LedgerUnusable
from ledger.note import Signer

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_CHECK_NAME: Final = "access.db"
_CHECK_TEXT: Final = "this is the key"


class Vault:
    """Seals short texts with AES-256-GCM, each bound to a name: one sealed for alice opens only as alice's."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, name: str, text: str) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text.encode(), name.encode())

    def unseal(self, name: str, sealed: bytes) -> str:
        """The text, or InvalidTag where it was sealed with another key, for another name, or changed."""
        return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode()).decode()

    def check(self) -> bytes:
        """Something to keep beside what is sealed, so that a swapped key is noticed at start."""
        return self.seal(_CHECK_NAME, _CHECK_TEXT)

    def made(self, check: bytes) -> bool:
        """Whether this key made `check`."""
        try:
            return self.unseal(_CHECK_NAME, check) == _CHECK_TEXT
        except InvalidTag:
            return False


def create_secret_key(path: Path) -> None:
    """Write a new key to `path` with mode 0600, unless there is one; then it, and its name, are on disk.

    It appears whole or not at all: a key file that was cut short would keep the service from ever starting.
    Raises LedgerUnusable, naming the file, where the disk fails or is full.
    """
    try:
        with suppress(FileExistsError), new_file(path) as file:
            file.write(f"{secrets.token_hex(_KEY_BYTES)}\n".encode())
        sync(path.parent)  # also of one that was there: what made it may have been cut short of this
    except OSError as error:
        raise LedgerUnusable(f"cannot create {path}: {error.strerror}") from None


def open_vault(path: Path) -> Vault:
    """The vault whose key is in `path`; raises LedgerUnusable, naming the file, where it cannot be used."""
    return Vault(_read_key(path))


def open_signer(path: Path, origin: str) -> Signer:
    """What signs for the log `origin` with the Ed25519 key in `path`; raises LedgerUnusable as `open_vault`."""
    return Signer(origin, Ed25519PrivateKey.from_private_bytes(_read_key(path)))


def _read_key(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise LedgerUnusable(f"{path} is not a file: it must hold the secret key")
        if mode & 0o077:
            raise LedgerUnusable(f"{path} can be read by others (mode {mode & 0o777:o}): chmod 600 it")
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except OSError as error:
        raise LedgerUnusable(f"cannot read the secret key {path}: {error.strerror}") from None
    except ValueError:
        raise LedgerUnusable(f"{path} does not hold a secret key of 64 hexadecimal digits") from None
    if len(key) != _KEY_BYTES:
        raise LedgerUnusable(f"{path} does not hold a secret key of 64 hexadecimal digits")
    return key
