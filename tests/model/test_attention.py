"""Attention in blocks, as on one CPU, against all scores at once in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.config import ModelConfig
from circuits_jax.model import abs_topk, attention
from circuits_jax.model.attention import attend
from circuits_jax.model.transformer import Transformer, init_params


def at_once(q, k, v, sink, causal):
    """[B, H, T, d_head], the sink as one more key whose value is 0."""
    scores = np.einsum("bhtd,bhsd->bhts", q, k) * q.shape[-1] ** -0.5
    if causal:
        scores = np.where(np.tri(q.shape[2], dtype=bool), scores, -np.inf)
    weights = np.exp(scores)
    total = weights.sum(-1, keepdims=True) + (0 if sink is None else np.exp(sink)[:, None, None])
    return np.einsum("bhts,bhsd->bhtd", weights / total, v)


@pytest.mark.parametrize("shape", [(2, 4, 64, 4), (1, 7, 70, 3), (3, 8, 65, 2)])
@pytest.mark.parametrize("sink", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_blocks_agree_with_all_at_once(monkeypatch, shape, sink, causal):
    rng = np.random.default_rng(0)
    q, k, v, weights = (rng.normal(size=shape) for _ in range(4))
    sinks = rng.normal(size=shape[1]) if sink else None
    monkeypatch.setattr(attention, "one_cpu", lambda: True)

    def total(q, k, v, sinks):
        return jnp.sum(attend(q, k, v, sinks, 0, causal) * weights)

    arrays = [None if x is None else np.float32(x) for x in (q, k, v, sinks)]
    found = jax.jit(lambda *arrays: attend(*arrays, 0, causal))(*arrays)
    np.testing.assert_allclose(found, at_once(q, k, v, sinks, causal), atol=2e-6)
    # Along a random direction the gradient is what float64 differences say.
    gradients = jax.jit(jax.grad(total, (0, 1, 2)))(*arrays)
    directions = [rng.normal(size=shape) for _ in range(3)]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    moved = [
        (
            at_once(*(x + step * d for x, d in zip((q, k, v), directions, strict=True)), sinks, causal)
            * weights
        ).sum()
        for step in (1e-5, -1e-5)
    ]
    assert slope == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-4, abs=1e-3)


def test_a_network_on_one_cpu_computes_what_it_does_elsewhere(monkeypatch):
    config = ModelConfig(n_layer=1, d_model=16, n_ctx=64, vocab_size=32, d_head=4, activation_fraction=0.25)
    params = init_params(config, jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape), params)
    tokens = np.random.default_rng(0).integers(0, 32, (2, 64))
    sites = ("0.attn.q", "0.attn.y", "0.mlp.post_act")

    def run(one_cpu):
        for module in (attention, abs_topk):
            monkeypatch.setattr(module, "one_cpu", lambda: one_cpu)
        return jax.jit(lambda params: Transformer(config).apply(params, tokens, record=sites))(params)

    blocks, whole = run(True), run(False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), blocks, whole)
    for site in sites[::2]:
        np.testing.assert_array_equal(blocks[1][site] != 0, whole[1][site] != 0)
