"""Which file system a directory is on: a write-ahead log needs one that a single host mounts."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.errors import LedgerUnusable
from ledger.file_system import file_system_of, refuse_network_file_system
from tests.ledger_processes import ROOT

# id, parent, device, root, mount point, options - type, source, options: see proc_pid_mountinfo(5).
MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
30 22 8:2 / /srv rw,relatime shared:2 master:1 - xfs /dev/sda2 rw
31 30 0:40 / /srv/team rw,relatime - nfs4 filer:/team rw,vers=4.2
32 31 8:3 / /srv/team/fast rw,relatime - btrfs /dev/sdb1 rw
33 22 0:41 / /mnt/my\040files rw,relatime - cifs //filer/x rw
34 22 0:42 / /mnt/a\134b\011c rw,relatime - 9p host rw,trans=virtio
35 22 0:43 / /home/me/cloud rw,nosuid - fuse.sshfs me@host:/ rw
36 22 0:44 / /mnt/数据 rw,relatime - nfs filer:/data rw
37 22 8:4 / /covered/by/deeper rw,relatime - nfs4 filer:/old rw
38 22 8:5 / /covered rw,relatime - ext4 /dev/sdc1 rw
39 22 8:6 / /data/ledger rw,relatime - ext4 /dev/sdd1 rw
40 22 0:45 / /data rw,relatime - nfs4 filer:/data rw
41 22 8:7 / /twice rw,relatime - ext4 /dev/sde1 rw
42 41 0:46 / /twice rw,relatime - virtiofs share rw
43 22 0:47 / /quoted#\043 rw,relatime - ceph a:/ rw
""".strip()

PLACES = {
    "/": "ext4",
    "/var/lib/credit": "ext4",
    "/srv": "xfs",
    "/srv/ledger": "xfs",
    "/srv/team": "nfs4",
    "/srv/team/ledger": "nfs4",
    "/srv/teams": "xfs",
    "/srv/team/fast/ledger": "btrfs",
    "/srv/team/../ledger": "xfs",
    "/mnt/my files/ledger": "cifs",
    "/mnt/my": "ext4",
    "/mnt/a\\b\tc/ledger": "9p",
    "/mnt/数据/ledger": "nfs",
    "/home/me/cloud/ledger": "fuse.sshfs",
    "/quoted##": "ceph",
    # What was mounted later covers what was there, at the same point or above it.
    "/twice/ledger": "virtiofs",
    "/data/ledger": "nfs4",
    "/covered/by/deeper": "ext4",
}


@pytest.mark.parametrize(("directory", "kind"), PLACES.items())
def test_the_file_system_of_a_directory_is_that_of_the_mount_which_shows_there(
    directory: str, kind: str
) -> None:
    assert file_system_of(Path(directory), MOUNTS) == kind


def test_a_symbolic_link_is_followed_to_where_it_leads(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/srv/team")
    assert file_system_of(link / "ledger", MOUNTS) == "nfs4"


def test_the_first_of_all_mounts_is_its_own_parent_and_ends_the_walk() -> None:
    mounts = "1 1 0:2 / / rw - rootfs rootfs rw\n22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    assert file_system_of(Path("/srv"), mounts) == "ext4"
    assert file_system_of(Path("/srv"), mounts.splitlines()[0]) == "rootfs"


def test_without_a_matching_mount_the_file_system_is_unknown() -> None:
    assert file_system_of(Path("/srv"), "") == "unknown"
    assert file_system_of(Path("/srv"), "30 22 8:2 / /other rw - xfs /dev/sda2 rw\n") == "unknown"


def test_the_file_system_of_the_tests_is_the_one_that_stat_names(tmp_path: Path) -> None:
    asked = subprocess.run(
        ["findmnt", "--noheadings", "--output", "FSTYPE", "--target", tmp_path], capture_output=True, text=True
    )
    if asked.returncode:
        pytest.skip("findmnt is missing: this machine's own mounts were NOT compared")
    kind = file_system_of(tmp_path, Path("/proc/self/mountinfo").read_text())
    assert kind == asked.stdout.splitlines()[-1].strip()
    refuse_network_file_system(tmp_path)


# Mounts a file system in a mount namespace of its own, which ends with the process. A fuse file system whose
# server has gone answers no request, but it is mounted, and that is all that may be looked at.
MOUNT_AND_LOOK = """
import ctypes, os, sys
from pathlib import Path
from ledger.errors import LedgerUnusable
from ledger.file_system import refuse_network_file_system

mount = ctypes.CDLL(None, use_errno=True).mount
kind, where = sys.argv[1], Path(sys.argv[2])
options = b""
if kind.startswith("fuse"):
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
if mount(b"there", bytes(where), kind.encode(), 0, options):
    sys.exit(f"cannot mount {kind}: {os.strerror(ctypes.get_errno())}")
if kind.startswith("fuse"):
    os.close(server)
for directory in (where, where / "below"):
    try:
        refuse_network_file_system(directory)
        print("accepted")
    except LedgerUnusable as refusal:
        print(refusal)
"""


@pytest.mark.parametrize(("kind", "refused"), [("fuse", True), ("fuse.sshfs", True), ("tmpfs", False)])
@pytest.mark.parametrize("name", ["plain", "with space", "数据"])
def test_a_real_mount_is_recognised(tmp_path: Path, kind: str, refused: bool, name: str) -> None:
    where = tmp_path / name
    where.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("unshare is missing: no real mount was tried")
    looked = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", MOUNT_AND_LOOK, kind, where],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if looked.returncode:
        pytest.skip(f"no real mount was tried: {looked.stderr.strip().splitlines()[-1]}")
    sentence = f"is on {kind}: SQLite's write-ahead log needs a local disk; set CREDIT_DATA to one"
    expected = [f"{where} {sentence}", f"{where / 'below'} {sentence}"] if refused else ["accepted"] * 2
    assert looked.stdout.splitlines() == expected


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "fuse", "fuse.sshfs"]
)
def test_a_file_system_that_hosts_share_is_refused_naming_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """By the table, where this machine cannot mount one: the text it would read is given instead."""
    mounts = f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / {tmp_path} rw - {kind} there rw\n"
    monkeypatch.setattr(Path, "read_bytes", lambda path: mounts.encode())
    monkeypatch.setattr(Path, "read_text", lambda path, **_: mounts)
    with pytest.raises(LedgerUnusable, match=f"{tmp_path} is on {kind}: .* set CREDIT_DATA"):
        refuse_network_file_system(tmp_path)
