"""Every setting that is refused, and the way of a configuration to JSON and back."""

import dataclasses
import json
import math

import pytest

from circuits_jax.config import (
    ACTIVATIONS,
    ANNEALS,
    ATTENTIONS,
    BIGRAMS,
    DTYPES,
    NORMS,
    POSITIONS,
    TOPK_LOCATIONS,
    Config,
    DataConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    PruneConfig,
    SparsityConfig,
    TrainConfig,
    from_dict,
    to_dict,
)
from circuits_jax.config.checks import check_choice
from circuits_jax.storage.errors import ConfigError

# (dataclass, values, words that the error must hold)
REFUSED = [
    *((ModelConfig, {field: 0}, [f"model.{field}", "0"]) for field in ("n_layer", "d_model", "n_ctx")),
    *((ModelConfig, {field: -3}, [f"model.{field}", "-3"]) for field in ("vocab_size", "d_head", "d_mlp")),
    (ModelConfig, {"n_head": 0}, ["model.n_head", "0"]),
    (ModelConfig, {"d_model": 40, "d_head": 16}, ["model.d_model", "40", "model.d_head", "16", "n_head"]),
    (ModelConfig, {"norm": "batch"}, ["model.norm", "batch", *NORMS]),
    (ModelConfig, {"attention": "both"}, ["model.attention", "both", *ATTENTIONS]),
    (Config, {"model": ModelConfig(attention="full")}, ["model.attention", "full", "causal"]),
    (ModelConfig, {"activation": "swish"}, ["model.activation", "swish", *ACTIVATIONS]),
    (ModelConfig, {"residual_activation": "gelu"}, ["model.residual_activation", "gelu", "identity", "relu"]),
    (ModelConfig, {"position": "rotary"}, ["model.position", "rotary", *POSITIONS]),
    *((ModelConfig, {"bigram": b}, ["model.bigram", str(b), *BIGRAMS]) for b in ("frozen", None, 1)),
    (Config, {"model": ModelConfig(bigram="counts")}, ["model.bigram", "counts", "train.bigram_prior=300"]),
    (Config, {"mesh": MeshConfig(steps_at_once=3)}, ["mesh.steps_at_once is 3", "train.log_every 10"]),
    (OptimizerConfig, {"rms_entries": "some"}, ["optimizer.rms_entries", "some", "trained", "all"]),
    (ModelConfig, {"dtype": "float16"}, ["model.dtype", "float16", *DTYPES]),
    (ModelConfig, {"position": "concat"}, ["model.d_pos", "0", "concat"]),
    (ModelConfig, {"d_pos": 4}, ["model.d_pos", "4", "none"]),
    (ModelConfig, {"d_pos": -4}, ["model.d_pos", "-4"]),
    *((ModelConfig, {"activation_fraction": f}, ["model.activation_fraction", str(f)]) for f in (0, 1.5, -1)),
    (ModelConfig, {"activation_fraction": math.nan}, ["model.activation_fraction", "nan"]),
    (ModelConfig, {"activation_locations": ("mlp_in", "mlp")}, ["activation_locations", *TOPK_LOCATIONS]),
    *((DataConfig, {"validation_fraction": f}, ["data.validation_fraction", str(f)]) for f in (0, 1, 2)),
    *((DataConfig, {"generated_share": f}, ["data.generated_share", str(f)]) for f in (-0.1, 1)),
    *((DataConfig, {"grammar": n}, ["data.grammar", str(n), "1, 2"]) for n in (0, 3)),
    *((SparsityConfig, {"target": f}, ["sparsity.target", str(f), "(0, 1]"]) for f in (0, 1.5, -0.5)),
    (SparsityConfig, {"target": math.nan}, ["sparsity.target", "nan"]),
    (SparsityConfig, {"anneal": "exp"}, ["sparsity.anneal", "exp", *ANNEALS]),
    (SparsityConfig, {"anneal_start": 0.6, "anneal_end": 0.5}, ["anneal_start", "0.6", "anneal_end", "0.5"]),
    (SparsityConfig, {"anneal_end": 1.5}, ["anneal_end", "1.5"]),
    (SparsityConfig, {"anneal_start": -0.1}, ["anneal_start", "-0.1"]),
    (SparsityConfig, {"floor": -1}, ["sparsity.floor", "-1"]),
    *((OptimizerConfig, {f: 0}, [f"optimizer.{f}", "0"]) for f in ("learning_rate", "eps", "gradient_rms")),
    *((OptimizerConfig, {"learning_rate": x}, ["learning_rate", "infinite"]) for x in (math.inf, 10**400)),
    (OptimizerConfig, {"weight_decay": math.inf}, ["optimizer.weight_decay", "infinite"]),
    (DataConfig, {"symbols": ("a", "\ud800")}, ["data.symbols", "half a character"]),
    (OptimizerConfig, {"gradient_mode": "norm"}, ["gradient_mode", "norm", "rescale", "clip"]),
    *((OptimizerConfig, {"warmup": f}, ["optimizer.warmup", str(f)]) for f in (-0.1, 1)),
    *(
        (TrainConfig, {field.name: 0}, [f"train.{field.name}", "0"])
        for field in dataclasses.fields(TrainConfig)
        if field.name not in ("seed", "keep_best", "snapshots", "start_from")
    ),
    *((TrainConfig, {name: -1}, [f"train.{name}", "-1"]) for name in ("keep_best", "snapshots")),
    *(
        (PruneConfig, {field: -1}, [f"prune.{field}", "-1"])
        for field in (
            *(
                "steps",
                "batch_pairs",
                "train_pairs",
                "select_pairs",
                "test_pairs",
                "learning_rate",
                "temperature",
            ),
            *("target", "mean_batches", "log_k_coef"),
        )
    ),
    (PruneConfig, {"learnt": 0}, ["prune.learnt", "0"]),
    (PruneConfig, {"retries": -1}, ["prune.retries", "-1"]),
    (PruneConfig, {"ablation": "median"}, ["prune.ablation", "median", "mean", "zero", "resample"]),
]


