"""The guards of the product, each with the part of the suite that finds it gone.

`scripts/torture --guards` takes each in turn from a copy of the checkout and runs that part: it must fail.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import msgspec

from tests.conftest import ROOT

_FOLDERS: Final = ("ledger", "api", "scripts", "tests")
_TIMEOUT_S: Final = 600
_BROKEN: Final = re.compile(r"^ *BROKEN: (.+)$", re.MULTILINE)


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of `file`, the text that a guard is, and what stands there when it is removed."""

    file: str
    old: str
    new: str


class Guard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A guard in words, and what removes it.

    The part of the suite named then must find a promise broken, from that seed, in its first rounds: as many as
    begin within so many minutes; or in that `round` alone.
    """

    name: str
    part: str
    changes: list[Change]
    seed: str = "guard"
    minutes: float = 0.5
    round: int | None = None


class Failed(NamedTuple):
    """What the suite said with a guard removed; None where it found nothing."""

    guard: Guard
    said: str | None


def guards() -> list[Guard]:
    """All of them, as tests/torture/guards.toml has them."""
    text = Path(__file__).with_name("guards.toml").read_bytes()
    return msgspec.toml.decode(text, type=dict[str, list[Guard]])["guard"]


def without_each(chosen: list[Guard], scratch: Path) -> Iterator[Failed]:
    """Run the suite without each guard in turn."""
    for guard in chosen:
        with TemporaryDirectory(prefix="torture-guard-", dir=scratch) as name:
            checkout = Path(name) / "checkout"
            for folder in _FOLDERS:
                shutil.copytree(
                    ROOT / folder,
                    checkout / folder,
                    ignore=shutil.ignore_patterns("node_modules", "__pycache__"),
                )
            for change in guard.changes:
                path = checkout / change.file
                path.write_text(removed(path.read_text(), change))
            yield Failed(guard, _said(checkout, guard, Path(name)))


def removed(text: str, change: Change) -> str:
    """The text of the file without the guard; raises ValueError where it is not there."""
    if change.old not in text:
        raise ValueError(f"{change.file} has no {change.old!r}")
    return text.replace(change.old, change.new)


def _said(checkout: Path, guard: Guard, scratch: Path) -> str | None:
    options = ["--stop", "--part", guard.part, "--minutes", str(guard.minutes), "--seed", guard.seed]
    options += [] if guard.round is None else ["--round", str(guard.round)]
    process = subprocess.run(
        [sys.executable, "-P", "-m", "tests.torture", *options, "--scratch", str(scratch)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    found = _BROKEN.search(process.stdout)
    return None if found is None else found.group(1)  # a suite that only crashed has found nothing
