"""A model as a set of edges: any of them kept and the others removed, many sets in one compiled program.

Nodes follow edges.  A node at no kept edge is removed too, so that a circuit given by its edges is the one
that docs/method.md, "Ablation", describes; where all edges are kept nothing is removed, where none is every
node is.  Removed parts are held either at the subject's means, which may be one for each position, or,
position by position, at what they are on the pair's other prompt.  Runs on the engine that prunes
(`pruning.probes`).

Letters in shapes: S sets of edges, E edges, N pairs, K nodes.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation.edge_removal import with_biases
from circuits_jax.circuits.ablation.means import Means, Subject, reference_sites
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_difference
from circuits_jax.circuits.baselines.model_edges import ModelEdges
from circuits_jax.circuits.masks import Masks, full_masks
from circuits_jax.circuits.pruning.ablator import EDGES
from circuits_jax.circuits.pruning.compaction import masked_difference
from circuits_jax.circuits.pruning.probes import shared_prober
from circuits_jax.circuits.pruning.runner import replicate
from circuits_jax.config.checks import check_choice
from circuits_jax.model.parameters import get, updated
from circuits_jax.model.taps import compose, mix
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.model.wiring import LinearLayer, linear_layers
from circuits_jax.storage.errors import ConfigError
from circuits_jax.tasks.metrics import loss_of_difference, right_margin

REFERENCES = ("mean", "counterfactual")
SLOPES = ("loss", "margin")
MOST_EDGES = 4_000_000  # a set of edges is an array of as many floats, and 16 of them are judged at a time


class _Network(NamedTuple):
    """What the programs run, arrays only: parameters with biases, means, and `ModelEdges.numbers`.

    Slopes are of the task loss where `of_loss` is 1, and of the margin where it is 0.
    """

    params: Params
    means: Means
    numbers: Mapping[str, Any]
    of_loss: jax.Array | float


class EdgeNetwork:
    """One model and all its edges.

    Args:
      subject: The full model, and what removed parts are held at under "mean".
      reference: Of REFERENCES.
      batching: Of `prune.batching`.
      devices: To spread over; all by default.

    Attributes:
      edges: The model's.
      params: Its parameters, with biases.
      reference: As given.

    Raises:
      ConfigError: for another reference, or a model of no edges or more than MOST_EDGES.
    """

    def __init__(self, subject: Subject, reference: str = "mean", batching: str = "auto"):
        check_choice("the reference", reference, REFERENCES)
        model, devices = with_biases(subject.model), tuple(jax.devices())
        self.reference = reference
        self.edges = ModelEdges.of(model.config, model.params, subject.final)
        if (why := why_not_measured(self.edges.count)) is not None:
            raise ConfigError(why)
        means = {site: subject.means[site] for site in reference_sites(model.config, subject.final)}
        self.params = model.params
        numbers = self.edges.numbers(model.params)
        self._shared = replicate(_Network(dict(model.params), means, numbers, 1.0), devices)
        self._nodes = full_masks(model.config, final=subject.final)
        self._prober = shared_prober(model.network, batching, devices, _ANSWERS[reference], _value)

    def differences(self, kept: np.ndarray, pairs: PairBatch, nodes: np.ndarray | None = None) -> np.ndarray:
        """Uncalibrated l[answer A] - l[answer B] with only some edges, float32 [S, N, 2].

        Args:
          kept: bool [S, E].
          pairs: N pairs.
          nodes: bool [K], nodes that stay though they are at no kept edge; none by default.
        """
        asked = [(self._variant(each, nodes), pairs) for each in kept]
        return np.stack(self._prober.differences(self._shared, asked))

    def margins(self, kept: np.ndarray, pairs: PairBatch) -> np.ndarray:
        """Right minus wrong logit, averaged over all prompts, of each set of edges: float64 [S]."""
        return margin(self.differences(kept, pairs))

    def slopes(self, share: float, pairs: PairBatch, of: str = "loss") -> np.ndarray:
        """The derivative of the mean loss or margin by every edge's mask, all masks being `share`: [E].

        At `share` 1 the full model runs; at 0 every edge carries its reference.

        Raises:
          ConfigError: for an `of` that is not in SLOPES.
        """
        check_choice("the slope", of, SLOPES)
        masks = np.full(self.edges.count, share, np.float32)
        shared = self._shared._replace(of_loss=float(of == SLOPES[0]))
        return self._prober.slopes(shared, {**self._nodes, EDGES: masks}, pairs)[EDGES]

    def _variant(self, kept: np.ndarray, nodes: np.ndarray | None) -> Masks:
        """Leaves an edge unchanged when one of its ends is removed: that end's reference goes through it."""
        edges, kept = self.edges, np.asarray(kept, bool)
        there = edges.joined(kept) | (False if nodes is None else nodes)
        unchanged = kept | ~there[edges.sources] | ~there[edges.targets]
        return {**edges.masks(there), EDGES: unchanged.astype(np.float32)}


