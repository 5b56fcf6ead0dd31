"""Every term of the bridges' loss (docs/method.md): its value by numpy, what it trains, what it stops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.bridges.hybrid import logits_from, sum_over_sites
from circuits_jax.bridges.losses import kl, make_teacher, nmse
from circuits_jax.bridges.model import decode, encode, encoder_target, residuals
from circuits_jax.config import BridgeConfig
from tests.bridges.models import SMOOTH, jit, make, norm, softmax

# What each term trains, of the parts below; all else has a gradient of exactly zero.
TRAINS = {
    "ce": {"sparse"},
    "kl": {"sparse"},
    "nmse_encode": {"encoder"},
    "nmse_decode": {"decoder", "sparse"},
    "dense_to_sparse": {"encoder", "sparse"},
    "sparse_to_dense": {"decoder", "sparse"},
}


def gradients_of(loss, params, frozen, windows):
    """({term: value}, {term: its gradient by (params, frozen)})."""

    def every(params, frozen):
        values, back = jax.vjp(lambda p, f: loss.terms(p, windows, f), params, frozen)
        one = {name: {other: jnp.float32(other == name) for other in values} for name in values}
        return values, {name: back(cotangent) for name, cotangent in one.items()}

    return jit(every)(params, frozen)


@pytest.fixture(scope="module")
def setting():
    loss, params, frozen, windows = made = make()
    return made, *gradients_of(*made)


@pytest.fixture(scope="module")
def smooth():
    """Without AbsTopK, whose choices finite differences would stumble over."""
    made = make(sparse=SMOOTH)
    return made, *gradients_of(*made)


def parts(params):
    return {
        "encoder": params["bridges"]["encoder"],
        "decoder": params["bridges"]["decoder"],
        "sparse": params["sparse"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINS)
def test_a_term_trains_what_it_should_and_nothing_else(setting, name):
    by_params, by_frozen = setting[-1][name]
    found = {part: norm(tree) for part, tree in parts(by_params).items()}
    assert {part for part, size in found.items() if size > 0} == TRAINS[name], found
    assert norm(by_frozen["dense"]) == 0


@pytest.mark.parametrize("name", ["dense_to_sparse", "sparse_to_dense"])
def test_the_sparse_model_is_trained_on_the_right_side_of_the_sites(setting, name):
    """d2s trains what is above a site, s2d what is below: embedding against unembedding tell them apart."""
    sparse = setting[-1][name][0]["sparse"]
    above, below = norm(sparse["lm_head"]), norm(sparse["wte"])
    assert (above > 0, below > 0) == ((True, False) if name == "dense_to_sparse" else (False, True))


def frozen_term(loss, windows, frozen, base, name):
    """params -> the term by a second route, what is stopped in it held at its value under `base`."""
    tokens = windows[:, :-1]
    dense_logits, dense = residuals(loss.dense, frozen["dense"], tokens)
    teacher = make_teacher(dense_logits)
    target = encoder_target(loss.bridge, residuals(loss.sparse, base["sparse"], tokens)[1])
    sites = loss.bridge.sites

    def term(params):
        logits, stream = residuals(loss.sparse, params["sparse"], tokens)
        if name == "ce":
            return -jnp.take_along_axis(jax.nn.log_softmax(logits), windows[:, 1:, None], -1).mean()
        if name == "kl":
            return kl(teacher, logits).mean()
        if name == "nmse_encode":
            return nmse(encode(loss.bridge, params["bridges"], dense), target).sum()
        if name == "nmse_decode":
            return nmse(decode(params["bridges"], stream), dense).sum()
        up, down = encode(loss.bridge, params["bridges"], dense), decode(params["bridges"], stream)
        total = 0.0
        for place, site in enumerate(sites):
            if name == "dense_to_sparse":
                made = logits_from(loss.sparse, params["sparse"], tokens, site, up[place])
            else:
                made = logits_from(loss.dense, frozen["dense"], tokens, site, down[place])
            total += kl(teacher, made).mean()
        return total

    return jit(term)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINS)
def test_a_gradient_is_that_of_finite_differences(smooth, name):
    (loss, params, frozen, windows), values, gradients = smooth
    term = frozen_term(loss, windows, frozen, params, name)
    np.testing.assert_allclose(values[name], term(params), rtol=1e-5)
    gradient = gradients[name][0]
    # Along the gradient itself, part by part, where the change is largest against rounding.
    for part, tree in parts(gradient).items():
        size = norm(tree)
        if size == 0:
            continue
        step = 2e-3 / size
        moved = functools.partial(_moved, params, part, tree)
        slope = (term(moved(step)) - term(moved(-step))) / (2 * step)
        np.testing.assert_allclose(slope, size**2, rtol=0.03, err_msg=part)


def _moved(params, part, direction, step):
    """`params` with one part moved by `step` times `direction`."""
    moved = jax.tree.map(lambda leaf, toward: leaf + step * toward, parts(params)[part], direction)
    if part == "sparse":
        return {**params, "sparse": moved}
    return {**params, "bridges": {**params["bridges"], part: moved}}


def test_a_trained_sparse_model_that_is_frozen_has_no_gradient(setting):
    (loss, params, frozen, windows), values, _ = setting
    alone, both = {"bridges": params["bridges"]}, {**frozen, "sparse": params["sparse"]}
    value = lambda params, frozen: loss(params, windows, frozen)  # noqa: E731
    gradient = jit(jax.value_and_grad(value, argnums=(0, 1), has_aux=True))
    (_, found), (by_params, by_frozen) = gradient(alone, both)
    assert norm(by_frozen) == 0
    assert min(norm(by_params["bridges"][side]) for side in ("encoder", "decoder")) > 0
    for name, value in values.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)


def test_the_loss_is_the_weighted_sum_and_a_term_of_weight_0_is_left_out():
    weights = {"ce": 0.5, "kl": 2.0, "nmse_encode": 3.0, "nmse_decode": 0.25, "sparse_to_dense": 0.0}
    loss, params, frozen, windows = make(BridgeConfig(**weights))
    value, terms = jit(loss)(params, windows, frozen)
    assert set(terms) == set(TRAINS) - {"sparse_to_dense"}
    expected = sum({**weights, "dense_to_sparse": 1.0}[name] * float(term) for name, term in terms.items())
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_the_exact_kl_is_a_token_s_own():
    """Each token's by numpy, so that no axis is summed that should be averaged."""
    rng = np.random.default_rng(0)
    teacher, logits = rng.normal(size=(2, 2, 5, 11)).astype(np.float32)
    p, q = softmax(teacher), softmax(logits)
    np.testing.assert_allclose(kl(make_teacher(teacher), logits), (p * np.log(p / q)).sum(-1), rtol=1e-5)


