"""Finding the smallest circuits that still solve tasks (METHOD section 6).

Tasks, seeds and settings are runs of one program: masks are fitted for all runs at once (`fit`), and the
candidates of their searches are judged together (`probes`).  Pruning one task is a batch of one.
"""

import collections
import copy
import functools
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np
from tqdm import tqdm

from circuits_jax.circuits import masks
from circuits_jax.circuits.ablation import Means, full_masks, pair_arrays
from circuits_jax.circuits.cut import Capacities, Narrow, capacities, masked_difference, narrowed, worth
from circuits_jax.circuits.edges import with_biases
from circuits_jax.circuits.fit import Batch, Figures, Fitter, Knobs, Run, knobs_of, start
from circuits_jax.circuits.probes import PairArrays, Prober
from circuits_jax.circuits.pruned import Fitted, Job, Look, Pruned
from circuits_jax.circuits.search import Masks, Search, settle, size
from circuits_jax.circuits.shrink import drop_needless, drop_pathless, first_holding
from circuits_jax.circuits.spread import replicate
from circuits_jax.config import PruneConfig
from circuits_jax.errors import TaskError
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.tasks.metrics import loss_of_difference
from circuits_jax.tasks.task import Pairs

# A model is refused when it knows less of a task than this below chance (METHOD 6, last lines).
CHANCE = math.log(2)
MARGIN = 0.1
# A tau this far below 0 when the network is cut has settled: its node is out for good.
SETTLED = 0.05

Watch = Callable[[int, str], None]
"""(mask steps done since the last call, summed over runs; what is going on)."""


