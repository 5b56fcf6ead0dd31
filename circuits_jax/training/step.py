"""One training step and one evaluation step, as pure functions to be jitted."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from circuits_jax.model import scopes, sites
from circuits_jax.model.parameters import merged
from circuits_jax.model.rounded import BFLOAT16
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.sparsity.optimizer import gradient_rms
from circuits_jax.sparsity.report import support_churn
from circuits_jax.training.mesh.own_rows import of_own_rows
from circuits_jax.training.program import Metrics
from circuits_jax.training.state import TrainState

Loss = Callable[[Params, jax.Array, Any], tuple[jax.Array, Metrics]]
Gradient = Callable[[Params, jax.Array, Any], tuple[tuple[jax.Array, Metrics], Params]]
TrainStep = Callable[..., tuple[TrainState, Metrics]]


def token_losses(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy in nats of each token, float32 [B, T].

    Args:
      logits: float32 [B, T, V].
      targets: int [B, T].
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets)


def model_loss(model: Transformer, params: Params, windows: jax.Array) -> jax.Array:
    """Loss of predicting each token of `windows`, int [B, n_ctx + 1], from those before it."""
    logits, _ = model.apply(params, windows[:, :-1])
    return token_losses(logits, windows[:, 1:]).mean()


def gradient_of(
    loss: Loss, accumulate: int = 1, precision: str = "default", by_rows: bool = False
) -> Gradient:
    """The gradient of a loss: (params, windows, frozen) -> ((loss, metrics), gradient).

    Args:
      loss: (params, windows, frozen) -> (mean over the windows' tokens, further scalar metrics).
      accumulate: Parts of the batch whose gradients are taken one after another and averaged; divides B.
      precision: Of its matrix products, whatever else computes with; as `mesh.precision` has it.
      by_rows: Whether the loss and the metrics are means over rows, every row by itself: then each of several
        CPU devices takes the gradient of its own rows.
    """
    gradient = _accumulated(_precise(jax.value_and_grad(loss, has_aux=True), precision), accumulate)
    return of_own_rows(gradient, averaged=True) if by_rows else gradient


def make_train_step(
    gradient: Gradient,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    log_every: int,
    churn: Callable[[Params, Params], jax.Array] = support_churn,
) -> TrainStep:
    """The step function: (state, windows int [B, n_ctx + 1], frozen) -> (state, scalar metrics).

    Args:
      gradient: Of `gradient_of`.
      optimizer: Applied to it.
      learning_rate: Step -> rate, for the metrics alone.
      log_every: Churn is measured on multiples of it, and is NaN on other steps.
      churn: (params before, params after) -> share of weights whose support the step changed.

    Returns:
      The step.  Its metrics are those of the loss, "loss", the gradient's root mean square, the learning
      rate, churn, and "finite": whether every parameter after the step is.
    """

    def train_step(state: TrainState, windows: jax.Array, frozen: Any = None) -> tuple[TrainState, Metrics]:
        (value, extra), grads = gradient(state.params, windows, frozen)
        with scopes.part(scopes.OPTIMIZER):
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        step = state.step + 1
        with scopes.rarely(True) if log_every > 1 else contextlib.nullcontext():
            changed = jax.lax.cond(
                step % log_every == 0, lambda: churn(state.params, params), lambda: jnp.full((), jnp.nan)
            )
        metrics = {
            **extra,
            "loss": value,
            "gradient_rms": gradient_rms(grads),
            "learning_rate": jnp.asarray(learning_rate(state.step)),
            "support_churn": changed,
            "finite": jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)])),
        }
        return state.replace(step=step, params=params, opt_state=opt_state), metrics

    return train_step


def several(train_step: TrainStep) -> TrainStep:
    """`train_step` over batches one after another.

    It is (state, a sequence of batches, frozen) -> (the last state, the metrics of the last step).

    Parameters that are not finite stay so, so that the last step's "finite" tells of all.
    """

    def steps(state: TrainState, batches: Sequence[jax.Array], frozen: Any) -> tuple[TrainState, Metrics]:
        state, metrics = jax.lax.scan(
            lambda state, rows: train_step(state, rows, frozen), state, jnp.stack(batches)
        )
        return state, jax.tree.map(lambda each: each[-1], metrics)

    return steps


def _precise(gradient: Gradient, precision: str) -> Gradient:
    """`gradient` with matrix products of that precision, those of the backward pass too."""

    def with_precision(params: Params, windows: jax.Array, frozen: Any) -> Any:
        with jax.default_matmul_precision(BFLOAT16 if precision == "bfloat16" else precision):
            return gradient(params, windows, frozen)

    return with_precision


def _accumulated(gradient: Gradient, parts: int) -> Gradient:
    """`gradient(params, windows, frozen)` averaged over `parts` parts of the rows, one after another.

    A part takes every parts-th row, so that each device works on rows it already has.
    """
    if parts == 1:
        return gradient

    def average(params: Params, windows: jax.Array, frozen: Any) -> Any:
        split = windows.reshape(-1, parts, *windows.shape[1:]).swapaxes(0, 1)
        shapes = jax.eval_shape(gradient, params, split[0], frozen)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def add(total: Any, part: jax.Array) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, gradient(params, part, frozen)), None

        total, _ = jax.lax.scan(add, zeros, split)
        return jax.tree.map(lambda leaf: leaf / parts, total)

    return average


def make_eval_step(model: Transformer) -> Callable[..., tuple[jax.Array, Metrics]]:
    """(params, windows [B, n_ctx + 1], the model's other parameters or None) -> (loss [B], {site: bool
    [B, width], ever nonzero}).

    Nothing is summed over rows: devices that split them need not wait for each other.  On the CPU they must
    not, for a collective blocks a thread, and several at once can block all there are.
    """
    watched = sites.unit_sites(model.config)

    def eval_step(params: Params, windows: jax.Array, frozen: Any) -> tuple[jax.Array, Metrics]:
        logits, records = model.apply(merged(params, frozen), windows[:, :-1], record=watched)
        alive = {site: jnp.any(x != 0, axis=1) for site, x in records.items()}
        return token_losses(logits, windows[:, 1:]).mean(axis=1), alive

    each = of_own_rows(eval_step, averaged=False)
    return lambda params, windows, frozen=None: each(params, windows, frozen)