@pytest.mark.parametrize(
    ("cls", "values", "words"),
    REFUSED,
    ids=[ascii(f"{cls.__name__}-{values}")[:80] for cls, values, _ in REFUSED],
)
def test_a_value_that_cannot_be_used_is_named_with_the_choices(cls, values, words):
    with pytest.raises(ConfigError) as caught:
        cls(**values)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    "allowed",
    [
        SparsityConfig(target=1.0, anneal_start=0.5, anneal_end=0.5, floor=0),
        OptimizerConfig(warmup=0.0),
        DataConfig(generated_share=0.0, validation_fraction=0.99),
        DataConfig(generated_share=0.99, grammar=2),
        ModelConfig(activation_fraction=1.0, activation_locations=()),
        ModelConfig(d_model=40, d_head=16, n_head=4),
    ],
    ids=lambda config: type(config).__name__,
)
def test_the_limits_themselves_are_allowed(allowed):
    assert from_dict(type(allowed), to_dict(allowed)) == allowed


@pytest.mark.parametrize(("before", "today"), [(True, "learned"), (False, "none")])
def test_a_table_that_was_a_switch_is_read_as_what_it_is_today(before, today):
    config = ModelConfig(bigram=before)
    assert config == ModelConfig(bigram=today) and to_dict(config)["bigram"] == today
    assert from_dict(ModelConfig, {"bigram": before}) == config
    assert config.has_bigram is before and ModelConfig(bigram="counts").has_bigram
    assert hash(config) == hash(ModelConfig(bigram=today))


def test_derived_widths():
    config = ModelConfig(d_model=48, d_head=12, position="concat", d_pos=5)
    assert (config.heads, config.d_attn, config.neurons, config.d_read) == (4, 48, 192, 53)
    config = ModelConfig(d_model=40, d_head=16, n_head=4, d_mlp=7)
    assert (config.heads, config.d_attn, config.neurons, config.d_read) == (4, 64, 7, 40)


@pytest.mark.parametrize(
    ("fraction", "width", "kept"), [(0.29, 100, 28), (0.3, 40, 12), (0.25, 3, 0), (1, 7, 7)]
)
def test_kept_activations_are_truncated_as_released(fraction, width, kept):
    config = ModelConfig(activation_fraction=fraction, activation_locations=("mlp_in",))
    assert config.kept_activations("mlp_in", width) == kept
    assert config.kept_activations("mlp_out", width) is None
    off = dataclasses.replace(config, activation_fraction=None)
    assert off.kept_activations("mlp_in", width) is None


