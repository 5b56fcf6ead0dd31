import copy
import dataclasses

import jax
import numpy as np
import pytest

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import Subject, reference_activations
from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.masks import size
from circuits_jax.circuits.pruning.jobs import Fitted, Splits, judged_by, levels
from circuits_jax.circuits.pruning.nodes import Pruner, hopeless_from
from circuits_jax.config import ModelConfig, PruneConfig
from circuits_jax.model.model import Model
from circuits_jax.model.sites import node_sites
from circuits_jax.model.transformer import init_params
from circuits_jax.storage.errors import TaskError
from circuits_jax.tasks.metrics import CHANCE
from circuits_jax.tasks.task import Pairs
from tests.circuits.planted.test_planted import network, pruner, subject

TINY = ModelConfig(n_layer=1, d_model=16, d_head=8, n_ctx=8, vocab_size=12, bigram=False)


def random_pairs(count=16):
    rng = np.random.default_rng(0)
    return Pairs(
        task="riddle",
        split="train",
        tokens=rng.integers(0, 12, (count, 2, 8)).astype(np.int32),
        last=np.full(count, 6, np.int32),
        answers=np.tile(np.array([3, 4], np.int32), (count, 1)),
        texts=[("a", "b")] * count,
        continuations=[("c", "d")] * count,
        survived=1.0,
    )


def one_device():
    return jax.devices()[:1]


def test_a_model_that_knows_nothing_is_refused():
    model = Model(TINY, init_params(TINY, jax.random.key(0)))
    means = {site: np.zeros(width, np.float32) for site, width in node_sites(TINY).items()}
    pruner = Pruner(Subject(model, means), PruneConfig(batch_pairs=8), one_device())
    with pytest.raises(TaskError) as caught:
        pruner.prune(Splits(random_pairs(), random_pairs(), random_pairs()))
    assert "riddle" in str(caught.value) and "0.593" in str(caught.value) and "\n" not in str(caught.value)


def test_attribution_is_the_first_order_change_of_the_loss():
    config = dataclasses.replace(TINY, activation_fraction=None)
    params = jax.tree.map(lambda x: 10 * x if x.ndim > 1 else x, init_params(config, jax.random.key(1)))
    model, pairs = Model(config, params), random_pairs()
    means = reference_activations(model, pairs.tokens, "mean")
    pruner = Pruner(Subject(model, means), PruneConfig(batch_pairs=8), one_device())
    data = PairBatch(pairs.tokens, pairs.last, pairs.answers)
    kept = {site: np.ones(width, np.float32) for site, width in node_sites(config).items()}
    found = pruner.attribution(kept, data)

    def loss(masks):
        difference = np.asarray(pruner._prober.differences(pruner._whole, [(masks, data)])[0], np.float64)
        return np.logaddexp(0, -difference * [1, -1]).mean()

    for site in kept:
        index = int(np.abs(found[site]).argmax())
        less = {**kept, site: kept[site].copy()}
        less[site][index] = 1 - 1e-2
        slope = (loss(less) - loss(kept)) / 1e-2
        assert found[site][index] == pytest.approx(slope, rel=0.05, abs=2e-4), site


@pytest.mark.slow
def test_a_target_that_no_circuit_meets_is_missed_and_all_nodes_are_kept():
    planted = network("quotes")
    strict = pruner().on(subject("quotes"))
    strict.config = dataclasses.replace(strict.config, target=1e-12)
    pruned = strict.prune(planted.splits)
    assert not pruned.met_target and pruned.mediocre
    assert pruned.metrics["nodes"] == sum(node_sites(planted.config).values())
    assert all(mask.all() for mask in pruned.masks.values())


