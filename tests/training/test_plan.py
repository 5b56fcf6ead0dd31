"""What is told of a run: bytes counted by hand, and the pace."""

import dataclasses
import io

import jax
import numpy as np
import pytest
from tqdm import tqdm

from circuits_jax.config import Config, MeshConfig, ProfileConfig, TrainConfig
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.storage.errors import ConfigError
from circuits_jax.training import plan as plans
from circuits_jax.training.layout import make_layout
from circuits_jax.training.plan import Pace, activation_bytes, describe, peak_flops, plan
from circuits_jax.training.pretraining import flops_per_token, pretraining
from circuits_jax.training.step import model_loss
from tests.training.tiny import CONFIG, replace

WIDE = replace(CONFIG, "model", vocab_size=304)


def figures(mesh):
    config = dataclasses.replace(WIDE, mesh=mesh)
    return plan(make_layout(pretraining(config), config), config)


def test_bytes_are_those_that_a_device_holds():
    params = jax.eval_shape(lambda: init_params(WIDE.model, jax.random.key(0)))
    leaves = jax.tree.leaves(params)
    total = sum(leaf.size for leaf in leaves)
    whole = figures(MeshConfig())
    assert whole["parameters"] == total and whole["parameter_bytes"] == 4 * total
    # Two moments, some counts, and two numbers a tensor from which the projection's next search begins.
    assert abs(whole["optimizer_bytes"] - 8 * total) <= 32 + 8 * len(leaves)
    split = figures(MeshConfig(data=1, fsdp=4, model=2))
    small = sum(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 1)
    assert 4 * total / 8 <= split["parameter_bytes"] <= 4 * total / 8 + 4 * small
    assert split["parameter_bytes_in_all"] == 4 * total


def test_the_batch_is_split_over_two_of_the_axes():
    told = figures(MeshConfig(data=2, fsdp=2, model=2))
    assert (told["batch_per_device"], told["tokens_per_step"]) == (2, 8 * 16)
    text = describe(told)
    for word in (
        "data 2 x fsdp 2 x model 2",
        "8 x cpu",
        f"{told['parameters']:,}",
        "128 tokens a step",
        "12 steps",
    ):
        assert word in text


def test_parts_of_a_batch_and_remat_take_less():
    config = replace(CONFIG, "model", n_layer=4)
    plain = activation_bytes(config, 8)
    assert activation_bytes(config, 4) == plain // 2
    blocks, dots = (activation_bytes(replace(config, "mesh", remat=remat), 8) for remat in ("blocks", "dots"))
    assert blocks < dots < plain


@pytest.mark.parametrize(
    "values",
    [{}, {"d_model": 128, "n_layer": 3, "n_ctx": 64}, {"n_ctx": 48}, {"n_ctx": 256, "d_head": 4}],
    ids=str,
)
def test_the_estimate_is_near_what_a_backward_pass_keeps(values):
    config, rows = replace(CONFIG, "model", **values), 4
    model, windows = Transformer(config.model), np.zeros((rows, config.model.n_ctx + 1), np.int32)
    params = jax.eval_shape(lambda: init_params(config.model, jax.random.key(0)))
    residuals = jax.eval_shape(lambda p: jax.vjp(lambda q: model_loss(model, q, windows), p)[1], params)
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(residuals))
    kept -= sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    assert 0.75 < activation_bytes(config, rows) / kept < 1.25


def test_operations_are_those_of_the_matrix_products():
    """Counted by XLA for the forward pass of a network without AbsTopK, times three for a step."""
    config = replace(CONFIG, "model", activation_fraction=None, d_model=64, n_ctx=32, bigram=True).model
    tokens = np.zeros((4, 32), np.int32)
    params = init_params(config, jax.random.key(0))
    cost = jax.jit(lambda p: Transformer(config).apply(p, tokens)[0]).lower(params).compile().cost_analysis()
    assert 0.9 < 3 * cost["flops"] / (flops_per_token(config) * tokens.size) < 1.25


@dataclasses.dataclass
class Device:
    device_kind: str


def test_a_known_device_has_a_peak():
    assert peak_flops(Device("TPU v5 lite")) == 197e12
    assert peak_flops(Device("TPU v5p")) == peak_flops(Device("TPU v5")) == 459e12
    assert peak_flops(Device("NVIDIA H100 80GB HBM3")) == 989e12
    assert peak_flops(Device("cpu")) is None


def test_the_pace_is_measured_and_told_once_after_the_warm_up(monkeypatch):
    clock = iter([0.0, 90.0, 100.0, 102.0, 200.0, 204.0])
    monkeypatch.setattr(plans.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(plans, "peak_flops", lambda device: 1e6)
    told = io.StringIO()
    monkeypatch.setattr(tqdm, "write", lambda self, text: told.write(text + "\n"))
    bar, pace = tqdm(total=12, file=io.StringIO()), Pace(CONFIG, 1000.0, 0, 8)
    for step, speed in ((2, 2 * 128 / 90), (4, 2 * 128 / 2), (8, 4 * 128 / 4)):
        row = pace.measure(step)
        assert row["tokens_per_second"] == speed
        assert row["mfu"] == pytest.approx(speed * 1000 / (1e6 * 8))
        pace.show(bar, row | {"loss": 1.0})
        if step < 8:
            pace.start(step)
    (line,) = told.getvalue().splitlines()
    assert "1 steps a second, 128 tokens a second" in line and "8 s to go" in line


@pytest.mark.parametrize("steps", [(3,), (5, 4), (0, 2), (1, 2, 3)])
def test_steps_to_trace_that_make_no_sense_are_refused(steps):
    with pytest.raises(ConfigError, match="profile.steps"):
        ProfileConfig(steps)


def test_steps_to_trace_must_be_taken():
    Config(train=TrainConfig(steps=8), profile=ProfileConfig((8, 8)))
    with pytest.raises(ConfigError, match=r"profile.steps is \(8, 9\), but train.steps is 8"):
        Config(train=TrainConfig(steps=8), profile=ProfileConfig((8, 9)))


@pytest.mark.parametrize(
    "values",
    [{"accumulate": 0}, {"remat": "all"}, {"kernels": "cuda"}, {"workers": -1}, {"fsdp": 0}],
    ids=str,
)
def test_layouts_that_make_no_sense_are_refused(values):
    (name,) = values
    with pytest.raises(ConfigError, match=f"mesh.{name}"):
        MeshConfig(**values)
