"""Random circuits and random edges that could matter: what a circuit's parts are compared with.

Edges drawn one by one join nothing, and a circuit of such edges cannot win.  These are drawn from the answer
back to the prompt, each where it joins on to those drawn before if there is such a one, as many between each
two sites as the circuit has.
"""

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.baselines.model_edges import ModelEdges
from circuits_jax.circuits.masks import full_masks
from circuits_jax.model.transformer import Params
from circuits_jax.model.wiring import halves


def live_edges(edges: ModelEdges, params: Params, answers: np.ndarray) -> np.ndarray:
    """bool [E], the edges on a path from the prompt to the logit of a token in `answers`.

    Args:
      edges: The model's.
      params: Its parameters, on the host.
      answers: Token ids.
    """
    config, everything = edges.config, full_masks(edges.config, final=edges.final)
    reached = edges.flat(graph.reached(config, params, everything)) > 0
    leads = edges.flat(graph.useful(config, params, everything, answers)) > 0
    return reached[edges.sources] & leads[edges.targets]


class PathDraws:
    """Draws random circuits with as many edges between each two sites as one circuit has.

    Args:
      edges: The model's, E of them.
      live: bool [E], those to draw from; where they are too few, others fill up.
      circuit: bool [E], the circuit's.
      answering: bool [d_model], the residual channels that the answers' logits read.
    """

    def __init__(self, edges: ModelEdges, live: np.ndarray, circuit: np.ndarray, answering: np.ndarray):
        self._edges, self._live, self._answering = edges, live, answering
        widths = list(edges.widths.values())
        self._starts = dict(zip(edges.widths, np.cumsum([0, *widths]), strict=False))
        target_site = np.repeat(np.arange(len(widths)), widths)[edges.targets]
        self._into = {site: np.flatnonzero(target_site == i) for i, site in enumerate(edges.widths)}
        self._counts = {site: int(circuit[into].sum()) for site, into in self._into.items()}

    def draw(self, rng: np.random.RandomState) -> np.ndarray:
        """bool [E], one random circuit."""
        config = self._edges.config
        chosen, needed = np.zeros(self._edges.count, bool), self._answering.copy()
        for half in reversed(halves(config.n_layer)):
            wrote = self._choose(half.write, needed, rng)
            units = self._ends_at(half.values, self._edges.sources[wrote])
            drawn = [wrote, self._choose(half.values, units, rng)]
            if half.gates:
                heads = np.repeat(units.reshape(config.heads, config.d_head).any(axis=1), config.d_head)
                drawn += [self._choose(gate, heads, rng) for gate in half.gates]
            chosen[np.concatenate(drawn)] = True
            read = self._ends_at(half.read, self._edges.sources[np.concatenate(drawn[1:])])
            needed |= read[: config.d_model]
        return chosen

    def _choose(self, target: str, wanted: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Numbers of random edges into `target`, one into each wanted node before a second into any."""
        into = self._into[target]
        into = into[rng.permutation(len(into))]
        into = into[np.argsort(~self._live[into], kind="stable")]
        index = self._edges.targets[into] - self._starts[target]
        _, first = np.unique(index, return_index=True)
        is_first = np.isin(np.arange(len(into)), first)
        rank = np.where(wanted[index], 2 + is_first, 1) + 3 * self._live[into]
        return into[np.argsort(-rank, kind="stable")[: self._counts[target]]]

    def _ends_at(self, site: str, nodes: np.ndarray) -> np.ndarray:
        """bool [width], which indices of `site` are among `nodes`."""
        flags = np.zeros(self._edges.widths[site], bool)
        flags[nodes - self._starts[site]] = True
        return flags


def answering_channels(edges: ModelEdges, params: Params, answers: np.ndarray) -> np.ndarray:
    """bool [d_model], the residual channels that the logits of `answers` read."""
    return (graph.unembedding(edges.config, params)[:, answers] != 0).any(axis=1)
