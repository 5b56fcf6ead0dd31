"""Each control is what it says it is: the same task but for one thing."""

import collections
import dataclasses

import numpy as np
import pytest

from circuits_jax.circuits import graph
from circuits_jax.circuits.audit.controls import memorised, moved, relabelled, weights
from circuits_jax.circuits.circuit import Entry
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.planted import plant
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.model.parameters import DENSE
from circuits_jax.sparsity.projection import map_rules
from circuits_jax.storage.errors import TaskError
from circuits_jax.tasks.task import Pairs
from tests.circuits.audit.test_auditor import circuit_of

PLANTED = plant("quotes", 5, 100, 32, 32)
ZEROS = {site: np.zeros(len(mask), np.float32) for site, mask in full_masks(PLANTED.config).items()}
ZEROS |= {f"{layer}.attn.y": ZEROS[f"{layer}.attn.v"] for layer in range(2)}
ANSWERS = tuple(sorted(map(int, PLANTED.train.answers[0])))


# Other answers.


def test_relabelled_pairs_are_the_same_prompts_with_other_answers():
    labels = {ANSWERS[0]: 40, ANSWERS[1]: 41}
    found = relabelled.relabelled(PLANTED.splits, labels)
    for pairs, own in zip(found, PLANTED.splits, strict=True):
        np.testing.assert_array_equal(pairs.tokens, own.tokens)
        np.testing.assert_array_equal(pairs.answers, np.vectorize(labels.get)(own.answers))
    assert relabelled.answers_of(found) == (40, 41)


def test_inverted_answers_are_each_others_wrong_ones_in_all_splits():
    for pairs, own in zip(relabelled.inverted(PLANTED.splits), PLANTED.splits, strict=True):
        np.testing.assert_array_equal(pairs.tokens, own.tokens)
        np.testing.assert_array_equal(pairs.answers[:, 0], own.answers[:, 1])
        np.testing.assert_array_equal(pairs.answers[:, 1], own.answers[:, 0])


def test_a_task_whose_answers_vary_has_no_controls():
    answers = PLANTED.train.answers.copy()
    answers[3, 0] = 17
    splits = PLANTED.splits._replace(train=dataclasses.replace(PLANTED.train, answers=answers))
    with pytest.raises(TaskError, match="3 different answer tokens.*--controls=none") as refused:
        relabelled.answers_of(splits)
    assert "\n" not in str(refused.value)


def test_labels_are_other_tokens_that_occur_about_as_often():
    counts = np.array([9999, *(1000 + 10 * np.arange(40)), *([2] * 200)])
    drawn = collections.Counter()
    for seed in range(40):
        labels = relabelled.draw_labels(counts, (5, 100), (0,), seed)
        assert labels == relabelled.draw_labels(counts, (5, 100), (0,), seed)
        assert len({*labels, *labels.values(), 0}) == 5
        assert abs(counts[labels[5]] - counts[5]) <= 10 * relabelled.POOL and counts[labels[100]] == 2
        drawn.update(labels.values())
    assert len(drawn) > 20


def test_a_vocabulary_of_nothing_else_has_no_labels():
    with pytest.raises(TaskError, match="none are left to relabel"):
        relabelled.draw_labels(np.ones(4, int), (1, 2), (0,), 0)


# Learning by heart.


@pytest.mark.parametrize("count", [8, 64])
def test_memorised_pairs_are_training_pairs_of_which_half_have_exchanged_answers(count):
    splits = memorised.memorised(PLANTED.splits, count, 3)
    own = {
        prompts.tobytes(): answers
        for prompts, answers in zip(PLANTED.train.tokens, PLANTED.train.answers, strict=True)
    }
    lots = {}
    for prompts, answers in zip(splits.train.tokens, splits.train.answers, strict=True):
        key = prompts.tobytes()
        exchanged = (answers != own[key]).all()
        assert exchanged or (answers == own[key]).all()
        assert lots.setdefault(key, exchanged) == exchanged  # fixed
    assert len(lots) == count and sum(lots.values()) == count // 2
    assert splits.select is splits.train and len(splits.train.last) == len(PLANTED.train.last)
    other = memorised.memorised(PLANTED.splits, count, 4)
    assert not np.array_equal(other.train.answers, splits.train.answers)


def test_only_pairs_that_share_no_prompt_can_be_memorised():
    """One prompt with two right answers is no fair thing to ask."""
    tokens = np.arange(40).reshape(10, 2, 2)
    tokens[4:, 0] = tokens[0, 0]
    pairs = Pairs(
        "t", "train", tokens, np.ones(10, int), np.tile([1, 2], (10, 1)), [("a", "b")] * 10, survived=1.0
    )
    assert memorised.memorisable(pairs) == (4,)
    found = memorised.memorised(Splits(pairs, pairs, pairs), 4, 0)
    assert {prompts.tobytes() for prompts in found.train.tokens} == {each.tobytes() for each in tokens[:4]}
    assert memorised.memorisable(PLANTED.train) == memorised.SIZES
    assert memorised.memorisable(PLANTED.splits.select) == (8, 16, 32)


