"""Small configurations, and random parameters for any of them."""

import functools

import jax
import numpy as np

from circuits_jax.config import ModelConfig
from circuits_jax.model.transformer import init_params

TINY = ModelConfig(
    n_layer=1, d_model=8, n_ctx=6, vocab_size=11, d_head=4, d_mlp=12, position="add", bigram=False, n_head=2
)
# Between them every option of ModelConfig that the released layout can say.
VARIETY = {
    "sparse": ModelConfig(
        n_layer=2, d_model=8, n_ctx=6, vocab_size=11, d_head=4, n_head=2, d_mlp=12, position="add",
        logits_bias=True,
    ),
    "layer_norm": ModelConfig(
        n_layer=1, d_model=6, n_ctx=5, vocab_size=7, d_head=3, n_head=2, d_mlp=24, position="add",
        norm="layer", tied_unembed=True, attention_sink=False, bigram=False, activation="relu",
        activation_fraction=None,
    ),
    "concat": ModelConfig(
        n_layer=2, d_model=8, n_ctx=6, vocab_size=11, d_head=2, n_head=4, d_mlp=10, position="concat",
        d_pos=3, norm="layer", norm_bias=False, bias=False, residual_activation="relu",
        activation_locations=("attn_in", "resid_post_mlp"), activation_fraction=0.3,
    ),
    "wide_heads": ModelConfig(
        n_layer=1, d_model=8, n_ctx=4, vocab_size=9, d_head=6, n_head=4, d_mlp=5, position="add", bigram=False
    ),
}  # fmt: skip


def shapes(config):
    """The tree of shapes that the network itself asks for."""
    return jax.eval_shape(lambda: init_params(config, jax.random.key(0)))


def random_params(config, seed=0, keep=1.0):
    """Normal entries, of which a share `keep` is not zero."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        values = rng.normal(size=leaf.shape).astype(np.float32)
        return np.where(rng.random(leaf.shape) < keep, values, np.float32(0))

    return jax.tree.map(draw, shapes(config))


@functools.partial(jax.jit, static_argnums=(0, 3))
def forward(model, params, tokens, record=()):
    """The network's logits and records, compiled once for each configuration."""
    return model.apply(params, tokens, record=record)


def assert_equal(first, second):
    """Two trees, bit for bit."""
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))
