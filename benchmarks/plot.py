"""Results as pictures: SVG for light and dark pages.

Colour says whose a row is: this library's, another's, or C, which is the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from math import ceil, log10
from pathlib import Path
from typing import Final, NamedTuple

from .results import Results
from .rows import Row
from .scenarios import GROUP_COUNTS, SCENARIOS
from .table import rows_of

_WIDTH: Final = 760
_EDGE: Final = 24
_TOP: Final = 84  # where a chart begins, below the title

# A picture has a ground of its own: a page may be dark without the reader's system being so.
_STYLE: Final = """
text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #52514e; }
.title { font-size: 16px; font-weight: 600; fill: #0b0b0b; }
.small { font-size: 11px; fill: #75746e; }
.strong { font-weight: 600; fill: #0b0b0b; }
.ground { fill: #fcfcfb; stroke: #e3e2de; }
.grid { stroke: #e3e2de; }
.axis { stroke: #93928c; }
.limit { fill: #b9b8b1; stroke: #b9b8b1; }
.other { fill: #85847e; stroke: #85847e; }
.ours { fill: #2a78d6; stroke: #2a78d6; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.mark { stroke-width: 2; }
@media (prefers-color-scheme: dark) {
text { fill: #c3c2b7; }
.title, .strong { fill: #ffffff; }
.small { fill: #93928c; }
.ground { fill: #1a1a19; stroke: #383835; }
.grid { stroke: #32322f; }
.limit { fill: #62615c; stroke: #62615c; }
.other { fill: #84837d; stroke: #84837d; }
.ours { fill: #3987e5; stroke: #3987e5; }
}
"""


def write_plots(results: Results, folder: Path) -> Iterator[Path]:
    """Draw what was measured, a file for each of `FIGURES`. Yields their paths."""
    for name, draw in FIGURES.items():
        if (picture := draw(results)) is not None:
            path = folder / f"{name}.svg"
            path.write_text(picture)
            yield path


# Bars

_LABELS: Final = 270  # where bars begin
_BAR: Final = 16
_PITCH: Final = 24  # from bar to bar


class _Bar(NamedTuple):
    row: Row
    value: float
    mark: float | None  # a second value, shown as a mark at the end of a thin line


def _draw_bars(
    results: Results,
    scenario: str,
    title: str,
    subtitle: str,
    figure: str,
    *,
    mark: str | None = None,
    factor: float = 1.0,
) -> str | None:
    bars = []
    for row in _find_rows(scenario):
        value = results.find(scenario, row.key, figure)
        second = None if mark is None else results.find(scenario, row.key, mark)
        if value is not None:
            bars.append(_Bar(row, value * factor, None if second is None else second * factor))
    if not bars:
        return None
    largest = max(max(bar.value, bar.mark or 0) for bar in bars)
    scale = (_WIDTH - _EDGE - _LABELS - 90) / largest
    bottom = _TOP + len(bars) * _PITCH
    parts = [_line("axis", _LABELS, _TOP - 6, _LABELS, bottom - 2)]
    for number, bar in enumerate(bars):
        parts += _draw_bar(bar, _TOP + number * _PITCH, scale)
    return _frame(title, subtitle, parts, bottom, results)


def _draw_bar(bar: _Bar, top: int, scale: float) -> Iterator[str]:
    kind = bar.row.kind
    words = "strong" if kind == "ours" else ""
    middle = top + _BAR / 2
    end = _LABELS + max(bar.value * scale, 4)
    yield _text(_LABELS - 10, middle + 5, bar.row.title, words, anchor="end")
    yield (
        f'<path class="{kind}" stroke-width="0" '
        f'd="M{_LABELS} {top}H{end - 4:.1f}q4 0 4 4v{_BAR - 8}q0 4 -4 4H{_LABELS}z"/>'
    )
    value = _write_number(bar.value)
    if bar.mark is not None:
        at = _LABELS + bar.mark * scale
        yield _line(kind, end, middle, at, middle)
        yield _line(f"{kind} mark", at, middle - 5, at, middle + 5)
        value += f" / {_write_number(bar.mark)}"
        end = max(end, at)
    yield _text(end + 7, middle + 5, value, words)


# Curves

_PLOT_LEFT: Final = 64
_PLOT_RIGHT: Final = 540  # the names of the curves stand to the right
_PLOT_HEIGHT: Final = 300
_PLOT_BOTTOM: Final = _TOP + _PLOT_HEIGHT
_NAME_PITCH: Final = 17


class _Curve(NamedTuple):
    row: Row
    points: list[tuple[int, float]]  # groups, microseconds


class _Axes(NamedTuple):
    counts: list[int]  # of groups, on a logarithmic axis
    step: float  # between grid lines
    steps: int

    def x(self, count: int) -> float:
        return _PLOT_LEFT + (_PLOT_RIGHT - _PLOT_LEFT) * log10(count) / log10(self.counts[-1])

    def y(self, value: float) -> float:
        return _PLOT_BOTTOM - _PLOT_HEIGHT * value / (self.steps * self.step)


def _draw_groups(results: Results) -> str | None:
    curves = []
    for row in _find_rows(GROUP_COUNTS[max(GROUP_COUNTS)]):
        found = [(n, results.find(key, row.key, "cpu")) for n, key in GROUP_COUNTS.items()]
        points = [(count, value) for count, value in found if value is not None]
        if len(points) > 1:
            curves.append(_Curve(row, points))
    if not curves:
        return None
    counts = sorted({count for curve in curves for count, _ in curve.points})
    curves.sort(key=lambda curve: curve.row.kind == "ours")  # what comes last lies on top
    largest = max(value for curve in curves for _, value in curve.points)
    step = _choose_step(largest)
    axes = _Axes(counts, step, ceil(largest / step))
    parts = [*_draw_axes(axes), *_draw_curves(curves, axes), *_name_curves(curves, axes)]
    return _frame(
        "Many groups",
        "CPU microseconds for each datagram, one to each group in turn, 50 at a time",
        parts,
        _PLOT_BOTTOM + 34,
        results,
    )


def _draw_axes(axes: _Axes) -> Iterator[str]:
    for number in range(axes.steps + 1):
        value = number * axes.step
        y = axes.y(value)
        yield _line("grid" if number else "axis", _PLOT_LEFT, y, _PLOT_RIGHT, y)
        yield _text(_PLOT_LEFT - 8, y + 4, _write_number(value), "small", "end")
    for count in axes.counts:
        yield _text(axes.x(count), _PLOT_BOTTOM + 18, f"{count:,}", "small", "middle")
    yield _text(_PLOT_RIGHT, _PLOT_BOTTOM + 34, "groups", "small", "end")


def _draw_curves(curves: list[_Curve], axes: _Axes) -> Iterator[str]:
    for row, points in curves:
        places = [(f"{axes.x(count):.1f}", f"{axes.y(value):.1f}") for count, value in points]
        path = " ".join(f"{x},{y}" for x, y in places)
        yield f'<g class="{row.kind}"><polyline class="curve" points="{path}"/>'
        yield from (f'<circle stroke="none" cx="{x}" cy="{y}" r="3.5"/>' for x, y in places)
        yield "</g>"


def _name_curves(curves: list[_Curve], axes: _Axes) -> Iterator[str]:
    """A name beside the end of each curve, moved down where two would overlap."""
    lowest = 0.0
    for curve in sorted(curves, key=lambda curve: -curve.points[-1][1]):
        end = axes.y(curve.points[-1][1])
        lowest = max(end, lowest + _NAME_PITCH)
        yield _line("grid", _PLOT_RIGHT + 6, end, _PLOT_RIGHT + 16, lowest)
        words = "strong" if curve.row.kind == "ours" else ""
        yield _text(_PLOT_RIGHT + 20, lowest + 4, curve.row.title, words)


def _choose_step(largest: float) -> float:
    """The distance of grid lines: 1, 2 or 5 times a power of ten, for four to ten lines."""
    power = 10.0 ** int(log10(largest) // 1)
    return next(s for s in (power / 5, power / 2, power, power * 2) if largest / s <= 8)


# What all pictures have


def _frame(title: str, subtitle: str, parts: list[str], bottom: float, results: Results) -> str:
    machine = results.machine
    source = " · ".join(
        machine[name] for name in ("processor", "kernel", "python", "date") if name in machine
    )
    height = bottom + 44
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
            f'width="{_WIDTH}" height="{height:.0f}" role="img">',
            f"<title>{escape(title)}: {escape(subtitle)}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1:.0f}" '
            'rx="8"/>',
            _text(_EDGE, 36, title, "title"),
            _text(_EDGE, 58, subtitle),
            *parts,
            _text(_EDGE, height - 16, source, "small"),
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(words)}</text>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _write_number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _find_rows(scenario: str) -> list[Row]:
    return next(rows_of(found) for found in SCENARIOS if found.key == scenario)


def _bars(scenario: str, title: str, subtitle: str, figure: str) -> Callable[..., str | None]:
    return lambda results: _draw_bars(results, scenario, title, subtitle, figure)


FIGURES: Final[dict[str, Callable[[Results], str | None]]] = {
    "backlog": _bars(
        "backlog-64",
        "Receiving what is there already",
        "CPU microseconds for each 64-byte datagram; shorter is better",
        "cpu",
    ),
    "flood": _bars(
        "flood-64",
        "Receiving a flood",
        "64-byte datagrams a second that reached the application; longer is better",
        "rate",
    ),
    "bursts": _bars(
        "bursts-64",
        "Receiving bursts",
        "CPU microseconds for each 64-byte datagram, 50 at a time, 20,000 a second; shorter is "
        "better",
        "cpu",
    ),
    "groups": _draw_groups,
    "delay": lambda results: _draw_bars(
        results,
        "delay",
        "Delay",
        "Microseconds from sending to the application, 500 a second: median / 99th percentile",
        "delay-median",
        mark="delay-p99",
        factor=1e6,
    ),
    "sending": _bars(
        "send-64",
        "Sending",
        "CPU microseconds for each 64-byte datagram; shorter is better",
        "cpu",
    ),
}
"""The pictures and the names of their files."""
