"""Runs the controls of a circuit, each with the search that found the circuit, and keeps what each gives.

A finished control is a file of its own, so that an audit that was stopped goes on, and one with more draws
begins with those that are there.  See docs/statistics.md, "Controls".
"""

import dataclasses
import functools
import math
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import Subject, reference_activations
from circuits_jax.circuits.audit.controls import kinds, memorised, moved, relabelled, weights
from circuits_jax.circuits.audit.random_circuits import overlaps
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.masks import full_masks, size
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.circuits.pruning.sweep import Progress, sweep, total_steps
from circuits_jax.config import AuditConfig
from circuits_jax.model.model import Model
from circuits_jax.storage.errors import TaskError
from circuits_jax.storage.files import read_json_if_any, write_json
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.storage.tables import Report

MOST_THROWN_AWAY = 8  # relabelled draws beyond those asked for


class Draws(NamedTuple):
    """How many of each kind: of the relabelled task, of the other kinds, and of other seeds."""

    relabelled: int
    others: int
    seeds: int


def draws_of(choice: str, config: AuditConfig) -> Draws:
    """What "quick" and "full" controls are."""
    if choice == "full":
        return Draws(config.relabelled_draws, config.control_draws, config.seeds)
    return Draws(1, 1, 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A circuit, and what its controls are made of.

    Attributes:
      circuit: The circuit that is judged.
      subject: Its model and means, those that removed edges carry among them.
      splits: Its task's pairs; the first two are those it was cut on and chosen by.
      corpus: int [batches, B, T], what means are taken over.
      counts: int [V], how often each token occurs in the corpus.
      others: Other circuits of the model.
      unfit: Tokens that stand for no answer, such as the end of text.
      seed: Of everything that is drawn.
    """

    circuit: Circuit
    subject: Subject
    splits: Splits
    corpus: np.ndarray
    counts: np.ndarray
    others: Sequence[Circuit] = ()
    unfit: Sequence[int] = ()
    seed: int = 0


class ControlRuns:
    """The controls of one circuit.

    Args:
      case: The circuit.
      pruner: Of the circuit's subject, with the settings of its search.
      store: Folder of this circuit and seed, for finished controls.

    Raises:
      TaskError: if the task's controls cannot be built.
    """

    def __init__(self, case: Case, pruner: Pruner, store: Path):
        self._case, self._pruner, self._store = case, pruner, store
        self._answers = relabelled.answers_of(case.splits)
        self._steps = total_steps(pruner.config)

    def run(self, draws: Draws, show: bool = True) -> list[Report]:
        """All rows, in order of kind and draw; those that are stored are not made again.

        Args:
          draws: How many of each kind.
          show: Whether a progress bar is shown.
        """
        sizes = memorised.memorisable(self._case.splits.train)
        searches = draws.relabelled + 4 * draws.others + len(sizes) - 1 + draws.seeds
        title = f"controls of {self._case.circuit.task}"
        with ProgressBar(
            total=searches * self._steps, desc=title, unit="step", mininterval=1, disable=not show
        ) as bar:
            self._bar = bar
            return [
                *self._relabelled(draws.relabelled),
                *(self._inverted(draw) for draw in range(draws.others)),
                *self._memorised(sizes, draws.others),
                *(self._reweighted(kinds.RANDOM, weights.random_weights, n) for n in range(draws.others)),
                *(self._reweighted(kinds.SHUFFLED, weights.shuffled_weights, n) for n in range(draws.others)),
                *self._moved(draws.others),
                *(self._other_seed(draw) for draw in range(draws.seeds)),
            ]

    # One kind each.

    def _relabelled(self, wanted: int) -> list[Report]:
        rows: list[Report] = []
        while (left := wanted - len(kinds.rows_of(rows, kinds.RELABELLED))) > 0:
            if len(rows) - (wanted - left) >= MOST_THROWN_AWAY:
                break  # too few draws: the verdict says so
            rows.append(self._relabel(len(rows)))
        return rows

    def _relabel(self, draw: int) -> Report:
        def make() -> Report:
            case = self._case
            seed = self._lot(kinds.RELABELLED, draw)
            labels = relabelled.draw_labels(case.counts, self._answers, case.unfit, seed)
            splits = relabelled.relabelled(case.splits, labels)
            own = {"labels": [labels[answer] for answer in self._answers]}
            loss = self._loss_of_circuit(case.circuit, splits)
            if loss <= self._pruner.config.target:
                edges, nodes = len(case.circuit.edges), len(case.circuit.nodes)
                return _row(edges, nodes, kinds.THROWN_AWAY, loss) | own
            return self._search(splits, draw) | own

        return self._stored(kinds.RELABELLED, draw, make)

    def _inverted(self, draw: int) -> Report:
        splits = relabelled.inverted(self._case.splits)
        return self._stored(kinds.INVERTED, draw, lambda: self._search(splits, draw))

    def _memorised(self, sizes: Sequence[int], wanted: int) -> list[Report]:
        """Ever more pairs, until no draw of some number can be memorised; all draws of the number before.

        More pairs than could not be memorised are not tried.
        """
        rows: list[Report] = []
        for count in sorted(sizes):
            for draw in range(wanted):
                rows.append(self._memorise(count, draw))
                if rows[-1]["outcome"] == kinds.MET:
                    break
            else:
                break
        if any(row["outcome"] == kinds.MET for row in rows):
            most = kinds.deciding_pairs(rows)
            known = {row["draw"] for row in rows if row["pairs"] == most}
            rows += [self._memorise(most, draw) for draw in range(wanted) if draw not in known]
        return rows

    def _memorise(self, count: int, draw: int) -> Report:
        def make() -> Report:
            seed = self._lot(f"{kinds.MEMORISED} {count}", draw)
            splits = memorised.memorised(self._case.splits, count, seed)
            return self._search(splits, draw) | {"pairs": count}

        return self._stored(kinds.MEMORISED, draw, make, f"-of-{count}")

    def _reweighted(self, kind: str, change: Callable[[Model, int], Model], draw: int) -> Report:
        def make() -> Report:
            case, config = self._case, self._pruner.config
            model = change(case.subject.model, self._lot(kind, draw))
            means = reference_activations(model, case.corpus, config.ablation, case.subject.final)
            own = {"scale": kinds.TRAINED} if kind == kinds.RANDOM else {}
            return self._search(case.splits, draw, Subject(model, means)) | own

        return self._stored(kind, draw, make)

    def _moved(self, wanted: int) -> list[Report]:
        other = moved.nearest(self._case.circuit, self._answers, self._case.others)
        if other is not None:
            name = f"-of-{other.task}-{other.digest}"
            return [self._stored(kinds.MOVED, 0, lambda: self._move(other), name)]
        return [
            self._stored(kinds.MOVED, draw, functools.partial(self._stand_in, draw)) for draw in range(wanted)
        ]

    def _move(self, other: Circuit) -> Report:
        loss = self._loss_of_circuit(other, self._case.splits)
        return self._as_it_is(len(other.edges), len(other.nodes), loss) | {"of": other.task}

    def _stand_in(self, draw: int) -> Report:
        case, model = self._case, self._case.subject.model
        like = moved.parts_of(case.circuit)
        found = moved.stand_in(model.config, model.params, like, self._lot(kinds.MOVED, draw))
        loss = moved.loss_of(model, case.subject.means, found, self._pruner.config, case.splits)
        return self._as_it_is(len(found.edges), size(found.masks), loss) | {"of": None}

    def _other_seed(self, draw: int) -> Report:
        def make() -> Report:
            nodes = self._case.circuit.nodes
            masks: dict[str, np.ndarray] = {}
            row = self._search(self._case.splits, draw + 1, keep=masks)
            return row | {
                "jaccard": float(overlaps(masks, self._case.circuit.masks())),
                "kept": [bool(masks[node.site][node.index]) for node in nodes],
            }

        return self._stored(kinds.SEED, draw, make)

    # What they share.

    def _stored(self, kind: str, draw: int, make: Callable[[], Report], more: str = "") -> Report:
        """The row of a control: read if it is there, else made, and kept."""
        self._name = f"{kind.replace(' ', '-')}-{draw}{more}"
        path = self._store / f"{self._name}.json"
        row = read_json_if_any(path)
        if row.keys() >= kinds.FIELDS:
            searched = kind != kinds.MOVED and row["outcome"] != kinds.THROWN_AWAY
            self._bar.update(self._steps * searched)
        else:
            began = time.perf_counter()
            row = {"kind": kind, "draw": draw} | make()
            row["seconds"] = round(time.perf_counter() - began, 1)
            write_json(path, row)
        return row

    def _search(
        self,
        splits: Splits,
        draw: int,
        subject: Subject | None = None,
        keep: dict[str, np.ndarray] | None = None,
    ) -> Report:
        """What the circuit's search finds for these pairs, in the circuit's model or in another.

        Args:
          splits: The pairs; the target is that of the second of them.
          draw: Each has search seeds of its own; draw 0 those of the circuit.
          subject: The other model.
          keep: Gets the masks of what was found, all nodes where it misses the target.
        """
        subject = subject or self._case.subject
        config = self._pruner.config
        pruner = self._pruner.on(subject).seeded((config.seed + draw * config.seeds) % 2**32)
        bar = self._bar
        if bar.n >= bar.total:  # how much can be memorised is not known before
            bar.total += self._steps
        ((_, searched),) = sweep(
            pruner, {splits.train.task: splits}, self._store / "rungs" / self._name, Progress(bar), True
        )
        if isinstance(searched, TaskError):
            raise searched
        everything = full_masks(subject.model.config, final=subject.final)
        nodes, edges = size(everything), graph.count_edges(subject.model.config, subject.model.params)
        masks, loss = everything, searched.pruned.metrics["select/calibrated_loss"]
        found = None
        if size(searched.pruned.masks) < nodes:  # else nothing was found, and its edges say nothing
            found = searched.chosen
            loss = found.figures["select/calibrated_loss"]
        met = loss <= config.target
        if found is not None and met:
            nodes, edges = len(found.nodes), len(found.edges)
            masks = {site: found.variant[site] for site in everything}
        if keep is not None:
            keep |= masks
        row = _row(edges, nodes, kinds.MET if met else kinds.MISSED, loss)
        if found is not None and not met:
            row["found"] = {"nodes": len(found.nodes), "edges": len(found.edges)}
        if searched.pruned.history:
            row["learnt"] = searched.pruned.history[-1]._asdict()
        return row

    def _loss_of_circuit(self, circuit: Circuit, splits: Splits) -> float:
        model, means = self._case.subject.model, circuit.means
        if circuit is self._case.circuit:
            means = self._case.subject.means
        return moved.loss_of(model, means, moved.parts_of(circuit), self._pruner.config, splits)

    def _as_it_is(self, edges: int, nodes: int, loss: float) -> Report:
        met = loss <= self._pruner.config.target
        return _row(edges, nodes, kinds.MET if met else kinds.MISSED, loss)

    def _lot(self, what: str, draw: int) -> int:
        """A seed of its own for every draw."""
        return zlib.crc32(f"{self._case.seed}/{what}/{draw}".encode())


def _row(edges: int, nodes: int, outcome: str, loss: float) -> Report:
    loss = round(float(loss), 6)
    return {"edges": edges, "nodes": nodes, "outcome": outcome, "loss": loss if math.isfinite(loss) else None}
