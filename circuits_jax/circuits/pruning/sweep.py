"""Pruning for many tasks with many settings and seeds, and keeping each task's smallest circuit.

The search is a sampled population with successive halving.  All members of a population run in one program,
which an optimiser that proposes one trial after the other (optuna's samplers) could not use; most of a bad
setting's cost is saved because it shows in a short run; and the result depends on the seed alone, so that a
killed search goes on to the same end.  Each rung is a run of its own with a full decay of the rate, twice as
long as the one before; the first settings are the configured ones.  Rungs compare nodes; of the whole runs,
two at least, the edges are pruned, which takes longer, and the fewest edges win.
"""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from circuits_jax.circuits.masks import size
from circuits_jax.circuits.pruning.assembly import EdgesChosen, choose_edges
from circuits_jax.circuits.pruning.fit import PruneSettings, settings_of
from circuits_jax.circuits.pruning.jobs import FirstNodes, Fitted, Job, Pruned, Splits
from circuits_jax.circuits.pruning.nodes import Pruner, check_known
from circuits_jax.circuits.pruning.runner import choose_batching
from circuits_jax.config import PruneConfig
from circuits_jax.storage.errors import TaskError
from circuits_jax.storage.files import write_json
from circuits_jax.storage.lfs import refuse_pointer_file
from circuits_jax.storage.progress import ProgressBar

RUNGS = 3  # at most, each twice as long as the one before
# Half the population survives each rung.  Sampled settings lie within these factors of the configured ones.
# A price of 0 stays 0.
SPREAD = {"k_coef": 8.0, "log_k_coef": 8.0, "learning_rate": 3.0, "temperature": 3.0}
RUNS_PER_DEVICE = 16  # at once, where runs are vmapped


_Task = tuple[Job, Splits]  # (a run, the pairs)


class Member(NamedTuple):
    """One member of a population: settings (their steps those of a whole run) and a seed."""

    seed: int
    settings: PruneSettings


class _Runs(NamedTuple):
    """The whole runs of one task.

    Attributes:
      jobs: The runs.
      fitted: What each learnt.
      splits: The task's pairs.
    """

    jobs: Sequence[Job]
    fitted: Sequence[Fitted]
    splits: Splits


class Found(NamedTuple):
    """The circuit that a search keeps: the nodes of a run, and the edges chosen between them."""

    pruned: Pruned
    chosen: EdgesChosen


@dataclasses.dataclass
class Progress:
    """One bar for a whole sweep: mask steps done, and each task's fewest nodes so far, then its edges.

    Attributes:
      bar: Counts mask steps of all runs.
      best: {task: nodes}, of whole circuits and of rungs.
      edges: {task: edges} of the circuits that were saved.
      doing: What is being done for which task.
    """

    bar: ProgressBar
    best: dict[str, int] = dataclasses.field(default_factory=dict)
    edges: dict[str, int] = dataclasses.field(default_factory=dict)
    doing: str = ""

    def __call__(self, steps: int, status: str) -> None:
        """Shows that many steps more, and `status`."""
        best = [
            f"{task} {nodes} nodes" + (f" {self.edges[task]} edges" if task in self.edges else "")
            for task, nodes in self.best.items()
        ]
        self.bar.set_postfix_str("; ".join([f"{self.doing}: {status}", *best]), refresh=False)
        self.bar.update(steps)

    def found(self, task: str, nodes: int) -> None:
        """Shows that a circuit of so many nodes holds the target."""
        self.best[task] = min(nodes, self.best.get(task, nodes))
        self(0, "found one")

    def saved(self, task: str, nodes: int, edges: int) -> None:
        """Shows that this task's circuit is made, of so many nodes and edges."""
        self.best[task], self.edges[task] = nodes, edges
        self(0, "saved")