def test_a_configuration_survives_json():
    config = Config(
        model=ModelConfig(n_head=3, d_mlp=5, activation_fraction=None, activation_locations=("mlp_in",)),
        data=DataConfig(roots=("a", "b"), symbols=("'",)),
        sparsity=SparsityConfig(target=1 / 3),
        prune=PruneConfig(tasks=("with_as",)),
    )
    values = json.loads(json.dumps(to_dict(config)))
    assert from_dict(Config, values) == config
    assert isinstance(from_dict(Config, values).data.roots, tuple)


@pytest.mark.parametrize("today", [{}, {"select_pairs": 7, "test_pairs": 9}])
def test_what_was_one_setting_is_two(today):
    found = from_dict(PruneConfig, {**today, "heldout_pairs": 32})
    assert found == PruneConfig(select_pairs=32, test_pairs=32)
    whole = from_dict(Config, {"prune": {"heldout_pairs": 32, "seed": 3}})
    assert whole.prune == PruneConfig(select_pairs=32, test_pairs=32, seed=3)
    with pytest.raises(ConfigError, match="prune.select_pairs is 'many'"):
        from_dict(Config, {"prune": {"heldout_pairs": "many"}})


def test_missing_keys_take_their_defaults():
    assert from_dict(Config, {}) == Config()
    assert from_dict(Config, {"model": {"n_layer": 5}}) == Config(model=ModelConfig(n_layer=5))


def test_all_unknown_keys_are_named_with_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        from_dict(Config, {"model": {"width": 3, "n_layer": 2, "depth": 4}})
    message = str(caught.value)
    for word in ("config.model.width", "config.model.depth", "n_layer", "d_model"):
        assert word in message
    assert "config.model.n_layer" not in message
    with pytest.raises(ConfigError, match=r"config\.nonsense.*model, data, sparsity"):
        from_dict(Config, {"nonsense": 1})


WRONG_TYPES = [
    ({"model": {"n_layer": "2"}}, ["config.model.n_layer", "'2'", "str", "int"]),
    ({"model": {"n_layer": 2.0}}, ["config.model.n_layer", "2.0", "float", "int"]),
    ({"model": {"n_layer": True}}, ["config.model.n_layer", "True", "bool", "int"]),
    ({"model": {"n_layer": None}}, ["config.model.n_layer", "None", "int"]),
    ({"model": {"n_head": "four"}}, ["config.model.n_head", "four", "int"]),
    ({"model": {"bias": 1}}, ["config.model.bias", "1", "bool"]),
    ({"sparsity": {"target": "low"}}, ["config.sparsity.target", "low", "float"]),
    ({"sparsity": {"target": True}}, ["config.sparsity.target", "True", "float"]),
    *(
        ({"optimizer": {"learning_rate": x}}, ["config.optimizer.learning_rate", "finite"])
        for x in (10**400, -(10**400), math.inf, math.nan)
    ),
    ({"model": 3}, ["config.model", "3"]),
    ({"model": None}, ["config.model", "None"]),
    ({"model": ["n_layer"]}, ["config.model", "n_layer"]),
    ({"data": {"roots": "src"}}, ["config.data.roots", "src"]),
    ({"data": {"roots": None}}, ["config.data.roots", "None"]),
    ({"data": {"roots": 3}}, ["config.data.roots", "3"]),
    ({"data": {"roots": [1]}}, ["config.data.roots", "1"]),
]


@pytest.mark.parametrize(
    ("values", "words"), WRONG_TYPES, ids=[str(values)[:60] for values, _ in WRONG_TYPES]
)
def test_a_wrong_type_is_named_with_the_right_one(values, words):
    with pytest.raises(ConfigError) as caught:
        from_dict(Config, values)
    assert [word for word in words if word not in str(caught.value)] == []


def test_an_int_serves_as_a_float_and_none_where_it_may():
    config = from_dict(
        Config, {"sparsity": {"target": 1}, "model": {"n_head": None, "activation_fraction": 1}}
    )
    assert type(config.sparsity.target) is float and type(config.model.activation_fraction) is float
    assert config.model.n_head is None


def test_configurations_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().n_layer = 3  # type: ignore[misc]


def test_check_choice_takes_any_iterable():
    check_choice("x", "a", ("a", "b"))
    with pytest.raises(ConfigError, match=r"x is 'c'; choose one of a, b"):
        check_choice("x", "c", ("a", "b"))
