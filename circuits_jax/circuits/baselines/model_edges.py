"""All edges of a model, and what follows from keeping some of them.  Pure numpy.

Nodes follow edges: those at no kept edge are removed.  A node of the final residual stream, where there are
such, is at the edges that write to its channel.

Letters in shapes: E edges, K nodes (all of the model's, numbered in forward order of their sites).
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from circuits_jax.circuits.ablation.edge_removal import EdgeSet
from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.masks import Masks
from circuits_jax.config import ModelConfig
from circuits_jax.model import sites
from circuits_jax.model.parameters import get
from circuits_jax.model.transformer import Params
from circuits_jax.model.wiring import halves, linear_layers


@dataclasses.dataclass(frozen=True, eq=False)
class ModelEdges:
    """Every nonzero weight that joins two nodes (docs/method.md, "Nodes and edges").

    Attributes:
      config: The model's.
      places: Where they lie, int32 [E] each, layer by layer.
      sources, targets: int [E], the nodes that they join.
      final: Whether the final residual stream has nodes too.
    """

    config: ModelConfig
    places: EdgeSet
    sources: np.ndarray
    targets: np.ndarray
    final: bool = False

    @classmethod
    def of(cls, config: ModelConfig, params: Params, final: bool = False) -> "ModelEdges":
        """Those of a parameter tree."""
        found = []
        for i, linear in enumerate(linear_layers(config.n_layer)):
            rows, columns = np.nonzero(np.asarray(get(params, linear.name)["kernel"]))
            found.append(np.stack([np.full_like(rows, i), rows, columns]))
        places = EdgeSet(*np.concatenate(found, axis=1).astype(np.int32))
        widths = sites.node_sites(config, final)
        first = _offsets(widths)
        sources, targets = np.zeros(places.capacity, int), np.zeros(places.capacity, int)
        for i, linear in enumerate(linear_layers(config.n_layer)):
            here = places.matrix == i
            sources[here] = first[linear.source] + places.row[here]
            # The targets lie side by side and are equally wide.
            part, index = np.divmod(places.column[here], widths[linear.targets[0]])
            targets[here] = np.array([first[site] for site in linear.targets])[part] + index
        return cls(config, places, sources, targets, final)

    @property
    def count(self) -> int:
        """E."""
        return self.places.capacity

    @functools.cached_property
    def widths(self) -> dict[str, int]:
        """{node site: how many nodes it has}, in the order of their numbers."""
        return sites.node_sites(self.config, self.final)

    @functools.cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All K nodes of the model."""
        return tuple(Node(site, index) for site, width in self.widths.items() for index in range(width))

    def numbers(self, params: Params) -> dict[str, np.ndarray]:
        """{linear layer: int32, shaped as its kernel, the number of each weight's edge, or 0}."""
        found = {}
        for i, linear in enumerate(linear_layers(self.config.n_layer)):
            number = np.zeros(get(params, linear.name)["kernel"].shape, np.int32)
            (here,) = np.nonzero(self.places.matrix == i)
            number[self.places.row[here], self.places.column[here]] = here
            found[linear.name] = number
        return found

    def ends(self, edge: int) -> tuple[Node, Node]:
        """The nodes that an edge joins."""
        return self.nodes[self.sources[edge]], self.nodes[self.targets[edge]]

    def kept(self, edges: Iterable[tuple[Node, Node]]) -> np.ndarray:
        """bool [E], true on `edges`, each given by its ends; those that the model lacks are not there."""
        first, count = _offsets(self.widths), len(self.nodes)
        wanted = [(first[a.site] + a.index) * count + first[b.site] + b.index for a, b in edges]
        return np.isin(self.sources * count + self.targets, np.array(wanted, int))

    def joined(self, kept: np.ndarray) -> np.ndarray:
        """bool [K], the nodes at an end of a kept edge (`kept` bool [E]); all nodes where all are kept."""
        if kept.all():
            return np.ones(len(self.nodes), bool)
        flags = np.zeros(len(self.nodes), bool)
        flags[self.sources[kept]] = flags[self.targets[kept]] = True
        if self.final:
            masks = self.masks(flags)
            written = [masks[half.write] for half in halves(self.config.n_layer)]
            flags[-self.config.d_model :] = np.any(written, axis=0)
        return flags

    def masks(self, flags: np.ndarray) -> Masks:
        """Numbers of all nodes, [K], by site: {node site: float32 [width]}."""
        parts = np.split(np.asarray(flags, np.float32), np.cumsum(list(self.widths.values()))[:-1])
        return dict(zip(self.widths, parts, strict=True))

    def flat(self, masks: Mapping[str, Any]) -> np.ndarray:
        """The inverse of `masks`, float32 [K]."""
        return np.concatenate([np.asarray(masks[site], np.float32) for site in self.widths])


def _offsets(widths: Mapping[str, int]) -> dict[str, int]:
    """The number of each node site's first node."""
    starts = np.cumsum([0, *widths.values()])[:-1]
    return {site: int(start) for site, start in zip(widths, starts, strict=True)}
