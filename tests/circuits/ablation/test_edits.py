"""Interventions by name, against the same thing done to the weights."""

import doctest
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import circuits_jax
from circuits_jax.circuits.ablation.edits import Edit, at_positions, intervene, parse_edit
from circuits_jax.circuits.ablation.means import mean_activations
from circuits_jax.circuits.circuit import Calibration, Circuit, Node
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.planted import plant
from circuits_jax.config import ModelConfig, to_dict
from circuits_jax.model.model import Model
from circuits_jax.model.taps import ablate, compose, only
from circuits_jax.storage.errors import ConfigError
from circuits_jax.tasks.metrics import accuracy
from tests.released.models import random_params

CONFIG = ModelConfig(
    n_layer=2, d_model=8, d_head=4, d_mlp=12, n_ctx=7, vocab_size=11, activation_fraction=0.75
)
MODEL = Model(CONFIG, random_params(CONFIG, seed=1))
TOKENS = np.random.default_rng(3).integers(0, 11, size=(2, 6)).astype(np.int32)
RECORD = ("1.mlp.post_act", "0.attn.v", "1.attn.act_in")


plain = jax.jit(lambda params: MODEL.network.apply(params, TOKENS, record=RECORD))


def run(tap):
    return jax.jit(lambda: MODEL.apply(TOKENS, tap=tap, record=RECORD))()


def changed(path, edit):
    """Parameters with `edit` applied to a copy of one of them."""
    params = jax.tree.map(np.copy, MODEL.params)
    edit(functools.reduce(lambda tree, key: tree[key], path, params))
    return params


def zero_row(row):
    def edit(kernel):
        kernel[row] = 0

    return edit


@pytest.mark.parametrize(
    ("change", "path", "row"),
    [
        ("1.mlp.post_act.7=0", ("h_1", "mlp", "c_proj", "kernel"), 7),
        ("0.mlp.post_act.3:zero", ("h_0", "mlp", "c_proj", "kernel"), 3),
        ("0.attn.v.5=0", ("h_0", "attn", "c_proj", "kernel"), 5),
    ],
)
def test_a_node_at_zero_is_a_node_without_outgoing_weights(change, path, row):
    logits, _ = run(intervene(CONFIG, [change]))
    expected, _ = plain(changed(path, zero_row(row)))
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert np.abs(logits - plain(MODEL.params)[0]).max() > 1e-3


def test_a_node_at_its_mean_is_a_bias():
    means = {"1.mlp.post_act": jnp.linspace(-1, 1, 12)}
    logits, _ = run(intervene(CONFIG, ["1.mlp.post_act.11:mean"], means))

    def edit(half):
        half["bias"] += half["kernel"][11]  # its mean is 1
        half["kernel"][11] = 0

    np.testing.assert_allclose(logits, plain(changed(("h_1", "mlp", "c_proj"), edit))[0], atol=1e-5)


def test_only_the_named_nodes_change_at_their_site():
    changes = [" 1.mlp.post_act.7=-2.5e-1", "1.mlp.post_act.0=3", "1.mlp.post_act.0=4"]
    _, records = run(intervene(CONFIG, changes))
    _, before = plain(MODEL.params)
    expected = np.array(before["1.mlp.post_act"])
    expected[..., 7], expected[..., 0] = -0.25, 4
    np.testing.assert_allclose(records["1.mlp.post_act"], expected, atol=1e-5)
    np.testing.assert_allclose(records["0.attn.v"], before["0.attn.v"], atol=1e-5)


def test_positions_left_out_do_not_change():
    where = np.array([0, 0, 0, 1, 0, 0], bool)
    _, records = run(at_positions(intervene(CONFIG, ["0.attn.v.2=9"]), where))
    _, before = plain(MODEL.params)
    found, expected = np.asarray(records["0.attn.v"]), np.array(before["0.attn.v"])
    expected[:, 3, 2] = 9
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # Later layers see it from that position on.
    moved = np.abs(records["1.attn.act_in"] - before["1.attn.act_in"]).max((0, 2))
    assert moved[:3].max() < 1e-5 and moved[3] > 1e-3


