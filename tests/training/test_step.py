"""One step's loss, metrics and update, on a problem of a few windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.model import sites
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.sparsity.optimizer import make_optimizer
from circuits_jax.sparsity.schedules import learning_rate_schedule
from circuits_jax.training.pretraining import pretraining
from circuits_jax.training.state import make_init
from circuits_jax.training.step import (
    gradient_of,
    make_eval_step,
    make_train_step,
    model_loss,
    token_losses,
)
from tests.quick import quick_cases
from tests.training.tiny import CONFIG, assert_equal, make_state, replace

STEPS, LOG_EVERY = 24, 3
TINY = replace(CONFIG, "model", vocab_size=20, d_model=16, d_head=8, d_mlp=32, n_ctx=8)
TINY = replace(TINY, "train", steps=STEPS, log_every=LOG_EVERY)
TINY = replace(TINY, "sparsity", target=0.25, floor=0)
MODEL = Transformer(TINY.model)


def LOSS(params, windows, frozen):
    return model_loss(MODEL, params, windows), {}


# The same few windows again and again: a problem that any network can learn.
WINDOWS = np.random.default_rng(0).integers(0, 20, size=(4, 9)).astype(np.int32)


@pytest.fixture(scope="module")
def run():
    """(the compiled step, states 0..STEPS, metrics of steps 1..STEPS)."""
    optimizer = make_optimizer(TINY)
    rate = learning_rate_schedule(TINY.optimizer, TINY.sparsity, STEPS)
    step = jax.jit(make_train_step(gradient_of(LOSS), optimizer, rate, LOG_EVERY))
    states, metrics = [jax.jit(make_init(TINY, optimizer))()], []
    for _ in range(STEPS):
        state, row = step(states[-1], WINDOWS)
        states.append(state)
        metrics.append({key: np.asarray(value) for key, value in row.items()})
    return step, states, metrics


def test_the_loss_falls_well_below_chance(run):
    losses = [row["loss"] for row in run[2]]
    assert abs(losses[0] - np.log(20)) < 0.1
    assert losses[-1] < 0.6 * losses[0]


def test_one_compilation_serves_the_whole_anneal(run):
    step, states, _ = run
    kept = [int(jnp.count_nonzero(state.params["h_0"]["mlp"]["c_fc"]["kernel"])) for state in states]
    assert len(set(kept)) >= STEPS // 2 and kept[0] == 512 and kept[-1] == 128
    assert step._cache_size() == 1


def test_steps_are_counted_and_the_key_stays(run):
    _, states, _ = run
    assert [int(state.step) for state in states] == list(range(STEPS + 1))
    assert {state.rng.tobytes() for state in map(jax.device_get, states)} == {
        np.asarray(states[0].rng).tobytes()
    }


def test_the_gradient_is_measured_before_it_is_rescaled(run):
    _, states, metrics = run
    gradient = jax.jit(jax.grad(lambda params: model_loss(MODEL, params, WINDOWS)))
    for index in (0, STEPS - 1):
        flat = np.concatenate([np.ravel(g) for g in jax.tree.leaves(gradient(states[index].params))])
        rms = np.sqrt(np.mean(flat.astype(np.float64) ** 2))
        np.testing.assert_allclose(metrics[index]["gradient_rms"], rms, rtol=1e-4)


def test_the_learning_rate_is_that_of_the_update(run):
    rate = learning_rate_schedule(TINY.optimizer, TINY.sparsity, STEPS)
    np.testing.assert_allclose(
        [row["learning_rate"] for row in run[2]], [rate(i) for i in range(STEPS)], rtol=1e-5
    )


def test_churn_is_the_share_of_weights_that_came_or_went_on_logged_steps(run):
    _, states, metrics = run
    values = []
    for index, row in enumerate(metrics):
        if (index + 1) % LOG_EVERY:
            assert np.isnan(row["support_churn"])
            continue
        changed = entries = 0
        before, after = (jax.tree_util.tree_leaves_with_path(states[i].params) for i in (index, index + 1))
        for (path, old), (_, new) in zip(before, after, strict=True):
            if path[-1].key not in ("scale", "sink"):
                changed += int(np.sum((np.asarray(old) == 0) != (np.asarray(new) == 0)))
                entries += old.size
        values.append(changed / entries)
        np.testing.assert_allclose(row["support_churn"], values[-1], rtol=1e-6)
    assert max(values) > 0


def test_the_same_steps_give_the_same_bits(run):
    step, states, _ = run
    state = states[STEPS // 2]
    for _ in range(2):
        state, _ = step(state, WINDOWS)
    assert_equal(state, states[STEPS // 2 + 2])


def test_token_losses_mean_to_the_cross_entropy():
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(size=(2, 3, 5)).astype(np.float32), rng.integers(0, 5, size=(2, 3))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.mean([np.log(shares[b, t, targets[b, t]]) for b in range(2) for t in range(3)])
    np.testing.assert_allclose(token_losses(logits, targets).mean(), expected, rtol=1e-5)
    np.testing.assert_allclose(token_losses(logits * 0, targets), np.log(5), rtol=1e-6)


def test_each_token_is_predicted_from_those_before_it(run):
    """A bigram table that knows the successor in WINDOWS' own alphabet makes the loss vanish."""
    config = replace(TINY, "model", bigram=True).model
    windows = (np.arange(9)[None] + np.array([[0], [5], [11]])).astype(np.int32) % 20
    model = Transformer(config)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), windows[:, :-1]))["params"]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
    params["bigram"][np.arange(20), (np.arange(20) + 1) % 20] = 50.0
    assert float(jax.jit(lambda p: model_loss(model, p, windows))(params)) < 1e-6


