"""All sections of a run's configuration together."""

import dataclasses

from circuits_jax.config.audit import AuditConfig
from circuits_jax.config.bridge import BridgeConfig
from circuits_jax.config.data import DataConfig
from circuits_jax.config.frontier import FrontierConfig
from circuits_jax.config.mesh import MeshConfig
from circuits_jax.config.model import ModelConfig
from circuits_jax.config.optimizer import OptimizerConfig
from circuits_jax.config.profiling import ProfileConfig
from circuits_jax.config.prune import PruneConfig
from circuits_jax.config.readings import ReadingsConfig
from circuits_jax.config.sparsity import SparsityConfig
from circuits_jax.config.steer import SteerConfig
from circuits_jax.config.train import TrainConfig
from circuits_jax.storage.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    sparsity: SparsityConfig = SparsityConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    mesh: MeshConfig = MeshConfig()
    profile: ProfileConfig = ProfileConfig()
    prune: PruneConfig = PruneConfig()
    audit: AuditConfig = AuditConfig()
    readings: ReadingsConfig = ReadingsConfig()
    bridge: BridgeConfig = BridgeConfig()
    steer: SteerConfig = SteerConfig()
    frontier: FrontierConfig = FrontierConfig()

    def __post_init__(self) -> None:
        if self.model.attention != "causal":
            raise ConfigError(
                f"model.attention is {self.model.attention!r}, in which a token sees the one that is to be "
                "predicted from it; a language model is trained with 'causal'"
            )
        # A trained model that is bridged has its table.
        counted = self.model.bigram == "counts" and self.bridge.sparse is None
        if counted and self.train.bigram_prior is None:
            raise ConfigError(
                "model.bigram is 'counts', and train.bigram_prior, which smooths them, is None; give one in "
                "tokens, such as --config.train.bigram_prior=300"
            )
        if self.profile.steps and self.profile.steps[1] > self.train.steps:
            raise ConfigError(
                f"profile.steps is {self.profile.steps}, but train.steps is {self.train.steps}; "
                "trace steps that are taken"
            )
        if self.train.log_every % self.mesh.steps_at_once:
            raise ConfigError(
                f"mesh.steps_at_once is {self.mesh.steps_at_once} and train.log_every "
                f"{self.train.log_every}: what is logged is read between calls; let the first divide it"
            )
