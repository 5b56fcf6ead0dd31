"""Size of circuits against loss as SVG text: series of models, a mark each, and what is compared between two.

As in `bars`: colours and type come from the page's style sheet by class, and everything drawn says its
figures in a `<title>`.  Series differ in shape and dash as well as in colour.
"""

import dataclasses
import html
from collections.abc import Sequence

from circuits_jax.viewer.charts.bars import show, svg
from circuits_jax.viewer.charts.labels import Box, boxes_along, place_labels
from circuits_jax.viewer.charts.lines import DASHES
from circuits_jax.viewer.charts.scales import Axis, linear_axis, log_axis
from circuits_jax.viewer.frontier_marks import ModelMark, SeriesMark, SizeMark

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 880, 470, 66, 20, 14, 48
LETTERS, LINE = {"name": 6.6, "ratio": 7.9}, 15  # pixels of a letter, by kind, and of a line of text
# Outlines of unit size around 0 0, one a series.
SHAPES = (
    "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0 -2 0z",
    "M-.9 -.9h1.8v1.8h-1.8z",
    "M0 -1.25L1.25 0L0 1.25L-1.25 0z",
    "M0 -1.15L1.1 .85h-2.2z",
    "M0 1.15L1.1 -.85h-2.2z",
)


@dataclasses.dataclass(frozen=True)
class DrawnRatio:
    """What is compared between the first two series of a chart.

    Attributes:
      losses: Those that both reach, lowest and highest.
      label: The ratio, in words.
    """

    losses: tuple[float, float]
    label: str


def size_chart(
    title: str, series: Sequence[SeriesMark], upward: str, comparison: DrawnRatio | None = None
) -> str:
    """The chart; the vertical axis is logarithmic, the horizontal one is not.

    A line joins the sizes of a series, straight as what lies between them is interpolated.  Whiskers span
    the seeds, a small mark each, which links to the circuits of that model; a mark that is not filled has
    circuits that miss their target.

    Args:
      title: Read out by screen readers.
      series: One at least, each of one size at least.
      upward: Name of the vertical axis.
      comparison: Drawn behind all, if there is something to compare.
    """
    models = [model for one in series for size in one.sizes for model in size.models]
    across = linear_axis([model.loss for model in models], LEFT, WIDTH - RIGHT)
    up = log_axis([model.count for model in models], HEIGHT - BOTTOM, TOP)
    parts = _axes(across, up, upward)
    if comparison is not None:
        parts += _compared(comparison, series, across, up)
    for number, one in enumerate(series):
        parts += _series(one, number, across, up)
    parts += _labels(series, across, up, comparison)
    parts += [_legend(one.name, number) for number, one in enumerate(series)]
    return svg(title, WIDTH, HEIGHT + 20 * len(series) + 6, parts, "sizes")


def arrow_ends(series: Sequence[SeriesMark], losses: tuple[float, float]) -> tuple[float, float, float]:
    """(a loss amid those that the first two series reach, the count of either there)."""
    middle = sum(losses) / 2
    return middle, interpolated(series[0], middle), interpolated(series[1], middle)


def interpolated(series: SeriesMark, loss: float) -> float:
    """The count of a series at a loss between its ends, its logarithm linear in the loss."""
    sizes = series.sizes
    for one, other in zip(sizes, sizes[1:], strict=False):
        if one.loss <= loss <= other.loss:
            share = (loss - one.loss) / ((other.loss - one.loss) or 1)
            return one.count ** (1 - share) * other.count**share
    return sizes[0].count if loss <= sizes[0].loss else sizes[-1].count


