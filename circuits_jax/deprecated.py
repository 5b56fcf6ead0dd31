"""Names of the release before, as they were; they go with the next release."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from circuits_jax.bridges.records import load_bridge
from circuits_jax.bridges.steering.experiment import Steering
from circuits_jax.circuits.ablation import means
from circuits_jax.circuits.audit import auditor
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.pruning import nodes
from circuits_jax.config import AuditConfig, Config, PruneConfig
from circuits_jax.config.checks import check_choice
from circuits_jax.data.corpus import Corpus, prepare
from circuits_jax.data.tokenizers.bpe import load_tokenizer
from circuits_jax.model.model import Model
from circuits_jax.model.taps import Tap, ablate, only
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.runs.opening import load_workdir
from circuits_jax.training.loop import Trainer

__all__ = [
    "Auditor",
    "Corpus",
    "Pruner",
    "Steering",
    "Trainer",
    "intervene_circuit",
    "load_bridge",
    "load_run",
    "load_tokenizer",
    "prepare",
]


@dataclasses.dataclass(frozen=True)
class EarlierRun:
    """What `load_run` gave: configuration, network, parameters and tokenizer apart."""

    config: Config
    model: Transformer
    params: Params
    tokenizer: Tokenizer | None


def load_run(workdir: Path) -> EarlierRun:
    """Reads the run in `workdir`; `load` gives one object that does all that follows."""
    run = load_workdir(workdir)
    return EarlierRun(run.whole_config, run.model.network, run.model.params, run.model.tokenizer)


def Pruner(  # noqa: N802 - a class before
    model: Transformer, params: Params, means_: Any, config: PruneConfig, mesh: Mesh
) -> nodes.Pruner:
    """A pruner of a network given in parts."""
    subject = means.Subject(Model(model.config, params), means_)
    return nodes.Pruner(subject, config, tuple(mesh.devices.flat))


def Auditor(  # noqa: N802 - a class before
    model: Transformer,
    params: Params,
    corpus: np.ndarray,
    config: AuditConfig,
    devices: Sequence[jax.Device] | None = None,
) -> auditor.Auditor:
    """An auditor of a network given in parts."""
    return auditor.Auditor(Model(model.config, params), corpus, config, devices)


def intervene_circuit(circuit: Circuit, role: str) -> Tap:
    """Holds all other nodes at the circuit's means ("keep"), or the circuit's own ("ablate")."""
    check_choice("the circuit's role", role, ("keep", "ablate"))
    return only(circuit) if role == "keep" else ablate(circuit)
