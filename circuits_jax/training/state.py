"""What a training run is made of at one step."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from circuits_jax.config import Config
from circuits_jax.model.parameters import trained_part
from circuits_jax.model.stacking import stack_layers
from circuits_jax.model.transformer import Params, init_params


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes.

    Attributes:
      step: int32 scalar, optimizer steps taken.
      params: The tree of the parameters that are trained, float32; its layers may be stacked
        (`model.stacking`), as are then those of the optimizer's state.
      opt_state: The optimizer's state; the projection's step count is part of it.
      rng: uint32 [2], the key that random parts of a step fold the step into.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    rng: jax.Array


def make_init(config: Config, optimizer: optax.GradientTransformation) -> Callable[..., TrainState]:
    """The function that makes the first state, to be jitted or shape-evaluated.

    It takes one optional argument: parameters, by their names at the top of the tree, that take the place of
    random ones, such as {"bigram": float32 [V, V]}; layers lie apart there.
    """

    def init(start: Mapping[str, Any] | None = None) -> TrainState:
        init_key, rng = jax.random.split(jax.random.PRNGKey(config.train.seed))
        params = {**trained_part(config.model, init_params(config.model, init_key)), **(start or {})}
        if config.mesh.scan_layers:
            params = stack_layers(params)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), rng)

    return init