class Pruner:
    """The compiled functions that prune one model; all tasks, seeds and settings share them.

    Args:
      model, params: The network.
      means: {node site: [width]}, what removed nodes are held at.
      config: Settings; those in `Knobs` may differ from run to run.
      mesh: Its devices are used, along whatever axes.
    """

    def __init__(
        self, model: Transformer, params: Params, means: Means, config: PruneConfig, mesh: jax.sharding.Mesh
    ):
        self.config, self._given = config, model
        self._model, _ = with_biases(model, params)
        self._devices = tuple(mesh.devices.flat)
        self._prober = Prober(self._model, config, self._devices)
        self._fitter = Fitter(self._loss, config, self._devices)
        self._rooms: list[Capacities] = []
        self._place(params, means)

    def on(self, params: Params, means: Means) -> "Pruner":
        """The same compiled functions for another model of the same configuration."""
        other = copy.copy(self)
        other._place(params, means)
        return other

    @property
    def devices(self) -> int:
        """How many devices are used."""
        return len(self._devices)

    @property
    def compilations(self) -> int:
        """How many programs were compiled so far."""
        return self._prober.compilations + self._fitter.compilations

    def prune(
        self, train: Pairs, heldout: Pairs, seed: int | None = None, whatever_it_knows: bool = False
    ) -> Pruned:
        """Cuts the circuit of one task, with the configured settings and a progress bar.

        Args:
          train, heldout: The task's pairs.
          seed: Of tau and of the pairs' order; the configured one by default.
          whatever_it_knows: Whether a model that knows nothing of the task is pruned all the same.

        Raises:
          TaskError: if the full model knows nothing of the task.
        """
        job = self.job(train, heldout, seed)
        full = self.assess(job)
        if not whatever_it_knows:
            check_known(job.task, full)
        with tqdm(total=self.config.steps, desc=f"prune {job.task}", unit="step", mininterval=1) as bar:

            def watch(steps: int, status: str) -> None:
                bar.update(steps)
                bar.set_postfix_str(status)

            (fitted,) = self.fit([job], watch)
            (kept,) = self.discretise([job], [fitted], watch)
            return self.finish(job, kept, full, watch, fitted.history)

    def job(self, train: Pairs, heldout: Pairs, seed: int | None = None, knobs: Knobs | None = None) -> Job:
        """A run on these pairs, by default with the configured seed and settings."""
        arrays = pair_arrays([train, heldout], self._model.config.n_ctx)
        seed = self.config.seed if seed is None else seed
        return Job(train.task, *arrays, np.unique(train.answers), seed, knobs or knobs_of(self.config))

    def assess(self, job: Job) -> dict[str, float]:
        """Figures of the full model on the job's pairs; their names begin with "full/"."""
        everything = full_masks(self._model.config)
        _, figures = self._prober.measure(self._whole, everything, job.train, job.heldout)
        return {f"full/{name}": value for name, value in figures.items()}

    def fit(self, jobs: Sequence[Job], watch: Watch, together: int | None = None) -> list[Fitted]:
        """Learns the masks of runs of one length and one number of steps (METHOD 6, steps 1 to 3).

        Args:
          jobs: The runs.
          watch: Told how it goes.
          together: See `Fitter.fit`.
        """
        runs = [self._start(job) for job in jobs]
        looks = [[Look(0, _active(run.taus), None)] for run in runs]

        def report(steps: int, figures: Figures) -> None:
            watch(steps * len(jobs), f"{int(np.mean(figures.kept))} nodes, loss {np.mean(figures.loss):.3f}")
            for mine, kept, loss in zip(looks, figures.kept, figures.loss, strict=True):
                mine.append(Look(mine[-1].step + steps, int(kept), round(float(loss), 4)))

        steps, done = int(jobs[0].knobs.steps), 0
        for part in (*self.config.cuts, 1.0):
            if done:
                runs = self._cut(runs)
            until = round(part * steps)
            runs = self._fitter.fit(self._shared, runs, until - done, report, together)
            done = until
        return [Fitted(run.taus, tuple(mine)) for run, mine in zip(runs, looks, strict=True)]

    def discretise(self, jobs: Sequence[Job], fitted: Sequence[Fitted], watch: Watch) -> list[Masks]:
        """The first n nodes by tau, for the smallest n found to hold the target (METHOD 6, steps 4 and 5).

        Args:
          jobs: Runs of one length.
          fitted: Of `fit`.
          watch: Told how it goes.
        """
        searches = []
        for job, (taus, _) in zip(jobs, fitted, strict=True):
            active = {site: np.asarray(tau >= 0, np.float32) for site, tau in taus.items()}
            searches.append(first_holding(taus, self.attribution(active, job.train)))
        return self._settle(searches, jobs, watch, self._whole)

    def finish(
        self, job: Job, kept: Masks, full: dict[str, float], watch: Watch, history: tuple[Look, ...] = ()
    ) -> Pruned:
        """Drops what `kept` does not need, and measures what is left (METHOD 6, step 6).

        Args:
          job: The run.
          kept: Of `discretise`.
          full: Of `assess`.
          watch: Told how it goes.
          history: Of the run's `Fitted`.
        """

        def search() -> Search[Masks, Masks]:
            (miss,) = yield [kept]
            if miss > 0:
                return kept  # not even all nodes hold the target: there is nothing to hold on to
            network = self._model.config, self._host[0]
            pathless = functools.partial(drop_pathless, *network, answers=job.answers)
            left = yield from pathless(kept)
            left = yield from drop_needless(left, lambda masks: self.attribution(masks, job.train))
            return (yield from pathless(left))

        (left,) = self._settle([search()], [job], watch, self._cut_to(kept))
        calibration, metrics = self._prober.measure(self._whole, left, job.train, job.heldout)
        settings = {"seed": job.seed, **job.knobs._asdict()}
        figures = {f"run/{name}": float(value) for name, value in settings.items()}
        return Pruned(
            masks=left,
            calibration=calibration,
            metrics={**metrics, **full, **figures, "nodes": float(size(left))},
            met_target=metrics["heldout/calibrated_loss"] <= self.config.target,
            mediocre=full["full/heldout/calibrated_loss"] > self.config.target,
            history=history,
        )

    def attribution(self, kept: Masks, data: PairArrays) -> Masks:
        """First-order estimate of how much the task loss rises when each node is removed."""
        return {site: -slope for site, slope in self._prober.slopes(self._whole, kept, data).items()}

    def _place(self, params: Params, means: Means) -> None:
        _, params = with_biases(self._given, params)
        self._host = jax.tree.map(np.asarray, (dict(params), dict(means)))
        self._shared = replicate(self._host, self._devices)
        self._whole = (*self._shared, ())

    # Steps 1 to 3: learn the masks.

    def _start(self, job: Job) -> Run:
        init_key, order_key = jax.random.split(jax.random.PRNGKey(job.seed))
        taus = masks.init_taus(self._model.config, self.config, init_key)
        return start(self.config, taus, order_key, job.train, job.knobs)

    def _loss(self, shared: tuple, own: Narrow | tuple, kept: masks.Taus, batch: Batch) -> jax.Array:
        return loss_of_difference(masked_difference(self._model, shared, own, kept, batch))

    def _cut(self, runs: Sequence[Run]) -> list[Run]:
        """The runs with their settled nodes cut away, in capacities that were compiled before if any do."""
        stays = [{site: np.asarray(tau) >= -SETTLED for site, tau in run.taus.items()} for run in runs]
        room = self._room(stays)
        if room is None:
            return list(runs)
        return [
            run._replace(
                taus=_without(run.taus, left), own=narrowed(self._model.config, *self._host, left, room)
            )
            for run, left in zip(runs, stays, strict=True)
        ]

    def _cut_to(self, kept: Masks) -> tuple:
        """What judges parts of `kept`: the network without all other nodes, where that saves enough."""
        room = self._room([kept])
        if room is None:
            return self._whole
        narrow = narrowed(self._model.config, *self._host, kept, room)
        return (*self._shared, replicate(narrow, self._devices))

    def _room(self, stays: Sequence[Masks]) -> Capacities | None:
        """Capacities that hold the nodes that stay; None where cutting to them is not worth it."""
        room = capacities(self._model.config, stays, self._rooms)
        if not worth(self._model.config, room):
            return None
        if room not in self._rooms:
            self._rooms.append(room)
        return room

    def _settle(
        self, searches: Sequence[Search], jobs: Sequence[Job], watch: Watch, network: tuple
    ) -> list[Masks]:
        limit = self.config.target * self.config.slack

        def judge(asked: list[tuple[int, Masks]]) -> list[float]:
            watch(0, f"trying {min(size(kept) for _, kept in asked)} nodes")
            counts = collections.Counter(i for i, _ in asked)
            candidates = [(kept, jobs[i].train) for i, kept in asked]
            estimate = [counts[i] > 1 for i, _ in asked]
            return self._prober.misses(network, candidates, limit, estimate)

        return list(settle(dict(enumerate(searches)), judge).values())


def check_known(task: str, full: dict[str, float]) -> None:
    """Raises TaskError if the full model, with figures `full` of `Pruner.assess`, knows nothing of `task`."""
    loss = full["full/heldout/calibrated_loss"]
    if not loss <= CHANCE - MARGIN:
        raise TaskError(
            f"the model knows nothing of {task}: its calibrated held-out loss is {loss:.3f} where "
            f"chance is {CHANCE:.3f} and {CHANCE - MARGIN:.3f} is needed; train longer"
        )


def _active(taus: masks.Taus) -> int:
    return sum(int(np.sum(np.asarray(tau) >= 0)) for tau in taus.values())


def _without(taus: masks.Taus, stays: Masks) -> masks.Taus:
    """`taus` with those that do not stay as far below 0 as can be."""
    return {site: np.where(stays[site], tau, -1).astype(np.float32) for site, tau in taus.items()}