def test_evaluation_tells_which_nodes_were_ever_active(run):
    params = run[1][-1].params
    watched = [site for site in sites.sites(TINY.model) if site.endswith((".q", ".k", ".v", ".post_act"))]
    loss, alive = jax.jit(make_eval_step(MODEL))(params, WINDOWS)
    logits, records = jax.jit(lambda p: MODEL.apply(p, WINDOWS[:, :-1], record=watched))(params)
    np.testing.assert_allclose(loss, token_losses(logits, WINDOWS[:, 1:]).mean(axis=1), rtol=1e-5)
    assert set(alive) == set(watched)
    for site in watched:
        np.testing.assert_array_equal(alive[site], (np.asarray(records[site]) != 0).any(1), err_msg=site)
    assert not all(mask.all() for mask in alive.values())


def one_step(config, windows):
    """(the state after one step from a state in mid-training, its metrics)."""
    program = pretraining(config)
    state, metrics = jax.jit(program.step)(make_state(config), windows)
    return jax.device_get(state), jax.device_get(metrics)


@pytest.fixture(scope="module")
def plain():
    return one_step(TINY, WINDOWS)


SAVING = [{"remat": "blocks"}, {"remat": "dots"}, {"accumulate": 2}]


@pytest.mark.parametrize("values", quick_cases({str(each): each for each in SAVING}, [str(SAVING[0])]))
def test_saving_memory_changes_nothing_but_rounding(plain, values):
    state, metrics = one_step(replace(TINY, "mesh", **values), WINDOWS)
    for name in ("loss", "gradient_rms"):
        np.testing.assert_allclose(metrics[name], plain[1][name], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(plain[0].params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_remat_keeps_less_for_the_backward_pass():
    kept = {}
    for remat in ("none", "blocks", "dots"):
        model = Transformer(replace(TINY, "model", n_layer=4).model, remat=remat)
        params = jax.eval_shape(lambda model=model: init_params(model.config, jax.random.key(0)))
        residuals = jax.eval_shape(
            lambda p, model=model: jax.vjp(lambda q: model_loss(model, q, WINDOWS), p)[1], params
        )
        own = sum(leaf.size for leaf in jax.tree.leaves(params))
        kept[remat] = sum(leaf.size for leaf in jax.tree.leaves(residuals)) - own
    assert kept["blocks"] < kept["dots"] < kept["none"]
    assert kept["blocks"] < 0.5 * kept["none"]


@pytest.mark.slow
def test_bfloat16_computes_beside_float32_parameters_and_keeps_exact_zeros():
    program = pretraining(replace(TINY, "model", dtype="bfloat16"))
    step, state = jax.jit(program.step), program.init(None)
    for _ in range(STEPS):
        state, metrics = step(state, WINDOWS)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"float32"}
    assert metrics["loss"] < 0.7 * np.log(20) and metrics["finite"]
    kernel = np.asarray(state.params["h_0"]["mlp"]["c_fc"]["kernel"])
    assert np.count_nonzero(kernel) == kernel.size // 4
    text = str(
        jax.make_jaxpr(
            lambda p: model_loss(Transformer(replace(TINY, "model", dtype="bfloat16").model), p, WINDOWS)
        )(state.params)
    )
    assert "bf16" in text
