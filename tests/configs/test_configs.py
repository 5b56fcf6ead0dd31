"""The paper-sized configurations: they resolve, say what they are, and can be compiled."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from circuits_jax.config import Config, MeshConfig, SparsityConfig, from_dict
from circuits_jax.configs import (
    csp_yolo1,
    csp_yolo2,
    dense_baselines,
    expansion_sweep,
    paper,
    paper_8x1024,
    paper_8x2048,
    variants,
)
from circuits_jax.configs.figures import MACHINES, activation_gb, figures, state_gb
from circuits_jax.configs.finding import config_file
from circuits_jax.runs.configurations import ALL
from circuits_jax.sparsity.projection import keep_largest
from circuits_jax.sparsity.report import summarize_sparsity
from circuits_jax.sparsity.schedules import l0_schedule
from circuits_jax.training.layout import make_layout
from circuits_jax.training.mesh.meshes import axis_sizes
from circuits_jax.training.plan import plan
from circuits_jax.training.pretraining import pretraining
from tests.experiments.command import finish, start
from tests.quick import quick_cases

FILES = {
    "paper_8x1024": paper_8x1024,
    "paper_8x2048": paper_8x2048,
    "csp_yolo1": csp_yolo1,
    "csp_yolo2": csp_yolo2,
    "expansion_sweep": expansion_sweep,
    "dense_baselines": dense_baselines,
}
# One of each kind: the others differ from them in widths and targets.
KINDS = ["paper_8x2048", "csp_yolo1", "csp_yolo2", "expansion_sweep:0", "dense_baselines:0"]


def resolve(value):
    """What --config=VALUE gives a command."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    values(["command", f"--config={config_file(value)}"])
    return from_dict(Config, values.config.to_dict())


def path(name, variant=""):
    """The value of --config for a name of ALL, with a variant."""
    file, _, index = name.partition(":")
    arguments = ",".join(part for part in (index, variant) if part)
    return file + (f":{arguments}" if arguments else "")


def number(text):
    return int(text.replace(",", ""))


@pytest.mark.parametrize("name", ALL)
def test_every_configuration_and_its_local_variant_resolve(name):
    config, local = resolve(path(name)), resolve(path(name, variants.RUN_LOCAL))
    assert config == ALL[name]
    assert local.model.d_model * variants.SHRINK == config.model.d_model
    same = {"sparsity": config.sparsity.floor, "eps": config.optimizer.eps, "dtype": config.model.dtype}
    assert {"sparsity": local.sparsity.floor, "eps": local.optimizer.eps, "dtype": local.model.dtype} == same
    assert (config.sparsity.target < 1) == (local.sparsity.target < 1) or config.sparsity.target >= 1 / 16


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (path("paper_8x1024", "runlocl"), ["runlocl", "runlocal"]),
        (path("dense_baselines"), ["get_config"]),
        (path("dense_baselines", "3"), ["'3'", ":0", ":2"]),
        (path("expansion_sweep", "-1"), ["'-1'", ":17"]),
        (path("expansion_sweep", "1,local"), ["'local'", "runlocal"]),
    ],
)
def test_a_variant_that_is_not_there_is_refused(value, words):
    with pytest.raises(flags.Error) as caught:
        resolve(value)
    assert [word for word in words if word not in str(caught.value)] == []


def test_the_command_tells_it_in_one_line(tmp_path):
    file = "expansion_sweep"
    code, _, errors = finish(start(tmp_path, "pretrain", f"--config={file}:99", f"--workdir={tmp_path}/run"))
    assert code == 1
    (line,) = errors
    assert line.startswith("error: '99' is no element of this array") and "--config=FILE:17" in line


@pytest.mark.parametrize("name", ["paper_8x1024", "paper_8x2048", "csp_yolo1", "csp_yolo2"])
def test_docstrings_tell_the_computed_counts(name):
    doc, f = FILES[name].__doc__, figures(ALL[name])
    nonzeros = re.search(r"nonzeros +([\d,]+) of the ([\d,]+)", doc)
    assert number(re.search(r"parameters +([\d,]+)", doc)[1]) == f.parameters
    assert (number(nonzeros[1]), number(nonzeros[2])) == (f.nonzeros, f.sparse)
    train = ALL[name].train
    tokens = re.search(r"tokens +([\d,]+), ([\d,]+) steps of (\d+) x (\d+)", doc).groups()
    assert [number(text) for text in tokens] == [
        f.tokens, train.steps, train.batch_size, ALL[name].model.n_ctx,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["expansion_sweep", "dense_baselines"])
