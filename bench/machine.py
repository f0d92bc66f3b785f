"""The machine under the benchmark: processes that are sure to end, memory, and what the figures depend on."""

import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]

from ledger.file_system import file_system_of

ROOT: Final = Path(__file__).resolve().parent.parent
_STOP_TIMEOUT_S: Final = 40
_SAMPLE_S: Final = 0.02
_kept_ports: Final[list[socket.socket]] = []


class Failed(click.ClickException):
    """The benchmark measured nothing that could be believed."""


class Run(msgspec.Struct, frozen=True):
    """One command from its start to its end, and the memory of its largest process."""

    seconds: float
    mib: float


@contextmanager
def started(
    command: list[str],
    environ: Mapping[str, str] | None = None,
    stop_timeout_s: float = _STOP_TIMEOUT_S,
    **options: Any,
) -> Iterator["subprocess.Popen[Any]"]:
    """A process that has ended, children included, when the block is left, however it is left.

    Ctrl-C reaches this program alone, because every process it starts is in a session of its own.
    """
    process: subprocess.Popen[Any] = subprocess.Popen(
        command,
        env={**_environ(), **(environ or {})},
        start_new_session=True,
        **{"cwd": ROOT, **options},
    )
    try:
        yield process
    finally:
        family = [*children(process.pid), process.pid] if process.poll() is None else []
        process.terminate()
        try:
            # Interrupted, nobody cares for what is in flight.
            process.wait(stop_timeout_s if sys.exc_info()[0] is None else 5)
        except subprocess.TimeoutExpired:
            print(f"process {process.pid} does not end: killed", file=sys.stderr)
        finally:  # a second Ctrl-C comes here too
            if process.poll() is None:
                for pid in family:
                    _kill(pid)
                process.wait()


def _environ() -> dict[str, str]:
    """This program's, without what has every process compile its modules anew: no deployment has that."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_to_end(
    command: list[str], says: str, environ: Mapping[str, str] | None = None, *, one_core: bool = False
) -> Run:
    """Run a command; Failed where it ends badly or does not say `says`. `one_core` keeps it to one."""
    if one_core:
        command = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), *command]
    begun, most_mib, output = time.perf_counter(), 0.0, None
    with started(command, environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while output is None:
            # Not what wait4 says: in that is the memory of whoever started it, this program.
            most_mib = max(most_mib, *(_peak_mib(pid) for pid in (process.pid, *children(process.pid))))
            with suppress(subprocess.TimeoutExpired):
                output = process.communicate(timeout=_SAMPLE_S)[0].decode(errors="replace")
    if process.returncode or says not in output:
        raise Failed(f"{' '.join(command)}:\n{output[-2000:]}")
    return Run(time.perf_counter() - begun, most_mib)


def _peak_mib(pid: int) -> float:
    """The most memory that a process had so far; 0 for one that is gone, or not yet what it is to be."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(found.group(1)) / 1024 if found else 0.0


def credit_ledger(data: Path, says: str, *arguments: str, one_core: bool = False) -> Run:
    """Run `credit-ledger` on that data as an operator does."""
    command = [sys.executable, "-P", "-m", "scripts.credit_ledger", *arguments]
    return run_to_end(command, says, {"CREDIT_DATA": str(data)}, one_core=one_core)


def cache_directory() -> Path:
    """Where what is installed and made once is kept, outside of the checkout."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "credit-ledger-bench"


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that still run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def awaits(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for that signal, and its first thread sleeps."""
    fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    handled = int(fields["SigCgt"], 16) >> (number - 1) & 1
    return bool(handled) and fields["State"].startswith("S")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def free_port() -> int:
    """A port of 127.0.0.1 that is given to nobody else while this program runs.

    It stays bound here, without listening: a server that sets SO_REUSEADDR, as they all do, can listen on it,
    and listen again after a restart, while the kernel chooses it for no other server and for no connection.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    _kept_ports.append(kept)
    return int(kept.getsockname()[1])


def cores() -> int:
    return len(os.sched_getaffinity(0))


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
        "cores": cores(),
        "load_before": round(os.getloadavg()[0], 2),
        "kernel": platform.release().partition("-")[0],
        "file_system": file_system(directory),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "gunicorn": version("gunicorn"),
        "falcon": version("falcon"),
    }


def file_system(directory: Path) -> str:
    return file_system_of(directory, Path("/proc/self/mountinfo").read_text())


def find_wrk() -> None:
    """Install wrk where that can be done; Failed where it cannot be had."""
    if shutil.which("wrk"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        click.echo("Installing wrk, the load generator ...", err=True)
        for step in (["update", "-qq"], ["install", "-qq", "-y", "wrk"]):
            subprocess.run(["apt-get", *step], stdout=subprocess.DEVNULL, check=False)
    if not shutil.which("wrk"):
        raise Failed("wrk, the load generator, is not installed. On Debian: sudo apt-get install wrk")
