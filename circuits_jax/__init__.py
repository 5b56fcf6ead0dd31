"""Train weight-sparse transformers on Python code and read the circuits inside them.

    import circuits_jax as cj

    run = cj.train(cj.load_config("quickstart"), "runs/hello")
    circuit = run.prune(cj.TASKS["single_double_quote"])
    run.page(circuit)

Each name is imported when it is first used, so that reading a circuit file needs neither JAX nor a device.
"""

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuits_jax import released as released
    from circuits_jax.bridges.training import bridging as bridging
    from circuits_jax.circuits.ablation.edits import intervene as intervene
    from circuits_jax.circuits.audit.records import AuditReport as AuditReport
    from circuits_jax.circuits.circuit import Circuit as Circuit
    from circuits_jax.circuits.circuit import load_circuit as load_circuit
    from circuits_jax.config import Config as Config
    from circuits_jax.config import ModelConfig as ModelConfig
    from circuits_jax.config import PruneConfig as PruneConfig
    from circuits_jax.configs.finding import load_config as load_config
    from circuits_jax.model import sites as sites
    from circuits_jax.model import taps as taps
    from circuits_jax.model.abs_topk import abs_top_k as abs_top_k
    from circuits_jax.model.cache import empty_cache as empty_cache
    from circuits_jax.model.generate import Sampling as Sampling
    from circuits_jax.model.generate import generate as generate
    from circuits_jax.model.linear import make_forward as make_forward
    from circuits_jax.model.linear import sparse_params as sparse_params
    from circuits_jax.model.model import Model as Model
    from circuits_jax.model.transformer import Transformer as Transformer
    from circuits_jax.model.transformer import init_params as init_params
    from circuits_jax.runs.opening import load as load
    from circuits_jax.runs.pages import Page as Page
    from circuits_jax.runs.run import Run as Run
    from circuits_jax.runs.training import train as train
    from circuits_jax.sparsity.projection import keep_largest as keep_largest
    from circuits_jax.sparsity.report import summarize_sparsity as summarize_sparsity
    from circuits_jax.storage.errors import ConfigError as ConfigError
    from circuits_jax.storage.errors import UserError as UserError
    from circuits_jax.tasks import TASKS as TASKS
    from circuits_jax.tasks import Task as Task
    from circuits_jax.tasks import build_pairs as build_pairs
    from circuits_jax.tasks import load_task as load_task

    __version__: str

# Where each name lives; the list above says the same to editors and type checkers (a test compares the two).
_HOMES = {
    # a run from end to end
    "train": "runs.training",
    "load": "runs.opening",
    "load_config": "configs.finding",
    "Run": "runs.run",
    "Page": "runs.pages",
    "AuditReport": "circuits.audit.records",
    # configuration and errors
    "Config": "config",
    "ModelConfig": "config",
    "PruneConfig": "config",
    "ConfigError": "storage.errors",
    "UserError": "storage.errors",
    # tasks
    "TASKS": "tasks",
    "Task": "tasks",
    "load_task": "tasks",
    "build_pairs": "tasks",
    # circuits
    "Circuit": "circuits.circuit",
    "load_circuit": "circuits.circuit",
    "intervene": "circuits.ablation.edits",
    # the network
    "Model": "model.model",
    "Transformer": "model.transformer",
    "init_params": "model.transformer",
    "abs_top_k": "model.abs_topk",
    "sparse_params": "model.linear",
    "make_forward": "model.linear",
    "empty_cache": "model.cache",
    "generate": "model.generate",
    "Sampling": "model.generate",
    "sites": "model",
    "taps": "model",
    # weight sparsity, bridges
    "keep_largest": "sparsity.projection",
    "summarize_sparsity": "sparsity.report",
    "bridging": "bridges.training",
    # folders with names of their own
    "released": "",
}
_MODULES = ("sites", "taps", "released")
# Names of the release before, each with what to use now; they go with the next release.
_REPLACED = {
    "Auditor": "Run.audit",
    "Corpus": "Run.corpus",
    "Pruner": "Run.prune",
    "Steering": "circuits_jax.runs.steering.steer",
    "Trainer": "train",
    "intervene_circuit": "taps.only and taps.ablate",
    "load_bridge": "circuits_jax.runs.bridging.read_bridges",
    "load_run": "load",
    "load_tokenizer": "Model.tokenizer",
    "prepare": "Run.corpus",
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version(__name__)
    if name in _REPLACED:
        message = f"circuits_jax.{name} goes with the next release; use {_REPLACED[name]}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(f"{__name__}.deprecated"), name)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOMES[name]}".rstrip(".")
    if name in _MODULES:
        return importlib.import_module(f"{home}.{name}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return list(__all__)
