"""Loss and accuracy against plain numpy."""

import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.tasks.metrics import accuracy, logit_difference, task_loss

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 2, 7)).astype(np.float32) * 3
ANSWERS = np.array([[0, 1], [2, 6], [3, 1], [5, 4], [6, 0]], np.int32)


def _loss():
    losses = []
    for row, (a, b) in enumerate(ANSWERS):
        for prompt, (right, wrong) in enumerate([(a, b), (b, a)]):
            chosen = np.exp(LOGITS[row, prompt, [right, wrong]].astype(np.float64))
            losses.append(-np.log(chosen[0] / chosen.sum()))
    return np.array(losses)


@pytest.mark.parametrize("shape", [(5, 2, 7), (10, 7)])
def test_against_numpy(shape):
    logits = jnp.array(LOGITS.reshape(shape))
    assert np.isclose(task_loss(logits, ANSWERS), _loss().mean(), atol=1e-6)
    assert np.isclose(accuracy(logits, ANSWERS), (_loss() < np.log(2)).mean())


def test_difference_is_by_pair_role():
    difference = logit_difference(jnp.array(LOGITS), jnp.array(ANSWERS))
    assert difference.shape == (5, 2)
    assert np.isclose(difference[1, 1], LOGITS[1, 1, 2] - LOGITS[1, 1, 6])


def test_chance_extremes_and_ties():
    assert np.isclose(task_loss(jnp.zeros((5, 2, 7)), ANSWERS), np.log(2))
    assert accuracy(jnp.zeros((5, 2, 7)), ANSWERS) == 0  # a tie is no right answer
    sure = np.zeros((5, 2, 7), np.float32)
    np.put_along_axis(sure, ANSWERS[:, :, None], 1e4, -1)
    assert task_loss(jnp.array(sure), ANSWERS) == 0 and accuracy(jnp.array(sure), ANSWERS) == 1
    assert np.isclose(task_loss(jnp.array(-sure), ANSWERS), 1e4)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="do not belong to answers"):
        task_loss(jnp.zeros((4, 2, 7)), ANSWERS)
