"""Finding the smallest circuits that still solve tasks (docs/method.md, "Pruning").

Tasks, seeds and settings are runs of one program: masks are fitted for all runs at once (`fit`), and the
candidates of their searches are judged together (`probes`).  Pruning one task is a batch of one.
"""

import collections
import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from circuits_jax.circuits.ablation.donors import AnyPairs, pairs_under
from circuits_jax.circuits.ablation.edge_removal import with_biases
from circuits_jax.circuits.ablation.means import Subject
from circuits_jax.circuits.full_model import MARGIN
from circuits_jax.circuits.masks import Masks, size
from circuits_jax.circuits.pruning.compaction import (
    Capacities,
    CompactNetwork,
    can_cut,
    capacities,
    compact,
    masked_difference,
    worth,
)
from circuits_jax.circuits.pruning.discretize import drop_needless, drop_pathless, first_holding
from circuits_jax.circuits.pruning.fit import (
    Batch,
    FitFigures,
    FitRun,
    Fitter,
    settings_of,
    start_fit,
)
from circuits_jax.circuits.pruning.jobs import (
    FirstNodes,
    FitRecord,
    Fitted,
    Job,
    Pruned,
    Splits,
    judged_by,
    levels,
)
from circuits_jax.circuits.pruning.probes import JudgedBy, shared_prober
from circuits_jax.circuits.pruning.runner import replicate
from circuits_jax.circuits.pruning.search import Search, settle
from circuits_jax.circuits.pruning.taus import Taus, init_taus
from circuits_jax.config import PruneConfig
from circuits_jax.model.transformer import Transformer
from circuits_jax.storage.errors import TaskError
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.tasks.metrics import CHANCE, loss_of_difference

# A tau this far below 0 when the network is cut has settled: its node is out for good.
SETTLED = 0.05

Watch = Callable[[int, str], None]
"""(mask steps done since the last call, summed over runs; what is going on)."""


