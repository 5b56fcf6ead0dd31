"""Do training seeds agree?  Circuits of several runs, node by node (`circuits.agreement`)."""

import dataclasses
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from circuits_jax.circuits.ablation.recording import recorded
from circuits_jax.circuits.agreement import ALIKE, DRAWS, CircuitAgreement, agreement
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.stories.files import has_story, read_story
from circuits_jax.circuits.stories.story import FILE as STORY
from circuits_jax.model.model import Model
from circuits_jax.model.sites import FINAL, node_sites
from circuits_jax.runs.own_tasks import kept_pairs, read_named
from circuits_jax.runs.run import Run
from circuits_jax.storage.errors import CircuitError, ConfigError
from circuits_jax.storage.filenames import AGREEMENT
from circuits_jax.storage.files import check_writable
from circuits_jax.storage.paths import as_path
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.storage.tables import Report, Row, save_table
from circuits_jax.tasks import Task, build_pairs, get_task, is_file, load_recorded
from circuits_jax.training.multihost.processes import is_primary

_ROWS = 64  # prompts of one forward pass


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A run's circuit of a task, and activations of its model on the task's prompts."""

    name: str
    circuit: Circuit
    activations: dict[str, np.ndarray]
    roles: dict[str, str]


@dataclasses.dataclass(frozen=True)
class AgreementSettings:
    """What is compared, and on which prompts.

    Attributes:
      tasks: Names or files of tasks; "all" among them: every task of which all runs have a circuit.
      pairs: Test pairs of each task, whose prompts are run.
      seed: Of pairs and random nodes.
      changed_tasks: Whether a Python file of tasks runs although no circuit was cut with it as it is.
    """

    tasks: Sequence[str] = ("all",)
    pairs: int = 128
    seed: int = 1
    changed_tasks: bool = False


def compare_seeds(runs: Sequence[Run], asked: AgreementSettings, folder: Path) -> tuple[list[Row], Report]:
    """Looks for the nodes of every run's circuits in every other run; writes `agreement.json`.

    Args:
      runs: Two or more, with one tokenizer, and circuits.
      asked: What is compared.
      folder: Of the file.

    Returns:
      (one row a task and ordered pair of runs, what else there is to say).

    Raises:
      ConfigError: for fewer than two runs, two that are one, or runs with different tokenizers.
      CircuitError: if a run has no circuit of a task that is named, or no task is common to all.
    """
    labels = _labels(runs)
    check_writable(folder)
    rows: list[Row] = []
    nodes: list[Report] = []
    bar = ProgressBar(_tasks(runs, labels, asked), desc="agreement", disable=not is_primary())
    for task in bar:
        bar.set_postfix(task=task.name)
        seen = [_see(run, label, task, asked) for run, label in zip(runs, labels, strict=True)]
        for one, other in itertools.permutations(seen, 2):
            found = agreement(
                one.circuit.nodes, one.activations, other.circuit.nodes, other.activations, asked.seed
            )
            rows.append(_row(task.name, one, other, found))
            nodes += _node_rows(task.name, one, other, found)
    summary = {"pairs": asked.pairs, "seed": asked.seed, "random circuits": DRAWS, "found from": ALIKE}
    save_table(rows, folder / AGREEMENT, summary, {"nodes": nodes})
    return rows, summary


def _labels(runs: Sequence[Run]) -> list[str]:
    """Names of the runs: their folders', or where two are called the same the whole paths."""
    if len(runs) < 2:
        raise ConfigError("one run alone cannot agree; name two or more: --runs=A,B")
    labels = [str(run.folder) for run in runs]
    places = [os.path.realpath(label) for label in labels]
    if twice := next((label for label in labels if places.count(os.path.realpath(label)) > 1), None):
        raise ConfigError(f"the run {twice} is named twice; leave one of them out")
    first, *others = runs
    for run, label in zip(others, labels[1:], strict=True):
        if run.tokenizer.hash != first.tokenizer.hash:
            raise ConfigError(
                f"{labels[0]} and {label} have different tokenizers, so that they do not read the same "
                "prompts; compare runs of one corpus"
            )
    short = [run.folder.name for run in runs]
    return short if len(set(short)) == len(short) else labels


