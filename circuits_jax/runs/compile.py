"""Compiles what a run would execute for TPUs that are not at hand, and tells what it takes of them.

The programs are the run's own, with its mesh, shardings, types and donated buffers; devices come from a
description of the slice (`training.compiling.topologies`), so that nothing can be executed.
"""

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from circuits_jax.bridges.training import bridging
from circuits_jax.circuits.ablation.donors import DonatedPairs, Donors
from circuits_jax.circuits.ablation.edge_removal import with_biases
from circuits_jax.circuits.ablation.means import reference_sites
from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.pruning.fit import Fitter, start_fit
from circuits_jax.circuits.pruning.nodes import node_loss
from circuits_jax.circuits.pruning.taus import init_taus
from circuits_jax.config import CONSTANT_ABLATIONS, Config, ModelConfig, PruneConfig
from circuits_jax.config.checks import check_choice
from circuits_jax.model.cache import empty_cache
from circuits_jax.model.generate import Sampling, drawing_step
from circuits_jax.model.model import Model
from circuits_jax.model.target import compiling_for
from circuits_jax.model.transformer import init_params
from circuits_jax.runs.opening import load_model
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.surroundings import settled
from circuits_jax.training.compiling.refusals import is_refusal, read_refusal
from circuits_jax.training.compiling.report import CompileReport, read_compiled
from circuits_jax.training.compiling.topologies import Slice, describe_devices
from circuits_jax.training.layout import batch_shape, jit_functions, make_layout
from circuits_jax.training.pretraining import pretraining
from circuits_jax.training.program import Program

PROMPT = 32  # tokens of the prompts that pruning is compiled for: those of the built-in tasks have fewer


@dataclasses.dataclass(frozen=True)
class Workload:
    """One program, ready to be compiled.

    Attributes:
      lowered: Of the function that a run calls.
      weights: Shapes of its parameters, whole and in parts, as collectives may show them.
      mesh: {axis: size}.
      steps: Of training that one call takes.
    """

    lowered: jax.stages.Lowered
    weights: frozenset[tuple[int, ...]]
    mesh: dict[str, int]
    steps: int = 1


@settled
def compile_for(config: Config, slices: Slice, what: str = "train") -> CompileReport:
    """Compiles one program of a run for a slice.

    Args:
      config: The run's configuration.
      slices: Of `find_slice`.
      what: Of WHATS: "train" (one step, or the `mesh.steps_at_once` of one call), "evaluate" (one validation
        batch), "prune" (the fit of node masks of one run), "bridges" (one step) or "generate" (the reading of
        a whole context, and one token).

    Returns:
      Its figures, also where the compiler refuses for memory.

    Raises:
      ConfigError: for another `what`, a mesh that does not fill the slice, or a batch that does not divide.
      UserError: if libtpu is missing, held by another process, or does not know the slice.
    """
    check_choice("--what", what, WHATS)
    devices = describe_devices(slices)
    return report_on(lambda: workload(config, what, devices), slices, what)


def report_on(make: Callable[[], Workload], slices: Slice, what: str) -> CompileReport:
    """Lowers, compiles and reads one program."""
    began = time.perf_counter()
    work = make()
    lowered = time.perf_counter()
    memory = traffic = refusal = None
    try:
        with _its_own_names():
            compiled = work.lowered.compile()
        took = time.perf_counter()
        memory, traffic = read_compiled(compiled, work.weights, slices.chips)
    except jax.errors.JaxRuntimeError as error:
        if not is_refusal(str(error)):
            raise
        took, refusal = time.perf_counter(), read_refusal(str(error))
    return CompileReport(
        what=what,
        slices=slices,
        mesh=work.mesh,
        memory=memory,
        traffic=traffic,
        refusal=refusal,
        steps=work.steps,
        lower_seconds=lowered - began,
        compile_seconds=took - lowered,
    )


@contextlib.contextmanager
def _its_own_names() -> Iterator[None]:
    """Within the block nothing is taken from JAX's cache that was traced under other scopes."""
    name = "jax_compilation_cache_include_metadata_in_key"
    before = getattr(jax.config, name)
    jax.config.update(name, True)
    try:
        yield
    finally:
        jax.config.update(name, before)


def workload(config: Config, what: str, devices: Sequence[jax.Device]) -> Workload:
    """The program `what` of a run on `devices`, which need not be at hand.

    Raises:
      ConfigError: as `compile_for` has it.
    """
    check_choice("--what", what, WHATS)
    with compiling_for(devices[0].platform, len(devices)):
        return _MAKERS[what](config, devices)


def _train(config: Config, devices: Sequence[jax.Device]) -> Workload:
    return _of_trainer(pretraining(config), config, devices, "step")


def _evaluate(config: Config, devices: Sequence[jax.Device]) -> Workload:
    return _of_trainer(pretraining(config), config, devices, "evaluate")