def test_docstrings_of_arrays_tell_those_of_each_element(name):
    doc, configs = FILES[name].__doc__, FILES[name].CONFIGS
    rows = re.findall(r"^ +(\d+) +(\d+) +([\d,]+) +([\d,]+) +1 in ([\d.]+)$", doc, re.M)
    assert [int(row[0]) for row in rows] == list(range(len(configs)))
    for (_, expansion, parameters, nonzeros, share), config in zip(rows, configs, strict=True):
        f = figures(config)
        assert config.model.d_model == 256 * int(expansion)
        assert (number(parameters), number(nonzeros)) == (f.parameters, f.nonzeros)
        assert float(share) == pytest.approx(f.sparse / f.nonzeros, abs=0.05)
        assert f"{f.tokens:,} tokens" in " ".join(doc.split())


@pytest.mark.parametrize("name", FILES)
def test_docstrings_tell_the_memory_of_each_machine_and_it_is_enough(name):
    config = ALL.get(name) or FILES[name].CONFIGS[-1]
    rows = re.findall(r"^ +(\S+) +(\d+) +(\d+) +([\d.]+) +([\d.]+) +(\d+)$", FILES[name].__doc__, re.M)
    assert [(row[0], int(row[1]), int(row[5])) for row in rows] == [
        (machine.name, machine.chips, machine.memory) for machine in MACHINES
    ]
    for _, chips, accumulate, state, activations, memory in rows:
        assert float(state) == pytest.approx(state_gb(config, int(chips)), abs=0.05)
        kept = activation_gb(config, int(chips), int(accumulate))
        assert float(activations) == pytest.approx(kept, abs=0.05)
        assert float(state) + float(activations) < 0.8 * int(memory)


@pytest.mark.parametrize("name", FILES)
def test_docstrings_name_a_command_that_resolves(name):
    commands = re.findall(
        r"python -m circuits_jax pretrain --config=(\S+) --workdir=runs/\S+", FILES[name].__doc__
    )
    assert [resolve(command) for command in commands] == [ALL.get(name) or FILES[name].CONFIGS[0]]
    assert variants.RUN_LOCAL in FILES[name].__doc__


@pytest.mark.parametrize("name", ["paper_8x2048", "expansion_sweep:0", "dense_baselines:0"])
def test_parameters_by_hand(name):
    model = ALL[name].model
    d, layers, vocab = model.d_model, model.n_layer, model.vocab_size
    matrices, biases = 3 * d * d + d * d + 2 * 4 * d * d, 3 * d + d + 4 * d + d
    per_layer = matrices + biases + 2 * d + d // model.d_head
    assert figures(ALL[name]).parameters == layers * per_layer + d + 2 * vocab * d + vocab * vocab
    assert figures(ALL[name]).sparse == layers * (matrices + biases) + 2 * vocab * d


@pytest.mark.parametrize(("name", "millions"), [("csp_yolo1", 160.6), ("csp_yolo2", 419)])
def test_released_shapes_have_as_many_parameters_as_the_released_models(name, millions):
    counted = figures(ALL[name]).parameters / 1e6
    assert counted == pytest.approx(millions, abs=0.5 if isinstance(millions, int) else 0.05)


@pytest.mark.parametrize("devices", [1, 4, 8, 16, 24, 256])
@pytest.mark.parametrize("name", KINDS)
def test_meshes_fit_any_number_of_devices(name, devices):
    """Some are left out where they do not divide the batch; those that are left divide the widths as well."""
    config = ALL[name]
    data, ways, model = axis_sizes(config.mesh, devices, config.train.batch_size)
    assert (data, model) == (1, 1) and devices // 2 < ways <= devices or ways == config.train.batch_size
    assert config.model.d_model % ways == config.model.d_read % ways == config.model.vocab_size % ways == 0


