"""Trains a list of configurations, one after another, and tells what each learnt: how recipes are chosen.

The list is a file that lies in the repository:

    {"config": "quickstart", "settings": {"train.steps": 4000}, "seeds": [0, 1],
     "recipes": {"as it is": {}, "wide": {"model.d_model": 256}}}

`settings`, which may be left out, are those of all its recipes.  Each recipe with each seed is a run of its
own in the workdir; they share one store of corpora.  A command that was stopped goes on: finished runs are
not trained again, the one under way goes on from its checkpoint.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from circuits_jax.configs.finding import load_config
from circuits_jax.runs.listed_runs import CORPORA, ListedRun, folder_name, refuse_twins, training_figures
from circuits_jax.runs.run import Run
from circuits_jax.runs.training import train
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import ConfigError, TaskError
from circuits_jax.storage.files import read_json_if_any, write_json
from circuits_jax.storage.tables import Row
from circuits_jax.tasks import Task

SCORES = "scores.json"
LEARNT = 0.9  # accuracy from which a task counts as learnt


def read_points(path: Path, workdir: Path, only: Sequence[str] = ()) -> list[ListedRun]:
    """The runs that a list asks for, recipe by recipe.

    Args:
      path: The list.
      workdir: Gets a folder for each, and the corpora that they share.
      only: Names of recipes; none means all.

    Raises:
      ConfigError: for a file that is no list, two recipes that are the same, or a name that is not in it.
    """
    try:
        listed = json.loads(path.read_bytes())
        base, seeds = listed["config"], list(listed["seeds"])
        recipes = {name: dict(own) for name, own in dict(listed["recipes"]).items()}
        shared = dict(listed.get("settings", {}))
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(
            f'{path} is no list of recipes ({error}); it holds {{"config": NAME, "seeds": [...], '
            '"recipes": {NAME: {SETTING: value}}}'
        ) from error
    if unknown := [name for name in only if name not in recipes]:
        raise ConfigError(f"{path} has no recipe {unknown[0]!r}; choose of {', '.join(recipes)}")
    store = str(workdir / CORPORA)
    found: list[ListedRun] = []
    for name, settings in recipes.items():
        for seed in seeds:
            config = load_config(base, {"data.store": store, **shared, **settings, "train.seed": seed})
            found.append(ListedRun(name, seed, config, workdir / f"{folder_name(name)}-{seed}"))
    refuse_twins(found, str(path))
    return [point for point in found if not only or point.name in only]


def run_points(
    points: Sequence[ListedRun],
    tasks: Sequence[Task],
    split: str,
    workdir: Path,
    note: Callable[[str], Any] = print,
) -> list[Row]:
    """Trains and scores every point; `recipes.json` in the workdir holds the rows after each.

    Args:
      points: Of `read_points`.
      tasks: What is asked of each model.
      split: "select", which a recipe may be chosen by, or "test", which it may not.
      workdir: Where the table goes.
      note: Called with a line before each point: how many are done, and how long the rest may take; and with
        one for each task that a model cannot be asked.

    Returns:
      A row a point: its validation loss, in nats a token and in bits a byte, minutes of training, how many of
      the tasks it has learnt, and its accuracy on each.
    """
    rows: list[Row] = []
    began, trained = time.monotonic(), 0
    steps = [point.config.train.steps for point in points]
    for place, point in enumerate(points):
        left = (time.monotonic() - began) / trained * sum(steps[place:]) if trained else None
        about = "" if left is None else f", about {left / 60:.0f} minutes to go"
        note(f"point {place + 1} of {len(points)}: {point.name}, seed {point.seed}{about}")
        new = not (point.folder / SCORES).exists()
        run = train(point.config, point.folder)
        trained += new * point.config.train.steps
        rows.append({"recipe": point.name, "seed": point.seed, **_figures(run, tasks, split, note)})
        write_json(workdir / filenames.RECIPES, {"split": split, "rows": rows})
    return rows


def means(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row a recipe: how many seeds, and the mean over them of every figure that all of them have."""
    found: list[Row] = []
    for name in dict.fromkeys(row["recipe"] for row in rows):
        own = [row for row in rows if row["recipe"] == name]
        shared = [key for key in own[0] if all(key in row for row in own) and key not in ("recipe", "seed")]
        figures = {key: sum(float(row[key]) for row in own) / len(own) for key in shared}
        found.append({"recipe": name, "seeds": len(own), **figures})
    return found


def _figures(run: Run, tasks: Sequence[Task], split: str, note: Callable[[str], Any]) -> Row:
    path = run.folder / SCORES
    known = read_json_if_any(path)
    if known.get("model") != run.model.hash:
        known = {"model": run.model.hash, "scores": {}}
    scores = known["scores"].setdefault(split, {})
    for task in tasks:
        if task.name in scores:
            continue
        try:
            scores[task.name] = round(run.score(task, split=split)["accuracy"], 3)
        except TaskError as error:  # the tokenizer leaves it too few pairs
            note(f"left out {task.name}: {error}")
    write_json(path, known)
    accuracies = {task.name: scores[task.name] for task in tasks if task.name in scores}
    trained = training_figures(run)
    return {
        "validation loss": round(trained.loss, 3),
        "bits per byte": round(trained.bits_per_byte, 3),
        "minutes": round(trained.minutes, 1),
        "learnt": sum(accuracy >= LEARNT for accuracy in accuracies.values()),
        **accuracies,
    }
