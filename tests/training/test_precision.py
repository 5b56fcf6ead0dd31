"""Where float32 is claimed, products are float32 on every device; training steps alone may be faster."""

import re

import jax
import numpy as np
import pytest

from circuits_jax.config import Config, ModelConfig, PruneConfig, TrainConfig
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.runs.compile import WHATS, workload
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.surroundings import settings_of_ours
from tests.training.tiny import replace

CONFIG = Config(
    model=ModelConfig(n_layer=1, d_model=16, d_head=8, n_ctx=8, vocab_size=20),
    train=TrainConfig(steps=10, batch_size=2),
    prune=PruneConfig(steps=10, train_pairs=4, batch_pairs=2),
)
PRODUCT = re.compile(r"stablehlo\.dot_general.*?precision = \[(\w+), (\w+)\]")
TRAINING = ("train", "bridges")


def precisions(what, config):
    """The precisions of all products of a program."""
    with settings_of_ours():
        text = workload(config, what, jax.devices()[:1]).lowered.as_text()
    found = PRODUCT.findall(text)
    assert len(found) == text.count("stablehlo.dot_general") > 0
    return set(sum(found, ()))


@pytest.mark.parametrize("what", WHATS)
def test_all_but_training_computes_in_float32(what):
    assert precisions(what, CONFIG) == ({"DEFAULT"} if what in TRAINING else {"HIGHEST"})


@pytest.mark.parametrize("what", TRAINING)
def test_a_training_step_is_as_precise_as_it_is_told_to_be(what):
    for precision in ("high", "highest"):
        assert precisions(what, replace(CONFIG, "mesh", precision=precision)) == {precision.upper()}


@pytest.mark.parametrize("what", TRAINING)
def test_bfloat16_rounds_the_factors_of_linear_layers(what):
    """It stands on every product; on a CPU, which ignores that, factors of linear layers are bfloat16."""
    config = replace(CONFIG, "mesh", precision="bfloat16")
    with settings_of_ours():
        text = workload(config, what, jax.devices()[:1]).lowered.as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert all("lhs_precision_type = bf16" in line for line in products)
    by_hand = [line for line in products if "xbf16>" in line]
    assert by_hand and all(line.count("xbf16>") == 2 and line.endswith("xf32>") for line in by_hand)


def test_a_cpu_knows_no_other_difference():
    params = init_params(CONFIG.model, jax.random.PRNGKey(0))
    tokens = np.random.default_rng(0).integers(0, 20, (4, 8))
    logits = []
    for precision in ("default", "highest"):
        with jax.default_matmul_precision(precision):
            logits.append(jax.jit(Transformer(CONFIG.model).apply)(params, tokens)[0])
    np.testing.assert_array_equal(*logits)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match="mesh.precision is 'float64'; choose one of default, bfloat16,"):
        replace(CONFIG, "mesh", precision="float64")
