"""Ratios as SVG text: a dot a row on a logarithmic axis, the mean with its interval below.

As in `bars`: colours and type come from the page's style sheet by class, and everything drawn says its
figures in a `<title>`.
"""

import dataclasses
import html
from collections.abc import Sequence

from circuits_jax.viewer.charts.bars import ROW, show, svg
from circuits_jax.viewer.charts.scales import Axis, log_axis

LABEL, WIDTH, RIGHT, TOP = 230, 720, 30, 26


@dataclasses.dataclass(frozen=True)
class RatioRow:
    """One row.

    Attributes:
      label: What it is.
      value: The ratio.
      low, high: Its interval, or None.
      filled: Drawn as a disc; else as a ring.
      kind: "ours" (the row that counts) or "other".
      remark: What its title says besides.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    filled: bool = True
    kind: str = "other"
    remark: str = ""


def ratio_chart(title: str, rows: Sequence[RatioRow], lines: Sequence[tuple[float, str]]) -> str:
    """The chart.

    Args:
      title: Read out by screen readers.
      rows: From top to bottom, one at least; all figures above 0.
      lines: (ratio, what it is), drawn across all rows.
    """
    values = [x for row in rows for x in (row.value, row.low, row.high) if x is not None]
    axis = log_axis([*values, *(at for at, _ in lines)], LABEL, WIDTH - RIGHT)
    end = TOP + ROW * len(rows) + 4
    parts = []
    for tick in axis.ticks:
        x = axis.at(tick)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{end}"/>')
        parts.append(
            f'<text class="tick" x="{x}" y="{end + 16}" text-anchor="middle">{show(_plain(tick))}</text>'
        )
    for at, what in lines:
        x = axis.at(at)
        parts.append(f'<line class="bound" x1="{x}" x2="{x}" y1="{TOP - 4}" y2="{end}"/>')
        parts.append(f'<text class="bound-label" x="{x}" y="{TOP - 10}">{html.escape(what)}</text>')
    parts += [_row(row, TOP + ROW * (place + 0.5), axis) for place, row in enumerate(rows)]
    return svg(title, WIDTH, int(end + 24), parts, "dots")


def _row(row: RatioRow, y: float, axis: Axis) -> str:
    x = axis.at(row.value)
    interval = "" if row.low is None else f" ({show(row.low)} to {show(row.high)})"
    told = f"{row.label}: {show(row.value)}{interval}{row.remark}"
    parts = [
        f"<g><title>{html.escape(told)}</title>",
        f'<text class="label" x="{LABEL - 12}" y="{y + 4}">{html.escape(row.label)}</text>',
    ]
    if row.low is not None and row.high is not None:
        a, b = axis.at(row.low), axis.at(row.high)
        parts.append(f'<path class="whisker" d="M{a} {y}H{b}M{a} {y - 5}v10M{b} {y - 5}v10"/>')
    ring = "" if row.filled else " ring"
    parts.append(f'<circle class="dot {row.kind}{ring}" cx="{x}" cy="{y}" r="5"/></g>')
    return "".join(parts)


def _plain(value: float) -> float:
    """A whole number as one."""
    return int(value) if value >= 1 else value
