"""Thousands of secrets searched for at once: in files, in answers, in the memory of a process."""

import re
import sys
from array import array
from base64 import b64decode, urlsafe_b64decode
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

_WORD: Final = 8
# So long a needle has a whole word in it that begins at a multiple of 8, wherever it lies.
_SHORTEST: Final = 2 * _WORD - 1
_CHUNK_BYTES: Final = 16 * 2**20


class Secrets:
    """What must not be found. Each is sought as text, quoted as in an address, and as the bytes that it
    stands for; of what is long each half is sought, so that no piece of 32 characters stays unseen."""

    def __init__(self) -> None:
        self._of_word: defaultdict[int, set[bytes]] = defaultdict(set)
        self._known: dict[bytes, tuple[str, str]] = {}
        self.count = 0

    def add(self, kind: str, secret: str) -> None:
        """`kind` is how a found one is called; the secret itself is never shown."""
        self.count += 1
        forms = {secret.encode(), quote(secret, safe="").encode(), _decoded(secret)}
        for form in forms:
            half = len(form) // 2
            pieces = [form[:half], form[half:]] if half >= _SHORTEST else [form]
            for piece in pieces:
                if len(piece) < _SHORTEST:
                    continue
                self._known[piece] = kind, secret
                for start in range(_WORD):
                    word = int.from_bytes(piece[start : start + _WORD], sys.byteorder)
                    self._of_word[word].add(piece)

    def found_in(self, content: bytes) -> set[tuple[str, str]]:
        """Kind and text of every secret of which at least a half is in `content`."""
        words = array("Q", content + bytes(-len(content) % _WORD))
        met = self._of_word.keys() & words
        pieces = {piece for word in met for piece in self._of_word[word]}
        return {self._known[piece] for piece in pieces if piece in content}


def _decoded(secret: str) -> bytes:
    """The bytes that hexadecimal digits or base64 stand for; nothing where it is neither."""
    if re.fullmatch(r"(?:[0-9a-f]{2}){16,}", secret):
        return bytes.fromhex(secret)
    if re.fullmatch(r"[A-Za-z0-9+/]{22}==", secret):
        return b64decode(secret)
    return urlsafe_b64decode(secret + "=") if re.fullmatch(r"[A-Za-z0-9_-]{43}", secret) else b""


def memory_of(pid: int) -> Iterator[bytes]:
    """All that a process has written in its memory, which is what its core file would hold, in pieces that
    overlap; PermissionError where that may not be read."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps.splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found is None or "[v" in line:  # [vvar] and [vsyscall] are the kernel's
                continue
            start, end = int(found[1], 16), int(found[2], 16)
            for at in range(start, end, _CHUNK_BYTES):
                memory.seek(at)
                try:
                    yield memory.read(min(_CHUNK_BYTES + 64, end - at))
                except OSError:  # the region went away meanwhile
                    break
