"""Which file system a directory is on, and that it is one which SQLite's write-ahead log can live on."""

import os
import re
from pathlib import Path
from typing import Final

from ledger.errors import LedgerUnusable

# One host only: WAL keeps its index in shared memory, and these do not lock as a local disk does.
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "afs", "ceph", "glusterfs", "lustre", "ocfs2"}
)


def refuse_network_file_system(directory: Path) -> None:
    """Raise LedgerUnusable when `directory` lies on a file system shared by hosts, or on fuse."""
    kind = file_system_of(directory, os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))
    if kind in _NETWORK_FILE_SYSTEMS or kind.startswith("fuse"):
        raise LedgerUnusable(
            f"{directory} is on {kind}: SQLite's write-ahead log needs a local disk; set CREDIT_DATA to one"
        )


def file_system_of(directory: Path, mountinfo: str) -> str:
    """The type of the file system that holds `directory`, read from /proc/self/mountinfo (see proc(5)).

    Walks from the root mount into the mounts on the way, as the kernel does: what is mounted on a mount, or
    above one, covers it, so neither the deepest nor the last mount point is always the one that shows.
    """
    resolved = directory.resolve()
    mounts: dict[str, list[tuple[Path, str, str]]] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        mount, parent, _, _, escaped, *_ = before.split()
        # Spaces, line feeds and backslashes are written in octal, all else as it is.
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), escaped))
        # The first of all mounts is its own parent.
        mounts.setdefault("" if parent == mount else parent, []).append((point, mount, after.split()[0]))
    children = {mount for inside in mounts.values() for _, mount, _ in inside}
    on_the_way = [found for parent in mounts.keys() - children for found in mounts[parent]]
    kind = "unknown"
    while reached := [found for found in on_the_way if resolved.is_relative_to(found[0])]:
        _, mount, kind = min(reached, key=lambda found: len(found[0].parts))
        on_the_way = mounts.get(mount, [])
    return kind
