"""The figures as drawings: SVG that follows the reader's light or dark theme."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final
from xml.sax.saxutils import escape

from bench.figures import LIMIT, Results
from bench.growth import WORKS as GROWTH_WORKS
from bench.growth import growth_work
from bench.plan import CONNECTIONS
from bench.product import PRODUCT
from bench.report import CONTENDERS, TITLES, number

# Each is told from the others, and from the ground, on white and on black.
_COLOURS: Final = ("#8b949e", "#39a0a0", "#2f81f7", "#bf8700", "#3fa34d", "#bc4cc4", "#d1553f")
_STYLE: Final = (
    ":root{color:#1f2328}@media(prefers-color-scheme:dark){:root{color:#e6edf3}}"
    "text{fill:currentColor;font:12px system-ui,sans-serif}.title{font-size:15px;font-weight:600}"
    ".end{text-anchor:end}.middle{text-anchor:middle}line,path{stroke:currentColor;fill:none}"
    ".grid{stroke-opacity:.2}"
)
_WIDTH: Final = 760
_LEFT: Final = 250
_BAR: Final = 14

# Name -> value, in the order to be drawn.
Series = Mapping[str, float]


def drawings(results: Results) -> dict[str, str]:
    """Every plot by the name of its file, without the suffix."""
    return {
        "rates": bars(f"Requests/s, {CONNECTIONS} connections", _rates(results)),
        "connections": lines("Requests/s by connections", _by_connections(results)),
        "growth": lines("Requests/s by events in the log, 1 being the smallest", _by_events(results)),
        "latency": bars("Latency at half load, open loop, ms", _latencies(results)),
    }


def bars(title: str, groups: Mapping[str, Series]) -> str:
    """Horizontal bars in groups, all on one scale from 0, each with its figure."""
    most = max((value for series in groups.values() for value in series.values()), default=0) or 1
    names = list(dict.fromkeys(name for series in groups.values() for name in series))
    body, y = [], 46
    for group, series in groups.items():
        body.append(f'<text class="end" x="{_LEFT - 8}" y="{y + _BAR - 3}">{escape(group)}</text>')
        for name, value in series.items():
            width = value / most * (_WIDTH - _LEFT - 80)
            colour = _COLOURS[names.index(name) % len(_COLOURS)]
            body.append(f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR - 2}" fill="{colour}"/>')
            body.append(f'<text x="{_LEFT + width + 5:.1f}" y="{y + _BAR - 3}">{number(value)}</text>')
            y += _BAR
        y += 10
    return _svg(title, y + 24, [*body, *_legend(names, y + 8)])


def lines(title: str, series: Mapping[str, Mapping[int, float]]) -> str:
    """A line a series over places on a logarithmic axis, values from 0."""
    places = sorted({place for line in series.values() for place in line})
    most = max((value for line in series.values() for value in line.values()), default=0) or 1
    top, bottom, left, right = 46, 300, 70, _WIDTH - 30
    span = math.log(places[-1] / places[0]) if len(places) > 1 else 1

    def x(place: int) -> float:
        return left + (math.log(place / places[0]) / span if len(places) > 1 else 0.5) * (right - left)

    def y(value: float) -> float:
        return bottom - value / most * (bottom - top)

    body = []
    for part in range(5):
        value = most * part / 4
        body.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        body.append(f'<text class="end" x="{left - 6}" y="{y(value) + 4:.1f}">{number(value)}</text>')
    body += [f'<text class="middle" x="{x(place):.1f}" y="{bottom + 18}">{place:,}</text>' for place in places]
    for colour, line in zip(_COLOURS * len(series), series.values(), strict=False):
        points = [(x(place), y(value)) for place, value in sorted(line.items())]
        path = " L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        body.append(f'<path style="stroke:{colour}" stroke-width="2" d="M{path}"/>')
        body += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
    return _svg(title, bottom + 60, [*body, *_legend(list(series), bottom + 34)])


def _legend(names: Sequence[str], y: int) -> list[str]:
    body, x = [], 20
    for place, name in enumerate(names):
        colour = _COLOURS[place % len(_COLOURS)]
        body.append(f'<rect x="{x}" y="{y}" width="10" height="10" fill="{colour}"/>')
        body.append(f'<text x="{x + 14}" y="{y + 9}">{escape(name)}</text>')
        x += 30 + 7 * len(name)
    return body


def _svg(title: str, height: int, body: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f'<text class="title" x="20" y="26">{escape(title)}</text>' + "".join(body) + "</svg>\n"
    )


def _plain(work: str) -> str:
    return TITLES[work].replace("`", "").partition(":")[0]


def _rates(results: Results) -> dict[str, Series]:
    groups: dict[str, Series] = {}
    for work in ("credit", "grant", "login", "login-cold", "spend", "hold", "page", "mixed"):
        found = [results.find(work, who, CONNECTIONS) for who in CONTENDERS]
        if any(found):
            groups[_plain(work)] = {each.contender: each.median for each in found if each}
    return groups


def _by_connections(results: Results) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for work in ("credit", "grant"):
        for who in (LIMIT, PRODUCT):
            line = {at: each.median for at in results.at_of(work) if (each := results.find(work, who, at))}
            if line:
                found[f"{_plain(work)}, {who}"] = line
    return found


def _by_events(results: Results) -> dict[str, dict[int, float]]:
    found = {}
    for work in GROWTH_WORKS:
        line = {
            at: each.median
            for at in results.at_of(growth_work(work))
            if (each := results.find(growth_work(work), PRODUCT, at))
        }
        if line:
            found[_plain(work)] = {at: value / line[min(line)] for at, value in line.items()}
    return found


def _latencies(results: Results) -> dict[str, Series]:
    groups: dict[str, Series] = {}
    for work in ("read-while-writing", "write-beside-reads", "write-while-auditing"):
        each = results.find(work, PRODUCT, 0)
        if each is not None:
            shares = {"p50": each.p50_ms, "p99": each.p99_ms, "p99.9": each.p999_ms}
            groups[_plain(work)] = {name: median(values) for name, values in shares.items()}
    return groups
