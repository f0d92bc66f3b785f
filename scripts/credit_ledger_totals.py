"""`credit-ledger totals`: what was issued and what became of it, over all accounts, by reason and by day."""

import unicodedata
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, Final

import click
import msgspec

from ledger import totals as totalling
from ledger.committer import microseconds_now
from ledger.statement import rfc3339
from ledger.totals import Day, Totals
from scripts.credit_ledger_terminal import MOMENT, Failure, progress_bar, the_ledger

_EPOCH: Final = date(1970, 1, 1)
# Of a reason, which has 200 characters at most; --json has all of it.
_REASON_COLUMNS: Final = 40
_REASON_MOST: Final = 200  # one in an imported ledger can have any number


@click.command()
@click.option("--as-of", "as_of_us", type=MOMENT, help="As reads at this moment found it (default: now).")
@click.option(
    "--by",
    default="all",
    show_default=True,
    type=click.Choice(["reason", "day", "all"]),
    help="Which tables to print below the totals.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def totals(as_of_us: int | None, by: str, as_json: bool) -> None:
    """Print what was issued, redeemed, expired and revoked, and what is left, over all accounts.

    Issued is what was granted; redeemed what was spent or captured, less reversals; expired is the breakage;
    outstanding can be spent, and held is in open holds. Issued is always the sum of the others.

    By reason, a grant's counts for what was issued, and for what expired or was revoked of it; a spend's or a
    capture's for what was redeemed. A day is one in Shanghai; outstanding and held are as at its end.

    \b
    Example:
      credit-ledger totals --as-of 2026-12-31T16:00:00Z --by reason
    """
    now_us = microseconds_now()
    if as_of_us is not None and as_of_us > now_us:
        raise Failure("--as-of must not be in the future")
    with the_ledger() as path, progress_bar("Adding up") as progress:
        found = totalling.totals(path, now_us, as_of_us, progress)
    moment = rfc3339(now_us if as_of_us is None else as_of_us)
    if as_json:
        click.echo(msgspec.json.encode(_view(found, moment, by)).decode())
        return
    click.echo(f"{found.accounts:,} accounts and {found.events:,} events as of {moment}\n")
    click.echo("\n".join(_summary(found)))
    if by != "day":
        click.echo("\n" + "\n".join(_reasons(found)))
    if by != "reason":
        click.echo("\n" + "\n".join(_days(found)))


def _view(found: Totals, moment: str, by: str) -> dict[str, Any]:
    view: dict[str, Any] = {"as_of": moment, "accounts": found.accounts, "events": found.events}
    view |= {name: getattr(found, name) for name in Day.__struct_fields__}
    if by != "day":
        view["by_reason"] = [
            {"reason": reason, **msgspec.to_builtins(flow)} for reason, flow in found.reasons_by_size()
        ]
    if by != "reason":
        view["by_day"] = [{"day": _date(day), **msgspec.to_builtins(at)} for day, at in found.at_ends_of_days()]
    return view


def _summary(found: Totals) -> list[str]:
    names = ("issued", "redeemed", "expired", "revoked", "outstanding", "held")
    return _table(
        ["", "credits", "of issued"],
        [[name, f"{getattr(found, name):,}", _rate(getattr(found, name), found.issued)] for name in names],
    )


def _reasons(found: Totals) -> list[str]:
    return _table(
        ["reason", "issued", "expired", "of issued", "revoked", "redeemed", "of all"],
        [
            [
                _cut(reason),
                f"{flow.issued:,}",
                f"{flow.expired:,}",
                _rate(flow.expired, flow.issued),
                f"{flow.revoked:,}",
                f"{flow.redeemed:,}",
                _rate(flow.redeemed, found.issued),
            ]
            for reason, flow in found.reasons_by_size()
        ],
    )


def _days(found: Totals) -> list[str]:
    names = Day.__struct_fields__
    return _table(
        ["day", *names],
        [[_date(day), *(f"{getattr(at, name):,}" for name in names)] for day, at in found.at_ends_of_days()],
    )


def _rate(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if part and whole else "-"


def _date(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).isoformat()


def _table(heads: list[str], rows: Sequence[list[str]]) -> list[str]:
    """Lines of columns, all but the first right-aligned."""
    widths = [max(_width(line[column]) for line in [heads, *rows]) for column in range(len(heads))]
    return [
        "  ".join(
            text + _gap(text, width) if column == 0 else _gap(text, width) + text
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [heads, *rows]
    ]


def _gap(text: str, width: int) -> str:
    return " " * (width - _width(text))


def _width(text: str) -> int:
    """How many columns of a terminal it takes: Chinese characters take two, combining ones none."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(reason: str) -> str:
    """A reason on one line, as wide as a column: what would move the cursor is shown as an escape."""
    plain = "".join(
        character if character.isprintable() or character == "\u200d" else ascii(character)[1:-1]
        for character in reason[:_REASON_MOST]
    )
    if _width(plain) <= _REASON_COLUMNS:
        return plain
    while _width(plain) >= _REASON_COLUMNS:
        plain = plain[:-1]
    return plain + "…"