def _bridges(config: Config, devices: Sequence[jax.Device]) -> Workload:
    dense, sparse = (
        None if name is None else load_model(name) for name in (config.bridge.dense, config.bridge.sparse)
    )
    if sparse is not None:
        config = dataclasses.replace(config, model=sparse.config)
    if dense is None:  # of the same shape, since none is named
        dense = Model(dataclasses.replace(config.model, activation_fraction=None), _params(config.model))
    return _of_trainer(bridging(config, dense, sparse), config, devices, "step")


def _of_trainer(program: Program, config: Config, devices: Sequence[jax.Device], name: str) -> Workload:
    """A function of a Trainer, laid out as the Trainer does."""
    layout = make_layout(program, config, devices)
    if layout.mesh.size < len(devices):
        raise ConfigError(
            f"the mesh takes {layout.mesh.size} of the {len(devices)} chips, since train.batch_size "
            f"{config.train.batch_size} in mesh.accumulate {config.mesh.accumulate} does not divide by more; "
            "change the batch, the mesh or the topology"
        )
    functions = jit_functions(program, layout)
    rows = batch_shape(config, layout)
    frozen = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        dict(program.frozen),
        layout.frozen,
    )
    steps = config.mesh.steps_at_once if name == "step" else 1
    if steps > 1:
        lowered = functions.steps.lower(layout.shapes, (rows,) * steps, frozen)
    elif name == "step":
        lowered = functions.step.lower(layout.shapes, rows, frozen)
    else:
        lowered = functions.evaluate.lower(layout.shapes.params, rows, frozen)
    weights = in_parts((layout.shapes.params, layout.saved.params, frozen))
    return Workload(lowered, weights, dict(layout.mesh.shape), steps)


def _prune(config: Config, devices: Sequence[jax.Device]) -> Workload:
    """A chunk of the fit of one run's node masks, on the chips of one host, as pruning runs it."""
    prune, devices = config.prune, _of_one_host(devices)
    model = with_biases(Model(config.model, _params(config.model)))
    final = bool(prune.final_resid)
    widths = reference_sites(model.config, final)

    def run() -> Any:
        taus = init_taus(model.config, prune, jax.random.PRNGKey(0), final)
        return start_fit(prune, taus, jax.random.PRNGKey(0), _pairs(prune, config.model))

    fitted = jax.eval_shape(run)
    means = {site: jax.ShapeDtypeStruct((width,), jnp.float32) for site, width in widths.items()}
    shared = (dict(model.params), means, fitted.taus)
    fitter = Fitter(functools.partial(node_loss, model.network), prune, devices)
    number = prune.trials * prune.seeds
    lowered = fitter.lower(shared, fitted, number)
    return Workload(lowered, in_parts(model.params), {"devices": len(devices)})


def _pairs(prune: PruneConfig, model: ModelConfig) -> Any:
    """Training pairs of PROMPT tokens, all zero."""
    count, length = prune.train_pairs, min(PROMPT, model.n_ctx)
    tokens, places = jnp.zeros((count, 2, length), jnp.int32), jnp.zeros((count, 2), jnp.int32)
    batch = PairBatch(tokens, places[:, 0], places)
    if prune.ablation in CONSTANT_ABLATIONS:
        return batch
    return DonatedPairs(*batch, Donors(tokens, places))


def _generate(config: Config, devices: Sequence[jax.Device]) -> Workload:
    """The reading of a prompt as long as the context, on one chip, as generation runs it."""
    where = jax.sharding.SingleDeviceSharding(devices[0])

    def here(tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree)

    cache = jax.eval_shape(lambda: empty_cache(config.model, batch=1))
    tokens = jax.ShapeDtypeStruct((1, config.model.n_ctx), jnp.int32)
    last, key = jax.ShapeDtypeStruct((), jnp.int32), jax.eval_shape(lambda: jax.random.key(0))
    with compiling_for(devices[0].platform, 1):
        step = drawing_step(Model(config.model, {}).network, Sampling())
        lowered = step.lower(*here((_params(config.model), cache, tokens, last, key)))
    return Workload(lowered, frozenset(), {"devices": 1})


_MAKERS = {
    "train": _train,
    "evaluate": _evaluate,
    "prune": _prune,
    "bridges": _bridges,
    "generate": _generate,
}
WHATS = tuple(_MAKERS)


def _params(model: ModelConfig) -> Any:
    """A model's parameters as ShapeDtypeStructs."""
    return jax.eval_shape(lambda: init_params(model, jax.random.PRNGKey(0)))


def _of_one_host(devices: Sequence[jax.Device]) -> list[jax.Device]:
    return [each for each in devices if each.process_index == devices[0].process_index]


def in_parts(params: Any) -> frozenset[tuple[int, ...]]:
    """Shapes in which chips may hold or send parameters: each axis whole or as it is split."""
    shapes = set[tuple[int, ...]]()
    for leaf in jax.tree.leaves(params):
        sharding = getattr(leaf, "sharding", None)
        part = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
        shapes.update(itertools.product(*(sorted({a, b}) for a, b in zip(leaf.shape, part, strict=True))))
    return frozenset(shapes)
