"""One training step and one evaluation step, as pure functions to be jitted."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from circuits_jax.model import sites
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.sparsity.report import support_churn
from circuits_jax.training.optimizer import gradient_rms
from circuits_jax.training.state import TrainState

Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, jax.Array], tuple[TrainState, Metrics]]


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


def make_train_step(
    model: Transformer,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    log_every: int,
) -> TrainStep:
    """The step function: (state, windows int [B, n_ctx + 1]) -> (state, scalar metrics).

    Metrics are the loss, the gradient's root mean square, the learning rate and, on steps that are
    logged, the share of weights whose support the step changed (NaN on others).
    """

    def train_step(state: TrainState, windows: jax.Array) -> tuple[TrainState, Metrics]:
        loss, grads = jax.value_and_grad(lambda p: model_loss(model, p, windows))(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        step = state.step + 1
        churn = jax.lax.cond(
            step % log_every == 0,
            lambda: support_churn(state.params, params),
            lambda: jnp.full((), jnp.nan),
        )
        metrics = {
            "loss": loss,
            "gradient_rms": gradient_rms(grads),
            "learning_rate": jnp.asarray(learning_rate(state.step)),
            "support_churn": churn,
            "finite": jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)])),
        }
        return state.replace(step=step, params=params, opt_state=opt_state), metrics

    return train_step


def make_eval_step(model: Transformer) -> Callable[[Params, jax.Array], tuple[jax.Array, Metrics]]:
    """(params, windows [B, n_ctx + 1]) -> (loss [B], {site: bool [B, width], ever nonzero}).

    Nothing is summed over rows: devices that split them need not wait for each other.  On the CPU they must
    not, for a collective blocks a thread, and several at once can block all there are.
    """
    watched = sites.select(model.config, ("*.attn.q", "*.attn.k", "*.attn.v", "*.mlp.post_act"))

    def eval_step(params: Params, windows: jax.Array) -> tuple[jax.Array, Metrics]:
        logits, records = model.apply(params, windows[:, :-1], record=watched)
        alive = {site: jnp.any(x != 0, axis=1) for site, x in records.items()}
        return token_losses(logits, windows[:, 1:]).mean(axis=1), alive

    return eval_step