def _axes(across: Axis, up: Axis, upward: str) -> list[str]:
    parts = []
    for tick in up.ticks:
        y = up.at(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(_text(LEFT - 8, y + 4, show(int(tick) if tick >= 1 else tick), "tick", "end"))
    for tick in across.ticks:
        x = across.at(tick)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(_text(x, HEIGHT - BOTTOM + 17, f"{tick:.6g}", "tick", "middle"))
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    middle, name = (TOP + HEIGHT - BOTTOM) / 2, html.escape(upward)
    parts.append(
        f'<text class="tick" text-anchor="middle" x="14" y="{middle}" transform="rotate(-90 14 {middle})">'
        f"{name} (logarithmic)</text>"
    )
    right, what = (LEFT + WIDTH - RIGHT) / 2, "validation loss, nats a token (lower is better)"
    return [*parts, _text(right, HEIGHT - 10, what, "tick", "middle")]


def _compared(comparison: DrawnRatio, series: Sequence[SeriesMark], across: Axis, up: Axis) -> list[str]:
    left, right = (across.at(loss) for loss in comparison.losses)
    middle, *counts = arrow_ends(series, comparison.losses)
    x, (y, y2) = across.at(middle), (up.at(count) for count in counts)
    height = HEIGHT - BOTTOM - TOP
    return [
        f'<rect class="overlap" x="{left}" y="{TOP}" width="{max(right - left, 1):.1f}" height="{height}">'
        f"<title>losses that both reach: {show(comparison.losses[0])} to {show(comparison.losses[1])}</title>"
        "</rect>",
        f'<path class="span" d="M{x} {y}V{y2}M{x - 4} {y}h8M{x - 4} {y2}h8"/>',
    ]


def _series(series: SeriesMark, number: int, across: Axis, up: Axis) -> list[str]:
    kind = f"s{number % len(SHAPES)}"
    line = " ".join(f"{across.at(size.loss)},{up.at(size.count)}" for size in series.sizes)
    dash = DASHES[number % len(DASHES)]
    parts = [f'<polyline class="curve {kind}" stroke-dasharray="{dash}" points="{line}"/>']
    for size in series.sizes:
        parts += [
            _whiskers(size, across, up),
            *(_model(model, kind, number, across, up) for model in size.models),
        ]
        x, y = across.at(size.loss), up.at(size.count)
        told = f"{series.name}, {size.label}: loss {show(size.loss)}, {show(round(size.count, 1))}"
        parts.append(
            f"<g><title>{html.escape(told)}, mean of {len(size.models)} seeds</title>"
            f'<path class="mark {kind}" transform="translate({x} {y}) scale(6)" d="{_shape(number)}"/></g>'
        )
    return parts


def _whiskers(size: SizeMark, across: Axis, up: Axis) -> str:
    x, y = across.at(size.loss), up.at(size.count)
    x1, x2, y1, y2 = *map(across.at, size.losses), *map(up.at, size.counts)
    return f'<path class="whisker" d="M{x1} {y}H{x2}M{x} {y1}V{y2}"/>'


def _model(model: ModelMark, kind: str, number: int, across: Axis, up: Axis) -> str:
    told = f"{model.name}: loss {show(model.loss)}, {show(round(model.count, 1))}"
    if model.missed:
        told += f"; counted as the whole model, the target is missed: {', '.join(model.missed)}"
    ring = " ring" if model.missed else ""
    where = f"translate({across.at(model.loss)} {up.at(model.count)}) scale(3.6)"
    mark = (
        f"<g><title>{html.escape(told)}</title>"
        f'<path class="model {kind}{ring}" transform="{where}" d="{_shape(number)}"/></g>'
    )
    if model.address is None:
        return mark
    return f'<a href="{html.escape(model.address, quote=True)}">{mark}</a>'


def _labels(series: Sequence[SeriesMark], across: Axis, up: Axis, comparison: DrawnRatio | None) -> list[str]:
    """The sizes' names, and the ratio beside its span."""
    taken: list[Box] = []
    anchors, texts, kinds = [], [], []
    if comparison is not None:
        middle, *counts = arrow_ends(series, comparison.losses)
        ends = [(across.at(middle), up.at(count)) for count in counts]
        taken += boxes_along(ends)
        anchors.append((across.at(middle), (ends[0][1] + ends[1][1]) / 2))
        texts.append(comparison.label)
        kinds.append("ratio")
    for number, one in enumerate(series):
        places = [(across.at(size.loss), up.at(size.count)) for size in one.sizes]
        taken += boxes_along(places) + [_around(x, y, 7) for x, y in places]
        taken += [_around(across.at(m.loss), up.at(m.count), 5) for size in one.sizes for m in size.models]
        anchors += places
        texts += [size.label for size in one.sizes]
        kinds += [f"name s{number % len(SHAPES)}"] * len(places)
    widths = [LETTERS[kind.split()[0]] * len(text) + 4 for text, kind in zip(texts, kinds, strict=True)]
    bounds = (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
    boxes = place_labels(anchors, [(width, LINE) for width in widths], taken, bounds)
    return [
        _text(round((box[0] + box[2]) / 2, 1), round(box[3] - 4, 1), text, kind, "middle")
        for box, text, kind in zip(boxes, texts, kinds, strict=True)
    ]


def _legend(name: str, number: int) -> str:
    y, kind = HEIGHT + 6 + 20 * number, f"s{number % len(SHAPES)}"
    dash = DASHES[number % len(DASHES)]
    return (
        f'<path class="curve {kind}" stroke-dasharray="{dash}" d="M{LEFT} {y}h40"/>'
        f'<path class="mark {kind}" transform="translate({LEFT + 20} {y}) scale(6)" d="{_shape(number)}"/>'
        + _text(LEFT + 50, y + 4, name, "legend", "start")
    )


def _shape(number: int) -> str:
    return SHAPES[number % len(SHAPES)]


def _around(x: float, y: float, half: float) -> Box:
    return x - half, y - half, x + half, y + half


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>'
