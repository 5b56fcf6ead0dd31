"""Networks in which controls need no more edges than the circuit: all kinds but relabelled answers.

With the real search, so that kinds that win nowhere else are known to be able to (docs/statistics.md,
"Networks with a known answer").  Relabelled answers win in test_on_planted.
"""

import itertools

import pytest

from circuits_jax.circuits.audit.controls import kinds
from circuits_jax.circuits.audit.controls.comparison import SMALLER, compare
from circuits_jax.circuits.audit.controls.running import ControlRuns, draws_of
from circuits_jax.circuits.planted import Design, plant_design
from circuits_jax.config import AuditConfig, PruneConfig
from tests.circuits.audit.controls.cases import pruned_case

pytestmark = [pytest.mark.computes, pytest.mark.slow]

NAMES = 8
PRUNE = PruneConfig(steps=120, batch_pairs=16, importance_nodes=0, k_coef=2e-4)


def _ending(tokens):
    """Prompts of the same words that end with one of two tokens; the next two at every draw."""
    turn = itertools.cycle(tokens)

    def prompts(rng, words):
        body, (a, b) = list(words[:9]), next(turn)
        return [*body, a], [*body, b]

    return prompts


def lookup():
    """Each name is known by heart: the first layer says what is right of it, the second, more faintly, the
    reverse, each by channels of that name alone.

    Nothing general is there to be found.  A channel that both shared would be cut first, and the search would
    end at chance.
    """
    names = [(f"{i}+", f"{i}-") for i in range(NAMES)]
    answers = 1 + 2 * NAMES  # the id of the first: end of text, and names, come before

    def wire(draft):
        for i, sign in itertools.product(range(NAMES), (1, -1)):
            for layer, name, says, weight in ((0, "name", "says", 0.4), (1, "alias", "contrary", -0.2)):
                unit = draft.neuron(layer)
                draft.reads(unit, **{f"{name}{i}": 3 * sign})
                draft.writes(unit, **{f"{says}{i}": weight * sign})
                draft.unembed(answers, **{f"{says}{i}": 1.5})
                draft.unembed(answers + 1, **{f"{says}{i}": -1.5})

    return Design(
        name="lookup",
        tokens={
            name: dict.fromkeys((f"name{i}", f"alias{i}"), 3 if name[-1] == "+" else -3)
            for i in range(NAMES)
            for name in names[i]
        },
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


def controlled(design, pairs, folder):
    """(what pruning finds, the verdict on its size, rows of quick controls by kind)."""
    planted = plant_design(design, 0, pairs, pairs, pairs)
    case, pruner = pruned_case(planted, planted.model, PRUNE)
    circuit = case.circuit
    rows = ControlRuns(case, pruner, folder).run(draws_of("quick", AuditConfig()), show=False)
    told = compare(
        {"choice": "quick", "rows": rows, "target": PRUNE.target}, len(circuit.edges), AuditConfig()
    )
    return circuit, told, {kind: kinds.rows_of(rows, kind) for kind in kinds.SEARCHED}


def test_where_a_network_knows_by_heart_its_reverse_and_what_is_memorised_take_no_more(tmp_path):
    circuit, told, rows = controlled(lookup(), 8 * NAMES, tmp_path)
    assert circuit.provenance["met_target"] and len(circuit.edges) >= 2 * NAMES
    criteria = {each.name: each for each in told.smaller}
    for kind in (kinds.INVERTED, kinds.MEMORISED):
        (row,) = rows[kind]
        assert row["outcome"] == kinds.MET, (kind, row)
        assert criteria[SMALLER[kind]].passed is False, (kind, row)
    assert rows[kinds.MEMORISED][0]["pairs"] == NAMES


def test_where_the_last_token_decides_random_and_shuffled_weights_are_no_larger(tmp_path):
    circuit, told, rows = controlled(last_token(), 32, tmp_path)
    assert circuit.provenance["met_target"] and circuit.edges
    for kind in (kinds.RANDOM, kinds.SHUFFLED):
        (row,) = rows[kind]
        assert row["outcome"] == kinds.MET and row["edges"] <= len(circuit.edges), (kind, row)
    assert told.beaten
