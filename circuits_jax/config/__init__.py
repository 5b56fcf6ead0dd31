"""Every setting of a run, as frozen dataclasses that check themselves: one file a section.

Inside the library only these dataclasses travel.  `circuits_jax.configs` turns them into an
`ml_collections.ConfigDict`, so that flags can override single values, and back.  Each value is checked once,
when its dataclass is made; the error names the field, the value and the choices.
"""

from circuits_jax.config.audit import (
    CONTROLS,
    DEFAULT_CONTROLS,
    QUICK_DRAWS,
    AuditConfig,
    control_choice,
)
from circuits_jax.config.bridge import ENCODERS, BridgeConfig
from circuits_jax.config.conversion import from_dict, to_dict
from circuits_jax.config.data import SOURCES, STANDARD_SHARES, DataConfig
from circuits_jax.config.frontier import FrontierConfig
from circuits_jax.config.mesh import REMATS, MeshConfig
from circuits_jax.config.model import (
    ACTIVATIONS,
    ATTENTIONS,
    BIGRAMS,
    DTYPES,
    NORMS,
    POSITIONS,
    RESIDUAL_ACTIVATIONS,
    TOPK_LOCATIONS,
    ModelConfig,
)
from circuits_jax.config.optimizer import GRADIENT_MODES, RMS_ENTRIES, OptimizerConfig
from circuits_jax.config.profiling import ProfileConfig
from circuits_jax.config.prune import ABLATIONS, BATCHINGS, CONSTANT_ABLATIONS, PruneConfig
from circuits_jax.config.readings import ReadingsConfig
from circuits_jax.config.sparsity import ANNEALS, SparsityConfig
from circuits_jax.config.steer import SteerConfig
from circuits_jax.config.train import TrainConfig
from circuits_jax.config.whole import Config

__all__ = [
    "ABLATIONS",
    "ACTIVATIONS",
    "ANNEALS",
    "ATTENTIONS",
    "AuditConfig",
    "BATCHINGS",
    "BIGRAMS",
    "BridgeConfig",
    "CONSTANT_ABLATIONS",
    "CONTROLS",
    "Config",
    "DEFAULT_CONTROLS",
    "QUICK_DRAWS",
    "DTYPES",
    "DataConfig",
    "ENCODERS",
    "FrontierConfig",
    "GRADIENT_MODES",
    "MeshConfig",
    "ModelConfig",
    "NORMS",
    "OptimizerConfig",
    "POSITIONS",
    "ProfileConfig",
    "PruneConfig",
    "REMATS",
    "RMS_ENTRIES",
    "ReadingsConfig",
    "RESIDUAL_ACTIVATIONS",
    "SOURCES",
    "STANDARD_SHARES",
    "SparsityConfig",
    "SteerConfig",
    "TOPK_LOCATIONS",
    "TrainConfig",
    "control_choice",
    "from_dict",
    "to_dict",
]
