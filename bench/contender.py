"""What people would pick instead: how each is installed, and how it is started.

Each has a folder in bench/contenders with its program and a lock file. What the lock names is installed into a
cache directory, never into the product's .venv; one that cannot be installed is left out of the run.
"""

import fcntl
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

import click
import msgspec

from bench.machine import ROOT, cores, free_port, started
from bench.server import Server
from scripts import sandbox_wechat

FOLDER: Final = ROOT / "bench" / "contenders"
API_KEY: Final = "bench-key"
# What a new user of a contender has: enough to be spent from for as long as anybody measures.
SIGNUP_CREDIT: Final = 10**9
_CREATE: Final = "from server import Table, engine; Table.metadata.create_all(engine)"
_STOP_TIMEOUT_S: Final = 5
_INSTALL_TIMEOUT_S: Final = 900


class NotInstalled(Exception):
    """A contender cannot be had here; the message says why."""


class Contender(msgspec.Struct, frozen=True):
    """One of them: its folder, the language whose packages it needs, and the work that it can do."""

    name: str
    folder: str
    node: bool
    works: tuple[str, ...]

    @property
    def source(self) -> Path:
        return FOLDER / self.folder


HTTP_CONTENDERS: Final = (
    Contender("express-memory", "express_memory", True, ("credit", "login", "login-cold")),
    Contender("express-sqlite", "express_sqlite", True, ("credit", "login", "login-cold", "grant")),
    Contender(
        "fastapi",
        "fastapi_sqlalchemy",
        False,
        ("credit", "login", "login-cold", "grant", "spend", "mixed"),
    ),
)
EVENTSOURCING: Final = Contender("eventsourcing", "eventsourcing_sqlite", False, ())
CONTENDERS: Final = (*HTTP_CONTENDERS, EVENTSOURCING)


def installed(contender: Contender, packages: Path) -> Path:
    """The directory with its packages, installed there if they were not; raises NotInstalled."""
    lock = contender.source / ("package-lock.json" if contender.node else "requirements.lock")
    version = _version_of("node") if contender.node else platform.python_version()
    stamp = sha256(lock.read_bytes() + version.encode()).hexdigest()
    place = packages / contender.name
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # two benchmarks at once must not install over each other
        mark = place / "installed"
        if not mark.exists() or mark.read_text() != stamp:
            mark.unlink(missing_ok=True)
            click.echo(f"Installing {contender.name} into {place} (once) ...", err=True)
            _install_node(contender, place) if contender.node else _install_python(lock, place)
            mark.write_text(stamp)
    return place


@contextmanager
def contending(contender: Contender, packages: Path, directory: Path, wechat_api: str) -> Iterator[Server]:
    """The contender's server on a port of its own, its files in `directory`, until the block is left."""
    place = installed(contender, packages)
    data = directory / contender.name
    data.mkdir(exist_ok=True)
    port = free_port()
    environ = {
        "PORT": str(port),
        "DATA": str(data),
        "PROCESSES": str(cores()),
        "API_KEY": API_KEY,
        "SIGNUP_CREDIT": str(SIGNUP_CREDIT),
        "NODE_ENV": "production",
        "NODE_PATH": str(place / "node_modules"),
        "WECHAT_API": wechat_api,
        "WECHAT_APPID": sandbox_wechat.APPID,
        "WECHAT_SECRET": sandbox_wechat.SECRET,
    }
    with (directory / f"{contender.name}.log").open("ab") as log:
        command = _command(contender, place, port, environ)
        # One that was overrun may finish what waits for its lock for long after nobody waits for it.
        with started(
            command, environ, _STOP_TIMEOUT_S, cwd=contender.source, stdout=log, stderr=log
        ) as process:
            server = Server(contender.name, contender.works, port, process, data, Path(log.name))
            server.api_key = API_KEY
            server.wait_until_it_answers()
            yield server


def _command(contender: Contender, place: Path, port: int, environ: Mapping[str, str]) -> list[str]:
    if contender.node:
        return ["node", "server.js"]
    python = str(python_of(place))
    if not (Path(environ["DATA"]) / "credit.db").exists():
        # Once, before the workers: two that make tables at once get in each other's way.
        _run([python, "-c", _CREATE], contender.source, environ)
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", str(cores())]
    return [python, "-m", "uvicorn", "server:app", *options, "--no-access-log", "--log-level", "warning"]


def python_of(place: Path) -> Path:
    return place / "venv" / "bin" / "python"


def _install_node(contender: Contender, place: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(contender.source / name, place)
    _run(["npm", "ci", "--no-audit", "--no-fund", "--no-update-notifier"], place)
    # Compiled packages can be there and not load.
    wanted = msgspec.json.decode((place / "package.json").read_bytes())["dependencies"]
    _run(["node", "-e", "".join(f"require('{name}');" for name in wanted)], place)


def _install_python(lock: Path, place: Path) -> None:
    _run([sys.executable, "-m", "venv", "--clear", "venv"], place)
    options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
    _run([str(python_of(place)), "-m", "pip", "install", *options, "-r", str(lock)], place)


@cache
def _version_of(program: str) -> str:
    return _run([program, "--version"], ROOT)


def _run(command: list[str], where: Path, environ: Mapping[str, str] | None = None) -> str:
    """Its output; NotInstalled where it does not end well."""
    said = " ".join([Path(command[0]).name, *command[1:4]])
    try:
        with started(
            command, environ, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            output = process.communicate(timeout=_INSTALL_TIMEOUT_S)[0]
    except FileNotFoundError:
        raise NotInstalled(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{said} took over {_INSTALL_TIMEOUT_S} s") from None
    if process.returncode:
        last = (output.strip().splitlines() or ["it said nothing"])[-1]
        raise NotInstalled(f"{said} failed: {last[:300]}")
    return str(output)
