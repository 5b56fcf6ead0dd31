"""Trains a list of configurations, one after another, and tells what each learnt: how recipes are chosen.

The list is a file that lies in the repository:

    {"config": "quickstart", "settings": {"train.steps": 4000}, "seeds": [0, 1],
     "recipes": {"as it is": {}, "wide": {"model.d_model": 256}}}

`settings`, which may be left out, are those of all its recipes.  Each recipe with each seed is a run of its
own in the workdir; they share one store of corpora.  A command that was stopped goes on: finished runs are
not trained again, the one under way goes on from its checkpoint.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from circuits_jax.config.checks import check_choice
from circuits_jax.configs.finding import load_config
from circuits_jax.runs.listed_runs import (
    CORPORA,
    ListedRun,
    folder_name,
    refuse_twins,
    tokens_of,
    training_figures,
)
from circuits_jax.runs.run import Run
from circuits_jax.runs.scoring import SPLITS
from circuits_jax.runs.training import train
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import ConfigError, TaskError
from circuits_jax.storage.files import read_json_if_any, write_json
from circuits_jax.storage.tables import Row
from circuits_jax.tasks import Task
from circuits_jax.training.metrics import read_metrics
from circuits_jax.training.pretraining import flops_per_token

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
    if not seeds or not recipes:
        raise ConfigError(f"{path} asks for no run: give it a seed and a recipe at least")
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
    """Trains and scores every point; a file in the workdir holds the rows after each.

    The file is `recipes.json`, or `recipes-test.json` for the test split.  It keeps earlier commands' rows.

    Args:
      points: Of `read_points`.
      tasks: What is asked of each model.
      split: "select", which a recipe may be chosen by, or "test", which is for the one that was chosen.
      workdir: Where the table goes.
      note: Called with a line before each point: how many are done, and how long the rest may take; and with
        one for each task that a model cannot be asked.

    Returns:
      A row a point: its validation loss, in nats a token and in bits a byte, minutes of training, how many of
      the tasks it has learnt, and its accuracy on each.

    Raises:
      ConfigError: for several recipes on the test split.
    """
    names = {point.name for point in points}
    if split == "test" and len(names) > 1:
        raise ConfigError(
            f"test pairs are for the one recipe that was chosen by select pairs, and {len(names)} are asked; "
            "name it with --only"
        )
    path, asked = recipes_file(workdir, split), {(point.name, point.seed) for point in points}
    before = read_json_if_any(path)
    # Earlier versions wrote both splits into one file.
    known = before.get("rows", []) if before.get("split") == split else []
    kept = [row for row in known if (row.get("recipe"), row.get("seed")) not in asked]
    rows: list[Row] = []
    work = [_work_left(point) for point in points]
    began = time.monotonic()
    for place, point in enumerate(points):
        done, left = sum(work[:place]), sum(work[place:])
        minutes = (time.monotonic() - began) / 60 * left / done if done else None
        about = "" if minutes is None else f", about {minutes:.0f} minutes to go"
        note(f"point {place + 1} of {len(points)}: {point.name}, seed {point.seed}{about}")
        run = train(point.config, point.folder)
        rows.append({"recipe": point.name, "seed": point.seed, **_figures(run, tasks, split, note)})
        write_json(path, {"split": split, "rows": [*kept, *rows]})
    return rows


def recipes_file(workdir: Path, split: str) -> Path:
    """Where the rows of a split lie.

    Raises:
      ConfigError: for another split than those that models are asked.
    """
    check_choice("the split", split, SPLITS)
    return workdir / (filenames.RECIPES if split == "select" else filenames.RECIPES_TEST)


def _work_left(point: ListedRun) -> float:
    """Floating-point operations of the steps that its log does not have yet."""
    steps = point.config.train.steps
    taken = max((row["step"] for row in read_metrics(point.folder)), default=0)
    whole = tokens_of(point.config) * flops_per_token(point.config.model)
    return whole * max(0, steps - taken) / steps


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
    accuracies: dict[str, float] = {}
    for task in tasks:
        # A name is not enough: templates and words of a task change.
        content = repr((task.templates, task.words)).encode()
        key = f"{task.name} {hashlib.sha256(content).hexdigest()[:12]}"
        try:
            if key not in scores:
                scores[key] = round(run.score(task, split=split)["accuracy"], 3)
            accuracies[task.name] = scores[key]
        except TaskError as error:  # the tokenizer leaves it too few pairs
            note(f"left out {task.name}: {error}")
    write_json(path, known)
    trained = training_figures(run)
    return {
        "validation loss": round(trained.loss, 3),
        "bits per byte": round(trained.bits_per_byte, 3),
        "minutes": round(trained.minutes, 1),
        "learnt": sum(accuracy >= LEARNT for accuracy in accuracies.values()),
        **accuracies,
    }
