"""Traces of steps: section `profile`."""

import dataclasses

from circuits_jax.storage.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """A trace of some steps, for TensorBoard or Perfetto.

    Attributes:
      steps: First and last step to trace; empty traces none.
    """

    steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.steps and not (len(self.steps) == 2 and 1 <= self.steps[0] <= self.steps[1]):
            raise ConfigError(
                f"profile.steps is {self.steps}; give a first and a last step, such as (20,24), or nothing"
            )
