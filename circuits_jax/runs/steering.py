"""Turns a sparse node inside the dense model that it is bridged to, and watches the dense model's answers.

Writes `steer.json` into the workdir of the bridges and, with what training them found, `bridges.html`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from circuits_jax.bridges.dense_circuits import circuit_in_dense
from circuits_jax.bridges.steering.directions import read_node
from circuits_jax.bridges.steering.experiment import CONTROLS, OURS, Steering
from circuits_jax.circuits.ablation.pairs import pair_batch
from circuits_jax.circuits.circuit import MANIFEST, Circuit, Node, load_circuit
from circuits_jax.config import Config, SteerConfig, to_dict
from circuits_jax.data.corpus import Corpus
from circuits_jax.model.sites import select
from circuits_jax.runs.bridging import BridgedModels, read_bridges
from circuits_jax.runs.corpora import open_corpus
from circuits_jax.runs.pages import Page
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import BridgeError, TaskError, UserError
from circuits_jax.storage.paths import as_path
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.storage.tables import Row, save_table
from circuits_jax.tasks import Pairs, Task, build_pairs, get_task
from circuits_jax.viewer.bridge_page import write_bridge_page

SHOWN_PAIRS = 4


def steer_task(
    run: BridgedModels,
    corpus: Corpus,
    task: Task,
    config: SteerConfig,
    nodes: list[Node] | None,
    allowed: Callable[[Node], bool],
) -> dict[str, Any]:
    """The report on one task.

    Args:
      nodes: Those to steer by; None chooses among the `allowed` ones.

    Raises:
      TaskError: if the task has too few pairs under this tokenizer.
      BridgeError: if no node can be chosen, or a strength overflows.
    """
    select = _pairs(run, task, "select", config.choose_pairs, config.seed)
    test = _pairs(run, task, "test", config.pairs, config.seed)
    steering, found = Steering(run.joined, config), list[dict[str, Any]]()
    if nodes is None:
        train = _pairs(run, task, "train", config.choose_pairs, config.seed)
        nodes, found = steering.find(pair_batch(train, _n_ctx(run)), allowed)
    prompts = pair_batch(test, _n_ctx(run))
    windows = corpus.validation  # texts from all over them: neighbours are of one file
    rows = np.linspace(0, len(windows) - 1, min(config.texts, len(windows))).astype(int)
    texts = windows.rows(rows)[:, : prompts.tokens.shape[-1]]
    report = steering.run(nodes, pair_batch(select, _n_ctx(run)), prompts, test.template, texts)
    report |= {"candidates": found}
    examples = [
        {"a": texts_[0], "b": texts_[1], "answer_a": answer[0], "answer_b": answer[1], **figures}
        for texts_, answer, figures in zip(
            test.texts[:SHOWN_PAIRS],
            [run.tokenizer.pieces(pair.tolist()) for pair in test.answers[:SHOWN_PAIRS]],
            report.pop("pair_figures"),
            strict=False,
        )
    ]
    report |= {"task": task.name, "description": task.description, "examples": examples}
    own = _own_circuit(run, task)
    if own is not None:
        about = {"nodes": len(own.nodes), "ablation": own.ablation}
        report["circuit"] = circuit_in_dense(run.joined, own, prompts) | about
    return report


def row(report: dict[str, Any]) -> Row:
    """One line of the table: what the edit does to test pairs where most answers of select pairs flip."""
    at = report["strengths"].index(report["shown_strength"])
    series = report["series"]
    chances = {name: each["other_answer"][at]["value"] for name, each in series.items()}
    zero = report["strengths"].index(0.0)
    line: Row = {
        "task": report["task"],
        "nodes": ", ".join(report["nodes"]),
        "B before": series[OURS]["other_answer"][zero]["value"],
        "flips at": "never" if report["flip_strength"] is None else report["flip_strength"],
        "B then": chances[OURS],
        "flipped": series[OURS]["flipped"][at],
        **{name: chances[name] for name in CONTROLS},
        "KL on text": report["specificity"][OURS]["value"],
        "sparse share": report["reverse"]["sparse_share"],
    }
    if "circuit" in report:
        named = {each["run"]: each for each in report["circuit"]["rows"]}
        line["circuit in dense"] = named["dense, circuit, dense"]["share of loss"]
    return line


def read_nodes(names: Sequence[str] | None, run: BridgedModels, circuit: Circuit | None) -> list[Node] | None:
    """Nodes by their names, or None for none.

    Raises:
      BridgeError: for a node outside the sparse model, outside the circuit, or that writes nowhere.
    """
    if names is None:
        return None
    nodes = [read_node(name, run.joined.bridge) for name in names]
    for node in nodes:
        if circuit is not None and node not in circuit.nodes:
            there = ", ".join(map(str, circuit.nodes[:8])) + (", ..." if len(circuit.nodes) > 8 else "")
            raise BridgeError(f"{node} is not in the circuit for {circuit.task}, which has {there}")
    return nodes


def _own_circuit(run: BridgedModels, task: Task) -> Circuit | None:
    folder = run.sparse_workdir / filenames.CIRCUITS / task.name
    return _checked(run, load_circuit(folder)) if (folder / MANIFEST).exists() else None


def _checked(run: BridgedModels, circuit: Circuit) -> Circuit:
    circuit.check_model(run.joined.sparse.hash, run.tokenizer.hash)
    return circuit


def _pairs(run: BridgedModels, task: Task, split: str, count: int, seed: int) -> Pairs:
    return build_pairs(task, run.tokenizer, split, count, seed, _n_ctx(run))


def _n_ctx(run: BridgedModels) -> int:
    return run.joined.sparse.config.n_ctx


def steer_tasks(
    run: BridgedModels,
    corpus: Corpus,
    config: SteerConfig,
    workdir: Path,
    nodes: list[Node] | None = None,
    allowed: Callable[[Node], bool] = lambda node: True,
) -> tuple[list[Row], Page]:
    """Steers on every configured task; writes `steer.json` and the page.

    Returns:
      (one row a task, the page).

    Raises:
      UserError: if no task can be steered on; where some can, the others' rows say why not.
    """
    reports: dict[str, Any] = {}
    refused: dict[str, UserError] = {}
    for task in ProgressBar([get_task(name) for name in config.tasks], desc="steer"):
        try:
            reports[task.name] = steer_task(run, corpus, task, config, nodes, allowed)
        except (TaskError, BridgeError) as error:
            refused[task.name] = error
    if not reports:
        raise next(iter(refused.values()))
    rows = [row(report) for report in reports.values()]
    rows += [{"task": name, "refused": str(error)} for name, error in refused.items()]
    save_table(rows, workdir / filenames.STEER, {}, {"settings": to_dict(config), "tasks": reports})
    return rows, Page.of(write_bridge_page(workdir))


def steer(
    workdir: str | Path,
    config: SteerConfig,
    names: Sequence[str] | None = None,
    circuit: str | None = None,
    patterns: Sequence[str] = ("*",),
    elsewhere: Config | None = None,
) -> tuple[list[Row], Page]:
    """`steer_tasks` of what lies in `workdir`.

    Args:
      names: Nodes to steer by; None chooses them.
      circuit: Folder of the circuit that they are of; None for any node of the sparse model.
      patterns: Sites that nodes are chosen at.
      elsewhere: As `read_bridges` has it.

    Raises:
      UserError: if anything named is not there or does not fit, or nothing can be steered.
    """
    workdir = as_path(workdir)
    for task in config.tasks:  # before anything is read
        get_task(task)
    run = read_bridges(workdir, elsewhere)
    named = None if circuit is None else _checked(run, load_circuit(as_path(circuit)))
    nodes = read_nodes(names, run, named)
    places = set(select(run.joined.bridge.sparse, patterns))

    def allowed(node: Node) -> bool:
        return node.site in places and (named is None or node in named.nodes)

    return steer_tasks(run, open_corpus(run.config, workdir), config, workdir, nodes, allowed)