def why_not_measured(edges: int) -> str | None:
    """Why sets of edges of a model with so many are not measured; None where they are."""
    if 0 < edges <= MOST_EDGES:
        return None
    return (
        f"the model has {edges:,} edges; sets of edges are measured of models that have from 1 to "
        f"{MOST_EDGES:,}"
    )


def margin(differences: np.ndarray) -> np.ndarray:
    """Right minus wrong logit, float64 [...], averaged over the pairs of differences [..., N, 2]."""
    return (np.asarray(differences, np.float64) * [1, -1]).mean(axis=(-2, -1))


def _held_at_means(network: Transformer, shared: _Network, kept: Masks, pairs: PairBatch) -> jax.Array:
    """The logit differences with what is removed at its mean, float32 [N, 2]: constants join the biases.

    Means of each position make biases of each position, [T, outputs].
    """
    layers = {}
    for linear, layer, own, other in _layers(network, shared, kept):
        constant = jnp.asarray(shared.means[linear.carried]) @ other
        layers[linear.name] = {"kernel": own, "bias": layer["bias"] + constant}
    params = updated(shared.params, layers)
    return masked_difference(network, (params, shared.means, ()), _nodes(kept), pairs)


def _between_prompts(network: Transformer, shared: _Network, kept: Masks, pairs: PairBatch) -> jax.Array:
    """The same with what is removed as on the pair's other prompt.

    Linear layers read two values of each source, side by side: what it is, by the weights of kept edges, and
    what it is on the other prompt, by those of removed ones.
    """
    nodes, layers = _nodes(kept), {}
    for linear, layer, own, other in _layers(network, shared, kept):
        layers[linear.name] = {"kernel": jnp.concatenate([own, other]), "bias": layer["bias"]}
    carried = {linear.carried for linear in linear_layers(network.config.n_layer)}
    length, ends = pairs.tokens.shape[-1], jnp.repeat(pairs.last, 2)
    others = pairs.tokens[:, ::-1].reshape(-1, length)
    wanted = tuple({**nodes, **dict.fromkeys(carried)})
    _, given = network.apply(shared.params, others, record=wanted, at=ends)

    def both(site: str, x: jax.Array) -> jax.Array:
        return jnp.concatenate([x, given[site].astype(x.dtype)], axis=-1) if site in carried else x

    return pair_difference(network, updated(shared.params, layers), pairs, compose(mix(nodes, given), both))


def _layers(
    network: Transformer, shared: _Network, kept: Masks
) -> Iterator[tuple[LinearLayer, Any, jax.Array, jax.Array]]:
    """(linear layer, its parameters, its kernel with the kept edges only, with the removed ones only)."""
    for linear in linear_layers(network.config.n_layer):
        layer = get(shared.params, linear.name)
        mask = jnp.asarray(kept[EDGES])[shared.numbers[linear.name]]
        yield linear, layer, layer["kernel"] * mask, layer["kernel"] * (1 - mask)


def _nodes(kept: Masks) -> Masks:
    return {site: mask for site, mask in kept.items() if site != EDGES}


_ANSWERS = {"mean": _held_at_means, "counterfactual": _between_prompts}


def _value(shared: _Network, answered: jax.Array) -> jax.Array:
    """The loss or the margin, chosen by a number: one program serves both."""
    margins = jnp.mean(right_margin(answered))
    return shared.of_loss * loss_of_difference(answered) + (1 - shared.of_loss) * margins