@pytest.mark.parametrize("n", [2, 4, 11, 50])
def test_the_kl_of_the_likeliest_tokens(n):
    rng = np.random.default_rng(1)
    teacher, logits = rng.normal(size=(2, 2, 3, 11)).astype(np.float32)
    expected = np.zeros((2, 3))
    for place in np.ndindex(2, 3):
        chosen = np.argsort(-teacher[place])[:n]
        p, q = softmax(teacher[place][chosen]), softmax(logits[place][chosen])
        expected[place] = (p * np.log(p / q)).sum()
    np.testing.assert_allclose(kl(make_teacher(teacher, n), logits), expected, rtol=1e-5, atol=1e-6)


def test_nmse_is_the_mean_of_each_token_s_own_ratio():
    rng = np.random.default_rng(2)
    predicted, target = rng.normal(size=(2, 3, 2, 4, 5)).astype(np.float32)
    deviation = ((target - target.mean(axis=(1, 2), keepdims=True)) ** 2).sum(-1)
    expected = (((predicted - target) ** 2).sum(-1) / deviation).mean(axis=(1, 2))
    np.testing.assert_allclose(nmse(predicted, target), expected, rtol=1e-5)
    mean = np.broadcast_to(target.mean(axis=(1, 2), keepdims=True), target.shape)
    np.testing.assert_allclose(nmse(mean, target), 1, rtol=1e-5)


def test_the_deviation_that_nmse_divides_by_is_stopped():
    rng = np.random.default_rng(3)
    predicted, target = rng.normal(size=(2, 1, 2, 3, 4)).astype(np.float32)
    gradient = jax.grad(lambda x: nmse(predicted, x).sum())(target)
    deviation = ((target - target.mean(axis=(1, 2), keepdims=True)) ** 2).sum(-1, keepdims=True)
    np.testing.assert_allclose(gradient, 2 * (target - predicted) / deviation / 6, rtol=1e-4)


def test_the_gradient_of_a_sum_over_sites_is_plain_autodiff_s():
    def loss(place, trained, value, given):
        return jnp.sum(jnp.sin(trained["a"] * value * (place + 1)) * given)

    trained, values = {"a": jnp.arange(1.0, 4.0), "b": jnp.ones(2)}, jnp.linspace(-1, 1, 12).reshape(4, 3)
    given = jnp.array([0.5, -1.0, 2.0])

    def total(of):
        return lambda trained, values: 3 * of(trained, values) ** 2

    plain = total(lambda t, v: sum(loss(i, t, v[i], given) for i in range(4)))
    ours = total(lambda t, v: sum_over_sites(loss, t, v, given))
    np.testing.assert_allclose(ours(trained, values), plain(trained, values), rtol=1e-6)
    found = jax.jit(jax.grad(ours, argnums=(0, 1)))(trained, values)
    expected = jax.grad(plain, argnums=(0, 1))(trained, values)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)