class Pruner:
    """The compiled functions that prune one model; all tasks, seeds and settings share them.

    Args:
      subject: The model, and what its removed nodes are held at.
      config: Settings; those in `PruneSettings` may differ from run to run.
      devices: To use; all by default.

    Attributes:
      config: The settings.
      subject: The model, and what its removed nodes are held at.
      final: Whether the final residual stream has nodes too.
    """

    def __init__(self, subject: Subject, config: PruneConfig, devices: Sequence[jax.Device] | None = None):
        self.config = config
        self._network = with_biases(subject.model).network
        self._devices = tuple(devices or jax.devices())
        self._prober = shared_prober(self._network, config.batching, self._devices)
        self._fitter = Fitter(functools.partial(node_loss, self._network), config, self._devices)
        self._rooms: list[Capacities] = []
        self._place(subject)

    def on(self, subject: Subject) -> "Pruner":
        """The same compiled functions for another model of the same configuration."""
        other = copy.copy(self)
        other._place(subject)
        return other

    def seeded(self, seed: int) -> "Pruner":
        """The same with another seed."""
        other = copy.copy(self)
        other.config = dataclasses.replace(self.config, seed=seed)
        return other

    def stricter(self) -> "Pruner":
        """The same with half the slack: half the loss is allowed."""
        other = copy.copy(self)
        other.config = dataclasses.replace(self.config, slack=self.config.slack / 2)
        return other

    @property
    def devices(self) -> int:
        """How many devices are used."""
        return len(self._devices)

    @property
    def compilations(self) -> int:
        """How many programs were compiled so far."""
        return self._prober.compilations + self._fitter.compilations

    def prune(self, splits: Splits, seed: int | None = None, allow_unlearned: bool = False) -> Pruned:
        """Cuts the circuit of one task, with the configured settings and a progress bar.

        Args:
          splits: The task's pairs.
          seed: Of tau and of the pairs' order; the configured one by default.
          allow_unlearned: Whether a model that knows nothing of the task is pruned all the same.

        Raises:
          TaskError: if the full model knows nothing of the task.
        """
        job = self.job(splits, seed)
        if not allow_unlearned:
            check_known(job.task, job.full, self.config)
        with ProgressBar(
            total=self.config.steps, desc=f"prune {job.task}", unit="step", mininterval=1
        ) as bar:

            def watch(steps: int, status: str) -> None:
                bar.update(steps)
                bar.set_postfix_str(status)

            (fitted,) = self.fit([job], watch)
            (kept,) = self.discretise([job], [fitted], watch)
            return self.finish(job, kept.masks, watch, fitted)

    def job(self, splits: Splits, seed: int | None = None) -> Job:
        """A run on these pairs, by default with the configured seed."""
        config, train = self.config, splits.train
        arrays = pairs_under(config.ablation, splits, self._network.config.n_ctx, config.seed)
        return self.job_on(train.task, arrays, np.unique(train.answers), seed)

    def job_on(
        self, task: str, arrays: Sequence[AnyPairs], answers: np.ndarray, seed: int | None = None
    ) -> Job:
        """A run, once the full model was asked.

        Args:
          task: Its name.
          arrays: Pairs of the three splits, of one length.
          answers: The task's answer tokens.
          seed: Of tau and of the pairs' order; the configured one by default.
        """
        seed = self.config.seed if seed is None else seed
        _, figures = self._prober.measure(self._whole, self.subject.everything, *arrays)
        full = {f"full/{name}": value for name, value in figures.items()}
        return Job(task, *arrays, answers, seed, settings_of(self.config), full)

    def fit(self, jobs: Sequence[Job], watch: Watch, together: int | None = None) -> list[Fitted]:
        """Learns the masks of runs of one length and one number of steps.

        Args:
          jobs: The runs.
          watch: Told how it goes.
          together: See `Fitter.fit`.
        """
        runs = [self._start(job) for job in jobs]
        looks = [[FitRecord(0, _active(run.taus), None)] for run in runs]

        def report(steps: int, figures: FitFigures) -> None:
            watch(steps * len(jobs), f"{int(np.mean(figures.kept))} nodes, loss {np.mean(figures.loss):.3f}")
            for mine, kept, loss in zip(looks, figures.kept, figures.loss, strict=True):
                mine.append(FitRecord(mine[-1].step + steps, int(kept), round(float(loss), 4)))

        steps, done = int(jobs[0].settings.steps), 0
        for part in (*self.config.cuts, 1.0):
            if done:
                runs = self._cut(runs)
            until = round(part * steps)
            runs = self._fitter.fit((*self._shared, self._allowed), runs, until - done, report, together)
            done = until
        return [Fitted(run.taus, tuple(mine)) for run, mine in zip(runs, looks, strict=True)]

    def discretise(self, jobs: Sequence[Job], fitted: Sequence[Fitted], watch: Watch) -> list[FirstNodes]:
        """The first n nodes by tau, for the smallest n found to hold the target.

        What holding means is the first of `jobs.levels` that some n holds; all nodes where none does.

        Args:
          jobs: Runs of one length.
          fitted: Of `fit`.
          watch: Told how it goes.
        """
        everything = self.subject.everything
        asked = [levels(self.config, job.train, job.select, job.full) for job in jobs]
        weights = []
        for (taus, _), (by, *_) in zip(fitted, asked, strict=True):
            active = {site: np.asarray(tau >= 0, np.float32) for site, tau in taus.items()}
            weights.append(self._weigh(active, by))

        found: dict[int, FirstNodes] = {}
        for at in range(max(map(len, asked))):
            by = {i: each[at] for i, each in enumerate(asked) if i not in found and at < len(each)}
            searches = {i: first_holding(fitted[i].taus, weights[i], everything) for i in by}
            for i, masks in self._settle(searches, by, watch, self._whole).items():
                if masks is not None:
                    found[i] = FirstNodes(masks, len(by[i]) == len(asked[i][0]))
        return [found.get(i, FirstNodes(everything, False)) for i in range(len(jobs))]

    def finish(self, job: Job, kept: Masks, watch: Watch, fitted: Fitted | None = None) -> Pruned:
        """Drops what `kept` does not need, and measures what is left.

        Where `kept` is hopeless on select pairs (`hopeless_from`) it stays as it is.

        Args:
          job: The run.
          kept: Of `discretise`.
          watch: Told how it goes.
          fitted: What `kept` was made from, which the result remembers.
        """

        def search() -> Search[Masks, Masks]:
            (miss,) = yield [kept]
            if miss > 0:
                return kept  # not even all nodes hold the target: there is nothing to hold on to
            network = self._network.config, self._host[0]
            pathless = functools.partial(drop_pathless, *network, answers=job.answers)
            left = yield from pathless(kept)
            left = yield from drop_needless(left, functools.partial(self._weigh, by=by))
            return (yield from pathless(left))

        left, splits = kept, (job.train, job.select, job.test)
        calibration, metrics = self._prober.measure(self._whole, left, *splits)
        known = job.full["full/select/calibrated_loss"]
        given_up = metrics["select/calibrated_loss"] > hopeless_from(self.config.target, known)
        if not given_up:
            by = judged_by(self.config, job.train, job.select, {**metrics, **job.full})
            left = self._settle({0: search()}, {0: by}, watch, self._cut_to(kept))[0]
            calibration, metrics = self._prober.measure(self._whole, left, *splits)
        settings = {"seed": job.seed, "slack": self.config.slack, **job.settings._asdict()}
        figures = {f"run/{name}": float(value) for name, value in settings.items()}
        return Pruned(
            masks=left,
            calibration=calibration,
            metrics={**metrics, **job.full, **figures, "nodes": float(size(left))},
            met_target=metrics["select/calibrated_loss"] <= self.config.target,
            mediocre=known > self.config.target,
            given_up=given_up,
            history=() if fitted is None else fitted.history,
            taus=None if fitted is None else {site: np.asarray(tau) for site, tau in fitted.taus.items()},
        )

    def attribution(self, kept: Masks, data: AnyPairs) -> Masks:
        """First-order estimate of how much the task loss rises when each node is removed."""
        return {site: -slope for site, slope in self._prober.slopes(self._whole, kept, data).items()}

    def _weigh(self, kept: Masks, by: JudgedBy) -> Masks:
        """The attribution of each node, averaged over what is judged by."""
        found = [self.attribution(kept, pairs) for pairs, _ in by]
        return {site: np.mean([each[site] for each in found], axis=0) for site in kept}

    def _place(self, subject: Subject) -> None:
        self.subject, self.final = subject, subject.final
        params = with_biases(subject.model).params
        self._host = jax.tree.map(np.asarray, (dict(params), dict(subject.means)))
        self._shared = replicate(self._host, self._devices)
        self._allowed = replicate(subject.everything, self._devices)
        self._whole = (*self._shared, ())

    # Steps 1 to 3: learn the masks.

    def _start(self, job: Job) -> FitRun:
        init_key, order_key = jax.random.split(jax.random.PRNGKey(job.seed))
        drawn = init_taus(self._network.config, self.config, init_key, self.final)
        taus = _without(drawn, self.subject.everything)
        return start_fit(self.config, taus, order_key, job.train, job.settings)

    def _cut(self, runs: Sequence[FitRun]) -> list[FitRun]:
        """The runs with their settled nodes cut away, in capacities that were compiled before if any do."""
        stays = [{site: np.asarray(tau) >= -SETTLED for site, tau in run.taus.items()} for run in runs]
        room = self._room(stays)
        if room is None:
            return list(runs)
        return [
            run._replace(
                taus=_without(run.taus, left), own=compact(self._network.config, *self._host, left, room)
            )
            for run, left in zip(runs, stays, strict=True)
        ]

    def _cut_to(self, kept: Masks) -> tuple:
        """What judges parts of `kept`: the network without all other nodes, where that saves enough."""
        room = self._room([kept])
        if room is None:
            return self._whole
        compacted = compact(self._network.config, *self._host, kept, room)
        return (*self._shared, replicate(compacted, self._devices))

    def _room(self, stays: Sequence[Masks]) -> Capacities | None:
        """Capacities that hold the nodes that stay; None where cutting to them is not worth it, or no bias
        stands for what the others are held at.
        """
        if not can_cut(self.config.ablation, self._host[1]):
            return None
        room = capacities(self._network.config, stays, self._rooms)
        if not worth(self._network.config, room):
            return None
        if room not in self._rooms:
            self._rooms.append(room)
        return room

    def _settle(
        self, searches: Mapping[int, Search], by: Mapping[int, JudgedBy], watch: Watch, network: tuple
    ) -> dict[int, Any]:
        def judge(asked: list[tuple[int, Masks]]) -> list[float]:
            watch(0, f"trying {min(size(kept) for _, kept in asked)} nodes")
            counts = collections.Counter(i for i, _ in asked)
            candidates = [(kept, by[i]) for i, kept in asked]
            estimate = [counts[i] > 1 for i, _ in asked]
            return self._prober.misses(network, candidates, estimate)

        return settle(searches, judge)


