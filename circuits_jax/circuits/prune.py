"""Finding the smallest circuit that still solves a task (METHOD section 6)."""

import copy
import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from circuits_jax.circuits import graph, masks
from circuits_jax.circuits.ablation import Means, full_masks, pair_difference, trim
from circuits_jax.circuits.calibration import calibrate, calibrated_loss
from circuits_jax.circuits.circuit import Calibration
from circuits_jax.config import PruneConfig
from circuits_jax.errors import TaskError
from circuits_jax.model import sites
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.tasks.metrics import loss_of_difference
from circuits_jax.tasks.task import Pairs
from circuits_jax.training.mesh import rows
from circuits_jax.training.optimizer import normalize_rms

# A model is refused when it knows less of a task than this below chance (METHOD 6, last lines).
CHANCE = math.log(2)
MARGIN = 0.1
# Mask steps between two looks at the progress bar.
CHUNK = 25

Masks = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Pruned:
    """What pruning found for one task.

    Attributes:
      masks: {node site: float32 [width]} of 0 and 1.
      calibration: Fitted on the training pairs.
      metrics: Figures of circuit and full model on both splits.
      met_target: Whether the calibrated held-out loss is at most the target.
      mediocre: Whether the full model itself misses the target on held-out pairs.
    """

    masks: Masks
    calibration: Calibration
    metrics: dict[str, float]
    met_target: bool
    mediocre: bool


