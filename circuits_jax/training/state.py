"""What a training run is made of at one step."""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax

from circuits_jax.config import Config
from circuits_jax.model.transformer import Params, init_params


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes.

    Attributes:
      step: int32 scalar, optimizer steps taken.
      params: The parameter tree, float32.
      opt_state: The optimizer's state; the projection's step count is part of it.
      rng: uint32 [2], the key that random parts of a step fold the step into.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    rng: jax.Array


def make_init(config: Config, optimizer: optax.GradientTransformation) -> Callable[[], TrainState]:
    """A function without arguments that makes the first state, to be jitted or shape-evaluated."""

    def init() -> TrainState:
        init_key, rng = jax.random.split(jax.random.PRNGKey(config.train.seed))
        params = init_params(config.model, init_key)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), rng)

    return init
