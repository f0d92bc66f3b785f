"""What the commands of `credit-ledger` share: how they find the ledger, fail, show progress and read a time."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from api.incoming import moment_us
from api.settings import SettingError, data_directory, ledger_path
from ledger.directory import settle
from ledger.errors import LedgerFault
from ledger.sqlite import UNREADABLE

# Exit statuses: 0 good, 1 wrong or refused, 2 the command line itself was wrong (click's own).
WRONG: Final = 1

# The type of an option that names a file to be read.
FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


class Failure(click.ClickException):
    """Something the operator can act on: said in one sentence, exit status 1."""

    exit_code = WRONG


@contextmanager
def the_ledger() -> Iterator[Path]:
    """The ledger's path; what goes wrong with it, or with the files beside it, becomes one sentence."""
    try:
        settle(data_directory())  # or what is written now would be moved aside by the next start
        yield ledger_path(data_directory())
    except (LedgerFault, SettingError) as fault:
        raise Failure(str(fault)) from None
    except BrokenProcessPool:
        raise Failure(
            "a process that read the ledger for this one was killed, perhaps for want of memory: run it again"
        ) from None
    except BrokenPipeError:
        raise  # whoever read the output went away, which click knows
    except OSError as error:
        raise Failure(f"cannot use {error.filename or 'a file'}: {error.strerror or error}") from None
    except UNREADABLE as error:
        raise Failure(
            f"a database in {data_directory()} cannot be used: {error}; see credit-ledger audit"
        ) from None


def text_in(path: Path) -> str:
    """The text of a file that was named on the command line."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read {path}: {error}") from None


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error where that is a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    bar: Any = click.progressbar(length=1, label=label, file=sys.stderr)
    with bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield show


class _Moment(click.ParamType[int]):
    """A time with an offset, as microseconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        moment = moment_us(value)
        if moment is None:
            self.fail(f"{value!r} is not a time with an offset, such as 2026-11-22T18:00:00Z", param, ctx)
        return moment


MOMENT: Final = _Moment()
