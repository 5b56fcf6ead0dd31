"""Does pruning find circuits that no one here wrote?  Precision and recall on compiled programs."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import Subject
from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.compiled import PROGRAMS, Compiled, Network, Truth, embed, load, save, truth_of
from circuits_jax.circuits.compiled.compiling import compile_program
from circuits_jax.circuits.compiled.truth import NodePair, PartSet, every_part, subject_of
from circuits_jax.circuits.masks import Masks, full_masks
from circuits_jax.circuits.pruning.edges import prune_edges
from circuits_jax.circuits.pruning.fit import settings_of
from circuits_jax.circuits.pruning.jobs import Job
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.config import PruneConfig, to_dict
from circuits_jax.model.wiring import layers_of
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.files import read_json_if_any, write_json
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.storage.tables import Row

RANDOM_DRAWS = 100
# What a file of finished figures was made by: raise it when the figures' meaning changes.
VERSION = 1

NodeScores = Mapping[Any, float]
"""{node, or pair of nodes: score}."""


def benchmark(
    programs: Sequence[str], prune: PruneConfig, folder: Path, compiled: Mapping[str, Compiled] | None = None
) -> tuple[list[Row], list[Row]]:
    """(a row a program, by pruning; a row a program and baseline).

    Args:
      programs: Names.
      prune: Settings.
      folder: Where the figures of finished programs are kept; with them there, a run that was killed goes on.
      compiled: {name: compiled program}; by default what comes with the library.

    Raises:
      ConfigError: for an unknown program, a program whose core is empty, or nodes at the final residual
        stream.
    """
    if prune.final_resid:
        raise ConfigError("prune.final_resid is on; compiled programs are compared without nodes there")
    compiled = compiled or {name: load(name) for name in programs}
    rows, baselines = [], []
    with ProgressBar(total=len(programs), desc="tracr", unit="program", mininterval=1) as bar:
        for name, program in compiled.items():
            file, key = folder / f"{name}.json", _key(program, prune)
            known = read_json_if_any(file)
            if not isinstance(known, dict) or known.get("key") != key:
                known = {"key": key, **_compare(program, prune, bar)}
                write_json(file, known)
            rows.append(known["row"])
            baselines += known["baselines"]
            bar.update()
    return rows, baselines


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


def _key(program: Compiled, prune: PruneConfig) -> str:
    """A digest of what the figures of a program depend on."""
    digest = hashlib.sha256(json.dumps([VERSION, to_dict(prune)], sort_keys=True).encode())
    digest.update(embed(program, prune.seed).model.hash.encode() + program.inputs.tobytes())
    return digest.hexdigest()


def _compare(program: Compiled, prune: PruneConfig, bar: ProgressBar) -> dict[str, Any]:
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
    return {"row": row, "baselines": _baselines(network, truth, found, prune.seed)}


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
    job = Job(name, train, train, train, answers, prune.seed, settings_of(prune))
    full = pruner.assess(job)
    fitted = pruner.fit([job], watch)
    (kept,) = pruner.discretise([job], fitted, watch)
    masks = pruner.finish(job, kept, full, watch).masks
    watch(0, "edges")
    pruned = prune_edges(subject, masks, prune, train, answers)
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


def compare(found: PartSet, truth: Truth) -> Row:
    """Precision against the slice, recall against the core, of nodes and of edges."""
    scores: Row = {}
    for what in ("nodes", "edges"):
        kept, core, slice_ = (getattr(parts, what) for parts in (found, truth.core, truth.slice))
        one = what.removesuffix("s")
        scores[f"{one}_precision"] = len(kept & slice_) / max(len(kept), 1)
        scores[f"{one}_recall"] = len(kept & core) / max(len(core), 1)
    return scores


def _baselines(network: Network, truth: Truth, found: PartSet, seed: int) -> list[Row]:
    nodes, edges = every_part(network)
    pairs = [(nodes[edge.source], nodes[edge.target]) for edge in edges]
    everything = PartSet(frozenset(nodes), frozenset(pairs))
    path = _on_a_path(network, everything)
    flat = (dict.fromkeys(nodes, 1.0), dict.fromkeys(pairs, 1.0))
    marked = tuple(
        {part: float(part in inside) for part in all_}
        for all_, inside in ((nodes, path.nodes), (pairs, path.edges))
    )
    rows = [
        _row(network, "everything", compare(everything, truth), flat, truth),
        _row(network, "every node on a path", compare(path, truth), marked, truth),
    ]
    rng = np.random.default_rng(seed)
    drawn = [
        tuple(dict(zip(all_, rng.random(len(all_)), strict=True)) for all_ in (nodes, pairs))
        for _ in range(RANDOM_DRAWS)
    ]
    draws = [_row(network, "random", compare(_first(each, found), truth), each, truth) for each in drawn]
    figures = [name for name in draws[0] if name not in ("program", "method")]
    mean = {name: float(np.mean([draw[name] for draw in draws])) for name in figures}
    return [*rows, {"program": network.compiled.name, "method": "random", **mean}]


def _row(network: Network, method: str, scores: Row, given: Sequence[NodeScores], truth: Truth) -> Row:
    found: Row = {"program": network.compiled.name, "method": method, **scores}
    for what, each in zip(("nodes", "edges"), given, strict=True):
        core, slice_ = getattr(truth.core, what), getattr(truth.slice, what)
        found[f"{what.removesuffix('s')}_auroc"] = auroc(
            np.array([score for part, score in each.items() if part in core]),
            np.array([score for part, score in each.items() if part not in slice_]),
        )
    return found


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """How often a part of the core has a higher score than one outside the slice; a tie is half."""
    from scipy.stats import mannwhitneyu  # only here: every command would start later

    return float(mannwhitneyu(inside, outside).statistic / (len(inside) * len(outside)))


def _first(scores: Sequence[NodeScores], found: PartSet) -> PartSet:
    """The parts of highest score, as many as pruning kept."""
    nodes, edges = (
        frozenset[Any](sorted(each, key=lambda part: -each[part])[: len(kept)])
        for each, kept in zip(scores, (found.nodes, found.edges), strict=True)
    )
    return PartSet(nodes, edges)


def _on_a_path(network: Network, everything: PartSet) -> PartSet:
    """Every node on a path from the prompt to an answer, and every weight between two of them."""
    config, params = network.model.config, network.model.params
    masks = full_masks(config)
    live = graph.reached(config, params, masks)
    leads = graph.useful(config, params, masks, network.answers)
    on = {site: live[site] & leads[site] for site in masks}
    nodes = frozenset(node for node in everything.nodes if on[node.site][node.index])
    return PartSet(nodes, frozenset(pair for pair in everything.edges if nodes.issuperset(pair)))