class Pruner:
    """The compiled functions that prune one model; all tasks and seeds share them."""

    def __init__(
        self, model: Transformer, params: Params, means: Means, config: PruneConfig, mesh: jax.sharding.Mesh
    ):
        self._model, self._params, self._means, self.config = model, params, means, config
        self._rows = rows(mesh)
        self._optimizer = optax.chain(
            normalize_rms(1.0, mode="clip"),
            optax.adamw(
                optax.linear_schedule(config.learning_rate, 0, config.steps),
                b2=config.b2,
                weight_decay=config.weight_decay,
            ),
        )
        self._fit_chunk = jax.jit(self._scan_steps, static_argnames="length")
        self._difference = jax.jit(self._masked_difference)
        self._sensitivity = jax.jit(jax.grad(self._masked_loss, argnums=1))
        self._calibrate = jax.jit(calibrate)

    def on(self, params: Params, means: Means) -> "Pruner":
        """The same compiled functions for another model of the same configuration."""
        other = copy.copy(self)
        other._params, other._means = params, means
        return other

    def prune(self, train: Pairs, heldout: Pairs, seed: int | None = None) -> Pruned:
        """Cuts the circuit of one task.

        Raises:
          TaskError: if the full model knows nothing of the task.
        """
        train_data, heldout_data = self._data(train), self._data(heldout)
        everything = full_masks(self._model.config)
        _, full = self._measure(everything, train_data, heldout_data, "full/")
        loss = full["full/heldout/calibrated_loss"]
        if not loss <= CHANCE - MARGIN:
            raise TaskError(
                f"the model knows nothing of {train.task}: its calibrated held-out loss is {loss:.3f} where "
                f"chance is {CHANCE:.3f} and {CHANCE - MARGIN:.3f} is needed; train longer"
            )
        seed = self.config.seed if seed is None else seed
        with tqdm(total=self.config.steps, desc=f"prune {train.task}", unit="step", mininterval=1) as bar:
            taus = self._fit(train_data, seed, bar)
        with tqdm(desc=f"shrink {train.task}", unit="probe", mininterval=1) as bar:
            holds = functools.partial(self._holds, train_data, bar)
            kept = self._discretise(taus, train_data, holds)
            kept = self._drop_pathless(kept, np.unique(train.answers), holds)
            kept = self._drop_needless(kept, train_data, holds)
        calibration, metrics = self._measure(kept, train_data, heldout_data, "")
        return Pruned(
            masks=kept,
            calibration=calibration,
            metrics={**metrics, **full, "nodes": float(_size(kept))},
            met_target=metrics["heldout/calibrated_loss"] <= self.config.target,
            mediocre=loss > self.config.target,
        )

    # Step 1-3: learn the masks.

    def _fit(self, data: tuple[jax.Array, ...], seed: int, bar: tqdm) -> masks.Taus:
        init_key, order_key = jax.random.split(jax.random.PRNGKey(seed))
        taus = masks.init_taus(self._model.config, self.config, init_key)
        carry = (taus, self._optimizer.init(taus), order_key)
        for start in range(0, self.config.steps, CHUNK):
            length = min(CHUNK, self.config.steps - start)
            carry, (loss, count) = self._fit_chunk(carry, self._params, self._means, data, length=length)
            bar.update(length)
            bar.set_postfix(loss=f"{float(loss[-1]):.3f}", nodes=int(count[-1]))
        return carry[0]

    def _scan_steps(self, carry: tuple, params: Params, means: Means, data: tuple, length: int) -> tuple:
        step = functools.partial(self._step, params=params, means=means, data=data)
        return jax.lax.scan(lambda c, _: step(c), carry, length=length)

    def _step(self, carry: tuple, params: Params, means: Means, data: tuple) -> tuple:
        taus, opt_state, key = carry
        key, draw = jax.random.split(key)
        chosen = jax.random.randint(draw, (self.config.batch_pairs,), 0, data[0].shape[0])
        batch = tuple(x[chosen] for x in data)

        def objective(taus: masks.Taus) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            kept = {s: masks.heaviside(tau, self.config.temperature) for s, tau in taus.items()}
            loss = self._masked_loss(params, kept, means, batch)
            count = sum(mask.sum() for mask in kept.values())
            return loss + self.config.k_coef * count, (loss, count)

        grads, figures = jax.grad(objective, has_aux=True)(taus)
        updates, opt_state = self._optimizer.update(grads, opt_state, taus)
        taus = jax.tree.map(masks.clamp, optax.apply_updates(taus, updates))
        return (taus, opt_state, key), figures

    def _masked_loss(self, params: Params, kept: masks.Taus, means: Means, data: tuple) -> jax.Array:
        return loss_of_difference(self._masked_difference(params, kept, means, data))

    def _masked_difference(self, params: Params, kept: masks.Taus, means: Means, data: tuple) -> jax.Array:
        if data[0].shape[0] % self._rows.mesh.size == 0:
            data = tuple(jax.lax.with_sharding_constraint(x, self._rows) for x in data)
        return pair_difference(self._model, params, *data, tap=mix(kept, means))

    # Step 4-5: the smallest set that holds the target, calibrated at every probe.

    def _discretise(self, taus: masks.Taus, data: tuple, holds: Callable[[Masks], bool]) -> Masks:
        """The first n nodes by tau, ties by attribution, for the smallest n found to hold the target."""
        active = {site: np.asarray(tau >= 0, np.float32) for site, tau in taus.items()}
        pick = functools.partial(self._first, self._order(taus, active, data))
        limit = sum(self._sites.values())
        return pick(smallest(lambda n: holds(pick(n)), _size(active), limit))

    def _holds(self, data: tuple, bar: tqdm, kept: Masks) -> bool:
        """Whether the circuit `kept` holds the target, recalibrated; one probe."""
        loss = float(self._calibrate(self._difference(self._params, kept, self._means, data))[2])
        bar.update()
        bar.set_postfix(loss=f"{loss:.3f}", nodes=_size(kept))
        return loss <= self.config.target * self.config.slack

    def _order(self, taus: masks.Taus, active: Masks, data: tuple) -> np.ndarray:
        """All nodes, as flat indices over the node sites, the most wanted first."""
        importance = self.attribution(active, data)
        flat = np.concatenate([np.asarray(taus[site]) for site in self._sites])
        ties = np.concatenate([importance[site] for site in self._sites])
        return np.lexsort((-ties, -flat))

    def attribution(self, kept: Masks, data: tuple) -> Masks:
        """First-order estimate of how much the task loss rises when each node is removed."""
        grads = self._sensitivity(self._params, kept, self._means, data)
        return {site: -np.asarray(grad) for site, grad in grads.items()}

    @functools.cached_property
    def _sites(self) -> dict[str, int]:
        return sites.node_sites(self._model.config)

    def _first(self, order: np.ndarray, count: int) -> Masks:
        flat = np.zeros(len(order), np.float32)
        flat[order[:count]] = 1
        cuts = np.cumsum(list(self._sites.values()))[:-1]
        return dict(zip(self._sites, np.split(flat, cuts), strict=True))

    # Step 6: what lies on no path is tried without.

    def _drop_pathless(self, kept: Masks, answers: np.ndarray, holds: Callable[[Masks], bool]) -> Masks:
        config, params = self._model.config, jax.tree.map(np.asarray, self._params)
        while True:
            live = graph.reached(config, params, kept)
            leads = graph.useful(config, params, kept, answers)
            pathless = [
                (site, int(i))
                for site in self._sites
                for i in np.flatnonzero((kept[site] > 0) & ~(live[site] & leads[site]))
            ]
            smaller = drop(kept, pathless, holds)
            if _size(smaller) == _size(kept):
                return kept
            kept = smaller

    # Step 7: so is every other node, the least important first.

    def _drop_needless(self, kept: Masks, data: tuple, holds: Callable[[Masks], bool]) -> Masks:
        importance = self.attribution(kept, data)
        nodes = [(site, int(i)) for site in self._sites for i in np.flatnonzero(kept[site] > 0)]
        nodes.sort(key=lambda node: importance[node[0]][node[1]])
        return drop(kept, nodes, holds)

    def _measure(
        self, kept: Masks, train: tuple, heldout: tuple, prefix: str
    ) -> tuple[Calibration, dict[str, float]]:
        """Calibration on the training pairs, and loss and accuracy of both splits."""
        fitted = self._difference(self._params, kept, self._means, train)
        scale, shift, _ = self._calibrate(fitted)
        figures = {}
        for split, difference in (
            ("train", fitted),
            ("heldout", self._difference(self._params, kept, self._means, heldout)),
        ):
            right = difference * jnp.array([1.0, -1.0])
            figures[f"{prefix}{split}/loss"] = loss_of_difference(difference)
            figures[f"{prefix}{split}/calibrated_loss"] = calibrated_loss(difference, scale, shift)
            figures[f"{prefix}{split}/accuracy"] = (right > 0).mean()
        return Calibration(float(scale), float(shift)), {k: float(v) for k, v in figures.items()}

    def _data(self, pairs: Pairs) -> tuple[jax.Array, ...]:
        tokens = trim(pairs, self._model.config.n_ctx)
        return tuple(jnp.asarray(x) for x in (tokens, pairs.last, pairs.answers))


