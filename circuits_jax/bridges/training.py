"""Training bridges, and with them a sparse model, as a program for the Trainer.

See docs/method.md, "Bridges".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from circuits_jax.bridges.losses import BridgeLoss
from circuits_jax.bridges.model import BRIDGES, DENSE, SPARSE, Bridge, bridge_rules, init_bridge, make_bridge
from circuits_jax.config import Config, ModelConfig, SparsityConfig
from circuits_jax.model.model import Model
from circuits_jax.model.parameters import EMBEDDING, MATRIX, frozen_shapes, trained_part
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.sparsity.optimizer import normalize_rms, still_entries
from circuits_jax.sparsity.projection import keep_largest, map_rules
from circuits_jax.sparsity.report import sparsity_metrics, support_churn
from circuits_jax.sparsity.schedules import l0_schedule, learning_rate_schedule
from circuits_jax.training.mesh.partition import model_rules
from circuits_jax.training.program import Program, stack_mean
from circuits_jax.training.state import TrainState
from circuits_jax.training.step import gradient_of, make_train_step

_WHOLE = SparsityConfig(target=1.0)  # of a run that thins nothing out


def bridging(
    config: Config,
    dense: Model,
    sparse: Model | None = None,
    inputs: Callable[[], dict[str, Any] | None] = lambda: None,
    frozen: Mapping[str, Any] | None = None,
) -> Program:
    """The program of a run that joins `dense` and the sparse model of `config.model`.

    Args:
      config: The whole configuration.
      dense: The dense model, frozen.
      sparse: The sparse model where it is trained already: then it is frozen and bridges alone are trained;
        None trains one of `config.model` from scratch, coupled to the dense one.
      inputs: () -> what the run starts from instead of random parameters, {"sparse"} or {"bridges"} or both,
        or None.
      frozen: Values of the parameters of a sparse model from scratch that are not trained, as `pretraining`
        takes them.

    Raises:
      BridgeError: if no bridge can join the two.
    """
    sparse_config = config.model if sparse is None else sparse.config
    bridge = make_bridge(dense.config, sparse_config, config.bridge)
    remat = config.mesh.remat
    loss = BridgeLoss(
        bridge, Transformer(dense.config, remat), Transformer(sparse_config, remat), config.bridge
    )
    thinning = config.sparsity if sparse is None else _WHOLE
    optimizer = make_bridge_optimizer(config, thinning)
    if sparse is not None:
        frozen = sparse.params
    elif frozen is None:
        frozen = frozen_shapes(sparse_config)
    return Program(
        init=_make_init(config, bridge, optimizer, coupled=sparse is None),
        step=make_train_step(
            gradient_of(loss, config.mesh.accumulate, config.mesh.precision),
            optimizer,
            learning_rate_schedule(config.optimizer, thinning, config.train.steps),
            config.train.log_every,
            _churn,
        ),
        evaluate=loss.rows,
        summarize=summarize,
        measure=lambda params: sparsity_metrics(params[SPARSE]) if SPARSE in params else {},
        rules=tuple(dict.fromkeys(bridge_rules() + model_rules(sparse_config) + model_rules(dense.config))),
        inputs=inputs,
        frozen={DENSE: dense.params} | ({SPARSE: frozen} if frozen else {}),
        flops_per_token=flops_per_token(bridge, coupled=sparse is None),
    )


def make_bridge_optimizer(config: Config, sparsity: SparsityConfig) -> optax.GradientTransformation:
    """AdamW on the joint gradient of everything that is trained; the projection on the sparse model alone.

    Bridges stay dense; their kernels decay as the sparse model's matrices do.
    """
    optimizer, steps = config.optimizer, config.train.steps
    still = still_entries(optimizer, config.model) if config.bridge.sparse is None else 0
    thin = keep_largest(
        l0_schedule(sparsity, steps),
        floor=sparsity.floor,
        sparse_biases=sparsity.sparse_biases,
        sparse_embeddings=sparsity.sparse_embeddings,
    )
    return optax.chain(
        normalize_rms(optimizer.gradient_rms, optimizer.gradient_mode, still),
        optax.scale_by_adam(b1=optimizer.b1, b2=optimizer.b2, eps=optimizer.eps),
        optax.add_decayed_weights(optimizer.weight_decay, mask=_decayed),
        optax.scale_by_learning_rate(learning_rate_schedule(optimizer, sparsity, steps)),
        on_branch(SPARSE, thin),
    )


def on_branch(name: str, inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner` on the branch `name` of the parameters, where they have one; the others pass."""

    def init(params: Any) -> optax.OptState:
        return inner.init(params[name]) if name in params else optax.EmptyState()

    def update(updates: Any, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
        if name not in updates:
            return updates, state
        branch, state = inner.update(updates[name], state, params[name])
        return {**updates, name: branch}, state

    return optax.GradientTransformation(init, update)


def summarize(results: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """The sparse model's "validation_loss", its KL, and the hybrids' KLs averaged over sites."""
    means = {name: stack_mean([each[name] for each in results]) for name in results[0]}
    return {("validation_loss" if name == "ce" else f"validation_{name}"): x for name, x in means.items()}


def flops_per_token(bridge: Bridge, coupled: bool) -> float:
    """Floating-point operations of one training step for each token: those of matrix products, as
    `pretraining.flops_per_token` counts them.

    Each model runs once whole and once from every site on.  A backward pass costs two forward ones where
    weights are trained, and one where activations alone take part.
    """
    sparse, dense = bridge.sparse, bridge.dense
    once, again = (6, 6) if coupled else (2, 4)
    work = once * _forward(sparse, 0) + 2 * _forward(dense, 0)
    for place in range(len(bridge.sites)):
        work += again * _forward(sparse, place) + 4 * _forward(dense, place)
    return work + 12.0 * len(bridge.sites) * sparse.d_model * dense.d_model


def _forward(config: ModelConfig, place: int) -> float:
    """Multiply-adds of one token from the bridge site `place` on."""
    attention = 3 * config.d_read * config.d_attn + config.d_attn * config.d_model
    attention += 2 * config.d_attn * config.n_ctx
    mlp = (config.d_read + config.d_model) * config.neurons
    halves = ([attention, mlp] * config.n_layer)[place:]
    return float(sum(halves) + config.d_model * config.vocab_size)


def _make_init(
    config: Config, bridge: Bridge, optimizer: optax.GradientTransformation, coupled: bool
) -> Callable[..., TrainState]:
    def init(start: Mapping[str, Any] | None = None) -> TrainState:
        bridges, sparse, rng = jax.random.split(jax.random.PRNGKey(config.train.seed), 3)
        params = {BRIDGES: init_bridge(bridge, bridges)}
        if coupled:
            params[SPARSE] = trained_part(bridge.sparse, init_params(bridge.sparse, sparse))
        params |= start or {}
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), rng)

    return init


def _decayed(params: Any) -> Any:
    """Tree of bools: which tensors weight decay acts on."""
    kernels = lambda path, _: path[-1].key == "kernel"  # noqa: E731
    decayed = {BRIDGES: jax.tree_util.tree_map_with_path(kernels, params[BRIDGES])}
    if SPARSE in params:
        decayed[SPARSE] = map_rules(lambda rule, _: rule.kind in (MATRIX, EMBEDDING), params[SPARSE])
    return decayed


def _churn(old: Any, new: Any) -> jax.Array:
    return support_churn(old[SPARSE], new[SPARSE]) if SPARSE in old else jnp.zeros(())
