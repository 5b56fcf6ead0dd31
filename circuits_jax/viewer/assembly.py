"""Circuits and a run's figures as self-contained HTML pages: no server, no network.

The pages' template, style and scripts are the files in `page/`; here they are inlined together with the data.
"""

import dataclasses
import html
import importlib.resources
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.config import ModelConfig, from_dict
from circuits_jax.storage.errors import CircuitError
from circuits_jax.storage.files import write_aside
from circuits_jax.storage.paths import as_path
from circuits_jax.tasks import TASKS
from circuits_jax.viewer.circuit_page.evidence import Evidence

# In the order in which the pages need them; each page ends with what makes it go.
SHARED_SCRIPTS = (
    "run.js", "dom.js", "format.js", "bytes.js", "state.js", "graph.js", "aggregate.js", "layout.js",
    "uncross.js", "draw.js", "tables.js", "charts.js", "evidence_data.js", "bpe.js",
)  # fmt: skip
CIRCUIT_SCRIPTS = (
    *SHARED_SCRIPTS, "forward.js", "bench.js", "bench_view.js", "zoom.js", "select.js", "paint.js",
    "paths.js", "pairs.js", "examples.js", "attention.js", "notes.js", "node_pane.js", "evidence.js",
    "readings.js", "story.js", "search.js", "export.js", "compare.js", "app.js",
)  # fmt: skip
INDEX_SCRIPTS = (*SHARED_SCRIPTS, "zoom.js", "index.js")
STYLES = ("style.css", "graph.css")
CURVES = ("loss", "validation_loss", "l0")
MAX_CURVE_ROWS = 800

# Inside <script> these could end the element, open a comment or, in old engines, a line.
_ESCAPES = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}

Data = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RunFigures:
    """What a page says of the run.

    Attributes:
      metrics: Rows of `metrics.jsonl`; the training curve draws `step`, `loss`, `validation_loss` and `l0`.
      results: Rows of the results table, {column: text or number}; a `task` column links to its circuit.
      summary: Figures for the header, {name: text or number}.
    """

    metrics: Sequence[Mapping[str, Any]] = ()
    results: Sequence[Mapping[str, Any]] = ()
    summary: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class PageSettings:
    """What surrounds the circuits of a page.

    Attributes:
      keys: Names of the circuits in addresses and files; by default their tasks, made unique.
      vocabularies: {tokenizer hash: of `embed_vocabulary`}, so that the page can read typed prompts.
      audits: {key: the audit's report on that circuit}.
      others: {key: whether the model has other circuits for the task, in words}, of `alternatives`.
      annotations: {key: {node: note}}, of `read_annotations`.
      home, audit_page: Where the index and the audit's own page lie, relative to the page.
      comparison: Whether it opens with the first two circuits side by side.
      readings: {key: of `edge_readings.read_shown`}.
      stories: {key: of `stories.read_told`}.
    """

    keys: Sequence[str] | None = None
    vocabularies: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    audits: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    others: Mapping[str, str] = dataclasses.field(default_factory=dict)
    annotations: Mapping[str, Mapping[str, str]] | None = None
    home: str | None = None
    audit_page: str | None = None
    comparison: bool = False
    readings: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    stories: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


class IndexRow(NamedTuple):
    """A circuit in the index.

    Attributes:
      name: Of its folder.
      circuit: It.
      verdict: Of its audit, in words.
      address: Of its page, relative to the index.
    """

    name: str
    circuit: Circuit
    verdict: str
    address: str


def build_report(
    title: str,
    circuits: Sequence[tuple[Circuit, Evidence]],
    figures: RunFigures = RunFigures(),  # noqa: B008 - frozen
    settings: PageSettings = PageSettings(),  # noqa: B008 - frozen
) -> str:
    """The page of one or several circuits, as a string that depends on nothing but the arguments.

    Args:
      title: Heading of the page.
      circuits: Circuits, each with what `gather_evidence` gave for it; one tab each, in this order.
      figures: Of the run.
      settings: What surrounds the circuits.

    Raises:
      CircuitError: if evidence does not belong to its circuit.
      TypeError: if a value cannot be written as JSON.
    """
    keys = list(settings.keys or _tab_keys([circuit.task for circuit, _ in circuits]))
    shown = [circuit_data(key, *pair) for key, pair in zip(keys, circuits, strict=True)]
    for data in shown:
        data["audit"] = settings.audits.get(data["key"])
        data["readings"] = settings.readings.get(data["key"])
        data["story"] = settings.stories.get(data["key"])
        data["others"] = settings.others.get(data["key"], "")
    data = _run_data(title, figures) | {
        "circuits": shown,
        "vocabularies": dict(settings.vocabularies),
        "annotations": {key: dict(notes) for key, notes in (settings.annotations or {}).items()},
        "home": settings.home,
        "auditPage": settings.audit_page,
        "comparison": settings.comparison,
    }
    return _page(title, data, CIRCUIT_SCRIPTS)


