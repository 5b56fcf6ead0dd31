"""The picture of a frontier as a PNG: circuit size against loss, and the ratio by task."""

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from circuits_jax.viewer.charts.labels import Box, boxes_along, place_labels
from circuits_jax.viewer.charts.scales import linear_axis, log_axis
from circuits_jax.viewer.charts.sizes import arrow_ends
from circuits_jax.viewer.frontier_marks import SeriesMark, series_marks, shared_tasks
from circuits_jax.viewer.frontier_tables import figure as ratio_words
from circuits_jax.viewer.frontier_tables import interval

_MARKERS, _LINES = "osD^v", ("-", "--", ":", "-.", "-")


def draw_frontier(report: Mapping[str, Any], file: BinaryIO) -> None:
    """Writes the picture.

    Args:
      report: What `frontier.json` holds.
      file: Gets a PNG.
    """
    from matplotlib.figure import Figure  # only here: it is slow to import

    points = report["points"] or report["other_points"]
    tasks = shared_tasks(points)
    marks = series_marks(points, tasks, "edges")
    ratio = report["ratio"]
    if ratio["value"] is not None:  # the arrow runs between the first two
        marks.sort(key=lambda mark: report["headline"].index(mark.name))
    by_task = sorted(ratio["by_task"].items(), key=lambda item: item[1])
    figure = Figure(figsize=(13 if by_task else 8, 5.4), layout="constrained")
    axes = figure.subplots(1, 2, width_ratios=(3, 2)) if by_task else [figure.subplots()]
    _sizes(figure, axes[0], marks, ratio, len(tasks))
    if by_task:
        _ratios(axes[1], by_task, ratio)
    if diverged := [point["name"] for point in points if point["diverged"]]:
        figure.supxlabel(f"diverged, and left out: {'; '.join(diverged)}", fontsize=9, color="C3")
    figure.savefig(file, format="png", dpi=110)


def _sizes(figure: Any, axis: Any, marks: Sequence[SeriesMark], ratio: Mapping[str, Any], tasks: int) -> None:
    axis.set(xlabel="validation loss, nats a token", ylabel="edges of a circuit (logarithmic)")
    if not marks:
        axis.set_title("nothing to compare yet")
        return
    axis.set_title(f"Circuit size against loss, geometric mean over {tasks} tasks", fontsize=11)
    models = [model for one in marks for size in one.sizes for model in size.models]
    across, up = linear_axis([m.loss for m in models], 0, 1), log_axis([m.count for m in models], 0, 1)
    axis.set(yscale="log", xlim=(across.low, across.high), ylim=(up.low, up.high))
    _plain_numbers(axis.yaxis)
    for number, one in enumerate(marks):
        look = {"color": f"C{number}", "marker": _MARKERS[number % len(_MARKERS)]}
        losses, counts = [size.loss for size in one.sizes], [size.count for size in one.sizes]
        axis.errorbar(
            losses,
            counts,
            xerr=[[s.loss - s.losses[0] for s in one.sizes], [s.losses[1] - s.loss for s in one.sizes]],
            yerr=[[s.count - s.counts[0] for s in one.sizes], [s.counts[1] - s.count for s in one.sizes]],
            ls=_LINES[number % len(_LINES)],
            ms=8,
            lw=1.8,
            elinewidth=1,
            label=one.name,
            **look,
        )
        for model in (model for size in one.sizes for model in size.models):
            face = "white" if model.missed else look["color"]
            axis.plot(model.loss, model.count, ls="", ms=5, alpha=0.7, mfc=face, **look)
    if ratio["value"] is not None:
        axis.axvspan(*ratio["losses"], color="C3", alpha=0.07, lw=0)
        middle, *ends = arrow_ends(marks, ratio["losses"])
        axis.annotate(
            "", (middle, ends[0]), (middle, ends[1]), arrowprops={"arrowstyle": "<->", "color": "C3"}
        )
    axis.grid(alpha=0.25, which="both")
    axis.legend(fontsize=9)
    _write_labels(figure, axis, marks, ratio)


def _plain_numbers(axis: Any) -> None:
    """Labels a logarithmic axis by 20 and not by 2 x 10^1; between powers of ten only where it spans few."""
    from matplotlib.ticker import LogFormatter  # only here: it is slow to import

    axis.set_major_formatter(LogFormatter())
    axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.2, 0.5)))


def _write_labels(figure: Any, axis: Any, marks: Sequence[SeriesMark], ratio: Mapping[str, Any]) -> None:
    """Writes the sizes' names and the ratio where nothing else is."""
    figure.draw_without_rendering()  # until then nobody knows where anything lies

    def at(loss: float, count: float) -> tuple[float, float]:
        x, y = axis.transData.transform((loss, count))
        return float(x), float(y)

    taken: list[Box] = []
    legend = axis.get_legend().get_window_extent()
    taken.append((legend.x0, legend.y0, legend.x1, legend.y1))
    anchors, written = [], []

    def write(text: str, x: float, y: float, **look: Any) -> None:
        anchors.append((x, y))
        written.append(axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes, **look))

    if ratio["value"] is not None:
        middle, *ends = arrow_ends(marks, ratio["losses"])
        places = [at(middle, end) for end in ends]
        taken += boxes_along(places, 5)
        span = f" ({interval(ratio)})" if interval(ratio) else ""
        middle_of = (places[0][1] + places[1][1]) / 2
        write(
            f"x {ratio_words(ratio['value'])}{span}",
            places[0][0],
            middle_of,
            color="C3",
            weight="bold",
            fontsize=10,
        )
    for number, one in enumerate(marks):
        places = [at(size.loss, size.count) for size in one.sizes]
        seeds = [at(model.loss, model.count) for size in one.sizes for model in size.models]
        taken += boxes_along(places) + [_around(x, y, 10) for x, y in places]
        taken += [_around(x, y, 6) for x, y in seeds]
        for size, place in zip(one.sizes, places, strict=True):
            write(size.label, *place, color=f"C{number}", fontsize=8.5)
    box = axis.get_window_extent()
    extents = [text.get_window_extent() for text in written]
    sizes = [(extent.width + 4, extent.height + 2) for extent in extents]
    boxes = place_labels(anchors, sizes, taken, (box.x0, box.y0, box.x1, box.y1))
    for text, found in zip(written, boxes, strict=True):
        centre = (found[0] + found[2]) / 2, (found[1] + found[3]) / 2
        text.set_position(axis.transAxes.inverted().transform(centre))


def _around(x: float, y: float, half: float) -> Box:
    return x - half, y - half, x + half, y + half


def _ratios(axis: Any, by_task: Sequence[tuple[str, float]], ratio: Mapping[str, Any]) -> None:
    missed = {each["task"] for each in ratio["missed"]}
    axis.set_title("Ratio of edges by task, at equal loss", fontsize=11)
    axis.set_xscale("log")
    _plain_numbers(axis.xaxis)
    for place, (task, value) in enumerate(by_task):
        axis.plot(value, -place, "o", color="gray", mfc="white" if task in missed else "gray")
    bottom = -len(by_task)
    axis.plot(ratio["value"], bottom, "D", color="C3", ms=8)
    if ratio["low"] is not None:
        axis.plot([ratio["low"], ratio["high"]], [bottom, bottom], color="C3", lw=2)
    axis.axvline(1, color="gray", lw=1, ls=":")
    names = [f"{task} (missed)" if task in missed else task for task, _ in by_task]
    axis.set_yticks(range(0, bottom - 1, -1), [*names, "geometric mean"], fontsize=8.5)
    axis.grid(alpha=0.25, axis="x", which="both")
    axis.margins(0.12, 0.08)
