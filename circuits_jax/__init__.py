"""Train weight-sparse transformers on Python code and read the circuits inside them.

Text becomes tokens, tokens train a sparse network, a task cuts a circuit out of it, and the circuit is
checked and looked at.  The names below are the library; each is imported when it is first used, so that
reading a circuit file needs neither JAX nor a device.
"""

import importlib
from typing import Any

_HOMES = {
    # configuration
    "Config": "config",
    "ConfigError": "errors",
    "ModelConfig": "config",
    "UserError": "errors",
    # the network
    "Transformer": "model.transformer",
    "init_params": "model.transformer",
    "abs_top_k": "model.abs_topk",
    "sparse_params": "model.sparse_kernel",
    "make_forward": "model.sparse_kernel",
    "empty_cache": "model.cache",
    "generate": "model.generate",
    "Sampling": "model.generate",
    "sites": "model.sites",
    "taps": "model.taps",
    # weight sparsity
    "keep_largest": "sparsity.projection",
    "summarize_sparsity": "sparsity.report",
    # data and training
    "Corpus": "data.corpus",
    "prepare": "data.corpus",
    "load_tokenizer": "data.tokenizer",
    "Trainer": "training.loop",
    "load_run": "training.run",
    # tasks and circuits
    "TASKS": "tasks",
    "build_pairs": "tasks",
    "Pruner": "circuits.prune",
    "Auditor": "circuits.audit",
    "Circuit": "circuits.circuit",
    "load_circuit": "circuits.circuit",
    "intervene": "circuits.intervene",
    "intervene_circuit": "circuits.intervene",
    # bridges
    "bridging": "bridges.training",
    "load_bridge": "bridges.store",
    "Steering": "bridges.steer",
    # folders with names of their own
    "released": "released",
}
_MODULES = ("sites", "taps", "released")

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    module = importlib.import_module(f"{__name__}.{home}")
    return module if name in _MODULES else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
