"""Generation against a loop over the numpy network, and sampling against the probabilities it promises."""

import functools

import jax
import numpy as np
import pytest

from circuits_jax.model import generate as module
from circuits_jax.model.generate import Sampling, generate, sample
from circuits_jax.model.model import Model
from circuits_jax.storage.errors import ConfigError
from tests.model.reference import forward as reference
from tests.model.test_transformer import BASE, VARIETY
from tests.released.models import random_params

GREEDY = Sampling(temperature=0)
DRAWS = 4000


def by_hand(config, params, prompt, count):
    """Greedy text from the numpy network; a full context goes on with its newer half."""
    context, written = list(prompt), []
    for _ in range(count):
        if len(context) > config.n_ctx:
            context = context[-(config.n_ctx // 2) :]
        logits, _ = reference(config, params, np.array([context]))
        written.append(int(logits[0, -1].argmax()))
        context.append(written[-1])
    return written


@pytest.mark.parametrize("name", ["paper", pytest.param("layer_add", marks=pytest.mark.slow)])
def test_greedy_text_past_the_context_is_that_of_the_numpy_network(name):
    config = VARIETY[name]
    model = Model(config, random_params(config, seed=8))
    expected = by_hand(config, model.params, [3, 1, 4], 14)
    assert len(set(expected)) > 1
    assert list(generate(model, [3, 1, 4], 14, GREEDY)) == expected


def test_two_compilations_serve_every_prompt_and_length():
    model = Model(BASE, random_params(BASE, seed=8))
    step = module.drawing_step(model.network, Sampling(seed=1))
    for prompt in ([1], [1, 2, 3], [5] * 7):
        assert len(list(generate(model, prompt, 9, Sampling(seed=1)))) == 9
    assert step._cache_size() == 2


def test_the_seed_decides_the_text():
    model = Model(BASE, random_params(BASE, seed=8))
    texts = [list(generate(model, [1, 2], 20, Sampling(seed=seed))) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.slow
def test_ids_that_the_tokenizer_has_not_are_never_drawn():
    params = random_params(BASE, seed=8)
    params["lm_head"]["kernel"] *= 0
    params["bigram"] *= 0
    drawn = list(generate(Model(BASE, params), [1], 40, Sampling(), vocab_size=4))
    assert set(drawn) == {0, 1, 2, 3}


@functools.cache
def frequencies(sampling):
    """How often each of four tokens of probabilities 0.2, 0.4, 0.1 and 0.3 is drawn."""
    logits = np.tile(np.log([0.2, 0.4, 0.1, 0.3]), (DRAWS, 1)).astype(np.float32)
    drawn = sample(logits, jax.random.key(5), sampling)
    return np.bincount(drawn, minlength=4) / DRAWS


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (GREEDY, [0, 1, 0, 0]),
        (Sampling(), [0.2, 0.4, 0.1, 0.3]),
        (Sampling(top_k=1), [0, 1, 0, 0]),
        (Sampling(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_k=9), [0.2, 0.4, 0.1, 0.3]),
        (Sampling(top_p=0.05), [0, 1, 0, 0]),
        (Sampling(top_p=0.5), [0, 4 / 7, 0, 3 / 7]),  # 0.4 is not yet half
        (Sampling(top_p=0.8), [2 / 9, 4 / 9, 0, 3 / 9]),
        (Sampling(top_k=2, top_p=0.56), [0, 1, 0, 0]),  # of the two, the first alone holds 4/7
        (Sampling(temperature=0.5), [4 / 30, 16 / 30, 1 / 30, 9 / 30]),
    ],
)
def test_tokens_are_drawn_as_often_as_promised(sampling, expected):
    found = frequencies(sampling)
    np.testing.assert_allclose(found, expected, atol=5 * 0.5 / DRAWS**0.5)
    np.testing.assert_array_equal(found > 0, np.array(expected) > 0)


def test_equal_logits_are_cut_by_id():
    logits = np.zeros((500, 5), np.float32)
    assert set(np.asarray(sample(logits, jax.random.key(0), Sampling(top_k=2))).tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("prompt", "words"),
    [([], "empty"), ([0] * 8, "8 tokens.*context of 7"), ([3, 11], "token 11.*0 to 10"), ([-1], "token -1")],
)
def test_prompts_that_cannot_be_read(prompt, words):
    with pytest.raises(ConfigError, match=words):
        generate(Model(BASE, {}), prompt, 3)


@pytest.mark.parametrize(
    "values", [{"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": 0}, {"seed": -1}]
)
def test_sampling_that_means_nothing(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        Sampling(**values)