@pytest.mark.parametrize(
    "sparsity",
    [
        SparsityConfig(target=1 / 7, floor=4),  # the floor binds: 4 of 16 inputs
        SparsityConfig(target=0.4, floor=4),
        SparsityConfig(target=1 / 30, floor=1, sparse_biases=False, sparse_embeddings=False),
    ],
    ids=["floor", "budget", "dense embeddings and biases"],
)
def test_nonzeros_are_what_the_projection_keeps(sparsity):
    config = variants.run_local(paper.paper(256, target=0.5))
    model = dataclasses.replace(config.model, n_layer=1, vocab_size=40)
    config = dataclasses.replace(config, model=model, sparsity=sparsity)
    rng = np.random.default_rng(0)
    shapes = pretraining(config).shapes().params
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    last = dataclasses.replace(sparsity, anneal_start=0.0, anneal_end=0.0)
    project = keep_largest(
        l0_schedule(last, config.train.steps),
        sparsity.floor,
        sparsity.sparse_biases,
        sparsity.sparse_embeddings,
    )
    nothing = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(project.update)(nothing, project.init(params), params)
    after = summarize_sparsity(jax.tree.map(jnp.add, params, updates))
    f = figures(config)
    changed = [t for t in after.tensors if t.nonzeros < t.entries]
    assert f.nonzeros == sum(t.nonzeros for t in changed)
    assert f.sparse == sum(t.entries for t in changed)


def test_the_sweep_widens_at_equal_nonzeros():
    by_width = {}
    for config in expansion_sweep.CONFIGS:
        by_width.setdefault(config.model.d_model, []).append(figures(config).nonzeros)
    assert list(by_width) == [256, 512, 1024, 2048]
    for counts in by_width.values():
        np.testing.assert_allclose(counts, expansion_sweep.NONZEROS[: len(counts)], rtol=1e-4)


def test_local_variants_keep_as_many_weights_of_a_unit():
    config = paper.paper(1024, target=1 / 256)
    local = variants.run_local(config)
    assert local.sparsity.target * local.model.d_model == config.sparsity.target * config.model.d_model


def windows(config):
    return jax.ShapeDtypeStruct((config.train.batch_size, config.model.n_ctx + 1), jnp.int32)


def check_step(name):
    """Traces a whole training step: it keeps the state's shapes and float32 parameters."""
    program = pretraining(ALL[name])
    before = program.shapes()
    after, metrics = jax.eval_shape(program.step, before, windows(ALL[name]), {})
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(after)] == [
        (x.shape, x.dtype) for x in jax.tree.leaves(before)
    ]
    assert metrics["loss"].shape == () and metrics["loss"].dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(after.params))


@pytest.mark.parametrize("name", quick_cases({name: name for name in KINDS}, ("expansion_sweep:0",)))
def test_a_whole_training_step_is_traced(name):
    check_step(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_every_training_step_is_traced(name):
    check_step(name)


def test_the_plan_of_a_run_says_the_same_on_any_mesh():
    config = ALL["paper_8x2048"]
    program = pretraining(config)
    whole = state_gb(config) * 10**9 * 3 / 4  # without the gradient, which the plan leaves out
    shares = {}
    for axis in ("data", "fsdp", "model"):
        mesh = MeshConfig(**({"data": 1} | {axis: 8}))
        spread = dataclasses.replace(config, mesh=mesh)
        told = plan(make_layout(program, spread), spread)
        assert told["parameters"] == figures(config).parameters
        shares[axis] = (told["parameter_bytes"] + told["optimizer_bytes"]) / whole
    assert shares["data"] == pytest.approx(1, rel=1e-6)
    assert shares["fsdp"] == pytest.approx(1 / 8, rel=1e-2)
    assert shares["model"] == pytest.approx(1 / 8, rel=1e-1)


def compile_local(name):
    config = variants.run_local(ALL[name])
    program = pretraining(config)
    step = jax.jit(program.step, donate_argnums=0).lower(program.shapes(), windows(config), {})
    return step.compile(compiler_options={"xla_backend_optimization_level": 0})


@pytest.mark.slow
def test_a_local_variant_compiles():
    assert compile_local("paper_8x1024").cost_analysis()["flops"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_every_local_variant_compiles(name):
    assert compile_local(name).cost_analysis()["flops"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper_8x1024", "paper_8x2048", "expansion_sweep:17", "dense_baselines:2"])
def test_local_variants_train_to_the_nonzeros_that_were_computed(name, tmp_path):
    config = f"--config={path(name, variants.RUN_LOCAL)}"
    code, out, errors = finish(start(tmp_path, "pretrain", config, f"--workdir={tmp_path / 'run'}"))
    assert code == 0, errors
    f = figures(variants.run_local(ALL[name]))
    assert f"L0 in all {f.nonzeros / f.sparse:.4f}" in out
