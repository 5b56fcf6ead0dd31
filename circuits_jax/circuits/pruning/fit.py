"""Learning masks by gradient, many runs at once (docs/method.md, "Pruning").

The same loop fits masks of nodes and of edges; the loss decides which.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from circuits_jax.circuits.pruning.runner import PAIRS, Runner
from circuits_jax.circuits.pruning.taus import Taus, clamp, heaviside
from circuits_jax.config import PruneConfig
from circuits_jax.model import scopes
from circuits_jax.sparsity.optimizer import normalize_rms

# Mask steps of one run between two looks at the progress bar.
CHUNK = 25

Batch = tuple[jax.Array, ...]
MaskLoss = Callable[[Any, Any, Taus, Batch], jax.Array]
"""(what all runs share, what is the run's own, masks, batch) -> mean loss of the batch."""
EachFigure = Callable[[int, "FitFigures"], None]
"""(steps done since the last call, the last step's figures of every run)."""


class PruneSettings(NamedTuple):
    """The settings in which the runs of one program may differ: scalars, traced."""

    steps: float
    k_coef: float
    log_k_coef: float
    learning_rate: float
    temperature: float


class FitRun(NamedTuple):
    """One fit under way.

    Attributes:
      taus: {name: float32 array}, the masks' parameters.
      optimizer: Adam's state.
      key: uint32 [2], decides the pairs of the steps to come.
      settings: Its settings.
      data: Arrays whose first axis is the pairs'.
      own: Whatever else the loss wants of this run.
    """

    taus: Taus
    optimizer: Any
    key: jax.Array
    settings: PruneSettings
    data: Batch
    own: Any = ()


class FitState(NamedTuple):
    """What a step changes of a run."""

    taus: Taus
    optimizer: Any
    key: jax.Array


class FitFigures(NamedTuple):
    """Of the last step: task loss and number of kept entries, float32, one of each run."""

    loss: Any
    kept: Any


def settings_of(config: PruneConfig) -> PruneSettings:
    """The configured settings."""
    return PruneSettings(
        steps=float(config.steps),
        k_coef=config.k_coef,
        log_k_coef=config.log_k_coef,
        learning_rate=config.learning_rate,
        temperature=config.temperature,
    )


def start_fit(
    config: PruneConfig,
    taus: Taus,
    key: jax.Array,
    data: Batch,
    settings: PruneSettings | None = None,
    own: Any = (),
) -> FitRun:
    """A run before its first step."""
    settings = PruneSettings(*map(jnp.float32, settings or settings_of(config)))
    return FitRun(taus, _optimizer(config, settings).init(taus), key, settings, data, own)


class Fitter:
    """Fits masks to `loss`; calls with arrays of the same shapes share a compilation.

    Args:
      loss: Of one run; see `MaskLoss`.
      config: Optimizer settings, batch size and batching.
      devices: To spread over: where they do not divide the number of runs, each run's pairs are split too.
    """

    def __init__(self, loss: MaskLoss, config: PruneConfig, devices: Sequence[jax.Device]):
        self._loss, self._config, self._devices = loss, config, devices
        self._runner = Runner(self._advance, devices, config.batching, config.batch_pairs)

    @property
    def compilations(self) -> int:
        """How many programs were compiled."""
        return self._runner.compilations

    def fit(
        self,
        shared: Any,
        runs: Sequence[FitRun],
        steps: int,
        watch: EachFigure | None = None,
        together: int | None = None,
    ) -> list[FitRun]:
        """The runs `steps` steps later.

        Args:
          shared: What the loss wants of all runs, such as the model's parameters.
          runs: Of equal shapes.
          steps: Of each run, counted on from where it stands.
          watch: Called every so often.
          together: How many runs decide how the devices are split, all by default; rounding depends on it.
        """
        runs = list(runs)
        most = max(1, CHUNK * len(self._devices) // len(runs))
        done = 0
        while done < steps:
            length = min(most, steps - done)
            results = self._runner((shared, length), runs, together)
            runs = [run._replace(**state._asdict()) for run, (state, _) in zip(runs, results, strict=True)]
            done += length
            if watch is not None:
                watch(length, FitFigures(*zip(*(figures for _, figures in results), strict=True)))
        return runs

    def lower(self, shared: Any, run: FitRun, number: int) -> Any:
        """What `fit` of `number` runs compiles, lowered and not run (`jax.stages.Lowered`).

        Args:
          shared, run: As `fit` has them, of ShapeDtypeStructs.
          number: Of runs.
        """
        length = jax.ShapeDtypeStruct((), "int32")
        return self._runner.lower((shared, length), run, number)

    def _advance(self, shared: tuple[Any, jax.Array], run: FitRun) -> tuple[FitState, FitFigures]:
        common, length = shared
        step = functools.partial(self._step, common, run)
        blank = FitFigures(jnp.float32(0), jnp.float32(0))
        state = FitState(run.taus, run.optimizer, run.key)
        runs = self._config.trials * self._config.seeds
        with scopes.about_turns(max(1, CHUNK * len(self._devices) // runs)):
            return jax.lax.fori_loop(0, length, lambda _, carry: step(carry[0]), (state, blank))

    def _step(self, shared: Any, run: FitRun, state: FitState) -> tuple[FitState, FitFigures]:
        parts = jax.lax.axis_size(PAIRS)
        key, draw = jax.random.split(state.key)
        shape = (parts, self._config.batch_pairs // parts)
        chosen = jax.random.randint(draw, shape, 0, run.data[0].shape[0])[jax.lax.axis_index(PAIRS)]
        batch = jax.tree.map(lambda x: x[chosen], run.data)

        def objective(taus: Taus) -> tuple[jax.Array, FitFigures]:
            kept = {name: heaviside(tau, run.settings.temperature) for name, tau in taus.items()}
            loss = self._loss(shared, run.own, kept, batch)
            count = sum(mask.sum() for mask in kept.values())
            price = run.settings.k_coef * count + run.settings.log_k_coef * jnp.log(jnp.maximum(count, 1))
            return loss + price, FitFigures(loss, count)

        grads, figures = jax.grad(objective, has_aux=True)(state.taus)
        if parts > 1:
            grads, figures = jax.lax.pmean((grads, figures), PAIRS)
        updates, optimizer = _optimizer(self._config, run.settings).update(grads, state.optimizer, state.taus)
        taus = jax.tree.map(clamp, optax.apply_updates(state.taus, updates))
        return FitState(taus, optimizer, key), figures


@functools.lru_cache(maxsize=8)
def shared_fitter(loss: MaskLoss, config: PruneConfig, devices: tuple[jax.Device, ...]) -> Fitter:
    """One Fitter for all callers with the same loss, settings and devices, and so one compilation.

    The loss must be a function that outlives the call; arrays belong into `shared` and `own` of its
    arguments, and not into a closure.
    """
    return Fitter(loss, config, devices)


def _optimizer(config: PruneConfig, settings: PruneSettings) -> optax.GradientTransformation:
    """AdamW after a clip of the gradient's RMS, the rate decaying linearly to 0 over the run."""

    def rate(step: jax.Array) -> jax.Array:
        return settings.learning_rate * jnp.maximum(1 - step / settings.steps, 0)

    adamw = optax.adamw(rate, b2=config.b2, weight_decay=config.weight_decay)
    return optax.chain(normalize_rms(1.0, mode="clip"), adamw)
