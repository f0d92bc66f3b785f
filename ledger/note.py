"""Signed notes and checkpoints as C2SP has them, so that any witness of transparency logs can cosign ours.

A note is text, an empty line, and lines of signatures: c2sp.org/signed-note. A checkpoint is a note whose
text names a log, its size and its root hash: c2sp.org/tlog-checkpoint.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519: Final = b"\x01"
_KEY_ID_BYTES: Final = 4
_SIGNATURE: Final = re.compile("\u2014 ([^\\s+]+) ([A-Za-z0-9+/=]+)\n")
_CHECKPOINT: Final = re.compile(r"([^\n]+)\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/]{43}=)\n(?:[^\n]+\n)*")


class InvalidNote(ValueError):
    """A text that is no signed note, or none that the given key signed."""


class Checkpoint(msgspec.Struct, frozen=True):
    """What a log of that origin says: at `size` entries its root hash was `root`."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


class Verifier:
    """Checks signatures of one named key; `vkey` is its usual written form, `name+id+key`."""

    def __init__(self, name: str, key: Ed25519PublicKey) -> None:
        raw = key.public_bytes_raw()
        self.name = name
        self.key_id = sha256(name.encode() + b"\n" + _ED25519 + raw).digest()[:_KEY_ID_BYTES]
        self.vkey = f"{name}+{self.key_id.hex()}+{b64encode(_ED25519 + raw).decode()}"
        self._key = key

    @classmethod
    def of(cls, vkey: str) -> "Verifier":
        """The verifier of a written key; raises InvalidNote where it is none of an Ed25519 key."""
        name, _, rest = vkey.partition("+")
        key_id, _, encoded = rest.partition("+")
        raw = _base64(encoded)
        if not re.fullmatch(r"[^\s+]+", name) or raw[:1] != _ED25519 or len(raw) != 33:
            raise InvalidNote(f"{vkey[:200]!r} is no key like name+id+key of Ed25519")
        verifier = cls(name, Ed25519PublicKey.from_public_bytes(raw[1:]))
        if verifier.key_id.hex() != key_id:
            raise InvalidNote(f"the id in {vkey[:200]!r} is not that of its key")
        return verifier

    def open(self, note: str) -> str:
        """The text of a note that this key signed; signatures of others, such as witnesses, may stand beside.

        Raises InvalidNote where there is no signature of this key, or a wrong one.
        """
        text, lines = _parted(note)
        ours = [
            signature
            for name, signature in lines
            if name == self.name and signature[:_KEY_ID_BYTES] == self.key_id
        ]
        if not ours:
            raise InvalidNote(f"it is not signed by {self.name}")
        for signature in ours:
            try:
                self._key.verify(signature[_KEY_ID_BYTES:], text.encode())
            except InvalidSignature:
                raise InvalidNote(f"the signature of {self.name} is not of this text") from None
        return text


class Signer:
    """Signs notes under a name, which is also the origin of the log that it signs."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.verifier = Verifier(name, key.public_key())
        self.name = name
        self._key = key

    def sign(self, text: str) -> str:
        """The note of `text`, which ends with a line feed. The same text gives the same note, always."""
        signature = b64encode(self.verifier.key_id + self._key.sign(text.encode())).decode()
        return f"{text}\n\u2014 {self.name} {signature}\n"


def checkpoint_of(text: str) -> Checkpoint:
    """The checkpoint in a note's text; raises InvalidNote where it is none. Extension lines are passed over."""
    found = _CHECKPOINT.fullmatch(text)
    if found is None:
        raise InvalidNote("it is no checkpoint: origin, size and root hash, a line each")
    return Checkpoint(found[1], int(found[2]), _base64(found[3]))


def log_checkpoint(note: str, verifier: Verifier) -> Checkpoint:
    """The checkpoint that a note is of the very log that the key is named after; raises InvalidNote where it is
    of another one, such as of receipts, which the same key signs."""
    checkpoint = checkpoint_of(verifier.open(note))
    if checkpoint.origin != verifier.name:
        raise InvalidNote(f"it is not of {verifier.name}, but of {checkpoint.origin}")
    return checkpoint


def _parted(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The text, and the name and bytes of each signature."""
    text, blank, signatures = note.rpartition("\n\n")
    lines = _SIGNATURE.findall(signatures)
    if not blank or not lines or not _SIGNATURE.sub("", signatures) == "":
        raise InvalidNote("it is no signed note: a text, an empty line, and lines of signatures")
    if any(ord(letter) < 0x20 and letter != "\n" for letter in note):
        raise InvalidNote("a note has no control characters")
    return text + "\n", [(name, _base64(encoded)) for name, encoded in lines]


def _base64(encoded: str) -> bytes:
    try:
        decoded = b64decode(encoded, validate=True)
    except (NotBase64, ValueError):
        raise InvalidNote(f"{encoded[:80]!r} is not base64") from None
    if (
        b64encode(decoded).decode() != encoded
    ):  # bits to spare that are not zero: a second way to write the same
        raise InvalidNote(f"{encoded[:80]!r} is not base64 as it should be")
    return decoded
