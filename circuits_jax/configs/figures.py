"""What a configuration comes to before anything is trained: parameters, nonzeros, bytes on a chip.

All of it is computed from shapes; nothing is allocated.  `python -m circuits_jax configs` prints what the
configurations' docstrings quote, and a test compares the two.
"""

import dataclasses
import functools
from typing import Any

import jax

from circuits_jax.config import Config, ModelConfig
from circuits_jax.model.parameters import BIAS, DENSE, EMBEDDING, SparsityRule, frozen_shapes
from circuits_jax.model.transformer import init_params
from circuits_jax.sparsity.projection import map_rules
from circuits_jax.sparsity.schedules import budget
from circuits_jax.training.plan import activation_bytes

GB = 10**9
# A float32 parameter, its two Adam moments and its gradient: of one that is trained, and of one that is not.
STATE_BYTES, STILL_BYTES = 16, 4


@dataclasses.dataclass(frozen=True)
class Machine:
    """Chips that train together, and the memory of one in GB."""

    name: str
    chips: int
    memory: int


MACHINES = (Machine("v4-8", 4, 32), Machine("v5e-16", 16, 16), Machine("H100", 1, 80))


@dataclasses.dataclass(frozen=True)
class Figures:
    """Sizes of one configuration.

    Attributes:
      parameters: All entries of all tensors.
      sparse: Entries of the tensors that are projected, or would be if the target were below 1.
      nonzeros: Entries of those that stay at the end, the floor included.
      tokens: Training tokens, windows times n_ctx.
    """

    parameters: int
    sparse: int
    nonzeros: int
    tokens: int


def figures(config: Config) -> Figures:
    """Counts of a configuration, from shapes alone."""
    shapes = _shapes(config.model)
    leaves = jax.tree.leaves(shapes)
    kept = jax.tree.leaves(map_rules(lambda rule, leaf: _kept(config, rule, leaf), shapes))
    projected = [(leaf.size, k) for leaf, k in zip(leaves, kept, strict=True) if k]
    return Figures(
        parameters=sum(leaf.size for leaf in leaves),
        sparse=sum(size for size, _ in projected),
        nonzeros=sum(k for _, k in projected),
        tokens=config.train.steps * config.train.batch_size * config.model.n_ctx,
    )


def state_gb(config: Config, chips: int = 1) -> float:
    """GB of parameters, moments and gradient on each of `chips` chips that have them split (`mesh.fsdp`)."""
    still = sum(leaf.size for leaf in jax.tree.leaves(frozen_shapes(config.model)))
    return (STATE_BYTES * (figures(config).parameters - still) + STILL_BYTES * still) / GB / chips


def activation_gb(config: Config, chips: int, accumulate: int = 1) -> float:
    """GB that the backward pass keeps on a chip, as the plan of a run estimates it.

    Args:
      config: The configuration.
      chips: Chips that the batch is split over.
      accumulate: Parts of the batch that are taken one after another.
    """
    return activation_bytes(config, config.train.batch_size // (chips * accumulate)) / GB


@functools.cache
def _shapes(model: ModelConfig) -> Any:
    # AbsTopK has no parameters and takes long to trace.
    plain = dataclasses.replace(model, activation_fraction=None)
    return jax.eval_shape(lambda: init_params(plain, jax.random.PRNGKey(0)))


def _kept(config: Config, rule: SparsityRule, leaf: jax.ShapeDtypeStruct) -> int:
    """Entries of one tensor that stay at the end, 0 if it is never projected.

    See docs/method.md, "Weight sparsity".
    """
    sparsity = config.sparsity
    switched_off = [BIAS] * (not sparsity.sparse_biases) + [EMBEDDING] * (not sparsity.sparse_embeddings)
    if rule.kind in (DENSE, *switched_off):
        return 0
    k = int(budget(leaf.size, sparsity.target))
    if rule.floor_axis is None:
        return k
    fan = leaf.shape[rule.floor_axis]
    return max(k, leaf.size // fan * min(sparsity.floor, fan))