def sweep(
    pruner: Pruner,
    tasks: Mapping[str, Splits],
    store: Path,
    progress: Progress,
    allow_unlearned: bool = False,
) -> Iterator[tuple[str, Found | TaskError]]:
    """The circuit of fewest edges that holds each task's target, or why there is none, as they are found.

    A task's result does not depend on what other tasks are pruned beside it.

    Args:
      pruner: Of the model; its `config` says how many trials and seeds.
      tasks: {name: its pairs}.
      store: Folder, of this model and these settings, for the scores of finished rungs; with them there, a
        sweep that was killed goes on.
      progress: Shows what happens.
      allow_unlearned: Whether tasks that the model knows nothing of are pruned too.
    """
    members = population(pruner.config)
    ready: dict[int, list[Job]] = {}
    for task, splits in tasks.items():
        progress.doing = task
        progress(0, "the full model")
        job = pruner.job(splits)
        try:
            if not allow_unlearned:
                check_known(task, job.full, pruner.config)
        except TaskError as error:
            progress.bar.total -= total_steps(pruner.config)
            yield task, error
            continue
        ready.setdefault(job.length, []).append(job)
    for alike in ready.values():
        at_once = _tasks_at_once(pruner, len(members))
        for start in range(0, len(alike), at_once):
            wave = [(job, tasks[job.task]) for job in alike[start : start + at_once]]
            for runs, kept in _prune_wave(pruner, wave, members, store, progress):
                yield runs.jobs[0].task, _with_retries(pruner, runs, kept, progress)


def population(config: PruneConfig) -> list[Member]:
    """`trials` settings with `seeds` seeds each; the first trial has the configured settings."""
    rng = np.random.RandomState(config.seed)
    settings = [settings_of(config)]
    spread = {name: most for name, most in SPREAD.items() if getattr(settings[0], name) > 0}
    for _ in range(config.trials - 1):
        factors = {name: math.exp(rng.uniform(-1, 1) * math.log(most)) for name, most in spread.items()}
        sampled = {name: getattr(settings[0], name) * factor for name, factor in factors.items()}
        settings.append(settings[0]._replace(**sampled))
    return [Member(config.seed + seed, settings) for settings in settings for seed in range(config.seeds)]