def _tasks(runs: Sequence[Run], labels: Sequence[str], asked: AgreementSettings) -> list[Task]:
    own = {task.name: task for task in read_named(runs, asked.tasks, asked.changed_tasks).values()}
    there = [{circuit.task for circuit in run.circuits} for run in runs]
    common = [task for task in there[0] if all(task in each for each in there)]
    named = [as_path(name).stem if is_file(name) else name for name in asked.tasks]
    wanted = sorted(common) if "all" in named else list(dict.fromkeys(named))
    for name in wanted:
        for label, each in zip(labels, there, strict=True):
            if name not in each:
                known = ", ".join(sorted(each)) or "none"
                raise CircuitError(f"{label} has no circuit of {name}; it has {known}")
    if not wanted:
        raise CircuitError(f"no task has a circuit in all of {', '.join(labels)}; prune the same ones")
    return [own.get(name) or _task(runs[0], name) for name in wanted]


def _task(run: Run, name: str) -> Task:
    """A built-in task, or one whose file of pairs lies beside the circuit."""
    kept = kept_pairs(run, name)
    return load_recorded(kept[0], None) if kept else get_task(name)


def _see(run: Run, label: str, task: Task, asked: AgreementSettings) -> _Seen:
    place, circuit = next(
        (folder, each)
        for folder, each in zip(run.circuit_folders, run.circuits, strict=True)
        if each.task == task.name
    )
    if not circuit.nodes:
        raise CircuitError(f"the circuit of {task.name} in {label} has no nodes to look for")
    n_ctx = run.model.config.n_ctx
    prompts = build_pairs(task, run.tokenizer, "test", asked.pairs, asked.seed, n_ctx)
    tokens = prompts.tokens.reshape(-1, prompts.tokens.shape[-1])
    last = np.repeat(prompts.last, 2)
    roles: dict[str, str] = {}
    if has_story(place):
        for role in read_story(place / STORY, circuit).roles:
            roles |= dict.fromkeys(map(str, role.nodes), role.name)
    return _Seen(label, circuit, activations_of(run.model, tokens, last, FINAL in circuit.means), roles)


def activations_of(model: Model, tokens: np.ndarray, last: np.ndarray, final: bool) -> dict[str, np.ndarray]:
    """Activations of all nodes at the prompts' positions, {site: [positions, width]}.

    Args:
      model: The model.
      tokens: int [rows, T].
      last: int [rows], the last position of each prompt.
      final: Whether the final residual stream has nodes.
    """
    sites = tuple(node_sites(model.config, final))
    found: dict[str, list[np.ndarray]] = {site: [] for site in sites}
    inside = np.arange(tokens.shape[1]) <= last[:, None]
    for part, records in recorded(model, tokens, sites, _ROWS):
        for site in sites:
            found[site].append(records[site][inside[part]])
    return {site: np.concatenate(parts) for site, parts in found.items()}


def _row(task: str, one: _Seen, other: _Seen, found: CircuitAgreement) -> Row:
    return {
        "task": task,
        "circuit of": one.name,
        "looked for in": other.name,
        "nodes": len(found.nodes),
        "nodes there": len(other.circuit.nodes),
        "mean correlation": round(found.mean, 3),
        "random nodes": round(float(found.random.mean()), 3),
        "best of random": round(float(found.random.max()), 3),
        "p": round(found.p, 4),
        "found": found.alike,
        "anywhere": found.anywhere,
    }


def _node_rows(task: str, one: _Seen, other: _Seen, found: CircuitAgreement) -> list[Report]:
    rows: list[dict[str, Any]] = []
    for each in found.nodes:
        like = None if each.like is None else str(each.like)
        rows.append(
            {
                "task": task,
                "circuit of": one.name,
                "looked for in": other.name,
                "node": str(each.node),
                "role": one.roles.get(str(each.node)),
                "like": like,
                "role there": None if like is None else other.roles.get(like),
                "correlation": round(each.correlation, 4),
                "like anywhere": None if each.like_anywhere is None else str(each.like_anywhere),
                "correlation anywhere": round(each.correlation_anywhere, 4),
            }
        )
    return rows
