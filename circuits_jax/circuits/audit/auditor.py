"""The faithfulness report of a circuit, all but its controls (docs/method.md, "Audit").

Two rules of calibration.  The circuit is calibrated as it was saved, on training pairs.  Everything that it
is compared with, or that is damaged, is calibrated on the very pairs it is judged on, which favours the
comparison: no scale and shift makes a random circuit, or a model without its circuit, look better.

A report is plain data (dicts, lists, numbers); a figure is {value, low, high}.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation.competition import entry_means
from circuits_jax.circuits.ablation.donors import another_pair, other_prompt
from circuits_jax.circuits.ablation.edge_removal import remove_edges, with_biases
from circuits_jax.circuits.ablation.means import Means, reference_activations
from circuits_jax.circuits.ablation.pairs import pair_batch
from circuits_jax.circuits.audit import random_circuits
from circuits_jax.circuits.audit.controls.comparison import compare
from circuits_jax.circuits.audit.interchange import Rows
from circuits_jax.circuits.audit.intervals import (
    ClusteredIntervals,
    Figure,
    pair_accuracies,
    pair_flips,
    pair_losses,
)
from circuits_jax.circuits.audit.interventions import Interventions
from circuits_jax.circuits.audit.real_code import Natural
from circuits_jax.circuits.audit.verdict import Measurements, Verdict, decide
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.full_model import known_of, missed_by
from circuits_jax.circuits.graph import count_edges
from circuits_jax.circuits.masks import full_masks, outside, stack
from circuits_jax.config import AuditConfig
from circuits_jax.model import sites
from circuits_jax.model.model import Model
from circuits_jax.model.transformer import Params
from circuits_jax.storage.errors import TaskError
from circuits_jax.storage.tables import Report
from circuits_jax.tasks.task import Pairs

STAGES = ("circuit", "references", "interchange", "templates", "baselines", "completeness", "natural")


class Auditor:
    """Examines circuits of one model; they share its compiled interventions and mean activations.

    Args:
      model: The full model.
      corpus: int [batches, B, T], what mean activations are taken over.
      config: Sizes of the examination.
      devices: All there are by default.
    """

    def __init__(
        self,
        model: Model,
        corpus: np.ndarray,
        config: AuditConfig,
        devices: Sequence[jax.Device] | None = None,
    ):
        # With biases everywhere, so that a circuit's removed edges have somewhere to leave their constants.
        self.model = with_biases(model)
        self.corpus, self.config = corpus, config
        self.run = Interventions(self.model.network, devices)
        self.everything = stack([full_masks(self.model.config)])

    @functools.cached_property
    def means(self) -> Means:
        """Mean activations over the corpus."""
        return reference_activations(self.model, self.corpus, "mean", final=True)

    @functools.cached_property
    def entry(self) -> Means | None:
        """The same before AbsTopK, or None in a model that has none."""
        config = self.model.config
        if config.activation_fraction is None or not config.activation_locations:
            return None
        return entry_means(self.model, self.corpus)

    def audit(
        self,
        circuit: Circuit,
        train: Pairs,
        test: Pairs,
        natural: Natural | str,
        advance: Callable[[str], None] = lambda stage: None,
    ) -> Report:
        """Everything but controls and verdict: one entry for each of STAGES, and "model".

        Args:
          circuit: Cut from this model.
          train: The pairs it was cut on.
          test: The pairs it is judged on.
          natural: Positions of real code, or why there are none.
          advance: Called with the name of each stage as it begins.
        """
        examination = _Examination(self, circuit, train, test)
        parts = {
            "circuit": examination.circuit_alone,
            "references": examination.references,
            "interchange": examination.interchange,
            "templates": examination.templates,
            "baselines": examination.baselines,
            "completeness": examination.completeness,
            "natural": functools.partial(examination.natural, natural),
        }
        report: Report = {"model": examination.full_model()}
        for stage in STAGES:
            advance(stage)
            report[stage] = parts[stage]()
        return report


class _Examination:
    """One circuit under examination: what its parts share."""

    def __init__(self, auditor: Auditor, circuit: Circuit, train: Pairs, test: Pairs):
        self.auditor, self.saved, self.run = auditor, circuit, auditor.run
        self.config, self.params = auditor.config, auditor.model.device_params
        self.answers = np.unique(test.answers)
        masks = circuit.masks()
        # In forward order, whatever the order in the file, so that a seed decides what is drawn.
        self.final = sites.FINAL in masks
        self.masks = {site: masks[site] for site in sites.node_sites(auditor.model.config, self.final)}
        self.kept, self.rest = stack([self.masks]), stack([outside(self.masks)])
        self.means = {site: jnp.asarray(mean) for site, mean in circuit.means.items()}
        self.alone = self.without_edges(self.means)
        self.train, self.test = (pair_batch(pairs, auditor.model.config.n_ctx) for pairs in (train, test))
        self.pairs = test
        self.of_test, self.of_train = (self.intervals(_templates_of(pairs)) for pairs in (test, train))
        self.by_pair: dict[str, np.ndarray] = {}  # what `templates` shows, [N] each
        self.before = self.run.ablated(self.params, auditor.everything, self.means, self.test)
        self.fitted = self.run.ablated(self.params, auditor.everything, self.means, self.train)
        scales, shifts = self.run.calibrated(self.fitted)
        self.full_calibration = (float(scales[0]), float(shifts[0]))
        self.own_calibration = (circuit.calibration.scale, circuit.calibration.shift)

    def intervals(self, clusters: np.ndarray) -> ClusteredIntervals:
        return ClusteredIntervals(clusters, self.config.confidence)

    def without_edges(self, means: Means) -> Params:
        """Parameters without the edges that the circuit leaves out, which carry `means` instead."""
        return remove_edges(dataclasses.replace(self.saved, means=means), self.auditor.model).device_params

    @functools.cached_property
    def circuit_swapped(self) -> np.ndarray:
        """Logit differences [1, N, 2] with the circuit's nodes as on the pair's other prompt.

        That is their interchange, and the model without them under counterfactual ablation.
        """
        return self.run.swapped(self.params, self.rest, other_prompt(self.test), self.test)

    def full_model(self) -> Report:
        """The full model on both splits, calibrated on training pairs; and of `known_of`."""
        report: Report = {
            "train": self._scores(self.fitted[0], self.full_calibration, self.of_train),
            "test": self._scores(self.before[0], self.full_calibration, self.of_test),
        }
        self.by_pair["model"] = pair_losses(self.before[0], *self.full_calibration)
        return report | known_of(self.saved)

    def circuit_alone(self) -> Report:
        """Sufficiency: the circuit as saved, on both splits, and with constant competitors."""
        calibration = self.own_calibration
        report: Report = {"nodes": len(self.saved.nodes), "edges": len(self.saved.edges)}
        report["missed"] = missed_by(self.saved)
        # A control that misses counts as all edges, and so does a circuit.
        report["counted_edges"] = report["edges"]
        if report["missed"] is not None:
            report["counted_edges"] = count_edges(self.auditor.model.config, self.auditor.model.params)
        of_splits = {"train": (self.train, self.of_train), "test": (self.test, self.of_test)}
        for split, (batch, intervals) in of_splits.items():
            difference = self.run.ablated(self.alone, self.kept, self.means, batch)[0]
            report[split] = self._scores(difference, calibration, intervals)
        self.by_pair["sufficiency"] = pair_losses(difference, *calibration)
        report["constant_competitors"] = None
        if self.auditor.entry is not None:
            difference = self.run.competing(self.alone, self.kept, self.auditor.entry, self.means, self.test)
            report["constant_competitors"] = self._scores(difference[0], calibration, self.of_test) | {
                "recalibrated_loss": self._refitted_loss(difference)
            }
        return report

    def references(self) -> Report:
        """{ablation: {sufficiency, necessity}}, each loss calibrated on its own pairs."""
        values = {
            "mean": self.means if self.saved.ablation == "mean" else self.auditor.means,
            "zero": {site: jnp.zeros_like(mean) for site, mean in self.means.items()},
        }
        report = {}
        for name, held in values.items():
            alone = self.run.ablated(self.without_edges(held), self.kept, held, self.test)
            without = self.run.ablated(self.params, self.rest, held, self.test)
            report[name] = {"sufficiency": alone, "necessity": without}
        resampled, other = another_pair(self.test, self.config.seed), other_prompt(self.test)
        without = self.run.swapped(self.params, self.rest, resampled, self.test)
        for name, donors, removed in (
            ("resample", resampled, without),
            ("counterfactual", other, self.circuit_swapped),
        ):
            alone = self.run.swapped(self.alone, self.kept, donors, self.test, self.params)
            report[name] = {"sufficiency": alone, "necessity": removed}
        self.by_pair["necessity"] = self._refitted(report[self.saved.ablation]["necessity"])[0]
        return jax.tree.map(self._refitted_loss, report)

    def interchange(self) -> Report:
        """Share of answers that flip when the circuit's nodes, or all others, are swapped within the pair."""
        swapped = {
            "circuit": self.circuit_swapped,
            "outside": self.run.swapped(self.params, self.kept, other_prompt(self.test), self.test),
        }
        report = {}
        for what, after in swapped.items():
            flips = self.by_pair[f"flips, {what}"] = pair_flips(self.before, after)[0]
            report[what] = vars(self.of_test.rate(flips))
        return report

    def templates(self) -> list[Report]:
        """One row a template: its number, how many pairs, the first prompt, and their means of `by_pair`."""
        rows = []
        for number in np.unique(self.pairs.template):
            chosen = np.flatnonzero(self.pairs.template == number)
            means = {name: float(values[chosen].mean()) for name, values in self.by_pair.items()}
            prompt = self.pairs.texts[chosen[0]][0]
            rows.append({"template": int(number), "pairs": len(chosen), "prompt": prompt, **means})
        return rows

    def baselines(self) -> Report:
        """Random circuits of the same size on the circuit's axes: means over draws, and each draw."""
        config, saved = self.config, self.saved
        live = random_circuits.live_nodes(self.auditor.model.config, self.params, self.answers, self.final)
        sets = {
            "random": random_circuits.draw_circuits(live, len(saved.nodes), config.draws, config.seed),
            "matched": random_circuits.draw_matched(live, self.masks, config.draws, config.seed),
        }
        report: Report = {"live_nodes": int(sum(mask.sum() for mask in live.values()))}
        donors = other_prompt(self.test)
        for name, masks in sets.items():
            rest = {site: 1 - mask for site, mask in masks.items()}
            alone = self.run.ablated(self.params, masks, self.means, self.test)
            without = self.run.ablated(self.params, rest, self.means, self.test)
            swapped = self.run.swapped(self.params, rest, donors, self.test)
            report[name] = {
                "sufficiency": _over_draws(self.of_test.loss, self._refitted(alone)),
                "necessity": _over_draws(self.of_test.loss, self._refitted(without)),
                "interchange": _over_draws(self.of_test.rate, pair_flips(self.before, swapped)),
                "jaccard": float(np.mean(random_circuits.overlaps(masks, self.masks))),
            }
        return report

    def completeness(self) -> Report:
        """The same parts of the circuit removed from it and from the full model: do both lose alike?"""
        parts = random_circuits.draw_parts(self.masks, self.config.draws, self.config.seed)
        less = {site: self.masks[site] * (1 - part) for site, part in parts.items()}
        rest = {site: 1 - part for site, part in parts.items()}
        of_circuit = self._refitted(self.run.ablated(self.alone, less, self.means, self.test))
        of_model = self._refitted(self.run.ablated(self.params, rest, self.means, self.test))
        removed = sum(part.sum(axis=1) for part in parts.values())
        return {
            "parts": [
                {"removed": int(n), "circuit": float(c), "model": float(m)}
                for n, c, m in zip(removed, of_circuit.mean(1), of_model.mean(1), strict=True)
            ],
            "difference": vars(self.of_test.mean((of_circuit - of_model).mean(axis=0))),
            "gap": float(np.abs(of_circuit.mean(axis=1) - of_model.mean(axis=1)).mean()),
        }

    def natural(self, natural: Natural | str) -> Report:
        """Full model and circuit at positions of real code, calibrated on templates."""
        if isinstance(natural, str):
            return {"why_not": natural}
        if len(np.unique(natural.window)) < 2:
            return {
                "why_not": "all such positions lie in one window of the corpus, which tells nothing of others"
            }
        rows, count = Rows(natural.tokens, natural.at), len(natural.at)
        report: Report = {
            "condition": natural.condition,
            "found": natural.found,
            "positions": count,
            "second_answer": float(natural.second.mean()),
        }
        sign, intervals = np.where(natural.second, -1, 1), self.intervals(natural.window)
        for name, params, masks, (scale, shift) in (
            ("model", self.params, self.auditor.everything, self.full_calibration),
            ("circuit", self.alone, self.kept, self.own_calibration),
        ):
            (difference,) = self.run.asked(params, masks, self.means, natural.answers, rows)
            margin, calibrated = sign * difference, sign * (scale * difference + shift)
            report[name] = {
                "loss": vars(intervals.loss(np.logaddexp(0, -margin))),
                "calibrated_loss": vars(intervals.loss(np.logaddexp(0, -calibrated))),
                "accuracy": vars(intervals.rate(margin > 0)),
                "calibrated_accuracy": vars(intervals.rate(calibrated > 0)),
            }
        return report

    def _scores(
        self, difference: np.ndarray, calibration: tuple[float, float], intervals: ClusteredIntervals
    ) -> dict[str, dict[str, float]]:
        """Loss, calibrated loss and accuracy of logit differences [N, 2]."""
        return {
            "loss": vars(intervals.loss(pair_losses(difference))),
            "calibrated_loss": vars(intervals.loss(pair_losses(difference, *calibration))),
            "accuracy": vars(intervals.rate(pair_accuracies(difference))),
        }

    def _refitted(self, differences: np.ndarray) -> np.ndarray:
        """Losses [S, N] of differences [S, N, 2], each calibrated on its own pairs."""
        return pair_losses(differences, *self.run.calibrated(differences))

    def _refitted_loss(self, difference: np.ndarray) -> dict[str, float]:
        """The one loss of differences [1, N, 2]."""
        return vars(self.of_test.loss(self._refitted(difference)[0]))