# Other weights.


def rules(function, *params):
    found = []
    map_rules(lambda rule, *leaves: found.append(function(rule, *map(np.asarray, leaves))), *params)
    return found


@pytest.mark.parametrize("change", [weights.random_weights, weights.shuffled_weights])
def test_every_tensor_keeps_as_many_weights_and_none_where_it_was(change):
    model, other = PLANTED.model, change(PLANTED.model, 1)
    params, found = dict(model.params), dict(other.params)

    def compare(rule, new, old):
        assert new.shape == old.shape and new.dtype == old.dtype
        if rule.kind == DENSE:
            return 0
        fresh = change is weights.random_weights and not new.any()  # biases begin at zero
        assert fresh or (new != 0).sum() == (old != 0).sum()
        assert fresh or np.linalg.norm(new) == pytest.approx(np.linalg.norm(old), rel=1e-5)
        return int(not np.array_equal(new, old))

    assert sum(rules(compare, found, params)) > 8
    again = rules(lambda rule, new, same: np.array_equal(new, same), found, dict(change(model, 1).params))
    assert all(again)
    assert not all(
        rules(lambda rule, new, same: np.array_equal(new, same), found, dict(change(model, 2).params))
    )


def test_shuffled_weights_are_the_same_weights():
    model, other = PLANTED.model, weights.shuffled_weights(PLANTED.model, 1)

    def same(rule, new, old):
        if rule.kind == DENSE:
            return np.array_equal(new, old)
        return np.array_equal(np.sort(new.ravel()), np.sort(old.ravel()))

    assert all(rules(same, dict(other.params), dict(model.params)))


def test_random_weights_leave_no_unit_fewer_than_the_model_does():
    def least(rule, new, old):
        if rule.floor_axis is None or not new.any():
            return True
        return (new != 0).sum(rule.floor_axis).min() >= (old != 0).sum(rule.floor_axis).min()

    params = dict(PLANTED.model.params)
    assert all(rules(least, dict(weights.random_weights(PLANTED.model, 0).params), params))


# Other circuits.


def other_circuit(task, edges, tokens, met=True):
    whole = circuit_of(PLANTED.nodes, ZEROS)
    return dataclasses.replace(
        whole,
        task=task,
        edges=whole.edges[:edges],
        unembedding=tuple(Entry(token, 0, 1.0) for token in tokens),
        provenance={"met_target": met},
    )


def test_the_circuit_that_is_moved_is_the_nearest_of_another_task_that_meets_its_target():
    circuit = other_circuit("quotes", 5, ANSWERS)
    others = [
        circuit,
        other_circuit("same answers", 5, ANSWERS),
        other_circuit("one of them", 5, ANSWERS[:1]),
        other_circuit("missed", 5, (40, 41), met=False),
        other_circuit("far", 1, (40, 41)),
        other_circuit("near", 4, (40, ANSWERS[0])),
    ]
    assert moved.nearest(circuit, ANSWERS, others).task == "near"
    assert moved.nearest(circuit, ANSWERS, others[:4]) is None
    old = dataclasses.replace(others[5], means={s: m for s, m in ZEROS.items() if not s.endswith("attn.y")})
    assert moved.nearest(circuit, ANSWERS, [old]) is None
    # Held at constants, one cut under values of other prompts would miss even its own target.
    for ablation in ("resample", "counterfactual"):
        assert moved.nearest(circuit, ANSWERS, [dataclasses.replace(others[5], ablation=ablation)]) is None


def test_a_random_circuit_stands_in_with_as_many_nodes_and_edges_at_each_place():
    circuit = moved.parts_of(circuit_of(PLANTED.nodes, ZEROS))
    places = collections.Counter((source.site, target.site) for source, target in circuit.edges)
    for seed in range(3):
        found = moved.stand_in(PLANTED.config, PLANTED.params, circuit, seed)
        assert {site: mask.sum() for site, mask in found.masks.items()} == {
            site: mask.sum() for site, mask in circuit.masks.items()
        }
        assert collections.Counter((source.site, target.site) for source, target in found.edges) == places
        nodes = graph.nodes_of(PLANTED.config, found.masks)
        every = graph.edges_of(PLANTED.config, PLANTED.params, nodes)
        assert found.edges <= {(nodes[edge.source], nodes[edge.target]) for edge in every}
        assert set(nodes) != set(PLANTED.nodes)
