"""Distributions against one value as SVG text: a row of dots each, over a logarithmic axis of counts.

As in `bars`: colours and type come from the page's style sheet by class, and everything drawn says its
figures in a `<title>`.
"""

import dataclasses
import html
import math
import statistics
from collections.abc import Sequence

from circuits_jax.viewer.charts.bars import LABEL, RIGHT, ROW, TOP, WIDTH, Line, show, svg

BOTTOM = 24


@dataclasses.dataclass(frozen=True)
class Dot:
    """One draw.

    Attributes:
      value: A count; below 1 it is drawn at 1.
      what: What it is, in words.
      filled: Drawn as a disc; else as a ring.
      kind: "ours", "model" or "other", as bars have.
    """

    value: float
    what: str
    filled: bool = True
    kind: str = "other"


def dot_chart(title: str, rows: Sequence[tuple[str, Sequence[Dot]]], line: Line) -> str:
    """Rows of dots from 1 to the largest value, each with a tick at its median, and one line across all.

    Args:
      title: Read out by screen readers.
      rows: (label, draws) from top to bottom.
      line: What all are compared with.
    """
    values = [dot.value for _, dots in rows for dot in dots]
    decades = max(1, math.ceil(math.log10(max([line.at, *values, 1]))))
    scale = (WIDTH - LABEL - RIGHT) / decades
    end = TOP + ROW * len(rows) + 4

    def place(value: float) -> float:
        return round(LABEL + scale * math.log10(max(value, 1)), 1)

    parts = []
    for decade in range(decades + 1):
        x = place(10**decade)
        parts.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{TOP}" y2="{end}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{end + 16}" text-anchor="middle">{10**decade:,}</text>')
    x = place(line.at)
    parts.append(f'<line class="bound" x1="{x}" x2="{x}" y1="{TOP - 4}" y2="{end}"/>')
    parts.append(f'<text class="bound-label" x="{x}" y="{TOP - 8}">{html.escape(line.label)}</text>')
    for row, (label, dots) in enumerate(rows):
        y = TOP + ROW * (row + 0.5)
        parts.append(f'<text class="label" x="{LABEL - 9}" y="{y + 4}">{html.escape(label)}</text>')
        if dots:
            x = place(statistics.median(dot.value for dot in dots))
            parts.append(f'<line class="median" x1="{x}" x2="{x}" y1="{y - 9}" y2="{y + 9}"/>')
        for dot in dots:
            parts.append(
                f'<circle class="dot {dot.kind}{"" if dot.filled else " ring"}" cx="{place(dot.value)}" '
                f'cy="{y}" r="4.5"><title>{html.escape(dot.what)}: {show(dot.value)}</title></circle>'
            )
    return svg(title, WIDTH, int(end + BOTTOM), parts, "dots")
