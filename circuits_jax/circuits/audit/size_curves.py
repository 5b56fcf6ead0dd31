"""Faithfulness against size, of a circuit's masks and of the field's methods, as data for a report.

See docs/statistics.md, "Faithfulness against size".
"""

import functools

import numpy as np

from circuits_jax.circuits.ablation.means import Subject
from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.audit.kept import Keep
from circuits_jax.circuits.baselines import (
    METHODS,
    REFERENCES,
    EdgeNetwork,
    ModelEdges,
    ScoreSettings,
    scores,
)
from circuits_jax.circuits.baselines.curves import FRACTIONS, Span, faithfulness, span
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.storage.tables import Report

MASKS = "masks"
DEAR = ("acdc",)  # methods that a quick audit leaves out


def masks_order(circuit: Circuit, edges: ModelEdges, attribution: np.ndarray) -> np.ndarray:
    """All edges of the model in the order of a circuit's masks, int [E].

    By tau, that of an edge being the smaller one of its two nodes, and by attribution where they are equal.
    A circuit without taus has nodes kept and not kept.

    Args:
      circuit: As saved.
      edges: Of its model.
      attribution: float [E].
    """
    taus = edges.flat(circuit.masks() if circuit.taus is None else circuit.taus)
    smaller = np.minimum(taus[edges.sources], taus[edges.targets])
    return np.lexsort((-attribution, -smaller))


class SizeCurves:
    """The curves of one circuit.

    Args:
      circuit: Cut from the subject's model.
      subject: The model, and what its removed parts are held at under "mean".
      learnt: Pairs that scores are found on.
      judged: Pairs that logit differences are averaged over.
      settings: Of the methods.
    """

    def __init__(
        self,
        circuit: Circuit,
        subject: Subject,
        learnt: PairBatch,
        judged: PairBatch,
        settings: ScoreSettings,
    ):
        self._circuit, self._subject, self._settings = circuit, subject, settings
        self._learnt, self._judged = learnt, judged
        self._networks: dict[str, EdgeNetwork] = {}

    def report(self, thorough: bool, keep: Keep) -> Report:
        """All curves.

        Args:
          thorough: Whether methods in DEAR, and the second reference, are there too.
          keep: Keeps parts.
        """
        references = REFERENCES if thorough else REFERENCES[:1]
        methods = [MASKS, *(name for name in METHODS if thorough or name not in DEAR)]
        return {
            "fractions": list(FRACTIONS),
            "edges": self._network(REFERENCES[0]).edges.count,
            "circuit_edges": len(self._circuit.edges),
            "taus": self._circuit.taus is not None,
            "pairs": self._judged.size,
            "learnt_pairs": self._learnt.size,
            "references": {reference: self._under(reference, methods, keep) for reference in references},
        }

    def _under(self, reference: str, methods: list[str], keep: Keep) -> Report:
        ends = Span(
            **keep(f"curves-{reference}-span", lambda: vars(span(self._network(reference), self._judged)))
        )
        report: Report = {**vars(ends), "why_not": ends.why_not, "methods": {}}
        if ends.why_not is None:
            for method in methods:
                measure = functools.partial(self._curve, method, reference, ends)
                report["methods"][method] = keep(f"curves-{reference}-{method}", measure)
        return report

    def _curve(self, method: str, reference: str, ends: Span) -> Report:
        network = self._network(reference)
        found = scores("attribution" if method == MASKS else method, network, self._learnt, self._settings)
        order = masks_order(self._circuit, network.edges, found.values) if method == MASKS else found.order()
        curve = faithfulness(network, order, self._judged, ends)
        return {"f": list(curve.f), "cpr": curve.cpr, "cmd": curve.cmd}

    def _network(self, reference: str) -> EdgeNetwork:
        if reference not in self._networks:
            self._networks[reference] = EdgeNetwork(self._subject, reference)
        return self._networks[reference]