def build_index(
    title: str,
    circuits: Sequence[IndexRow],
    refused: Iterable[tuple[str, str]] = (),
    figures: RunFigures = RunFigures(),  # noqa: B008 - frozen
    audit_page: str | None = None,
    bridge_page: str | None = None,
) -> str:
    """The index of a run's circuits: a table that sorts and filters, with thumbnails, and the training curve.

    Args:
      title: Heading of the page.
      circuits: In the order of their rows.
      refused: (task, why there is no circuit).
      figures: Of the run.
      audit_page: Where the audit's own page lies, relative to the index.
      bridge_page: Where the report on the model's bridges lies, relative to the index.
    """
    rows: list[Data] = []
    for place, (name, circuit, verdict, address) in enumerate(circuits):
        measured = circuit.metrics
        rows.append(
            {
                "task": name, "circuit": place, "href": address, "verdict": verdict,
                "note": _asks(circuit.task),
                "missed": circuit.provenance.get("met_target") is False,
                "loss": measured.get("test/calibrated_loss"),
                "accuracy": measured.get("test/calibrated_accuracy"),
                "nodes": len(circuit.nodes), "edges": len(circuit.edges),
                "full": measured.get("full/test/calibrated_loss", measured.get("full/test/loss")),
            }
        )  # fmt: skip
    empty = dict.fromkeys(("circuit", "href", "loss", "accuracy", "nodes", "edges", "full"))
    rows += [
        {**empty, "task": task, "verdict": "refused", "note": why, "missed": False} for task, why in refused
    ]
    data = _run_data(title, figures) | {
        "rows": rows,
        "vocabularies": {},
        "comparison": False,
        "auditPage": audit_page,
        "bridgePage": bridge_page,
        "circuits": [circuit_data(row.name, row.circuit, None) for row in circuits],
    }
    return _page(title, data, INDEX_SCRIPTS)


def write_report(path: Path, page: str) -> None:
    """Writes the page whole or not at all."""
    with write_aside(as_path(path)) as file:
        file.write(page.encode())


def embed_json(data: Any) -> str:
    """JSON that is safe inside an HTML <script> element, in ASCII; numbers that are not finite become null.

    Raises:
      TypeError: if a value is no mapping, sequence, text, number, bool or None.
    """
    text = json.dumps(_plain(data), separators=(",", ":"), allow_nan=False)
    return "".join(_ESCAPES.get(character, character) for character in text)


def _plain(value: Any) -> Any:
    """Numpy values and containers as Python's own."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def circuit_data(key: str, circuit: Circuit, evidence: Evidence | None) -> Data:
    """One circuit as the pages' scripts read it (see page/graph.js); without evidence, only what is drawn.

    Raises:
      CircuitError: if the evidence is of other nodes.
    """
    if evidence is not None and len(evidence["nodes"]) != len(circuit.nodes):
        raise CircuitError(
            f"the evidence for {circuit.task} is of {len(evidence['nodes'])} nodes, its circuit has "
            f"{len(circuit.nodes)}; gather it again"
        )
    config = from_dict(ModelConfig, circuit.model_config, "model")
    weighed = circuit.importance
    data = {
        "key": key,
        "task": circuit.task,
        "hashes": {"model": circuit.model_hash, "tokenizer": circuit.tokenizer_hash},
        "ablation": circuit.ablation,
        "model": {"d_model": config.d_model, "d_head": config.d_head, "n_layer": config.n_layer},
        "nodes": [
            [node.site, node.index, bool(bias)]
            for node, bias in zip(circuit.nodes, circuit.bias_only, strict=True)
        ],
        "edges": [list(edge) for edge in circuit.edges],
        "unembedding": [list(entry) for entry in circuit.unembedding],
    }
    if evidence is None:
        return data | {"evidence": {"words": {}, "pieces": {}, "prompts": [], "nodes": []}}
    return data | {
        "description": _asks(circuit.task),
        "total": sum(len(mask) for mask in circuit.masks().values()),
        "means": [float(circuit.means[node.site][node.index]) for node in circuit.nodes],
        "nodeDeltas": None if weighed is None else _rounded(weighed.node_deltas),
        "edgeDeltas": None if weighed is None else _rounded(weighed.edge_deltas),
        "calibration": [circuit.calibration.scale, circuit.calibration.shift],
        "metrics": dict(circuit.metrics),
        "provenance": dict(circuit.provenance),
        "ofTwoSplits": circuit.of_two_splits,
        "curve": evidence.get("curve", []),
        "evidence": evidence,
    }


def _asks(task: str) -> str:
    """What a task asks, if it is one of ours."""
    return TASKS[task].description if task in TASKS else ""


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.4g}") for value in np.asarray(values, np.float64).tolist()]


def _run_data(title: str, figures: RunFigures) -> Data:
    return {
        "title": title,
        "summary": dict(figures.summary),
        "results": [dict(row) for row in figures.results],
        "training": _training_curve(figures.metrics),
    }


def _page(title: str, data: Data, scripts: Sequence[str]) -> str:
    script = "\n".join(_page_file(name) for name in scripts)
    return _fill(
        _page_file("template.html"),
        {
            "title": html.escape(title),
            "style": "\n".join(_page_file(name) for name in STYLES),
            "data": embed_json(data),
            "script": f'"use strict";\n(() => {{\n{script}}})();',
        },
    )


def _tab_keys(tasks: Sequence[str]) -> list[str]:
    """Task names made unique, as they stand in the page's address: a second "x" becomes "x-2"."""
    keys = []
    for place, task in enumerate(tasks):
        earlier = tasks[:place].count(task)
        keys.append(f"{task}-{earlier + 1}" if earlier else task)
    return keys


def _training_curve(metrics: Iterable[Mapping[str, Any]]) -> dict[str, list[list[float]]]:
    """{curve: [[step, value]]}, each thinned evenly to MAX_CURVE_ROWS points, its last one kept."""
    rows = list(metrics)
    curves = {}
    for name in CURVES:
        points = [[row["step"], row[name]] for row in rows if name in row]
        if len(points) > MAX_CURVE_ROWS:
            kept = np.linspace(0, len(points) - 1, MAX_CURVE_ROWS).astype(int)
            points = [points[place] for place in kept]
        curves[name] = points
    return curves


def _page_file(name: str) -> str:
    return (importlib.resources.files("circuits_jax.viewer") / "page" / name).read_text(encoding="utf-8")


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Puts `values` in place of {{name}}, in one pass, so that no value is itself taken for a template."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)
