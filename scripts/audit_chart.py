"""The chart of an audit: lines over the days, as SVG that stands in a page and needs nothing else."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

from ledger.account import day_begins_us
from ledger.range_audit import Day
from ledger.statement import rfc3339

_POINTS: Final = 120
_WIDTH: Final = 720
_HEIGHT: Final = 340
_LEFT: Final = 72
_RIGHT: Final = 140
_TOP: Final = 16
_BOTTOM: Final = 34
_LABEL_PX: Final = 22
# The names, and the classes that the page gives a colour and a dash to: never colour alone.
SERIES: Final = ("outstanding", "issued", "spent", "expired", "revoked")


class Point(NamedTuple):
    """What there was, counted from the beginning, at the end of a day in Shanghai."""

    day: str
    issued: int
    spent: int
    expired: int
    revoked: int
    outstanding: int
    held: int


def points_of(days: Mapping[int, Day], most: int | None = _POINTS) -> list[Point]:
    """The running sums, at most `most` of them, each at the end of as many days, the last day always one of
    them; without `most`, those of each day on which something happened."""
    if not days:
        return []
    first, last = min(days), max(days)
    ends = sorted(days) if most is None else range(first, last + 1)
    if most is not None and len(ends) > most:
        ends = range(last, first - 1, -len(ends) // most)[::-1]
    total, points, numbers = Day(), [], iter(sorted(days))
    number = next(numbers, None)
    for end in ends:
        while number is not None and number <= end:
            total.add(days[number])
            number = next(numbers, None)
        sums = total.issued, total.spent, total.expired, total.revoked, total.outstanding, total.held
        points.append(Point(_date(end), *sums))
    return points


def chart(points: Sequence[Point]) -> str:
    """The lines with a label at the end of each, an axis of credit and one of days."""
    values: list[int] = [getattr(point, name) for point in points for name in SERIES]
    top, bottom = max(1, *values), min(0, *values)
    ticks = _ticks(bottom, top)
    top = max(top, ticks[-1])

    def x(place: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place / max(1, len(points) - 1)

    def y(value: int) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - bottom) / (top - bottom)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="chart-title">',
        '<title id="chart-title">Credit issued, spent, expired, revoked and outstanding by day</title>',
    ]
    for tick in ticks:
        at = f"{y(tick):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(_text("axis", _LEFT - 8, y(tick) + 4, _short(tick), "end"))
    for place, anchor in _dates(len(points)):
        parts.append(_text("axis", x(place), _HEIGHT - 10, points[place].day, anchor))
    ends = {name: y(getattr(points[-1], name)) for name in SERIES}
    for name in reversed(SERIES):
        line = " ".join([f"{x(place):.1f},{y(getattr(one, name)):.1f}" for place, one in enumerate(points)])
        parts.append(f'<polyline class="line {name}" points="{line}"/>')
        parts.append(f'<circle class="dot {name}" cx="{x(len(points) - 1):.1f}" cy="{ends[name]:.1f}" r="3"/>')
    labels = _spread(ends)
    for name in SERIES:
        parts.append(_text(f"label {name}", x(len(points) - 1) + 8, labels[name] + 4, name, "start"))
    return "\n".join([*parts, "</svg>"])


def _text(kind: str, x: float, y: float, words: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _spread(ends: Mapping[str, float]) -> dict[str, float]:
    """Where the labels go so that none covers another: at their lines' ends, or below the one above."""
    placed, lowest = {}, -_LABEL_PX * 1.0
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        lowest = max(end, lowest + _LABEL_PX)
        placed[name] = lowest
    over = lowest - (_HEIGHT - _BOTTOM)
    ceiling = _HEIGHT - _BOTTOM * 1.0
    for name, at in sorted(placed.items(), key=lambda item: -item[1]):
        placed[name] = ceiling = min(at, ceiling) if over > 0 else at
        ceiling -= _LABEL_PX
    return placed


def _ticks(bottom: int, top: int) -> list[int]:
    """Round numbers, three to six of them, from below `bottom` to `top` or above."""
    step = 10 ** (len(str(max(1, (top - bottom) // 4))) - 1)
    while (top - bottom) / step > 5:
        step = step * 2 if str(step)[0] in "15" else step * 5 // 2
    return list(range(-(-bottom // step) * step, top + step, step))


def _dates(count: int) -> list[tuple[int, str]]:
    if count == 1:
        return [(0, "start")]
    ends = [(0, "start"), (count - 1, "end")]
    return [ends[0], (count // 2, "middle"), ends[1]] if count > 4 else ends


def _short(value: int) -> str:
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def _date(day: int) -> str:
    # Noon, so that the date in UTC is the one in Shanghai.
    return rfc3339(day_begins_us(day) + 12 * 3600 * 1_000_000)[:10]