def node_loss(
    network: Transformer, shared: tuple, own: CompactNetwork | tuple, kept: Taus, batch: Batch
) -> jax.Array:
    """What masks of nodes are fitted to, as `fit.MaskLoss` has it, of a network with biases.

    Args:
      network: The model's, with biases.
      shared: (its parameters, means of the node sites, masks that are 0 on nodes removed for good).
      own: The network cut to some of its nodes, or ().
      kept: The masks.
      batch: Pairs.
    """
    params, means, allowed = shared
    kept = {site: mask * allowed[site] for site, mask in kept.items()}
    return loss_of_difference(masked_difference(network, (params, means, own), kept, batch))


def hopeless_from(target: float, full: float) -> float:
    """The loss on select pairs above which what was learnt is not searched any further.

    It is nearer to chance than to the target: masks learnt the training pairs and nothing that carries over.
    No circuit that is as good as a model that knows the task is hopeless.

    Args:
      target: The loss asked for.
      full: The full model's loss on select pairs.
    """
    known = full if full <= CHANCE - MARGIN else 0.0
    return max(target, (target + CHANCE) / 2, known)


def check_known(task: str, full: Mapping[str, float], config: PruneConfig) -> None:
    """Raises TaskError if the full model, with figures `full` as in `Job.full`, has not learnt `task`."""
    loss, needed = full["full/select/calibrated_loss"], CHANCE - MARGIN
    what = "knows nothing of"
    if config.learnt is not None:
        what, needed = "has not learnt", config.learnt
    if not loss <= needed:
        raise TaskError(
            f"the model {what} {task}: its calibrated loss on select pairs is {loss:.3f} where chance is "
            f"{CHANCE:.3f} and {needed:.3f} is needed; train longer"
        )


def _active(taus: Taus) -> int:
    return sum(int(np.sum(np.asarray(tau) >= 0)) for tau in taus.values())


def _without(taus: Taus, stays: Masks) -> Taus:
    """Sets the tau of every node not in `stays` to the minimum."""
    return {site: np.where(stays[site] > 0, tau, -1).astype(np.float32) for site, tau in taus.items()}