def rungs(count: int, steps: int) -> list[tuple[int, int]]:
    """(members, steps of each) of every rung for a population of `count`; the last is of whole runs, two of
    them at least if there are as many."""
    shorter = min(RUNGS - 1, max(0, int(math.log2(count)) - 1))
    return [(-(-count // 2**i), max(1, steps >> (shorter - i))) for i in range(shorter + 1)]


def total_steps(config: PruneConfig) -> int:
    """Mask steps for one task, over all its runs."""
    return sum(members * steps for members, steps in rungs(config.trials * config.seeds, config.steps))


def best_first(scores: Sequence[float]) -> list[int]:
    """Members by score (see `_rung`), the earlier first where scores are equal."""
    return sorted(range(len(scores)), key=lambda i: (scores[i] < 0, abs(scores[i]), i))


def _tasks_at_once(pruner: Pruner, members: int) -> int:
    """When runs go one after another, batching tasks saves nothing and a kill loses more."""
    if choose_batching(pruner.config.batching) == "map":
        return 1
    return max(1, RUNS_PER_DEVICE * pruner.devices // members)


def _prune_wave(
    pruner: Pruner,
    wave: Sequence[_Task],
    members: Sequence[Member],
    store: Path,
    progress: Progress,
) -> Iterator[tuple[_Runs, Sequence[FirstNodes]]]:
    """All rungs of some tasks of one length, together; then each one's whole runs, with what each keeps."""
    steps = pruner.config.steps
    alive = [list(range(len(members)))] * len(wave)
    for (_, length), (keep, _) in itertools.pairwise(rungs(len(members), steps)):
        jobs = _jobs(wave, members, alive, length)
        scores = _rung(pruner, jobs, len(alive[0]), length, store, progress)
        alive = [
            sorted(left[i] for i in best_first(each)[:keep]) for left, each in zip(alive, scores, strict=True)
        ]
    jobs = _jobs(wave, members, alive, steps)
    progress.doing = ", ".join(job.task for job, _ in wave)
    fitted = pruner.fit(jobs, progress, together=len(alive[0]))
    kept = pruner.discretise(jobs, fitted, progress)
    for at, (_, splits) in enumerate(wave):
        mine = slice(at * len(alive[0]), (at + 1) * len(alive[0]))
        yield _Runs(jobs[mine], fitted[mine], splits), kept[mine]


def _with_retries(pruner: Pruner, runs: _Runs, kept: Sequence[FirstNodes], progress: Progress) -> Found:
    """The best circuit of a task's whole runs, where it misses the target the best of stricter searches too.

    The masks are those that were learnt; only how much loss is allowed on training pairs differs.  Less than
    the full model has is not asked for.
    """
    best = _best(pruner, runs, kept, progress)
    for _ in range(pruner.config.retries):
        pruner = pruner.stricter()
        limit = pruner.config.limit
        if not _misses(best, pruner.config) or runs.jobs[0].full["full/train/calibrated_loss"] > limit:
            break
        progress.doing = f"{runs.jobs[0].task}, asked for {limit:.2g}"
        kept = pruner.discretise(runs.jobs, runs.fitted, progress)
        again = _best(pruner, runs, kept, progress)
        best = min(best, again, key=lambda each: quality(each, pruner.config))
    return best


def _best(pruner: Pruner, runs: _Runs, kept: Sequence[FirstNodes], progress: Progress) -> Found:
    """The best circuit of a task's whole runs, given which nodes each keeps."""
    task, pruned = runs.jobs[0].task, list[Pruned]()
    progress.doing = task
    for job, each, learnt in zip(runs.jobs, kept, runs.fitted, strict=True):
        pruned.append(pruner.finish(job, each.masks, progress, learnt))
        if pruned[-1].met_target:
            progress.found(task, size(pruned[-1].masks))
    progress.doing = f"{task}, edges"
    progress(0, f"{len(pruned)} to compare" if len(pruned) > 1 else "pruned")
    return min(
        (Found(each, choose_edges(each, pruner.subject, pruner.config, runs.splits)) for each in pruned),
        key=lambda each: quality(each, pruner.config),
    )


def _misses(found: Found, config: PruneConfig) -> bool:
    return quality(found, config)[0] == 2


def quality(found: Found, config: PruneConfig) -> tuple[int, float, int]:
    """By loss on select pairs: circuits that hold a margin, those that meet the target, the others.

    Of the first two the fewest edges come first, of the others the least loss.
    """
    loss, nodes = found.chosen.figures["select/calibrated_loss"], len(found.chosen.nodes)
    if loss > config.target:
        return 2, loss, nodes
    return int(config.hold_select and loss > config.limit), len(found.chosen.edges), nodes


def _rung(
    pruner: Pruner, jobs: Sequence[Job], each: int, steps: int, store: Path, progress: Progress
) -> list[list[int]]:
    """Nodes that each task needs with each member that is alive to hold the target, read if there.

    They are negative where the target is held on training pairs at most; such members come last.

    Args:
      pruner: Of the model.
      jobs: Runs of the rung, task by task.
      each: Runs of one task.
      steps: Of each run.
      store: Where scores of finished rungs are kept.
      progress: Shows what happens.
    """
    groups = [jobs[start : start + each] for start in range(0, len(jobs), each)]
    files = [store / f"{_key(group)}.json" for group in groups]
    scores = [_read_scores(file, each) for file in files]
    missing = [i for i, found in enumerate(scores) if found is None]
    if missing:
        todo = [job for i in missing for job in groups[i]]
        progress.doing = f"{', '.join(groups[i][0].task for i in missing)}, {steps} steps"
        kept = pruner.discretise(todo, pruner.fit(todo, progress, together=each), progress)
        needed = [size(masks) if holds else -size(masks) for masks, holds in kept]
        for at, i in enumerate(missing):
            scores[i] = needed[at * each : (at + 1) * each]
            write_json(files[i], scores[i])
    else:
        progress(len(jobs) * steps, "done before")
    whole = [found for found in scores if found is not None]
    for group, nodes in zip(groups, whole, strict=True):
        if holding := [count for count in nodes if count > 0]:
            progress.found(group[0].task, min(holding))
    return whole


def _read_scores(file: Path, each: int) -> list[int] | None:
    """The scores of a finished rung; None if there are none, or the file is damaged."""
    refuse_pointer_file(file)
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(found, list) and len(found) == each and all(type(nodes) is int for nodes in found)
    return found if whole else None


def _jobs(
    wave: Sequence[_Task],
    members: Sequence[Member],
    alive: Sequence[Sequence[int]],
    steps: int,
) -> list[Job]:
    return [
        job._replace(seed=members[i].seed, settings=members[i].settings._replace(steps=float(steps)))
        for (job, _), left in zip(wave, alive, strict=True)
        for i in left
    ]


def _key(jobs: Sequence[Job]) -> str:
    """Names a rung's scores: a digest of the pairs, seeds and settings of its runs."""
    digest = hashlib.sha256()
    for job in jobs:
        for array in (*jax.tree.leaves(job.train), job.seed, *job.settings):
            digest.update(np.asarray(array).tobytes())
    return digest.hexdigest()[:16]
