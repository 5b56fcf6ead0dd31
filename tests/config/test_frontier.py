"""Rows of a frontier: read as they are meant, refused in one line where they cannot be."""

import pytest

from circuits_jax.config import Config, FrontierConfig, from_dict, to_dict
from circuits_jax.storage.errors import ConfigError

DENSE = "dense: sparsity.target=1 model.activation_fraction=none model.d_model=16,32"


def test_a_row_is_sizes_of_what_has_several_values():
    (row,) = FrontierConfig(series=(DENSE,)).rows
    common = {"sparsity.target": 1, "model.activation_fraction": None}
    assert row.name == "dense" and row.varied == ("model.d_model",)
    assert row.sizes == (common | {"model.d_model": 16}, common | {"model.d_model": 32})


def test_settings_with_as_many_values_go_together_and_fractions_are_numbers():
    text = " wide : model.d_model=64,128  sparsity.target=1/8,0.0625 model.bias=false model.norm=layer"
    (row,) = FrontierConfig(series=(text,)).rows
    common = {"model.bias": False, "model.norm": "layer"}
    assert row.name == "wide" and row.varied == ("model.d_model", "sparsity.target")
    assert row.sizes == (
        {"model.d_model": 64, "sparsity.target": 0.125} | common,
        {"model.d_model": 128, "sparsity.target": 0.0625} | common,
    )


def test_a_row_without_several_values_is_one_size():
    (row,) = FrontierConfig(series=("as it is:",)).rows
    assert (row.name, row.sizes, row.varied) == ("as it is", ({},), ())


def test_comparisons_are_pairs_of_series():
    config = FrontierConfig(series=(DENSE, "sparse:"), compare=("dense / sparse", "sparse/dense"))
    assert config.pairs == (("dense", "sparse"), ("sparse", "dense"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"series": ("model.d_model=16",)}, ["no name before a colon"]),
        ({"series": (": model.d_model=16",)}, ["no name before a colon"]),
        ({"series": ("a/b: model.d_model=16",)}, ["no name before a colon"]),
        ({"series": ("a: model.d_model",)}, ["'model.d_model', which sets nothing"]),
        ({"series": ("a: model.d_model=",)}, ["sets nothing"]),
        ({"series": ("a: model.d_model=3,,4",)}, ["sets nothing"]),
        ({"series": ("a: train.steps=3 train.steps=4",)}, ["sets train.steps twice"]),
        (
            {"series": ("a: model.d_model=1,2 sparsity.target=1,2,3",)},
            ["model.d_model and sparsity.target different numbers"],
        ),
        ({"series": (DENSE, DENSE)}, ["two rows called 'dense'"]),
        ({"series": (DENSE,), "compare": ("dense",)}, ["'dense'", "LARGER / SMALLER"]),
        ({"series": (DENSE,), "compare": ("dense / a / b",)}, ["LARGER / SMALLER"]),
        ({"series": (DENSE,), "compare": ("dense / sparse",)}, ["the series 'sparse'", "there are dense"]),
        ({"compare": ("dense / sparse",)}, ["there are none"]),
        ({"series": (DENSE,), "compare": ("dense / dense",)}, ["'dense' by itself"]),
        (
            {"series": (DENSE, "b: model.d_model=8"), "compare": ("dense / b", "dense /b")},
            ["'dense / b' twice"],
        ),
        ({"seeds": ()}, ["frontier.seeds is empty"]),
        ({"seeds": (1, 1)}, ["frontier.seeds has 1 twice"]),
        ({"seeds": (-1,)}, ["seed", "-1"]),
        ({"learning_rates": (0.0,)}, ["learning_rates", "0"]),
        ({"learning_rates": (0.1, 0.1)}, ["learning_rates has 0.1 twice"]),
        ({"confidence": 1.0}, ["frontier.confidence"]),
        ({"slots": 0}, ["frontier.slots"]),
        ({"flops_per_second": 0.0}, ["frontier.flops_per_second"]),
        ({"tasks_planned": -1}, ["frontier.tasks_planned"]),
    ],
)
def test_what_cannot_be_used_is_one_line(values, words):
    with pytest.raises(ConfigError) as caught:
        FrontierConfig(**values)
    message = str(caught.value)
    assert "\n" not in message and [word for word in words if word not in message] == []


def test_a_whole_configuration_with_a_frontier_survives_json_and_an_old_one_has_none():
    config = Config(frontier=FrontierConfig(series=(DENSE,), seeds=(0, 1), learning_rates=(0.1, 1)))
    assert from_dict(Config, to_dict(config)) == config
    old = to_dict(Config())
    del old["frontier"]
    assert from_dict(Config, old) == Config()
