"""The tests of one circuit, after Shi et al. 2024, "Hypothesis Testing the Circuit Hypothesis in LLMs".

Two families can speak for a circuit, by rejecting that it is as good as random: the circuit's two tests, and
its edges'.  Each family is corrected together (Holm).  Two tests can only speak against it, for their null
says that it is right; they are not corrected, and beside each stands how often it rejects circuits that are
wrong on purpose.  See docs/statistics.md, "Tests".

Letters in shapes: S sets of edges, E edges, N pairs, K nodes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from circuits_jax.circuits.ablation.means import Subject
from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.audit.hypotheses.random_paths import PathDraws, answering_channels, live_edges
from circuits_jax.circuits.audit.hypotheses.significance import (
    LEVEL,
    draws_needed,
    holm,
    independence_p,
    mean_p,
    rank_p,
)
from circuits_jax.circuits.audit.intervals import pair_losses
from circuits_jax.circuits.audit.interventions import Interventions
from circuits_jax.circuits.audit.kept import Keep
from circuits_jax.circuits.baselines.edge_network import EdgeNetwork
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.config import AuditConfig
from circuits_jax.config.audit import LEAST_DRAWS
from circuits_jax.storage.tables import Report

# Nats.  Calibration leaves up to a fifth of it where all answers are at chance and should be equal.
LEAST_LOSS = 0.01
LEAST_EFFECT = 1e-6  # logits, of rounding
LEAST_SHARE = 1e-3  # of a pair's loss, of rounding of the calibration
Calibrated = tuple[float, float]
DROPPED, ADDED = "one edge dropped", "one foreign edge added"
NULLS = {
    "sufficiency": "The circuit alone is no better than a random circuit with as many edges between each two "
    "sites, joined into paths.",
    "necessity": "The model without the circuit's nodes is no worse than the model without those of such a "
    "random circuit.",
    "edges": "Without this edge the model's logit difference changes no more than without a random edge of "
    "the model that leads from the prompt to an answer.",
    "equivalence": "On a pair of a new template the circuit is as likely to be better than the model as "
    "worse.",
    "independence": "Within a template, how well the model without the circuit's edges answers a pair tells "
    "nothing of how well the model answers it.",
}


class Judged(NamedTuple):
    """What the tests are made on.

    Attributes:
      pairs: N test pairs.
      templates: int [N], the template of each.
      own, full: Scale and shift of the circuit and of the full model.
    """

    pairs: PairBatch
    templates: np.ndarray
    own: Calibrated
    full: Calibrated


class CircuitTests:
    """One circuit and what it is tested with.

    Args:
      circuit: Cut from the subject's model.
      subject: The model, and what its removed parts are held at.
      interventions: Of the subject's network.
      judged: The pairs.
      config: Numbers of draws, and the seed.
    """

    __test__ = False

    def __init__(
        self,
        circuit: Circuit,
        subject: Subject,
        interventions: Interventions,
        judged: Judged,
        config: AuditConfig,
    ):
        self._judged, self.config, self._run = judged, config, interventions
        self._network = EdgeNetwork(subject)
        edges, host = self._network.edges, jax.tree.map(np.asarray, dict(self._network.params))
        answers = np.unique(np.asarray(judged.pairs.answers))
        self._own = edges.kept((circuit.nodes[e.source], circuit.nodes[e.target]) for e in circuit.edges)
        self._nodes = edges.flat(circuit.masks()) > 0
        self._live = live_edges(edges, host, answers)
        self._means = {site: subject.means[site] for site in edges.widths}
        self._draws = PathDraws(edges, self._live, self._own, answering_channels(edges, host, answers))
        self._alone = self._network.differences(self._own[None], judged.pairs, self._nodes)[0]
        self._full = self._network.differences(np.ones_like(self._own)[None], judged.pairs)[0]

    def against_random(self, draws: int) -> list[Report]:
        """Sufficiency and necessity against that many random circuits, corrected together.

        Everything is calibrated on the pairs it is judged on, the circuit too: only what is treated alike can
        be ranked.
        """
        rng = np.random.RandomState(self.config.seed)
        sets = np.stack([self._draws.draw(rng) for _ in range(draws)])
        nodes = np.stack([self._nodes, *(self._network.edges.joined(each) for each in sets)])
        sizes = nodes.sum(axis=1)
        alone = self._network.differences(sets, self._judged.pairs)
        enough = self._refitted(np.concatenate([self._alone[None], alone]))
        needed = self._refitted(self._without(nodes))
        p_values = [rank_p(each[0], each[1:], LEAST_LOSS) for each in (-enough, needed)]
        return [
            {
                "test": name,
                "null": NULLS[name],
                "loss": float(losses[0]),
                "random": float(np.median(losses[1:])),
                "nodes": int(sizes[0]),
                "random_nodes": float(np.median(sizes[1:])),
                "draws": draws,
                "p": p,
                "corrected": corrected,
            }
            for name, losses, p, corrected in zip(
                ("sufficiency", "necessity"), (enough, needed), p_values, holm(p_values), strict=True
            )
        ]

    def of_edges(self) -> Report:
        """Each edge of the circuit against random edges, both removed from the model one at a time."""
        edges, count = self._network.edges, int(self._own.sum())
        report: Report = {"null": NULLS["edges"], "why_not": None}
        draws, others = draws_needed(count), np.flatnonzero(self._live & ~self._own)
        if not count:
            return report | {"why_not": "the circuit has no edges"}
        if draws > min(self.config.edge_draws, len(others)):
            return report | {
                "why_not": f"to tell anything of {count} edges takes {draws} random ones; "
                + (
                    f"the model has {len(others)} that lead to an answer and are not of the circuit"
                    if draws > len(others)
                    else f"at most {self.config.edge_draws} are measured"
                )
            }
        rng = np.random.RandomState(self.config.seed)
        drawn = rng.choice(others, min(len(others), max(draws, self.config.test_draws)), replace=False)
        ours = np.flatnonzero(self._own)
        effects = self._effects(np.concatenate([ours, drawn]))
        of_random = effects[count:]
        p_values = [rank_p(effect, of_random, LEAST_EFFECT) for effect in effects[:count]]
        corrected = holm(p_values)
        rows: list[Report] = [
            {"source": str(edges.ends(int(i))[0]), "target": str(edges.ends(int(i))[1])}
            | {"effect": float(effect), "p": p, "corrected": c}
            for i, effect, p, c in zip(ours, effects[:count], p_values, corrected, strict=True)
        ]
        return report | {
            "draws": len(drawn),
            "random": [float(q) for q in np.quantile(of_random, (0.5, 0.95, 1))],
            "rows": sorted(rows, key=lambda row: -row["effect"]),
            "significant": sum(c < LEVEL for c in corrected),
        }

    def equivalence(self, power: bool) -> Report:
        """Is the circuit as often better than the model as worse?  With its power, if that is asked for."""
        judged = self._judged
        model, circuit = pair_losses(self._full, *judged.full), pair_losses(self._alone, *judged.own)
        better = _better(circuit, model)
        report = {
            "null": NULLS["equivalence"],
            "better": float((better == 1).mean()),
            "worse": float((better == 0).mean()),
            "p": mean_p(better, judged.templates, 0.5),
            "power": None,
        }
        if power:
            report["power"] = self._power(
                lambda wrong: [
                    mean_p(_better(pair_losses(each, *judged.own), model), judged.templates, 0.5)
                    for each in self._network.differences(wrong, judged.pairs, self._nodes)
                ]
            )
        return report

    def independence(self, power: bool) -> Report:
        """Does the model without the circuit still tell how well the model does?  With its power."""
        hsic, p = self._independence(~self._own)
        report = {
            "null": NULLS["independence"],
            "hsic": hsic,
            "draws": self.config.test_draws,
            "p": p,
            "power": None,
        }
        if power:
            report["power"] = self._power(lambda wrong: [self._independence(~each)[1] for each in wrong])
        return report

    def _independence(self, rest: np.ndarray) -> tuple[float, float]:
        left = self._network.differences(rest[None], self._judged.pairs)[0]
        margins = _margins(self._full), _margins(left)
        rng = np.random.RandomState(self.config.seed)
        return independence_p(*margins, self._judged.templates, self.config.test_draws, rng)

    def _power(self, p_values: Callable[[np.ndarray], list[float]]) -> Report:
        """{kind of wrong circuit: {circuits, the share that is rejected}}."""
        report: Report = {}
        for kind, wrong in self._wrong_circuits().items():
            found = p_values(wrong) if len(wrong) else []
            rejected = float(np.mean(np.array(found) < LEVEL)) if found else None
            report[kind] = {"circuits": len(found), "rejected": rejected}
        return report

    def _wrong_circuits(self) -> dict[str, np.ndarray]:
        """{kind: bool [S, E]}: the circuit without one of its edges, or with one more at a node of it."""
        rng, edges = np.random.RandomState(self.config.seed), self._network.edges
        touching = self._nodes[edges.sources] | self._nodes[edges.targets]
        pools = {
            DROPPED: np.flatnonzero(self._own),
            ADDED: np.flatnonzero(self._live & ~self._own & touching),
        }
        wrong = {}
        for kind, pool in pools.items():
            changed = rng.permutation(pool)[: self.config.alternatives]
            wrong[kind] = np.tile(self._own, (len(changed), 1))
            wrong[kind][np.arange(len(changed)), changed] ^= True
        return wrong

    def _effects(self, removed: np.ndarray) -> np.ndarray:
        """Mean size of the change of a pair's margin when the model loses each edge, float [S].

        Right minus wrong, over both prompts: what moves both towards one answer is no part of the task.
        """
        pairs = self._judged.pairs.first(self.config.edge_pairs)
        before, effects = self._full[: pairs.size], []
        for start in range(0, len(removed), 64):
            some = removed[start : start + 64]
            kept = np.ones((len(some), self._network.edges.count), bool)
            kept[np.arange(len(some)), some] = False
            changed = self._network.differences(kept, pairs, np.ones_like(self._nodes)) - before
            effects.append(np.abs(_margins(changed)).mean(axis=1))
        return np.concatenate(effects)

    def _without(self, nodes: np.ndarray) -> np.ndarray:
        """Logit differences [S, N, 2] of the model without some nodes, bool [S, K]."""
        masks = [self._network.edges.masks(~each) for each in nodes]
        stacked = {site: np.stack([each[site] for each in masks]) for site in masks[0]}
        return self._run.ablated(self._network.params, stacked, self._means, self._judged.pairs)

    def _refitted(self, differences: np.ndarray) -> np.ndarray:
        """Losses [S] of differences [S, N, 2], each calibrated on these pairs."""
        return pair_losses(differences, *self._run.calibrated(differences)).mean(axis=1)


def _margins(differences: np.ndarray) -> np.ndarray:
    """Right minus wrong logit of each pair, float64 [..., N], of differences [..., N, 2]."""
    return (np.asarray(differences, np.float64) * [1, -1]).mean(axis=-1)


def _better(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """1 where our loss is lower, 0 where theirs is, 1/2 where they are equal up to rounding, [N].

    A circuit that is the whole model, calibrated in another program, would else be better on all pairs or on
    none.
    """
    same = np.isclose(ours, theirs, rtol=LEAST_SHARE, atol=0)
    return np.where(same, 0.5, ours < theirs)


def all_tests(tests: CircuitTests, thorough: bool, keep: Keep) -> Report:
    """The report of all tests.

    Args:
      tests: Of the circuit.
      thorough: Whether what takes long is done too: more draws, its edges one by one, and power.
      keep: Keeps parts.
    """
    config = tests.config
    draws = config.test_draws if thorough else LEAST_DRAWS
    not_run: Report = {"null": NULLS["edges"], "why_not": "full controls were not run"}
    return {
        "level": LEVEL,
        **keep(f"tests-circuit-{draws}", lambda: {"circuit": tests.against_random(draws)}),
        "edges": keep("tests-edges", tests.of_edges) if thorough else not_run,
        "equivalence": keep(f"tests-equivalence-{thorough}", lambda: tests.equivalence(thorough)),
        "independence": keep(f"tests-independence-{thorough}", lambda: tests.independence(thorough)),
    }
