"""How sparse a network is: nonzeros per tensor, dead units, churn; as a table and as metrics.

"L0" is the share of nonzero entries of the tensors that can be sparse: matrices, embeddings and biases.
The tensors that never are (norm gains, sinks, bigram table, logits bias) are listed, but not counted in it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from circuits_jax.model.parameters import BIAS, DENSE, EMBEDDING, MATRIX, depth, named, rule_for
from circuits_jax.model.sites import UNITS
from circuits_jax.model.stacking import unstack_layers
from circuits_jax.model.wiring import wires


@dataclasses.dataclass(frozen=True)
class TensorSparsity:
    """Nonzero entries of one parameter tensor; `kind` as in `projection.SparsityRule`."""

    name: str
    kind: str
    shape: tuple[int, ...]
    entries: int
    nonzeros: int

    @property
    def fraction(self) -> float:
        """Share of entries that are not zero."""
        return self.nonzeros / self.entries


@dataclasses.dataclass(frozen=True)
class DeadUnits:
    """Weight-dead units of one kind (one of `sites.UNITS`) in one layer; see `dead_units`."""

    layer: int
    kind: str
    units: int
    dead: int


@dataclasses.dataclass(frozen=True)
class SparsitySummary:
    """What `summarize_sparsity` found; `str()` of it is a table.

    Attributes:
      tensors: Every parameter tensor, in tree order.
      units: Dead units, by layer and kind.
    """

    tensors: tuple[TensorSparsity, ...]
    units: tuple[DeadUnits, ...]

    def fraction(self, *kinds: str) -> float:
        """Share of nonzeros over the tensors of `kinds`; all kinds that can be sparse by default."""
        chosen = [t for t in self.tensors if t.kind in (kinds or (MATRIX, EMBEDDING, BIAS))]
        return sum(t.nonzeros for t in chosen) / sum(t.entries for t in chosen)

    @property
    def total(self) -> float:
        """L0 over matrices, embeddings and biases."""
        return self.fraction()

    @property
    def without_embeddings(self) -> float:
        """L0 over matrices and biases."""
        return self.fraction(MATRIX, BIAS)

    def __str__(self) -> str:
        width = max(len(t.name) for t in self.tensors)
        row = f"{{:{width}}}  {{:9}}  {{:>13}}  {{:>11}}  {{:>11}}  {{:>7}}".format
        lines = [row("tensor", "kind", "shape", "entries", "nonzero", "L0")]
        for t in self.tensors:
            shape = " x ".join(map(str, t.shape))
            lines.append(row(t.name, t.kind, shape, f"{t.entries:,}", f"{t.nonzeros:,}", f"{t.fraction:.4f}"))
        lines.append(f"L0 in all {self.total:.4f}, without embeddings {self.without_embeddings:.4f}")
        for kind in UNITS:
            alike = [u for u in self.units if u.kind == kind]
            layers = ", ".join(str(u.dead) for u in alike)
            lines.append(
                f"dead {kind + ('s' if kind == 'neuron' else ' channels'):10}"
                f"  {sum(u.dead for u in alike)} of {sum(u.units for u in alike)} (by layer: {layers})"
            )
        return "\n".join(lines)


def summarize_sparsity(params: Any) -> SparsitySummary:
    """Counts nonzeros and dead units of a parameter tree, sharded or not.

    Raises:
      ValueError: for a parameter that no rule knows.
    """
    nonzeros, dead = jax.device_get(_measure(params))
    tensors = tuple(
        TensorSparsity(name, rule_for(name).kind, leaf.shape, leaf.size, int(nonzeros[name]))
        for name, leaf in named(params).items()
    )
    units = tuple(
        DeadUnits(layer, kind, mask.size, int(dead[layer, kind]))
        for (layer, kind), mask in sorted(jax.eval_shape(dead_units, params).items())
    )
    return SparsitySummary(tensors, units)


def sparsity_metrics(params: Any) -> dict[str, Array]:
    """Scalars for the training log; traceable.

    Args:
      params: A parameter tree, its layers apart or stacked.

    Returns:
      "l0" and "l0_without_embeddings" (float32 shares), "dead_neurons" and "dead_channels" (int32 counts).
    """
    params = unstack_layers(params)
    tensors = {name: (rule_for(name).kind, leaf) for name, leaf in named(params).items()}

    def fraction(*kinds: str) -> Array:
        chosen = [leaf for kind, leaf in tensors.values() if kind in kinds]
        found = sum(jnp.count_nonzero(leaf).astype(jnp.float32) for leaf in chosen)
        return found / sum(leaf.size for leaf in chosen)

    dead = {key: jnp.sum(mask, dtype=jnp.int32) for key, mask in dead_units(params).items()}
    return {
        "l0": fraction(MATRIX, EMBEDDING, BIAS),
        "l0_without_embeddings": fraction(MATRIX, BIAS),
        "dead_neurons": sum((n for (_, kind), n in dead.items() if kind == "neuron"), jnp.int32(0)),
        "dead_channels": sum((n for (_, kind), n in dead.items() if kind != "neuron"), jnp.int32(0)),
    }


def dead_units(params: Any) -> dict[tuple[int, str], Array]:
    """Which units are weight-dead: no incoming weights, or (v channels and neurons) no outgoing ones.

    Biases do not count.  Traceable.

    Returns:
      {(layer, kind): bool [units]}, kind of `sites.UNITS`.
    """
    no_input: dict[str, Array] = {}
    no_output: dict[str, Array] = {}
    for wire in wires(depth(params)):
        weights = wire.weights(params)
        no_input[wire.target], no_output[wire.source] = _all_zero(weights, axis=0), _all_zero(weights, axis=1)
    dead = {}
    for layer in range(depth(params)):
        for kind, location in UNITS.items():
            site = f"{layer}.{location}"
            dead[layer, kind] = no_input[site] | no_output[site] if site in no_output else no_input[site]
    return dead


def support_churn(old_params: Any, new_params: Any) -> Array:
    """Share of entries, of tensors that can be sparse, that became or ceased to be zero; traceable.

    Returns:
      float32 scalar.
    """
    old, new = named(old_params), named(new_params)
    names = [name for name in old if rule_for(name).kind != DENSE]
    changed = sum(jnp.sum((old[n] == 0) != (new[n] == 0), dtype=jnp.int32).astype(jnp.float32) for n in names)
    return changed / sum(old[n].size for n in names)


@jax.jit
def _measure(params: Any) -> tuple[dict[str, Array], dict[tuple[int, str], Array]]:
    """Nonzeros of every tensor, and dead units of every kind in every layer: counts, for every process."""
    dead = {key: jnp.sum(mask, dtype=jnp.int32) for key, mask in dead_units(params).items()}
    return {name: jnp.count_nonzero(leaf) for name, leaf in named(params).items()}, dead


def _all_zero(kernel: Array, axis: int) -> Array:
    return jnp.all(kernel == 0, axis=axis)
