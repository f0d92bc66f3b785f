"""The page of an audit: one HTML file that needs no other, no script and no network, to be read or printed."""

from html import escape
from typing import Final

from ledger.fault import Fault
from ledger.statement import rfc3339
from ledger.verify import Report
from scripts.audit_chart import Point, chart, points_of

_SHOWN: Final = 1000
# Colours that people who do not see red or green tell apart (Okabe and Ito), darker on white; and dashes.
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --rule: #d0d7de; --paper: #fff;
  --panel: #f6f8fa;
  --good: #00644a; --bad: #a33c00; --outstanding: #00558c; --issued: #007355; --spent: #b34700;
  --expired: #8f3f74;
  --revoked: #57606a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9da7b3; --rule: #3b434c;
  --paper: #0d1117;
  --panel: #161b22; --good: #4cc9a0; --bad: #ff9d5c; --outstanding: #6cb6ff; --issued: #4cc9a0;
  --spent: #ffa657;
  --expired: #e2a0cc; --revoked: #9da7b3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.25rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "PingFang SC", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.when, .note { color: var(--soft); }
.verdict { border-left: .35rem solid; padding: .75rem 1rem; background: var(--panel); font-size: 1.15rem;
  font-weight: 600; }
.good { color: var(--good); }
.bad { color: var(--bad); }
.wide { overflow-x: auto; }
p { overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; color: var(--soft); }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0;
  border-bottom: 1px solid var(--rule); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.where, td.detail { overflow-wrap: anywhere; }
td.what { white-space: nowrap; }
pre { background: var(--panel); padding: .75rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: .85rem; }
.chart { overflow-x: auto; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); }
svg text.axis { fill: var(--soft); }
.grid { stroke: var(--rule); }
.line { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
.line.outstanding { stroke: var(--outstanding); stroke-width: 3.5; }
.line.issued { stroke: var(--issued); }
.line.spent { stroke: var(--spent); stroke-dasharray: 9 4; }
.line.expired { stroke: var(--expired); stroke-dasharray: 3 3; }
.line.revoked { stroke: var(--revoked); stroke-dasharray: 12 3 3 3; }
.dot.outstanding, svg text.label.outstanding { fill: var(--outstanding); }
.dot.issued, svg text.label.issued { fill: var(--issued); }
.dot.spent, svg text.label.spent { fill: var(--spent); }
.dot.expired, svg text.label.expired { fill: var(--expired); }
.dot.revoked, svg text.label.revoked { fill: var(--revoked); }
svg text.label { font-weight: 600; }
summary { cursor: pointer; color: var(--soft); }
@media (max-width: 40rem) {
  body { padding: .75rem; }
  svg text, svg text.label { font-size: 21px; }
  .faults thead { position: absolute; clip-path: inset(50%); }
  .faults tr { display: block; border-bottom: 1px solid var(--rule); padding: .5rem 0; }
  .faults td { display: block; border: 0; padding: .1rem 0; } .faults td.where { font-weight: 600; }
}
@media print { :root { color-scheme: light; }
body { max-width: none; padding: 0; }
details { display: none; }
  h2 { break-after: avoid; }
tr, svg { break-inside: avoid; } }
"""


def page(report: Report, ledger: str, made_at_us: int) -> str:
    """The report on the file `ledger`, which is named as it is."""
    points = points_of(report.days)
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{'Good' if report.good else 'Wrong'}: audit of {escape(ledger)}</title>",
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>",
            "<h1>Audit of a credit ledger</h1>",
            f'<p class="when">{escape(ledger)}, {rfc3339(made_at_us)[:19].replace("T", " ")} UTC</p>',
            f'<p class="verdict {"good" if report.good else "bad"}">{escape(verdict(report))}</p>',
            _checked(report),
            _faults(report.faults),
            _over_time(points),
            _last_seal(report),
            "</main>\n</body>\n</html>\n",
        ]
    )


def verdict(report: Report) -> str:
    """What came out, in one sentence."""
    if report.good:
        return (
            f"Nothing is wrong with the {report.events:,} events of {report.accounts:,} accounts that were "
            f"looked at; {report.outstanding:,} credits are outstanding."
        )
    things = "1 thing is" if len(report.faults) == 1 else f"{len(report.faults):,} things are"
    return f"{things} wrong with this ledger of {report.events:,} events and {report.accounts:,} accounts."


def _checked(report: Report) -> str:
    rows = [
        ("Events followed, one chain of hashes for each account", f"{report.events:,}"),
        ("Accounts whose rows were compared with their events", f"{report.accounts:,}"),
        ("Credits outstanding", f"{report.outstanding:,}"),
    ]
    if report.seals is not None:
        rows.append(("Seals whose signatures were checked", f"{report.seals.count:,}"))
        rows.append(("Seals whose figures were compared with the events", f"{report.seals.checked:,}"))
    body = "".join(
        f'<tr><th scope="row">{what}</th><td class="number">{count}</td></tr>' for what, count in rows
    )
    skipped = "".join(f'<p class="note">{escape(text)}</p>' for text in report.skipped)
    return f'<h2>What was checked</h2>\n<div class="wide"><table>{body}</table></div>{skipped}'


def _faults(faults: list[Fault]) -> str:
    if not faults:
        return ""
    rows = "".join(
        f'<tr><td class="where">{escape(where(fault))}</td><td class="what">{escape(fault.what)}</td>'
        f'<td class="detail">{escape(fault.detail)}</td></tr>'
        for fault in faults[:_SHOWN]
    )
    more = (
        f"<p>And {len(faults) - _SHOWN:,} more: credit-ledger audit --json has all.</p>"
        if faults[_SHOWN:]
        else ""
    )
    head = '<tr><th scope="col">Where</th><th scope="col">What</th><th scope="col">In words</th></tr>'
    return f"<h2>What is wrong</h2>\n<div class='faults'>{_table(head, rows)}</div>{more}"


def _table(head: str, rows: str) -> str:
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def where(fault: Fault) -> str:
    """The event, account or position that a fault is about."""
    if not fault.openid:
        return f"position {fault.position}" if fault.position else "file"
    if not fault.version:
        return f"{fault.openid} account row" if fault.what == "account" else fault.openid
    at = f" (position {fault.position})" if fault.position else ""
    return f"{fault.openid} version {fault.version}{at}"


def _over_time(points: list[Point]) -> str:
    if not points:
        return ""
    names = ("issued", "spent", "expired", "revoked", "outstanding", "held")
    head = "".join(f'<th scope="col" class="number">{name}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{point.day}</th>'
        + "".join(f'<td class="number">{getattr(point, name):,}</td>' for name in names)
        + "</tr>"
        for point in points
    )
    table = _table(f'<tr><th scope="col">day</th>{head}</tr>', rows)
    return (
        "<h2>Credit over time</h2>\n"
        '<p class="note">Added up from the first day; spent is net of reversals; days of Shanghai.</p>\n'
        f'<div class="chart">{chart(points)}</div>\n'
        f"<details><summary>The same as a table</summary>{table}</details>"
    )


def _last_seal(report: Report) -> str:
    if report.seals is None or report.seals.entry is None or report.seals.note is None:
        return ""
    return (
        f"<h2>The last seal</h2>\n<pre>{escape(report.seals.entry)}</pre>\n"
        f"<p>Keep its note: with it anybody can show later that something was removed.</p>\n"
        f'<pre>{escape(report.seals.note)}</pre>\n<p class="note">Public key: {escape(report.seals.vkey)}</p>'
    )
