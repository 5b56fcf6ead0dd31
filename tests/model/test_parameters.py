"""The tables of parameters and wires against the network, and that no other place knows a tensor's name."""

import ast
import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import circuits_jax
from circuits_jax.config import ModelConfig
from circuits_jax.model.parameters import (
    BIAS,
    DENSE,
    depth,
    get,
    named,
    parameters,
    rule_for,
    updated,
)
from circuits_jax.model.sites import node_sites
from circuits_jax.model.transformer import init_params
from circuits_jax.model.wiring import linear_layers, wires, wires_into
from tests.quick import quick_cases
from tests.source import keys, texts

SMALL = ModelConfig(n_layer=2, d_model=8, d_head=4, n_head=3, d_mlp=12, n_ctx=8, vocab_size=10)
VARIANTS = {
    "default": SMALL,
    "layer_norm": dataclasses.replace(SMALL, norm="layer"),
    "layer_norm_without_bias": dataclasses.replace(SMALL, norm="layer", norm_bias=False),
    "no_biases": dataclasses.replace(SMALL, bias=False, attention_sink=False, bigram=False),
    "tied": dataclasses.replace(SMALL, tied_unembed=True, logits_bias=True),
    "added_positions": dataclasses.replace(SMALL, position="add"),
    "joined_positions": dataclasses.replace(SMALL, position="concat", d_pos=3, norm="layer"),
    "no_norm": dataclasses.replace(SMALL, norm="none", position="add", attention="full"),
}
variants = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
# Components of names that are words of their own and may stand anywhere.
WORDS = {
    "attn",
    "mlp",
    "kernel",
    "bias",
    "scale",
    "embedding",
    "sink",
    "bigram",
    "weight",
    "transformer",
    "h",
}


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    tree = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    return {name: leaf.shape for name, leaf in named(tree).items()}


@variants
def test_the_table_lists_the_tensors_that_the_network_makes(config):
    rows = list(parameters(config))
    assert {row.name: row.shape for row in rows} == shapes(config)
    assert len({row.released for row in rows}) == len(rows)
    assert all(rule_for(row.name) == row.rule for row in rows)


@variants
def test_what_can_be_sparse_is_every_matrix_and_every_bias(config):
    """By shape alone: two axes, or a name of a bias; but the bigram table, norm gains, sinks, logits bias."""
    for row in parameters(config):
        if row.name in ("bigram", "logits_bias") or row.name.endswith(("sink", "scale")):
            assert row.rule.kind == DENSE
        elif len(row.shape) == 1:
            assert row.rule.kind == BIAS
        else:
            assert row.rule.kind not in (DENSE, BIAS)


@pytest.mark.parametrize("config", quick_cases(VARIANTS, ("default", "joined_positions")))
def test_wires_cover_every_linear_layer_once(config):
    params = init_params(config, jax.random.key(1))
    widths, sites = node_sites(config), []
    covered = jax.tree.map(jnp.zeros_like, dict(params))
    for wire in wires(config.n_layer):
        assert wire.weights(params).shape == (widths[wire.source], widths[wire.target])
        kernel = get(covered, wire.linear)["kernel"]
        ones = {"kernel": kernel.at[:, wire.columns(kernel)].add(1)}
        covered = updated(covered, {wire.linear: ones})
        sites += [wire.source, wire.target]
    kernels = [x for name, x in named(covered).items() if name.startswith("h_") and name.endswith("kernel")]
    assert kernels and all((np.asarray(kernel) == 1).all() for kernel in kernels)
    assert set(sites) - {f"{layer}.{name}" for layer in range(2) for name in ("attn.q", "attn.k")} <= set(
        widths
    )
    assert len(linear_layers(config.n_layer)) == 4 * config.n_layer
    assert set(wires_into(config.n_layer)) == {site for site in widths if not site.endswith("act_in")}
    assert depth(params) == config.n_layer


def test_an_unknown_tensor_names_the_table():
    with pytest.raises(ValueError, match=r"unknown parameter 'h_0/attn/rotary'; add a row"):
        rule_for("h_0/attn/rotary")


def test_changes_leave_the_rest_as_it_is():
    tree = {"a": {"b": {"kernel": 1, "bias": 2}}, "c": 3}
    assert updated(tree, {"a/b": {"kernel": 5}}) == {"a": {"b": {"kernel": 5, "bias": 2}}, "c": 3}
    assert tree["a"]["b"]["kernel"] == 1


def test_no_other_place_knows_a_tensors_name():
    rows = [row for config in VARIANTS.values() for row in parameters(config)]
    parts = {part for row in rows for part in re.split(r"[/.]", f"{row.name}/{row.released}")}
    names = {part for part in parts if not part.isdigit()} - WORDS
    assert {"c_attn", "wte", "lm_head", "ln_f", "h_0", "sink_logit"} <= names
    known = re.compile(rf"(?<!\w)({'|'.join(sorted(names))}|h_\{{\}})(?!\w)")
    package = pathlib.Path(circuits_jax.__file__).parent
    # The network gives its modules their names; `logits_bias` is a setting of the configuration, too.
    own = {package / "model" / "parameters.py", package / "model" / "transformer.py"}
    settings = {"logits_bias"}

    def knows(tree: ast.Module) -> list[str]:
        words = {row.name.partition("/")[0] for row in rows} & WORDS  # of these, where they are keys
        named = [text for text in texts(tree) if set(known.findall(text)) - settings]
        return named + [key for key in keys(tree) if key in words]

    for example in ('params[f"h_{layer}"]', 'f"h_{i}/attn"', 'p["bigram"]', 'f"{place}/c_attn"'):
        assert knows(ast.parse(example)), example
    found = [
        f"{path.relative_to(package.parent)}: {text!r}"
        for folder in (package, package.parent / "experiments")
        for path in sorted(folder.rglob("*.py"))
        if path not in own
        for text in knows(ast.parse(path.read_text("utf-8")))
    ]
    assert not found
