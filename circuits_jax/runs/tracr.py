"""Does pruning find circuits that no one here wrote?  Precision and recall on compiled programs."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import Subject
from circuits_jax.circuits.baselines import ScoreSettings
from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.masks import Masks
from circuits_jax.circuits.pruning.edges import prune_edges
from circuits_jax.circuits.pruning.jobs import judged_by
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.circuits.rasp import PROGRAMS, Compiled, Network, embed, load, save, truth_of
from circuits_jax.circuits.rasp.comparison import compare
from circuits_jax.circuits.rasp.compiling import compile_program
from circuits_jax.circuits.rasp.truth import NodePair, PartSet, subject_of
from circuits_jax.config import PruneConfig, to_dict
from circuits_jax.model.wiring import layers_of
from circuits_jax.runs.tracr_baselines import baselines
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.files import read_json_if_any, write_json
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.storage.tables import Row

# What a file of finished figures was made by: raise it when the figures' meaning changes.
VERSION = 2


def benchmark(
    programs: Sequence[str],
    prune: PruneConfig,
    settings: ScoreSettings,
    folder: Path,
    compiled: Mapping[str, Compiled] | None = None,
) -> tuple[list[Row], list[Row]]:
    """(a row a program, by pruning; a row a program and baseline).

    Args:
      programs: Names.
      prune: Settings of pruning.
      settings: Of the methods that score edges.
      folder: Where the figures of finished programs are kept; with them there, a run that was killed goes on.
      compiled: {name: compiled program}; by default what comes with the library.

    Raises:
      ConfigError: for an unknown program, a program whose core is empty, or nodes at the final residual
        stream.
      UserError: if a method gives scores that are no finite numbers.
    """
    if prune.final_resid:
        raise ConfigError("prune.final_resid is on; compiled programs are compared without nodes there")
    compiled = compiled or {name: load(name) for name in programs}
    rows, others = [], []
    with ProgressBar(total=len(programs), desc="tracr", unit="program", mininterval=1) as bar:
        for name, program in compiled.items():
            file, key = folder / f"{name}.json", _key(program, prune, settings)
            known = read_json_if_any(file)
            if not isinstance(known, dict) or known.get("key") != key:
                known = {"key": key, **_compare(program, prune, settings, bar)}
                write_json(file, known)
            rows.append(known["row"])
            others += known["baselines"]
            bar.update()
    return rows, others


def compiled_anew(programs: Sequence[str], folder: Path) -> dict[str, Compiled]:
    """Compiles programs with tracr, and writes what comes out to `folder` too.

    Raises:
      UserError: without tracr.
    """
    made = {}
    for name in programs:
        made[name] = compile_program(PROGRAMS[name])
        save(made[name], folder / f"{name}.npz")
    return made


def _key(program: Compiled, prune: PruneConfig, settings: ScoreSettings) -> str:
    """A digest of what the figures of a program depend on."""
    given = [VERSION, to_dict(prune), to_dict(settings)]
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode())
    digest.update(embed(program, prune.seed).model.hash.encode() + program.inputs.tobytes())
    return digest.hexdigest()


def _compare(
    program: Compiled, prune: PruneConfig, settings: ScoreSettings, bar: ProgressBar
) -> dict[str, Any]:
    """Prunes one program's network, and scores what is left and what the baselines find."""

    def watch(steps: int, status: str) -> None:
        del steps
        bar.set_postfix_str(f"{program.name}: {status}")

    network = embed(program, prune.seed)
    subject = subject_of(network)
    watch(0, "what is known")
    truth = truth_of(network, subject, prune)
    if not truth.core.nodes or not truth.core.edges:
        raise ConfigError(
            f"the program {program.name} has an empty core: no removal of one node or of one weight alone "
            "makes an answer wrong; ask for other answers, or at another position"
        )
    found = prune_network(network, subject, prune, watch)
    row = {"program": program.name, **compare(found, truth)}
    watch(0, "baselines")
    return {"row": row, "baselines": baselines(network, subject, truth, found, prune, settings)}


def prune_network(
    network: Network, subject: Subject, prune: PruneConfig, watch: Callable[[int, str], None]
) -> PartSet:
    """The circuit that pruning finds for the network's task, nodes and then edges.

    Masks are learnt on every input.  What is compared is nodes and edges, never answers, so nothing is kept
    back.
    """
    train = network.pairs(prune.train_pairs, prune.seed)
    pruner = Pruner(subject, prune)
    name, answers = network.compiled.name, np.sort(network.answers)
    job = pruner.job_on(name, (train, train, train), answers)
    fitted = pruner.fit([job], watch)
    (kept,) = pruner.discretise([job], fitted, watch)
    found = pruner.finish(job, kept.masks, watch)
    watch(0, "edges")
    by = judged_by(prune, train, train, found.metrics)
    pruned = prune_edges(subject, found.masks, prune, by, answers)
    gated = gated_weights(network, subject, pruned.masks)
    return PartSet(frozenset(graph.nodes_of(network.model.config, pruned.masks)), pruned.edges | gated)


def gated_weights(network: Network, subject: Subject, masks: Masks) -> frozenset[NodePair]:
    """Weights out of removed value channels that still carry something to kept nodes.

    A value channel that is the same in every input is not needed as a node: its mean is its value.  But what
    attention lets through of it depends on the input, and goes on through these weights.
    """
    config, found = network.model.config, set()
    for layer in layers_of(config.n_layer):
        wire = layer.attention.output
        gates = np.any([masks[gate] > 0 for gate in layer.attention.gates], axis=0)
        open_heads = np.repeat(gates.reshape(config.heads, -1).any(axis=1), config.d_head)
        held = (masks[wire.source] == 0) & (np.asarray(subject.means[wire.source]) != 0).any(axis=0)
        weights = np.asarray(wire.weights(network.model.params)) != 0
        joined = weights & (held & open_heads)[:, None] & (masks[wire.target] > 0)
        found |= {(Node(wire.source, int(i)), Node(wire.target, int(j))) for i, j in np.argwhere(joined)}
    return frozenset(found)
