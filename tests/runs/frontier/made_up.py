"""Frontiers whose models nobody trained: results by a law that is known."""

import dataclasses
import math

import numpy as np

from circuits_jax.config import Config, FrontierConfig
from circuits_jax.runs.frontier.points import frontier_points
from circuits_jax.storage.files import write_json

SERIES = (
    "dense: sparsity.target=1 model.activation_fraction=none model.d_model=16,32,64",
    "sparse: sparsity.target=1/8,1/16,1/32 model.d_model=64,128,192",
)
OTHERS = (
    "sparse activations alone: sparsity.target=1 model.d_model=16,64",
    "sparse weights alone: model.activation_fraction=none sparsity.target=1/8,1/32 model.d_model=64,192",
)
TASKS = {
    "single_double_quote": 14.0, "bracket_counting": 90.0, "if_ternary": 20.0, "bracket_brace": 11.0,
    "while_return_true": 6.0, "lambda_func": 9.0, "fstring_brace": 8.0, "with_as": 66.0,
}  # fmt: skip
RATIO = 16.0


def config(**frontier):
    """A configuration of SERIES with what is given of its section `frontier`."""
    given = {"series": SERIES, "compare": ("dense / sparse",), "seeds": (0, 1)} | frontier
    return Config(frontier=FrontierConfig(**given))


def edges(task, loss, dense, noise=0.0):
    """By the law: RATIO times as many in a dense model of equal loss."""
    return round(TASKS[task] * (RATIO if dense else 1.0) * math.exp(-2.0 * (loss - 4.0) + noise), 6)


def result(point, loss, counts, missed=(), **more):
    """What `measure` would have kept."""
    whole = {"all_edges": 393216 if point.kind == "dense" else 12288, "all_nodes": 2816}
    tasks = {}
    for task, count in counts.items():
        if count is None:
            tasks[task] = {"learnt": False, "why": f"the model has not learnt {task}"}
            continue
        met = task not in missed
        tasks[task] = {
            "learnt": True,
            "met": met,
            "edges": count if met else whole["all_edges"],
            "nodes": 0.6 * count if met else whole["all_nodes"],
            "found_edges": count,
            "found_nodes": 0.6 * count,
            "select_loss": 0.1 if met else 0.4,
            "test_loss": 0.12 if met else 0.5,
        }
    return {
        "identity": point.identity,
        "name": point.name,
        "learning_rate": 0.01,
        "folder": "a folder",
        "parameters": 4_500_000,
        "nonzeros": 30_000,
        "loss": loss,
        "bits_per_byte": None,
        "diverged": None,
        "tasks": tasks,
        "pages": f"models/{point.series} {point.seed}/report.html",
        "corpus": "c" * 16,
        "tokenizer": "t" * 16,
        "model": "m" * 16,
        "training_hours": 0.1,
        "pruning_hours": 0.05,
        **whole,
        **more,
    }


def losses(points):
    """{point: a loss, lower the later its size stands in its series, and a little other for each seed}."""
    found = {}
    for point in points:
        sizes = list(dict.fromkeys(p.size for p in points if p.series == point.series))
        start = 4.14 if point.kind == "dense" else 4.08
        step = 0.3 / max(1, len(sizes) - 1)
        found[point] = round(start - step * sizes.index(point.size) + 0.012 * point.seed, 4)
    return found


def write_all(asked, workdir, noise=0.0, only=None):
    """Writes the results of all points, or of those that `only` (point -> bool) chooses; gives the points."""
    points, rng = frontier_points(asked, workdir), np.random.default_rng(3)
    for point, loss in losses(points).items():
        counts = {}
        for task in TASKS:
            wobble = noise * float(rng.normal())
            counts[task] = edges(task, loss, point.kind == "dense", wobble)
        if only is None or only(point):
            write_json(point.result, result(point, loss, counts))
    return points


def change(point, **values):
    """Changes the stored result of a point."""
    import json

    known = json.loads(point.result.read_bytes())
    write_json(point.result, known | values)


def with_section(asked, section, **values):
    """`asked` with some values of a section changed."""
    return dataclasses.replace(asked, **{section: dataclasses.replace(getattr(asked, section), **values)})
