"""The same with and without jit, and the shapes that the docstrings promise, by chex."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from circuits_jax.config import ModelConfig
from circuits_jax.model import sites
from circuits_jax.model.abs_topk import abs_top_k
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.sparsity.projection import keep_largest
from circuits_jax.sparsity.schedules import L0Schedule

CONFIG = ModelConfig(n_layer=1, d_model=8, d_head=4, d_mlp=12, n_ctx=6, vocab_size=11)
NETWORK = Transformer(CONFIG)
PARAMS = init_params(CONFIG, jax.random.key(0))
TOKENS = np.random.default_rng(0).integers(0, 11, (2, 5)).astype(np.int32)


class VariantsTest(chex.TestCase):
    """Each runs as compiled and op by op."""

    @chex.variants(with_jit=True, without_jit=True)
    def test_abs_top_k_keeps_the_largest(self):
        x = jax.random.normal(jax.random.key(1), (3, 9))
        kept = self.variant(lambda x: abs_top_k(x, 2))(x)
        chex.assert_equal_shape([kept, x])
        order = np.argsort(-np.abs(x), axis=-1)
        for row, values, best in zip(np.asarray(kept), np.asarray(x), order, strict=True):
            assert set(np.flatnonzero(row)) == set(best[:2])
            np.testing.assert_array_equal(row[best[:2]], values[best[:2]])

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(None, 1)
    def test_logits_and_records_have_the_shapes_that_are_promised(self, at):
        record = tuple(sites.sites(CONFIG))
        where = None if at is None else jnp.full(2, at)

        def forward(params, tokens):
            return NETWORK.apply(params, tokens, record=record, at=where)

        logits, records = self.variant(forward)(PARAMS, TOKENS)
        chex.assert_shape(logits, (2, 5, 11) if at is None else (2, 11))
        chex.assert_type(logits, jnp.float32)
        chex.assert_tree_all_finite(records)
        for site, width in sites.node_sites(CONFIG).items():
            chex.assert_shape(records[site], (2, 5, width))

    @chex.variants(with_jit=True, without_jit=True)
    def test_a_tap_that_keeps_all_changes_nothing(self):
        ones = {site: jnp.ones(width) for site, width in sites.node_sites(CONFIG).items()}
        means = {site: jnp.full(width, 7.0) for site, width in sites.node_sites(CONFIG).items()}

        def both(params, tokens):
            plain, _ = NETWORK.apply(params, tokens)
            tapped, _ = NETWORK.apply(params, tokens, tap=mix(ones, means))
            return plain, tapped

        chex.assert_trees_all_close(*self.variant(both)(PARAMS, TOKENS), atol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_the_projection_keeps_shapes_types_and_its_budget(self):
        projection = keep_largest(L0Schedule(0.25))
        updates = jax.tree.map(lambda p: 0.01 * jnp.ones_like(p), PARAMS)
        found, state = self.variant(projection.update)(updates, projection.init(PARAMS), PARAMS)
        chex.assert_trees_all_equal_shapes_and_dtypes(found, PARAMS)
        weights = jax.tree.map(jnp.add, PARAMS, found)
        embedding = weights["wte"]["embedding"]
        assert int(jnp.count_nonzero(embedding)) == embedding.size // 4
        chex.assert_scalar_positive(int(state.step))

    @chex.variants(with_jit=True, without_jit=True)
    def test_generation_sized_inputs_share_their_ranks(self):
        dense = dataclasses.replace(CONFIG, activation_fraction=None)
        logits, _ = self.variant(lambda p, t: Transformer(dense).apply(p, t))(PARAMS, TOKENS[:, :1])
        chex.assert_rank(logits, 3)