def _templates_of(pairs: Pairs) -> np.ndarray:
    """The template of each pair, int [N].

    Raises:
      TaskError: if it is the same of all, which gives no interval.
    """
    if len(np.unique(pairs.template)) < 2:
        raise TaskError(
            f"the {pairs.split} pairs of {pairs.task} are all of one template, which tells nothing of "
            f"others; give it two {pairs.split} templates or more (in a JSONL file, lines or groups of them)"
        )
    return pairs.template


def _over_draws(interval: Callable[[np.ndarray], Figure], values: np.ndarray) -> Report:
    """The mean over draws of values [S, N], with its `interval` over templates, and the mean of each draw."""
    return vars(interval(values.mean(axis=0))) | {"draws": values.mean(axis=1).tolist()}


def verdict_of(report: Report, ablation: str, config: AuditConfig) -> Verdict:
    """The verdict on a report, whose "controls" are those of `comparison.compare`.

    Args:
      report: Of `Auditor.audit`, with its controls.
      ablation: The circuit's own.
      config: The thresholds.
    """
    measured = Measurements(
        sufficiency=Figure(**report["circuit"]["test"]["calibrated_loss"]),
        necessity=Figure(**report["references"][ablation]["necessity"]),
        flips_inside=Figure(**report["interchange"]["circuit"]),
        flips_outside=Figure(**report["interchange"]["outside"]),
        **compare(report["controls"], report["circuit"]["counted_edges"], config)._asdict(),
    )
    return decide(config, measured)
