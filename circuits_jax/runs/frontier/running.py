"""A frontier from its configuration to its files: the points one after another, the page after each."""

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from circuits_jax.config import Config
from circuits_jax.runs.frontier.measure import measure, measured
from circuits_jax.runs.frontier.planning import FrontierPlan, plan_points
from circuits_jax.runs.frontier.points import POINTS, FrontierPoint, frontier_points
from circuits_jax.runs.frontier.summary import summarize
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import ConfigError, check_kind
from circuits_jax.storage.files import check_writable, write_aside, write_json
from circuits_jax.storage.paths import as_path
from circuits_jax.storage.surroundings import settled
from circuits_jax.storage.tables import Report
from circuits_jax.viewer.frontier_page import build_frontier_page
from circuits_jax.viewer.frontier_picture import draw_frontier


@settled
def run_frontier(
    config: Config,
    workdir: str | Path,
    only: Sequence[int] = (),
    note: Callable[[str], Any] = print,
) -> Report:
    """Trains and prunes the models of a list that are not measured yet; writes `frontier.json`, its page and
    its picture after each.

    Several processes may be given one workdir: each takes points that no other is at.

    Args:
      config: With a section `frontier`.
      workdir: The folder of the whole list, local or in a bucket.
      only: Places of points in the list, from 0; none for all of them.
      note: Called with a line about what happens.

    Returns:
      What `frontier.json` holds.

    Raises:
      ConfigError: for a list that cannot be run, or models whose losses cannot be compared.
      UserError: as `train` and `prune_tasks` do.
      Stopped: when it was asked to stop; the same call goes on.
    """
    points, folder = _listed(config, workdir)
    chosen = _chosen(points, only)
    check_writable(folder)
    _tell_others(points, folder, note)
    publish(config, points, folder)  # so that there is a page to look at from the start
    for place, index in enumerate(chosen):
        point = points[index]
        if measured(point) is None:
            left = plan_points(config, points).hours_to_go
            note(f"point {index}, {place + 1} of {len(chosen)}: {point.name}; about {left:.1f} hours to go")
            if measure(point, points, note) is not None:
                publish(config, points, folder)
            jax.clear_caches()  # programs of one model after another would fill the memory
    return publish(config, points, folder)  # other processes may have measured what was left out


def plan_frontier(config: Config, workdir: str | Path) -> FrontierPlan:
    """What a list will take, or what is left of it; nothing is trained or written.

    Raises:
      ConfigError: for a list that cannot be run.
    """
    return plan_points(config, _listed(config, workdir)[0])


def publish(config: Config, points: Sequence[FrontierPoint], folder: Path) -> Report:
    """Writes `frontier.json`, `frontier.html` and `frontier.png` from what is measured so far.

    Other processes may do so at the same time.  Whoever writes last looks once more, and so sees every point
    that was there when any other wrote.

    Raises:
      ConfigError: if measured models have different corpora or tokenizers.
    """
    report = summarize(config, points)
    while True:
        _write(report, folder)
        written, report = report, summarize(config, points)
        if report == written:
            return report


def _write(report: Report, folder: Path) -> None:
    write_json(folder / filenames.FRONTIER, report)
    with write_aside(folder / filenames.FRONTIER_PICTURE) as file:
        draw_frontier(report, file)
    with write_aside(folder / filenames.FRONTIER_PAGE) as file:
        file.write(build_frontier_page(f"Circuit size against loss: {folder.name}", report).encode())


def _listed(config: Config, workdir: str | Path) -> tuple[list[FrontierPoint], Path]:
    check_kind("the configuration", config, Config, "what cj.load_config makes of its name or file")
    check_kind("the workdir", workdir, (str, os.PathLike), "a folder")
    if not str(workdir):
        raise ConfigError("the workdir is empty; name a folder, or . for this one")
    folder = as_path(workdir)
    return frontier_points(config, folder), folder


def _chosen(points: Sequence[FrontierPoint], only: Sequence[int]) -> list[int]:
    for index in only:
        if not 0 <= index < len(points):
            raise ConfigError(f"there is no point {index}; the list has 0 to {len(points) - 1}")
    return list(dict.fromkeys(only)) or list(range(len(points)))


def _tell_others(points: Sequence[FrontierPoint], folder: Path, note: Callable[[str], Any]) -> None:
    """Says what lies in the workdir and is of no point of this list."""
    ours = {point.result.name for point in points if measured(point) is not None}
    others = sorted({path.name for path in (folder / POINTS).glob("*.json")} - ours)
    if others:
        note(
            f"not used: {len(others)} results in {folder / POINTS} of other models or settings, such as "
            f"{shlex.quote(others[0])}"
        )
