"""What removed nodes are held at, where that is one constant each: their mean over the corpus, or zero.

See docs/method.md, "Ablation"; values of other prompts are in `donors`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.masks import Masks, full_masks
from circuits_jax.config import ABLATIONS, ModelConfig
from circuits_jax.config.checks import check_choice
from circuits_jax.model import sites
from circuits_jax.model.attention import rows_at_once
from circuits_jax.model.model import Model
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.model.wiring import layers_of, wires

Means = Mapping[str, Any]
"""{site: float32 [width]}, arrays of numpy's or JAX's; or [T, width], one mean for each position."""


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A model whose nodes can be removed: pruning, edges and audit work on one.

    Attributes:
      model: The full model.
      means: {site of `reference_sites`: [width], or [T, width]}, what removed nodes are held at and removed
        edges carry.
      banned: {node site: [width]}, 1 on nodes that are removed for good: what is called full is then the
        model without them.
    """

    model: Model
    means: Means
    banned: Masks | None = None

    @property
    def final(self) -> bool:
        """Whether the final residual stream has nodes."""
        return sites.FINAL in self.means

    @property
    def everything(self) -> Masks:
        """Masks that keep every node but the banned ones."""
        whole = full_masks(self.model.config, final=self.final)
        if self.banned is None:
            return whole
        return {site: mask * (np.asarray(self.banned[site]) == 0) for site, mask in whole.items()}


def reference_sites(config: ModelConfig, final: bool = False) -> dict[str, int]:
    """Widths of the sites that have a reference: of all nodes, and `attn.y`, which edges from v carry.

    Args:
      config: The model's.
      final: Whether the final residual stream has nodes too.
    """
    wanted = {*sites.node_sites(config, final), *(wire.carried for wire in wires(config.n_layer))}
    return {site: width for site, width in sites.sites(config).items() if site in wanted}


def mean_activations(
    model: Model, batches: Iterable[np.ndarray], final: bool = False, by_position: bool = False
) -> dict[str, jax.Array]:
    """Mean of every reference site over all positions of `batches`, each int [B, T]: {site: [width]}.

    With `by_position` of each position for itself, {site: [T, width]}: for prompts that are aligned.
    """
    means_of = _means_of(model.network, tuple(reference_sites(model.config, final)), by_position)
    parts = in_parts(model.config, batches)
    return mean_over_batches(means_of(model.device_params, jnp.asarray(part)) for part in parts)


@functools.lru_cache(maxsize=8)
def _means_of(
    network: Transformer, wanted: tuple[str, ...], by_position: bool
) -> Callable[[Params, jax.Array], dict[str, jax.Array]]:
    """One compiled function for all models of a configuration."""
    axes = 0 if by_position else (0, 1)

    @jax.jit
    def means_of(params: Params, tokens: jax.Array) -> dict[str, jax.Array]:
        _, records = network.apply(params, tokens, record=wanted)
        return {site: x.astype(jnp.float32).mean(axis=axes) for site, x in records.items()}

    return means_of


def in_parts(config: ModelConfig, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """`batches`, each int [B, T], in equal parts of as many rows as fit into memory at once."""
    for batch in batches:
        rows, length = np.shape(batch)
        yield from np.split(np.asarray(batch), rows // rows_at_once(config, rows, length))


def mean_over_batches(means: Iterable[dict[str, jax.Array]]) -> dict[str, jax.Array]:
    """The mean of means of equally large batches, by site."""
    found = list(means)
    return jax.tree.map(lambda *each: sum(each) / len(each), *found)


def reference_activations(
    model: Model, tokens: np.ndarray, kind: str, final: bool = False
) -> dict[str, jax.Array]:
    """What removed nodes are held at and removed edges carry: zero, or their mean over the corpus, which also
    stands in for the values of other prompts where a prompt is run by itself.

    Args:
      model: The model.
      tokens: The corpus, int [batches, B, T].
      kind: Of ABLATIONS.
      final: Whether the final residual stream has nodes too.

    Returns:
      {site: float32 [width]} of `reference_sites`.

    Raises:
      ConfigError: for any other kind.
    """
    check_choice("prune.ablation", kind, ABLATIONS)
    if kind == "zero":
        return {site: jnp.zeros(width) for site, width in reference_sites(model.config, final).items()}
    return mean_activations(model, tokens, final)


def has_means_of_edges(circuit: Circuit) -> bool:
    """Whether a circuit says what removed edges carry, as files of version 1 do not."""
    return all(
        layer.attention.output.carried in circuit.means
        for layer in layers_of(circuit.model_config["n_layer"])
    )


def means_of(circuit: Circuit, model: Model, corpus: Callable[[], np.ndarray]) -> Means:
    """What a circuit's removed nodes are held at and its removed edges carry.

    Args:
      circuit: Of `model`; what an old file does not say is taken anew.
      model: The model.
      corpus: Makes its windows, int [batches, B, T].
    """
    if has_means_of_edges(circuit):
        return circuit.means
    final = sites.FINAL in circuit.means
    found = reference_activations(model, corpus(), circuit.ablation, final)
    return {**{site: np.asarray(mean) for site, mean in found.items()}, **circuit.means}
