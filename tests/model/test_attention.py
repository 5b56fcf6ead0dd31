"""Attention in blocks, as on one CPU, against all scores at once in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from circuits_jax.config import ModelConfig
from circuits_jax.model import abs_topk, attention
from circuits_jax.model.attention import attend
from circuits_jax.model.placement import by_parts, placing
from circuits_jax.model.target import compiling_for
from circuits_jax.model.transformer import Transformer, init_params
from tests.released import test_golden


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
    # Along a random direction of each argument, the sinks too, the gradient is what float64 differences say.
    exact = [x for x in (q, k, v, sinks) if x is not None]
    gradients = jax.jit(jax.grad(total, tuple(range(len(exact)))))(*arrays)
    for place, gradient in enumerate(gradients):
        direction = rng.normal(size=exact[place].shape)

        def moved(step, place=place, direction=direction):
            there = [x + step * direction if at == place else x for at, x in enumerate(exact)]
            return (at_once(*there[:3], there[3] if sink else None, causal) * weights).sum()

        slope = float((gradient * direction).sum())
        assert slope == pytest.approx((moved(1e-5) - moved(-1e-5)) / 2e-5, rel=1e-4, abs=1e-3)


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


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("sink", [True, False])
def test_blocks_behind_a_past_agree_with_all_at_once(dtype, sink):
    """The queries are the last of 40 tokens, in a cache that has room for 70."""
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(2, 6, size, 4)), dtype) for size in (24, 70, 70))
    sinks = jnp.asarray(rng.normal(size=6)) if sink else None
    blocks = jax.jit(lambda *arrays: attention._attend_by_heads(*arrays, start, True))
    start = jnp.int32(16)
    expected = at_once(
        *(np.float64(x)[:, :, :40] for x in (jnp.pad(q, ((0, 0), (0, 0), (16, 0), (0, 0))), k, v)),
        sinks,
        True,
    )[:, :, 16:]
    np.testing.assert_allclose(blocks(q, k, v, sinks), expected, atol=2e-6 if dtype == jnp.float32 else 2e-2)


@pytest.mark.parametrize("sink", [True, False])
def test_on_a_mesh_each_device_attends_for_its_own_heads(sink):
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "model"), axis_types=(AxisType.Auto,) * 3)
    rng = np.random.default_rng(0)
    q, k, v, weights = (np.float32(rng.normal(size=(4, 6, 64, 4))) for _ in range(4))
    sinks = np.float32(rng.normal(size=6)) if sink else None

    def total(q, k, v, sinks):
        return jnp.sum(attend(*(by_parts(x, 1) for x in (q, k, v)), sinks) * weights)

    def gradients(function):
        return jax.jit(jax.value_and_grad(function, (0, 1, 2, 3) if sink else (0, 1, 2)))

    there = gradients(placing(total, mesh)).lower(q, k, v, sinks).compile()
    text = there.as_text()
    assert "f32[1,3,16,64]" in text or "f32[3,16,64]" in text  # scores of a device's own heads, in parts
    assert not re.findall(r"(?:all-gather|all-to-all)\(.*f32\[[\d,]*64,4\]", text)
    loss, found = there(q, k, v, sinks)
    expected_loss, expected = gradients(total)(q, k, v, sinks)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
@pytest.mark.parametrize("causal", [True, False])
def test_no_array_has_the_scores_of_all_heads(platform, causal):
    """128 heads of 16 channels over 1024 tokens, as the released models have them: 8 MB of scores at once."""
    q = jax.ShapeDtypeStruct((1, 128, 1024, 16), jnp.bfloat16)
    sinks = jax.ShapeDtypeStruct((128,), jnp.float32)

    def total(q, k, v, sinks):
        return jnp.sum(attend(q, k, v, sinks, 0, causal).astype(jnp.float32))

    with compiling_for(platform, 1):
        program = str(jax.make_jaxpr(jax.grad(total, (0, 1, 2, 3)))(q, q, q, sinks))
    sizes = [np.prod([int(n) for n in dims.split(",")]) for dims in re.findall(r"f32\[([\d,]+)\]", program)]
    assert max(sizes) <= attention.ENTRIES < 128 * 1024 * 1024 / 16


@pytest.mark.parametrize("case", ["a_gpt2_dense", "b_sparse_rms_sink"])
def test_blocks_compute_what_the_released_code_did(monkeypatch, case):
    monkeypatch.setattr(attention, "LONG", 1)
    test_golden.test_loads_and_matches(case)