def smallest(holds: Callable[[int], bool], start: int, limit: int) -> int:
    """The smallest count found to hold, by a geometric scan and then bisection.

    What holds is not monotone in the count, so the scan doubles from 1 to the first that holds; bisection
    then searches between it and the one before.

    Args:
      holds: Whether the first n nodes hold the target.
      start: The count the masks chose, tried before any larger one.
      limit: The largest count there is, returned if nothing holds.
    """
    failed = 0
    for count in _ladder(start, limit):
        if holds(count):
            break
        failed = count
    else:
        return limit
    while count - failed > 1:
        middle = (count + failed) // 2
        failed, count = (failed, middle) if holds(middle) else (middle, count)
    return count


def drop(kept: Masks, nodes: list[tuple[str, int]], holds: Callable[[Masks], bool]) -> Masks:
    """`kept` without as many of `nodes` as can go: all at once if that holds, else each half in turn."""
    if not nodes:
        return kept
    trial = {site: mask.copy() for site, mask in kept.items()}
    for site, index in nodes:
        trial[site][index] = 0
    if holds(trial):
        return trial
    if len(nodes) == 1:
        return kept
    half = len(nodes) // 2
    return drop(drop(kept, nodes[:half], holds), nodes[half:], holds)


def _ladder(start: int, limit: int) -> list[int]:
    """1, 2, 4, 8, ... to `limit`, with `start` among them."""
    counts, count = {min(max(start, 1), limit), limit}, 1
    while count < limit:
        counts.add(count)
        count *= 2
    return sorted(counts)


def _size(kept: Masks) -> int:
    return int(sum(mask.sum() for mask in kept.values()))
