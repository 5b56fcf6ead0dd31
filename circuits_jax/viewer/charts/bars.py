"""Two small charts as SVG text: bars with intervals, and points against a diagonal.

Colours and type come from the page's style sheet, by class; everything drawn has a `<title>` that says its
figures, so that nothing is told by colour or length alone.
"""

import dataclasses
import html
import math
from collections.abc import Callable, Iterable, Sequence

ROW, LABEL, WIDTH, RIGHT, TOP = 26, 190, 620, 74, 22
SQUARE = 300


@dataclasses.dataclass(frozen=True)
class Bar:
    """One row of a bar chart.

    Attributes:
      label: What it is.
      value: The bar's length.
      low, high: Its interval, or None.
      kind: "ours" (the circuit), "model" (the full model) or "other".
      draws: Values of single draws, a tick each.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    kind: str = "other"
    draws: Sequence[float] = ()


@dataclasses.dataclass(frozen=True)
class Line:
    """A vertical line across the chart, such as a threshold."""

    at: float
    label: str


def bar_chart(title: str, bars: Sequence[Bar], most: float, lines: Iterable[Line] = ()) -> str:
    """Horizontal bars from 0 to `most`, with intervals, draws and threshold lines; longer ones are cut there.

    Args:
      title: Read out by screen readers.
      bars: From top to bottom.
      most: Right end of the axis, > 0.
      lines: Drawn over the bars, labelled above them.
    """
    scale = (WIDTH - LABEL - RIGHT) / most
    height = TOP + ROW * len(bars) + 6

    def place(value: float) -> float:
        return round(LABEL + scale * _within(value, most), 1)

    parts = [f'<line class="axis" x1="{LABEL}" x2="{LABEL}" y1="{TOP}" y2="{height - 6}"/>']
    for row, bar in enumerate(bars):
        parts.append(_bar(bar, TOP + ROW * row, place))
    for line in lines:
        x = place(line.at)
        parts.append(f'<line class="bound" x1="{x}" x2="{x}" y1="{TOP - 4}" y2="{height - 6}"/>')
        parts.append(f'<text class="bound-label" x="{x}" y="{TOP - 8}">{html.escape(line.label)}</text>')
    for row, bar in enumerate(bars):  # last, so that no line strikes them out
        ends = [bar.value, *bar.draws, *([] if bar.high is None else [bar.high])]
        end, y = place(max(ends)), TOP + ROW * (row + 0.5) + 4
        parts.append(f'<text class="value" x="{end + 8}" y="{y}">{show(bar.value)}</text>')
    return svg(title, WIDTH, height, parts, "bars")


def _bar(bar: Bar, y: int, place: Callable[[float], float]) -> str:
    middle, x0, x1 = y + ROW / 2, place(0), place(bar.value)
    interval = "" if bar.low is None else f" ({show(bar.low)} to {show(bar.high)})"
    parts = [
        f"<g><title>{html.escape(bar.label)}: {show(bar.value)}{interval}</title>",
        f'<text class="label" x="{LABEL - 9}" y="{middle + 4}">{html.escape(bar.label)}</text>',
        f'<rect class="bar {bar.kind}" x="{x0}" y="{y + 6}" width="{max(x1 - x0, 0.5):.1f}" '
        f'height="{ROW - 12}"/>',
    ]
    parts += [
        f'<line class="draw" x1="{place(value)}" x2="{place(value)}" y1="{y + 8}" y2="{y + ROW - 8}"/>'
        for value in bar.draws
    ]
    if bar.low is not None and bar.high is not None:
        a, b = place(bar.low), place(bar.high)
        parts.append(f'<path class="whisker" d="M{a} {middle}H{b}M{a} {middle - 4}v8M{b} {middle - 4}v8"/>')
    return "".join([*parts, "</g>"])


def scatter(
    title: str, points: Iterable[tuple[float, float, str]], most: float, across: str, upward: str
) -> str:
    """Points (x, y, what it is) on equal axes from 0 to `most`, with the diagonal where both agree.

    Args:
      title: Read out by screen readers.
      points: In any order; what lies beyond `most` is drawn on the edge.
      most: End of both axes, > 0.
      across, upward: Names of the axes.
    """
    left, bottom = 46, SQUARE - 40
    size = bottom - 14

    def at(x: float, y: float) -> tuple[float, float]:
        x, y = (_within(value, most) / most * size for value in (x, y))
        return round(left + x, 1), round(bottom - y, 1)

    far = at(most, most)
    parts = [
        f'<path class="axis" d="M{left} {far[1]}V{bottom}H{far[0]}"/>',
        f'<line class="diagonal" x1="{left}" y1="{bottom}" x2="{far[0]}" y2="{far[1]}"/>',
        f'<text class="tick" x="{left - 6}" y="{bottom + 4}" text-anchor="end">0</text>',
        f'<text class="tick" x="{left - 6}" y="{far[1] + 4}" text-anchor="end">{show(most)}</text>',
        f'<text class="tick" x="{far[0]}" y="{bottom + 15}" text-anchor="middle">{show(most)}</text>',
        f'<text class="tick" x="{left + size / 2}" y="{bottom + 30}" text-anchor="middle">'
        f"{html.escape(across)}</text>",
        f'<text class="tick" x="14" y="{bottom - size / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {bottom - size / 2})">{html.escape(upward)}</text>',
    ]
    for x, y, what in points:
        cx, cy = at(x, y)
        parts.append(
            f'<circle class="point" cx="{cx}" cy="{cy}" r="5">'
            f"<title>{html.escape(what)}: {show(x)}, {show(y)}</title></circle>"
        )
    return svg(title, SQUARE + 20, SQUARE, parts, "points")


def show(value: float | None) -> str:
    """A figure as people read it: counts whole, three decimals below ten."""
    if value is None:
        return "not measured"
    if math.isnan(value):
        return "not a number"
    if isinstance(value, int) or (value == int(value) and abs(value) >= 10):
        return f"{int(value):,}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _within(value: float, most: float) -> float:
    """`value` on an axis from 0 to `most`; what is not a number, at 0."""
    return 0.0 if math.isnan(value) else min(max(value, 0.0), most)


def svg(title: str, width: int, height: int, parts: Iterable[str], kind: str) -> str:
    return (
        f'<svg class="plot {kind}" role="img" aria-label="{html.escape(title, quote=True)}" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'
    )
