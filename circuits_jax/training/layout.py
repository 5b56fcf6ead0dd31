"""Where everything of a run lies: its mesh, its state's shardings, and what a first state is made from."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from circuits_jax.config import Config
from circuits_jax.model.parameters import merged, named, parameter_name
from circuits_jax.model.placement import placing
from circuits_jax.model.stacking import layers_stacked, stack_layers, unstack_layers
from circuits_jax.storage.errors import CheckpointError, ConfigError
from circuits_jax.training.mesh import meshes, partition
from circuits_jax.training.program import Program
from circuits_jax.training.state import TrainState
from circuits_jax.training.step import TrainStep, several


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one program lies on one mesh.

    Attributes:
      mesh: The devices.
      shapes: The state as ShapeDtypeStructs that carry their shardings.
      state: The state's shardings.
      saved: The state with its layers apart, as checkpoints hold it, like `shapes`: `Checkpoints.restore`
        takes it.  They differ where layers are stacked (`model.stacking`).
      frozen: Those of what the program reads and does not train.
      rows: That of a batch.
      whole: A copy on every device.
      kernels: As `mesh.kernels` has it.
    """

    mesh: Mesh
    shapes: TrainState
    state: TrainState
    saved: TrainState
    frozen: Any
    rows: NamedSharding
    whole: NamedSharding
    kernels: str


def make_layout(program: Program, config: Config, devices: Sequence[jax.Device] | None = None) -> Layout:
    """The layout of `program` on the devices.

    Args:
      program: What is trained.
      config: The whole configuration.
      devices: Those of a machine that is not at hand, to compile for; by default all that JAX has.

    Raises:
      ConfigError: for a mesh that does not fit the devices, a batch that does not fit the mesh, or partition
        rules that do not fit the parameters.
    """
    mesh = meshes.make_mesh(config.mesh, config.train.batch_size, devices)
    whole = meshes.replicated(mesh)
    shapes = program.shapes()
    apart = jax.eval_shape(unstack_layers, shapes)
    everything = merged(apart.params, program.frozen)
    rules = partition.combined(partition.parse_rules(config.mesh.rules), program.rules, everything)
    placed = named(partition.shardings(everything, rules, mesh))

    def pick(tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: placed[parameter_name(path)], tree)

    state = TrainState(
        step=whole,
        params=pick(apart.params),
        opt_state=partition.like_params(apart.opt_state, rules, mesh),
        rng=whole,
    )
    frozen, saved = pick(program.frozen), _placed(apart, state)
    if layers_stacked(shapes.params):
        state = stack_layers(state, partition.stacked)
    return Layout(
        mesh, _placed(shapes, state), state, saved, frozen, meshes.rows(mesh), whole, config.mesh.kernels
    )


def _placed(shapes: TrainState, shardings: TrainState) -> TrainState:
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def as_saved(state: TrainState, layout: Layout) -> TrainState:
    """A state as checkpoints hold it, its layers apart; a copy where they were stacked."""
    if not layers_stacked(state.params):
        return state
    shardings = jax.tree.map(lambda leaf: leaf.sharding, layout.saved)
    return jax.jit(unstack_layers, out_shardings=shardings)(state)


def as_trained(saved: TrainState, layout: Layout) -> TrainState:
    """The inverse of `as_saved`."""
    if not layers_stacked(layout.shapes.params):
        return saved
    return jax.jit(stack_layers, out_shardings=layout.state)(saved)


class CompiledFunctions(NamedTuple):
    """What a Trainer calls, jitted for one layout.

    Attributes:
      step: (state, rows, frozen) -> (state, metrics); the state that it is given is gone.
      steps: The same of a tuple of batches, one step after another, with the last one's metrics.
      evaluate: (params, rows, frozen) -> what the program's `evaluate` gives.
      measure: params -> scalars.
    """

    step: Any
    steps: Any
    evaluate: Any
    measure: Any


def jit_functions(program: Program, layout: Layout) -> CompiledFunctions:
    """The functions of `program` as they are run, and compiled, on a mesh."""

    def compiled(step: TrainStep) -> Any:
        return jax.jit(
            placing(step, layout.mesh, layout.kernels),
            in_shardings=(layout.state, layout.rows, layout.frozen),
            out_shardings=(layout.state, layout.whole),
            donate_argnums=0,
        )

    return CompiledFunctions(
        step=compiled(program.step),
        steps=compiled(several(program.step)),
        evaluate=jax.jit(
            placing(program.evaluate, layout.mesh, layout.kernels),
            in_shardings=(layout.state.params, layout.rows, layout.frozen),
        ),
        measure=jax.jit(program.measure, out_shardings=layout.whole),
    )


def batch_shape(config: Config, layout: Layout) -> jax.ShapeDtypeStruct:
    """A global batch of windows, as steps are given it."""
    shape = (config.train.batch_size, config.model.n_ctx + 1)
    return jax.ShapeDtypeStruct(shape, np.int32, sharding=layout.rows)


def place(tree: Any, shardings: Any) -> Any:
    """Host arrays, the same on every process, laid out so that each device receives its part alone.

    Raises:
      ConfigError: for a leaf of which only the shape is there.
    """

    def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise ConfigError(
                "the program has parameters that are not trained, and was given no values of them; the table "
                "of model.bigram 'counts' needs the counts of a corpus, or set model.bigram=learned"
            )
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(put, tree, shardings)


def first_state(program: Program, layout: Layout) -> TrainState:
    """The state of step 0, made sharded.

    Raises:
      CheckpointError: if what the program starts from is of another shape than its parameters.
    """
    inputs = program.inputs()
    if inputs is None:
        return jax.jit(lambda: program.init(None), out_shardings=layout.state)()
    check_start(inputs, layout.saved.params)
    apart = jax.tree.map(lambda leaf: leaf.sharding, layout.saved.params)
    inputs = place(inputs, {name: apart[name] for name in inputs})
    return jax.jit(program.init, out_shardings=layout.state)(inputs)


def check_start(start: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Raises CheckpointError unless `start` has the names and shapes of those branches of `params`."""
    there = _shapes({name: start[name] for name in start})
    here = _shapes({name: params[name] for name in start if name in params})
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            raise CheckpointError(
                f"the parameters to start from are those of another model: {name} is "
                f"{_say(there.get(name))} there and {_say(here.get(name))} here; set config.model "
                "to that model's"
            )


def _shapes(tree: Any) -> dict[str, Sequence[int]]:
    return {parameter_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _say(shape: Sequence[int] | None) -> str:
    return "absent" if shape is None else " x ".join(map(str, shape)) or "a single number"
