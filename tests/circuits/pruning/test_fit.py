import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from circuits_jax.circuits.pruning.fit import Fitter, settings_of, start_fit
from circuits_jax.circuits.pruning.taus import heaviside
from circuits_jax.config import PruneConfig

CONFIG = PruneConfig(steps=30, batch_pairs=16, k_coef=0.02, learning_rate=0.05)
NEEDED = np.array([1, 4, 6])
COUNT = 8


def loss(shared, own, kept, batch):
    """Squared error of a masked linear map; the needed inputs decide, `own` scales the rest."""
    x, y = batch
    return jnp.mean((x @ (kept["mask"] * shared) - y) ** 2) + own * 0


def data(seed, pairs=64):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(pairs, COUNT)).astype(np.float32)
    weights = np.where(np.isin(np.arange(COUNT), NEEDED), 1.5, 0).astype(np.float32)
    return (x, x @ weights), np.full(COUNT, 1.5, np.float32)


def runs_of(count, config=CONFIG):
    pairs, _ = data(0)
    return [
        start_fit(
            config,
            {"mask": np.random.default_rng(i).normal(0.1, 0.01, COUNT).astype(np.float32)},
            np.asarray(jax.random.PRNGKey(i)),
            pairs,
            settings_of(config)._replace(k_coef=0.01 * (i + 1)),
            own=np.float32(1),
        )
        for i in range(count)
    ]


SHARED = data(0)[1]


def taus_of(runs):
    return np.stack([run.taus["mask"] for run in runs])


def by_hand(run, steps, config=CONFIG):
    """The same fit, step by step, with optax's own parts."""
    settings = run.settings
    schedule = optax.linear_schedule(float(settings.learning_rate), 0, int(settings.steps))
    optimizer = optax.adamw(schedule, b2=config.b2, weight_decay=config.weight_decay)
    taus, key = run.taus, run.key
    state = optimizer.init(taus)

    def objective(taus, batch):
        kept = {"mask": heaviside(taus["mask"], config.temperature)}
        count = kept["mask"].sum()
        price = settings.k_coef * count + settings.log_k_coef * jnp.log(count)
        return loss(SHARED, 0.0, kept, batch) + price

    for _ in range(steps):
        key, draw = jax.random.split(key)
        chosen = jax.random.randint(draw, (1, config.batch_pairs), 0, 64)[0]
        grads = jax.grad(objective)(taus, tuple(jnp.asarray(x)[chosen] for x in run.data))
        rms = float(jnp.sqrt(jnp.mean(grads["mask"] ** 2)))
        grads = jax.tree.map(lambda g, rms=rms: g / max(rms, 1.0), grads)
        updates, state = optimizer.update(grads, state, taus)
        taus = jax.tree.map(lambda t, u: jnp.clip(t + u, -1, 1), taus, updates)
    return taus["mask"]


def test_a_fit_is_clipped_adamw_with_linear_decay_on_drawn_pairs():
    (run,) = runs_of(1)
    found = Fitter(loss, CONFIG, jax.devices()[:1]).fit(SHARED, [run], 12)[0]
    np.testing.assert_allclose(found.taus["mask"], by_hand(run, 12), atol=1e-5)


def test_the_logarithm_of_the_number_kept_has_its_own_price():
    (run,) = runs_of(1)
    settings = run.settings._replace(k_coef=jnp.float32(0), log_k_coef=jnp.float32(0.3))
    priced, free = run._replace(settings=settings), run._replace(settings=settings._replace(log_k_coef=0.0))
    fitter = Fitter(loss, CONFIG, jax.devices()[:1])
    found = fitter.fit(SHARED, [priced], 12)[0].taus["mask"]
    np.testing.assert_allclose(found, by_hand(priced, 12), atol=1e-5)
    assert (found < fitter.fit(SHARED, [free], 12)[0].taus["mask"]).all()


def test_it_finds_the_needed_entries():
    taus = {"mask": np.full(COUNT, 0.1, np.float32)}
    start = start_fit(CONFIG, taus, np.asarray(jax.random.PRNGKey(0)), data(0)[0], own=np.float32(1))
    (run,) = Fitter(loss, CONFIG, jax.devices()[:1]).fit(SHARED, [start], CONFIG.steps)
    found = run.taus["mask"]
    assert set(np.flatnonzero(np.asarray(found) >= 0)) == set(NEEDED)


@pytest.mark.parametrize("batching", ["map", "vmap"])
@pytest.mark.parametrize("devices", [1, 2])
def test_runs_of_other_settings_do_as_each_does_alone(batching, devices):
    config = PruneConfig(**{**CONFIG.__dict__, "batching": batching})
    runs = runs_of(4)
    fitter = Fitter(loss, config, jax.devices()[:devices])
    together = fitter.fit(SHARED, runs, 10)
    assert fitter.compilations == 1
    alone = [by_hand(run, 10) for run in runs]
    np.testing.assert_allclose(taus_of(together), alone, atol=1e-5)
    assert len({row.tobytes() for row in taus_of(together)}) == 4


def test_a_run_split_by_pairs_is_the_run():
    (run,) = runs_of(1)
    split = Fitter(loss, CONFIG, jax.devices()).fit(SHARED, [run], 10)[0]
    draws = jax.random.randint(jax.random.split(run.key)[1], (8, 2), 0, 64)
    assert draws.shape == (8, 2)  # the same pairs, dealt to eight devices
    np.testing.assert_allclose(split.taus["mask"], by_hand(run, 10), atol=1e-5)


def test_a_fit_in_parts_is_the_fit_and_reports_every_step():
    runs, steps = runs_of(2), []
    fitter = Fitter(loss, CONFIG, jax.devices()[:2])
    whole = fitter.fit(SHARED, runs, 30, lambda n, figures: steps.append((n, figures)))
    parts = fitter.fit(SHARED, fitter.fit(SHARED, runs, 11), 19)
    np.testing.assert_array_equal(taus_of(whole), taus_of(parts))
    assert sum(n for n, _ in steps) == 30
    assert [int(kept) for kept in steps[-1][1].kept] <= [COUNT, COUNT]
    assert fitter.compilations == 1


def test_which_runs_are_together_decides_the_rounding_and_nothing_else_does():
    runs = runs_of(3)
    fitter = Fitter(loss, CONFIG, jax.devices()[:2])
    together = fitter.fit(SHARED, runs, 10, together=1)
    alone = [fitter.fit(SHARED, [run], 10)[0] for run in runs]
    np.testing.assert_array_equal(taus_of(together), taus_of(alone))
