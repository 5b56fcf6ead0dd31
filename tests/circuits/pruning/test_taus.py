import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.pruning.taus import clamp, heaviside, init_taus
from circuits_jax.config import ModelConfig, PruneConfig
from circuits_jax.model.sites import node_sites


def test_a_mask_is_one_exactly_where_tau_is_not_negative():
    tau = jnp.array([-1.0, -1e-30, 0.0, 1e-30, 1.0])
    np.testing.assert_array_equal(heaviside(tau, 1.0), [0, 0, 1, 1, 1])


def test_the_gradient_is_that_of_the_sigmoid():
    tau = np.linspace(-1, 1, 21)
    incoming = np.linspace(-3, 2, 21)
    for temperature in (0.1, 1.0, 2.5):
        grad = jax.grad(lambda t, temperature=temperature: (incoming * heaviside(t, temperature)).sum())(
            jnp.asarray(tau, jnp.float32)
        )
        step = 1e-5

        def sigmoid(t, temperature=temperature):
            return 1 / (1 + np.exp(-t / temperature))

        slope = (sigmoid(tau + step) - sigmoid(tau - step)) / (2 * step)
        np.testing.assert_allclose(grad, incoming * slope, rtol=1e-4, atol=1e-6)


def test_first_taus_are_drawn_as_configured_and_differ_between_sites():
    config = ModelConfig(d_model=256, vocab_size=8)
    taus = init_taus(config, PruneConfig(init_mean=0.2, init_std=0.05), jax.random.key(1))
    assert {site: len(tau) for site, tau in taus.items()} == node_sites(config)
    values = np.concatenate(list(taus.values()))
    assert abs(values.mean() - 0.2) < 0.005 and abs(values.std() - 0.05) < 0.005
    assert not np.array_equal(taus["0.attn.q"], taus["0.attn.k"])
    assert not np.array_equal(taus["0.attn.q"], taus["1.attn.q"])


def test_taus_stay_within_one():
    np.testing.assert_array_equal(clamp(jnp.array([-7.0, -1.0, 0.3, 2.0])), np.float32([-1, -1, 0.3, 1]))
    taus = init_taus(ModelConfig(vocab_size=8), PruneConfig(init_std=3.0), jax.random.key(0))
    assert max(float(jnp.abs(tau).max()) for tau in taus.values()) == 1
