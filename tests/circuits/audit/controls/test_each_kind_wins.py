"""Of every kind of control that is searched, a network in which it needs no more edges than the circuit.

With the real search, so that a kind that never wins elsewhere is known to be able to (docs/statistics.md,
"Controls").
"""

import itertools

import jax
import numpy as np
import pytest

from circuits_jax.circuits.ablation.means import Subject, reference_activations
from circuits_jax.circuits.audit.controls import kinds
from circuits_jax.circuits.audit.controls.comparison import compare
from circuits_jax.circuits.audit.controls.running import Case, ControlRuns, draws_of
from circuits_jax.circuits.planted import Design, plant_design
from circuits_jax.circuits.pruning.assembly import make_circuit
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.config import AuditConfig, PruneConfig

pytestmark = [pytest.mark.computes, pytest.mark.slow]

NAMES = 16
PRUNE = PruneConfig(steps=60, batch_pairs=16, importance_nodes=0)


def _ending(tokens):
    """Prompts of words that end with one of two tokens; the next two at every draw."""
    turn = itertools.cycle(tokens)

    def prompts(rng, words):
        body, (a, b) = list(rng.choice(words, int(rng.integers(11, 15)))), next(turn)
        return [*body, a], [*body, b]

    return prompts


def lookup():
    """Each of the names has its own neurons: two that say what is right, two more faintly the reverse.

    Nothing general is there to be found: what the circuit does is to know the names by heart.
    """
    names = [(f"{i}+", f"{i}-") for i in range(NAMES)]

    def wire(draft):
        for i, sign in itertools.product(range(NAMES), (1, -1)):
            right, reverse = draft.neuron(0), draft.neuron(0)
            for unit in (right, reverse):
                draft.reads(unit, **{f"name{i}": 3 * sign})
            draft.writes(right, answer=0.4 * sign)
            draft.writes(reverse, answer=-0.2 * sign)

    return Design(
        name="lookup",
        tokens={name: {f"name{i}": 4 if name[-1] == "+" else -4} for i in range(NAMES) for name in names[i]},
        twins=tuple(names),
        answers=("yes", "no"),
        wire=wire,
        prompts=_ending(names),
    )


def last_token():
    """The last token decides, by way of two neurons; a random embedding and unembedding tell it, too."""

    def wire(draft):
        first, second = draft.neuron(0), draft.neuron(1)
        draft.reads(first, sign=3)
        draft.writes(first, between=0.5)
        draft.reads(second, bias=-4, between=3)
        draft.writes(second, bias=-1, answer=0.3)

    return Design(
        name="last token",
        tokens={"plus": {"sign": 3}, "minus": {"sign": -3}},
        twins=(("plus", "minus"),),
        answers=("yes", "no"),
        wire=wire,
        prompts=_ending([("plus", "minus")]),
    )


def controlled(design, folder):
    """(what pruning finds, the verdict on its size, rows of quick controls by kind)."""
    planted = plant_design(design, 0, 2 * NAMES, 2 * NAMES, 2 * NAMES)
    model = planted.model
    means = reference_activations(model, planted.corpus, "mean")
    subject = Subject(model, {site: np.asarray(mean) for site, mean in means.items()})
    pruner = Pruner(subject, PRUNE, jax.devices()[:1])
    circuit = make_circuit(pruner.prune(planted.splits, allow_unlearned=True), subject, PRUNE, planted.splits)
    counts = np.bincount(planted.corpus.ravel(), minlength=model.config.vocab_size)
    case = Case(circuit, subject, planted.splits, planted.corpus, counts, unfit=(0,))
    rows = ControlRuns(case, pruner, folder).run(draws_of("quick", AuditConfig()), show=False)
    told = compare(
        {"choice": "quick", "rows": rows, "target": PRUNE.target}, len(circuit.edges), AuditConfig()
    )
    return circuit, told, {kind: kinds.rows_of(rows, kind) for kind in kinds.SEARCHED}


def test_where_a_network_knows_by_heart_its_reverse_and_what_is_memorised_are_no_larger(tmp_path):
    circuit, told, rows = controlled(lookup(), tmp_path)
    assert circuit.provenance["met_target"] and len(circuit.edges) >= NAMES
    for kind in (kinds.INVERTED, kinds.MEMORISED):
        (row,) = rows[kind]
        assert row["outcome"] == kinds.MET and row["edges"] <= 1.1 * len(circuit.edges), (kind, row)
    assert rows[kinds.MEMORISED][0]["pairs"] >= 8


def test_where_the_last_token_decides_random_and_shuffled_weights_are_no_larger(tmp_path):
    circuit, told, rows = controlled(last_token(), tmp_path)
    assert circuit.provenance["met_target"] and len(circuit.edges) >= 4
    for kind in (kinds.RANDOM, kinds.SHUFFLED):
        (row,) = rows[kind]
        assert row["outcome"] == kinds.MET and row["edges"] <= len(circuit.edges), (kind, row)
    assert told.beaten