def test_the_grammar():
    for text, node, value in [
        ("1.mlp.post_act.7=0.5", Node("1.mlp.post_act", 7), 0.5),
        ("0.attn.q.0:mean", Node("0.attn.q", 0), "mean"),
        ("final_resid.3=-1", Node("final_resid", 3), -1.0),
    ]:
        assert parse_edit(text, CONFIG) == Edit(node, value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.mlp.post_act.12=0", "1.mlp.post_act has no index 12; it has 0 to 11"),
        ("2.mlp.post_act.1=0", "unknown site '2.mlp.post_act'"),
        ("1.mlp.neurons.1=0", "unknown site '1.mlp.neurons'"),
        ("1.mlp.post_act.7", "no intervention"),
        ("1.mlp.post_act=3", "no intervention"),
        ("1.mlp.post_act.-1=3", "no intervention"),
        ("", "no intervention"),
        ("1.mlp.post_act.7=much", "'much', which is no number"),
        ("1.mlp.post_act.7=nan", "finite"),
        ("1.mlp.post_act.7=1e300", "float32 can hold"),
        ("1.mlp.post_act.7:median", "'median'; choose one of mean, zero"),
    ],
)
def test_what_the_grammar_refuses(text, words):
    with pytest.raises(ConfigError) as error:
        parse_edit(text, CONFIG)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["1.attn.v.0=0"], CONFIG), "the first argument is a list; give model.config"),
        ((CONFIG, "1.attn.v.0=0"), "the changes are one text, '1.attn.v.0=0'; give a list"),
        ((CONFIG, [3]), "a change is 3; give a text"),
    ],
)
def test_what_is_no_change(arguments, words):
    with pytest.raises(ConfigError) as error:
        intervene(*arguments)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_mean_that_is_not_known():
    with pytest.raises(ConfigError, match="mean of 1.mlp.post_act.7 is not known: no means are given"):
        intervene(CONFIG, ["1.mlp.post_act.7:mean"])
    with pytest.raises(ConfigError, match="mean of 0.attn.y.1 is not known: means are known of nodes only"):
        intervene(CONFIG, ["0.attn.y.1:mean"], {"0.attn.v": jnp.zeros(8)})


@pytest.fixture(scope="module")
def planted():
    return plant("quotes", 0, 32, 32, 32)


@pytest.fixture(scope="module")
def circuit(planted):
    """The planted nodes as a circuit."""
    means = mean_activations(planted.model, planted.corpus)
    empty = {"edges": (), "embedding": (), "unembedding": (), "metrics": {}, "provenance": {}}
    return Circuit(
        task="quotes",
        nodes=planted.nodes,
        bias_only=(False,) * len(planted.nodes),
        means={site: np.asarray(mean) for site, mean in means.items()},
        ablation="mean",
        calibration=Calibration(1.0, 0.0),
        model_config=to_dict(planted.config),
        model_hash="",
        tokenizer_hash="",
        **empty,
    )


def test_a_circuit_is_kept_or_ablated(planted, circuit):
    pairs = planted.test
    rows = pairs.tokens.reshape(-1, pairs.tokens.shape[-1])

    @functools.partial(jax.jit, static_argnums=0)
    def right(role):
        tap = None if role is None else role(circuit)
        logits, _ = planted.model.apply(rows, tap=tap, at=np.repeat(pairs.last, 2))
        return accuracy(logits, pairs.answers)

    assert right(None) == right(only) == 1
    # Without the circuit both prompts of a pair look alike: at best one of them is answered rightly.
    assert right(ablate) <= 0.55
    assert sum(mask.sum() for mask in full_masks(planted.config).values()) > 20 * len(circuit.nodes)
    with pytest.raises(ConfigError, match="'drop'; choose one of keep, ablate"):
        circuits_jax.intervene_circuit(circuit, "drop")


def test_single_changes_compose_with_a_circuit(circuit):
    tap = compose(only(circuit), intervene(ModelConfig(**circuit.model_config), []))
    x = jnp.ones((1, 2, 64))
    site = "0.attn.act_in"
    kept = [node.index for node in circuit.nodes if node.site == site]
    found = np.asarray(tap(site, x))
    expected = np.broadcast_to(circuit.means[site], (1, 2, 64)).copy()
    expected[..., kept] = 1
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_the_example_of_the_docstring_runs():
    (example, *rest) = doctest.DocTestParser().get_examples(circuits_jax.intervene.__doc__)

    class Means:
        means = {"0.attn.v": jnp.zeros(8)}

    names = {"intervene": circuits_jax.intervene, "model": MODEL, "tokens": TOKENS}
    names["circuit"] = Means()
    assert len(rest) == 2
    source = "".join(each.source for each in (example, *rest)).replace("0.attn.v.12", "0.attn.v.5")
    exec(source, names)
    assert not np.array_equal(names["before"], names["after"])