def test_what_does_not_carry_over_at_all_is_given_up_and_keeps_its_nodes():
    """Answers exchanged on select pairs: what holds on training pairs is worse than chance there."""
    planted, prune = network("quotes"), pruner().on(subject("quotes"))
    select = planted.splits.select
    exchanged = dataclasses.replace(select, answers=select.answers[:, ::-1].copy())
    splits = planted.splits._replace(select=exchanged)
    everything = prune.subject.everything
    job = prune.job(splits)._replace(full={"full/select/calibrated_loss": 0.0})
    found = prune.finish(job, everything, lambda *_: None)
    assert found.given_up and not found.met_target
    assert found.metrics["select/calibrated_loss"] > CHANCE > found.metrics["train/calibrated_loss"]
    assert all(np.array_equal(found.masks[site], everything[site]) for site in everything)


class Counting:
    """In a prober's place: training pairs need 3 nodes and select pairs `needed`; notes what was judged."""

    def __init__(self, prober, train, needed):
        self.prober, self.train, self.needed, self.judged = prober, train, needed, []

    def __getattr__(self, name):
        return getattr(self.prober, name)

    def misses(self, _, asked, estimate):
        del estimate
        self.judged += [len(by) for _, by in asked]
        assert all(by[0].pairs is self.train for _, by in asked)
        return [max([3, self.needed][: len(by)]) - size(kept) for kept, by in asked]


@pytest.mark.parametrize(
    ("hold_select", "needed", "kept"),
    [(True, 7, 7), (True, 2, 3), (False, 7, 3), (True, 10**9, 3)],  # the last: no number of nodes holds it
)
def test_as_few_nodes_are_kept_as_hold_the_target_on_train_and_select_pairs(hold_select, needed, kept):
    planted, prune = network("quotes"), copy.copy(pruner().on(subject("quotes")))
    prune.config = dataclasses.replace(prune.config, hold_select=hold_select)
    job = prune.job(planted.splits)
    prune._prober = Counting(prune._prober, job.train, needed)
    rng = np.random.default_rng(0)
    taus = {site: rng.uniform(-1, 0.2, len(mask)) for site, mask in prune.subject.everything.items()}
    ((found, holds),) = prune.discretise([job], [Fitted(taus)], lambda *_: None)
    assert size(found) == kept and holds == (needed < 10**9)
    largest = np.sort(np.concatenate(list(taus.values())))[-kept:]
    assert all(np.array_equal(found[site] > 0, tau >= largest[0]) for site, tau in taus.items())
    assert (2 in prune._prober.judged) == hold_select


@pytest.mark.parametrize(("hold_select", "left"), [(True, 7), (False, 3)])
def test_as_much_is_dropped_as_leaves_the_target_on_train_and_select_pairs(hold_select, left):
    planted, prune = network("quotes"), copy.copy(pruner().on(subject("quotes")))
    prune.config = dataclasses.replace(prune.config, hold_select=hold_select)
    job = prune.job(planted.splits)
    prune._prober = Counting(prune._prober, job.train, needed=7)
    found = prune.finish(job, prune.subject.everything, lambda *_: None)
    assert size(found.masks) == left


TRAIN, SELECT = (PairBatch(*(np.full(3, at),) * 3) for at in (0, 1))


def asked_at(full, train=TRAIN, select=SELECT, **settings):
    """The losses asked on training and select pairs by level, given the model's own on training pairs."""
    prune = PruneConfig(**{"target": 0.15, "slack": 0.8} | settings)
    found = levels(prune, train, select, {"full/train/calibrated_loss": full})
    assert all([train, select][: len(by)] == [each.pairs for each in by] for by in found)
    return [[round(each.loss, 5) for each in by] for by in found]


def test_a_search_asks_a_margin_then_the_target_then_little_more_than_the_model_has_then_training_pairs():
    assert asked_at(0.1) == [[0.12, 0.12], [0.12, 0.15], [0.12]]
    assert asked_at(0.3) == [[0.12, 0.12], [0.12, 0.15], [0.33, 0.15], [0.12]]
    assert asked_at(0.1, slack=1.0) == [[0.15, 0.15], [0.15]]


def test_training_pairs_alone_decide_where_it_is_asked_for_or_there_are_no_others():
    assert asked_at(0.3, hold_select=False) == [[0.12]]
    assert asked_at(0.3, select=jax.tree.map(np.copy, TRAIN)) == [[0.12]]


