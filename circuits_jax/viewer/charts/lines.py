"""Two more charts as SVG text: curves with bands over one axis, and a matrix of figures.

As in `bars`: colours and type come from the page's style sheet by class, and everything drawn says its
figures in a `<title>`.
"""

import dataclasses
import html
import math
from collections.abc import Callable, Mapping, Sequence

from circuits_jax.viewer.charts.bars import show

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 620, 330, 64, 40, 14, 14
CELL, NAMES = 52, 104
Placing = Callable[[float, float], tuple[float, float]]  # figures -> where they are drawn
DASHES = ("", "7 4", "2 3", "9 3 2 3", "4 2", "1 2")


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line over the shared axis.

    Attributes:
      label: What it is.
      values: One a point of the axis.
      low, high: Its band, or empty.
      kind: "ours", "model" or "other", as bars have.
    """

    label: str
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    kind: str = "other"


def line_chart(
    title: str,
    across: Sequence[float] | Mapping[str, float],
    curves: Sequence[Curve],
    names: tuple[str, str],
    level: float | None = None,
    top: float = 1.0,
) -> str:
    """Curves between 0 and `top` over `across`, each with a band and a dash pattern; a legend is below.

    Args:
      title: Read out by screen readers.
      across: Increasing places on the horizontal axis, by what they are called if that is something else.
      curves: Later ones are drawn on top.
      names: Of the two axes.
      level: A horizontal line, such as one half.
      top: Upper end of the vertical axis; what lies beyond an end is drawn there.
    """
    ticks = across if isinstance(across, Mapping) else {f"{x:g}": x for x in across}
    places = list(ticks.values())
    first, last = places[0], places[-1]
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM - TOP

    def at(x: float, y: float) -> tuple[float, float]:
        share = (x - first) / ((last - first) or 1)
        height = 0.0 if math.isnan(y) else min(max(y / top, 0.0), 1.0)
        return round(LEFT + wide * share, 1), round(TOP + tall * (1 - height), 1)

    parts = [f'<path class="axis" d="M{LEFT} {TOP}V{TOP + tall}H{LEFT + wide}"/>']
    parts += [_tick(LEFT - 6, at(first, y)[1] + 4, show(float(y)), "end") for y in (0, 0.5, 1)]
    parts += [_tick(at(x, 0)[0], TOP + tall + 15, name, "middle") for name, x in ticks.items()]
    parts += [_tick(LEFT + wide / 2, HEIGHT - 6, names[0], "middle")]
    parts.append(
        f'<text class="tick" text-anchor="middle" transform="rotate(-90 12 {TOP + tall / 2})" x="12" '
        f'y="{TOP + tall / 2}">{html.escape(names[1])}</text>'
    )
    if level is not None:
        y = at(first, level)[1]
        parts.append(f'<line class="bound" x1="{LEFT}" x2="{LEFT + wide}" y1="{y}" y2="{y}"/>')
    for number, curve in enumerate(curves):
        parts.append(_curve(curve, ticks, at, DASHES[number % len(DASHES)]))
    legend = [_legend(curve, number, HEIGHT + 14 + 18 * number) for number, curve in enumerate(curves)]
    return _svg(title, WIDTH, HEIGHT + 18 * len(curves) + 8, [*parts, *legend])


def matrix(title: str, names: Sequence[str], cells: Sequence[Sequence[float | None]], most: float) -> str:
    """Figures in cells, the shade of each growing to `most`; rows and columns are of the same names.

    Args:
      title: Read out by screen readers.
      names: Of rows and columns.
      cells: None where there is none.
      most: The darkest, > 0.
    """
    count = len(names)
    parts = []
    for place, name in enumerate(names):
        middle = place * CELL + CELL / 2
        parts.append(_tick(NAMES + middle, 12, name.replace(".resid", "").replace("_resid", ""), "middle"))
        parts.append(_tick(NAMES - 8, 20 + middle + 4, name, "end"))
    for row, values in enumerate(cells):
        for column, value in enumerate(values):
            if value is None:
                continue
            x, y = NAMES + column * CELL, 20 + row * CELL
            shade = round(0.08 + 0.72 * min(max(value / most, 0.0), 1.0), 3)
            parts.append(
                f"<g><title>{html.escape(names[row])}, {html.escape(names[column])}: {show(value)}</title>"
                f'<rect class="cell" x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{CELL - 2}" rx="4" '
                f'fill-opacity="{shade}"/><text class="value" x="{x + CELL / 2}" y="{y + CELL / 2 + 4}" '
                f'text-anchor="middle">{show(value)}</text></g>'
            )
    return _svg(title, NAMES + count * CELL + 8, 20 + count * CELL + 8, parts)


def _curve(curve: Curve, ticks: Mapping[str, float], at: Placing, dash: str) -> str:
    names, across = list(ticks), list(ticks.values())
    points = [at(x, y) for x, y in zip(across, curve.values, strict=True)]
    parts = []
    if curve.low:
        upper = [at(x, y) for x, y in zip(across, curve.high, strict=True)]
        lower = [at(x, y) for x, y in zip(across, curve.low, strict=True)]
        parts.append(f'<polygon class="band {curve.kind}" points="{_points([*upper, *reversed(lower)])}"/>')
    parts.append(
        f'<polyline class="curve {curve.kind}" stroke-dasharray="{dash}" points="{_points(points)}"/>'
    )
    for number, (x, y) in enumerate(points):
        span = f" ({show(curve.low[number])} to {show(curve.high[number])})" if curve.low else ""
        what = (
            f"{html.escape(curve.label)} at {html.escape(names[number])}: {show(curve.values[number])}{span}"
        )
        parts.append(
            f'<circle class="dot {curve.kind}" cx="{x}" cy="{y}" r="3"><title>{what}</title></circle>'
        )
    return "".join(parts)


def _legend(curve: Curve, number: int, y: float) -> str:
    dash = DASHES[number % len(DASHES)]
    sample = f'x1="{LEFT}" x2="{LEFT + 34}" y1="{y - 4}" y2="{y - 4}"'
    return (
        f'<line class="curve {curve.kind}" stroke-dasharray="{dash}" {sample}/>'
        f'<text class="legend" x="{LEFT + 42}" y="{y}">{html.escape(curve.label)}</text>'
    )


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def _tick(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="tick" x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _svg(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg class="plot" role="img" aria-label="{html.escape(title, quote=True)}" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'
    )
