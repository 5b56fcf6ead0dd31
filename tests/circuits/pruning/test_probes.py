import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.pruning.probes import BLOCK, QUICK, Asked, Prober, blocks

LIMIT = 0.12


def answer(network, shared, kept, pairs):
    """Logit differences that are data: tokens in thousandths, weakened by each missing entry of the mask."""
    del network
    return shared * kept["site"].mean() * pairs.tokens[..., 0] / 1000


@pytest.fixture(scope="module")
def prober():
    return Prober(None, "auto", jax.devices()[:2], answer)


def pairs_of(count, gap=4.0, noise=1.0, seed=0):
    """Pairs whose difference on prompt A is about `gap`, on B about -gap."""
    values = np.random.default_rng(seed).normal(size=(count, 2)) * noise + [gap, -gap]
    tokens = np.round(1000 * values).astype(np.int32)[..., None]
    return PairBatch(tokens, np.zeros(count, np.int32), np.zeros((count, 2), np.int32))


def masks_of(kept=4):
    return {"site": np.repeat(np.float32([1, 0]), [kept, 4 - kept])}


def cross_entropy(difference):
    return np.logaddexp(0, -difference * [1, -1]).mean()


def calibrated(difference):
    """The loss of the best scale > 0 and shift for targets of 1 - 1 / (N + 2), by another optimiser."""
    doubt = 1 / (len(difference) + 2)

    def fitted(x):
        return np.exp(x[0]) * difference + x[1]

    def objective(x):
        return (1 - doubt) * cross_entropy(fitted(x)) + doubt * cross_entropy(-fitted(x))

    return cross_entropy(fitted(minimize(objective, (0.0, 0.0), method="Nelder-Mead", tol=1e-8).x))


@pytest.mark.parametrize("count", [1, BLOCK, BLOCK + 1, 100])
def test_differences_are_those_of_every_pair_whatever_the_blocks(prober, count):
    asked = [(masks_of(4), pairs_of(count)), (masks_of(2), pairs_of(7, seed=1))]
    found = prober.differences(np.float32(0.5), asked)
    for (masks, pairs), difference in zip(asked, found, strict=True):
        expected = 0.5 * masks["site"].mean() * pairs.tokens[..., 0] / 1000
        np.testing.assert_allclose(difference, expected, rtol=1e-5)


def test_blocks_are_of_one_size_and_the_last_is_filled_from_the_front():
    parts = blocks(pairs_of(BLOCK + 3))
    assert [part.size for part in parts] == [BLOCK, BLOCK]
    np.testing.assert_array_equal(parts[1].tokens[3:], parts[0].tokens[: BLOCK - 3])


def test_slopes_are_the_loss_s_derivative(prober):
    pairs = pairs_of(2 * BLOCK, gap=1.0)
    step, kept = 1e-3, {"site": np.full(4, 0.7, np.float32)}

    def loss(extra):
        return cross_entropy((0.7 + extra / 4) * pairs.tokens[..., 0] / 1000)

    expected = (loss(step) - loss(-step)) / (2 * step)
    found = prober.slopes(np.float32(1), kept, pairs)["site"]
    np.testing.assert_allclose(found, np.full(4, expected), rtol=1e-3)


@pytest.mark.parametrize("count", [50, 192])
@pytest.mark.parametrize("gap", [3.5, 2.0, 1.5])
def test_a_miss_is_the_calibrated_loss_above_the_limit_near_it_and_positive_far_off(prober, count, gap):
    pairs = pairs_of(count, gap, noise=1.5)
    expected = calibrated(pairs.tokens[..., 0] / 1000) - LIMIT
    (miss,) = prober.misses(np.float32(1), [(masks_of(), [Asked(pairs, LIMIT)])])
    if miss <= 0 or count <= QUICK * BLOCK:
        assert miss == pytest.approx(expected, abs=2e-3)
    assert (miss > 0) == (expected > 0)


def test_what_holds_on_all_pairs_is_not_refused_by_a_first_look(prober):
    wrong = 0
    for seed in range(40):
        pairs = pairs_of(192, 3.0, noise=1.5, seed=seed)
        expected = calibrated(pairs.tokens[..., 0] / 1000) - LIMIT
        (miss,) = prober.misses(np.float32(1), [(masks_of(), [Asked(pairs, LIMIT)])])
        wrong += expected <= 0 < miss
        assert not (expected > 2e-3 and miss <= 0)
    assert wrong <= 2  # two standard errors


