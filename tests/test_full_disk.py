"""A disk without space: reads go on, writes are refused and lose nothing, and space brings all of it back."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.verify import audit
from tests.conftest import Service


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system could NOT be mounted: it takes root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Take every free block of `disk` with one file."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            for size in (2**20, 4096):
                while True:
                    try:
                        file.write(b"x" * size)
                    except OSError:
                        if size == 4096:
                            return ballast
                        break
        finally:
            file.flush()
    return ballast


def test_a_full_disk_stops_writes_only_and_loses_nothing(
    new_service: Callable[..., Service], small_disk: Path
) -> None:
    service = new_service(small_disk / "data")
    token = service.login("alice")
    workers = set(service.worker_pids())
    ballast = fill(small_disk)

    for number in range(5):
        refused = service.post_login(f"dev-bob-{number}").json()
        assert refused["code"] in ("not-committed", "outcome-unknown")
        assert refused["err"]
    for _ in range(20):
        assert service.credit(token) == {"credit": 100}
    assert service.get("/healthz").status_code == 200
    assert service.get("/readyz").status_code == 503, "a file that cannot be written is not ready"
    assert set(service.worker_pids()) == workers, "no worker died of it"

    ballast.unlink()
    bob = service.login("bob")
    assert service.credit(bob) == service.credit(token) == {"credit": 100}
    assert service.get("/readyz").status_code == 200
    assert service.stop() == 0
    report = audit(service.data / "ledger.db")
    assert report.good, report.faults
    assert report.accounts == 2
