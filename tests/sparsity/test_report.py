import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.config import ModelConfig
from circuits_jax.model.transformer import init_params
from circuits_jax.sparsity.report import sparsity_metrics, summarize_sparsity, support_churn

CONFIG = ModelConfig(n_layer=2, d_model=8, d_head=4, d_mlp=16, n_ctx=8, vocab_size=12)
# Entries that can be sparse: q|k|v, output, MLP in, out (kernel and bias each), twice; embeddings.
MATRICES_AND_BIASES = 2 * (8 * 24 + 24 + 8 * 8 + 8 + 8 * 16 + 16 + 16 * 8 + 8)
EMBEDDINGS = 2 * 12 * 8


def ones():
    shapes = jax.eval_shape(lambda: init_params(CONFIG, jax.random.key(0)))
    return jax.tree.map(lambda p: np.ones(p.shape, np.float32), shapes)


def thinned():
    """All ones, but for: q 1 and v 3 and neuron 0 unfed, v 5 and neuron 15 unread; part of the embedding."""
    params = ones()
    params["h_0"]["attn"]["c_attn"]["kernel"][:, [1, 16 + 3]] = 0
    params["h_0"]["attn"]["c_proj"]["kernel"][5] = 0
    params["h_1"]["mlp"]["c_fc"]["kernel"][:, 0] = 0
    params["h_1"]["mlp"]["c_proj"]["kernel"][[0, 15]] = 0
    params["wte"]["embedding"][:2] = 0
    params["bigram"][:] = 0
    return params, 6 * 8, 2 * 8  # zeros in matrices, zeros in embeddings


def test_summary_counts_by_hand():
    params, in_matrices, in_embeddings = thinned()
    summary = summarize_sparsity(params)
    assert summary.without_embeddings == pytest.approx(1 - in_matrices / MATRICES_AND_BIASES)
    zeros = in_matrices + in_embeddings
    assert summary.total == pytest.approx(1 - zeros / (MATRICES_AND_BIASES + EMBEDDINGS))
    dead = {(unit.layer, unit.kind): (unit.dead, unit.units) for unit in summary.units}
    expected = {(layer, kind): (0, 8) for layer in (0, 1) for kind in "qkv"}
    expected |= {(0, "q"): (1, 8), (0, "v"): (2, 8), (0, "neuron"): (0, 16), (1, "neuron"): (2, 16)}
    assert dead == expected
    wte = next(tensor for tensor in summary.tensors if tensor.name == "wte/embedding")
    assert (wte.shape, wte.entries, wte.nonzeros, wte.kind) == ((12, 8), 96, 80, "embedding")


def test_the_table_shows_every_tensor_and_the_totals():
    params, _, _ = thinned()
    summary = summarize_sparsity(params)
    table = str(summary)
    for tensor in summary.tensors:
        assert tensor.name in table
    assert f"L0 in all {summary.total:.4f}" in table
    assert "2 of 32 (by layer: 0, 2)" in table


def test_metrics_agree_with_the_summary_under_jit():
    params, _, _ = thinned()
    metrics, summary = jax.jit(sparsity_metrics)(params), summarize_sparsity(params)
    np.testing.assert_allclose(metrics["l0"], summary.total, rtol=1e-6)
    np.testing.assert_allclose(metrics["l0_without_embeddings"], summary.without_embeddings, rtol=1e-6)
    assert (int(metrics["dead_neurons"]), int(metrics["dead_channels"])) == (2, 3)


def test_churn_counts_entries_that_came_and_went():
    params, in_matrices, in_embeddings = thinned()
    other = ones()
    other["wte"]["embedding"][2] = 0
    churn = jax.jit(support_churn)(params, other)
    changed = in_matrices + in_embeddings + 8  # the emptied bigram table does not count
    np.testing.assert_allclose(churn, changed / (MATRICES_AND_BIASES + EMBEDDINGS), rtol=1e-6)
    assert support_churn(params, params) == 0
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
    assert support_churn(params, doubled) == 0


def test_an_unknown_parameter_is_named():
    with pytest.raises(ValueError, match="h_0/extra"):
        summarize_sparsity(ones() | {"h_0": ones()["h_0"] | {"extra": jnp.ones(3)}})