def test_pairs_beside_the_first_are_judged_by_the_calibration_of_the_first(prober):
    """What decides is the highest of the losses; the others are no part of the fit."""
    first, weak, shifted = pairs_of(192, 5.0), pairs_of(100, 2.0, seed=1), pairs_of(64, 5.0, seed=2)
    # Prompts A by far, but all prompts B are wrong: a calibration of their own would mend that.
    shifted.tokens[...] += 6000
    calibration, _ = prober.measure(np.float32(1), masks_of(), first, weak, shifted)
    losses = [
        cross_entropy(calibration.scale * pairs.tokens[..., 0] / 1000 + calibration.shift)
        for pairs in (first, weak, shifted)
    ]
    target = 0.14
    assert losses[0] < LIMIT < target < losses[1] < losses[2]
    calibrates, others = Asked(first, LIMIT), [Asked(weak, target), Asked(shifted, 2 * target)]
    asked = [(masks_of(), [calibrates, *by]) for by in ([], others[:1], others[1:], others)]
    found = prober.misses(np.float32(1), asked)
    expected = [losses[0] - LIMIT, losses[1] - target, losses[2] - 2 * target, losses[2] - 2 * target]
    np.testing.assert_allclose(found, expected, atol=2e-3)
    estimated = prober.misses(np.float32(1), asked, estimate=[True] * 4)
    assert estimated[0] < 0 < estimated[1] < estimated[2] == estimated[3]  # of first looks at all of them


def test_an_estimate_looks_at_the_first_pairs_only(prober):
    pairs = pairs_of(192, 5.0)
    pairs.tokens[QUICK * BLOCK :] *= -1  # the others are all wrong
    asked = [(masks_of(), [Asked(pairs, LIMIT)])] * 2
    estimated, judged = prober.misses(np.float32(1), asked, estimate=[True, False])
    assert estimated < 0 < judged


def test_a_measured_circuit_has_its_calibration_and_figures(prober):
    train, select, test = pairs_of(64, 2.0), pairs_of(32, 2.0, seed=2), pairs_of(96, 2.0, seed=1)
    calibration, figures = prober.measure(np.float32(0.1), masks_of(), train, select, test)
    for split, pairs in (("train", train), ("select", select), ("test", test)):
        difference = 0.1 * pairs.tokens[..., 0] / 1000
        assert figures[f"{split}/loss"] == pytest.approx(cross_entropy(difference), rel=1e-4)
        fitted = calibration.scale * difference + calibration.shift
        assert figures[f"{split}/calibrated_loss"] == pytest.approx(cross_entropy(fitted), rel=1e-4)
        assert figures[f"{split}/accuracy"] == pytest.approx((difference * [1, -1] > 0).mean())
        assert figures[f"{split}/calibrated_accuracy"] == pytest.approx((fitted * [1, -1] > 0).mean())
    assert figures["train/calibrated_loss"] == pytest.approx(
        calibrated(0.1 * train.tokens[..., 0] / 1000), abs=1e-3
    )
    assert figures["train/calibrated_loss"] < figures["train/loss"] - 0.1


def test_any_number_of_pairs_and_circuits_shares_a_few_compilations():
    prober = Prober(None, "auto", jax.devices()[:2], answer)
    for count in (64, 192):
        prober.misses(np.float32(1), [(masks_of(), [Asked(pairs_of(192), LIMIT)])] * (count // 16))
        prober.differences(np.float32(1), [(masks_of(), pairs_of(count))])
    prober.slopes(np.float32(1), masks_of(), pairs_of(100))
    assert prober.compilations == 3


def test_the_answer_is_given_arrays_under_jit(prober):
    seen = []

    def noting(network, shared, kept, pairs):
        seen.append((network, isinstance(kept["site"], jax.core.Tracer)))
        return jnp.zeros(pairs.tokens.shape[:2])

    Prober("network", "auto", jax.devices()[:1], noting).differences((), [(masks_of(), pairs_of(5))])
    assert seen and all(item == ("network", True) for item in seen)
