"""The machine under scripts/bench: processes that are sure to end, memory, and what the figures depend on."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]

from ledger.file_system import file_system_of

ROOT: Final = Path(__file__).resolve().parent.parent
_STOP_TIMEOUT_S: Final = 40


@contextmanager
def started(command: list[str], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """A process that has ended, children included, when the block is left, however it is left.

    Ctrl-C reaches this program alone, because every process it starts is in a session of its own.
    """
    process: subprocess.Popen[Any] = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **options)
    try:
        yield process
    finally:
        family = [*children(process.pid), process.pid] if process.poll() is None else []
        process.terminate()
        try:
            # Interrupted, nobody cares for what is in flight.
            process.wait(_STOP_TIMEOUT_S if sys.exc_info()[0] is None else 5)
        except subprocess.TimeoutExpired:
            print(f"process {process.pid} does not end: killed", file=sys.stderr)
        finally:  # a second Ctrl-C comes here too
            if process.poll() is None:
                for pid in family:
                    _kill(pid)
                process.wait()


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that still run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def memory_mib(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return kib["Rss"] / 1024, kib["Pss"] / 1024


def conditions(directory: Path) -> dict[str, object]:
    """What a reader needs to know of the machine and of the disk that holds `directory`."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release().partition("-")[0],
        "file_system": file_system(directory),
        "syncs": f"{_syncs_per_second(directory):,.0f}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "gunicorn": version("gunicorn"),
        "falcon": version("falcon"),
    }


def file_system(directory: Path) -> str:
    return file_system_of(directory, Path("/proc/self/mountinfo").read_text())


def _syncs_per_second(directory: Path) -> float:
    """How often 4 KiB more can be written and fdatasync called, within a second."""
    count, begun = 0, time.perf_counter()
    with (directory / "syncs").open("wb", buffering=0) as file:
        while time.perf_counter() - begun < 1:
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            count += 1
    return count / (time.perf_counter() - begun)