@pytest.mark.parametrize(
    ("train_loss", "select_loss", "asked"),
    [
        (0.1, 0.11, [0.12, 0.12]),
        (0.1, 0.13, [0.12, 0.15]),
        (0.25, 0.11, [0.33, 0.15]),
        (0.1, 0.16, [0.12]),
        (0.4, 0.16, [0.12]),  # it holds nothing
    ],
)
def test_parts_of_a_circuit_are_judged_by_what_it_holds_itself(train_loss, select_loss, asked):
    figures = {
        "full/train/calibrated_loss": 0.3,
        "train/calibrated_loss": train_loss,
        "select/calibrated_loss": select_loss,
    }
    by = judged_by(PruneConfig(target=0.15, slack=0.8), TRAIN, SELECT, figures)
    assert [each.loss for each in by] == pytest.approx(asked, abs=1e-5)


def test_of_a_model_that_misses_some_training_templates_a_part_is_kept_and_not_all():
    """A tenth of the training pairs have the other answers: not even all nodes hold the limit there."""
    planted, prune = network("quotes"), pruner().on(subject("quotes"))
    train = planted.splits.train
    answers = train.answers.copy()
    answers[::10] = answers[::10, ::-1]
    job = prune.job(planted.splits._replace(train=dataclasses.replace(train, answers=answers)))
    assert job.full["full/train/calibrated_loss"] > prune.config.limit
    assert job.full["full/select/calibrated_loss"] <= prune.config.target
    right = {site: np.zeros(len(mask)) for site, mask in prune.subject.everything.items()}
    for node in planted.nodes:
        right[node.site][node.index] = 1.0
    taus = {site: each - 0.5 for site, each in right.items()}
    ((kept, holds),) = prune.discretise([job], [Fitted(taus)], lambda *_: None)
    assert holds and size(kept) <= len(planted.nodes)
    found = prune.finish(job, kept, lambda *_: None)
    assert found.met_target and size(found.masks) <= len(planted.nodes)


def test_only_what_is_nearer_to_chance_than_to_the_target_is_hopeless():
    assert hopeless_from(0.15, 0.1) == hopeless_from(0.15, 0.69) == pytest.approx((0.15 + CHANCE) / 2)
    assert hopeless_from(0.15, 0.5) == 0.5  # a mediocre model's circuit may be as good as the model
    assert hopeless_from(0.9, 0.1) == 0.9  # what meets its target never is


@pytest.mark.slow
def test_cutting_does_not_change_what_is_found():
    planted = network("quotes")
    config = dataclasses.replace(pruner().config, steps=40, cuts=(0.7, 0.9))
    pruner_ = Pruner(subject("quotes"), config, one_device())
    pruned = pruner_.prune(planted.splits)
    assert pruner_._rooms  # something was cut
    assert set(graph.nodes_of(planted.config, pruned.masks)) == set(planted.nodes)


@pytest.mark.slow
def test_devices_that_do_not_divide_the_pairs_find_the_same():
    planted = network("quotes")
    config = dataclasses.replace(pruner().config, steps=40)
    pruned = Pruner(subject("quotes"), config, jax.devices()[:3]).prune(planted.splits)
    assert set(graph.nodes_of(planted.config, pruned.masks)) == set(planted.nodes)


@pytest.mark.slow
def test_with_nodes_at_the_final_residual_stream_the_one_that_is_read_is_kept():
    """The planted circuit writes one channel that the answers are read from: its end is one node more."""
    planted = network("quotes")
    means = reference_activations(planted.model, planted.corpus, "mean", final=True)
    config = dataclasses.replace(pruner().config, final_resid=True)
    pruned = Pruner(Subject(planted.model, means), config, one_device()).prune(planted.splits)
    assert pruned.met_target
    written = [node.index for node in planted.nodes if node.site == "1.attn.resid_delta"]
    ends = {Node("final_resid", index) for index in written}
    assert set(graph.nodes_of(planted.config, pruned.masks)) == {*planted.nodes, *ends}
