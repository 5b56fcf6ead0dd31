"""Circuits and a run's figures as one self-contained HTML page: no server, no network.

The page's template, style and scripts are the files in `page/`; here they are inlined together with the data.
"""

import html
import importlib.resources
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.config import ModelConfig, from_dict
from circuits_jax.errors import CircuitError
from circuits_jax.files import write_aside
from circuits_jax.tasks import TASKS
from circuits_jax.viewer.evidence import Evidence

# In the order in which the page needs them.
SCRIPTS = (
    "dom.js",
    "format.js",
    "graph.js",
    "layout.js",
    "draw.js",
    "select.js",
    "node_pane.js",
    "tables.js",
    "charts.js",
    "app.js",
)
CURVES = ("loss", "validation_loss", "l0")
MAX_CURVE_ROWS = 800

# Inside <script> these could end the element, open a comment or, in old engines, a line.
_ESCAPES = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def build_report(
    title: str,
    circuits: Sequence[tuple[Circuit, Evidence]],
    metrics: Iterable[Mapping[str, Any]],
    results: Iterable[Mapping[str, Any]],
    summary: Mapping[str, Any],
) -> str:
    """The page, as a string that depends on nothing but the arguments.

    Args:
      title: Heading of the page.
      circuits: Circuits, each with what `gather_evidence` gave for it; one tab each, in this order.
      metrics: Rows of `metrics.jsonl`; the training curve draws `step`, `loss`, `validation_loss` and `l0`.
      results: Rows of the results table, {column: text or number}; a `task` column links to its circuit.
      summary: Figures of the run for the header, {name: text or number}.

    Raises:
      CircuitError: if evidence does not belong to its circuit.
      TypeError: if a value cannot be written as JSON.
    """
    keys = _tab_keys([circuit.task for circuit, _ in circuits])
    data = {
        "title": title,
        "summary": dict(summary),
        "results": [dict(row) for row in results],
        "training": _training_curve(metrics),
        "circuits": [_circuit_data(key, *pair) for key, pair in zip(keys, circuits, strict=True)],
    }
    script = "\n".join(_page_file(name) for name in SCRIPTS)
    return _fill(
        _page_file("template.html"),
        {
            "title": html.escape(title),
            "style": _page_file("style.css"),
            "data": embed_json(data),
            "script": f'"use strict";\n(() => {{\n{script}}})();',
        },
    )


def write_report(path: Path, page: str) -> None:
    """Writes the page whole or not at all."""
    with write_aside(Path(path)) as file:
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


def _circuit_data(key: str, circuit: Circuit, evidence: Evidence) -> dict[str, Any]:
    """One circuit as the page's scripts read it (see page/graph.js)."""
    if len(evidence["nodes"]) != len(circuit.nodes):
        raise CircuitError(
            f"the evidence for {circuit.task} is of {len(evidence['nodes'])} nodes, its circuit has "
            f"{len(circuit.nodes)}; gather it again"
        )
    config = from_dict(ModelConfig, circuit.model_config, "model")
    known = TASKS.get(circuit.task)
    return {
        "key": key,
        "task": circuit.task,
        "description": known.description if known else "",
        "model": {"d_model": config.d_model, "d_head": config.d_head, "n_layer": config.n_layer},
        "nodes": [
            [node.site, node.index, bool(bias)]
            for node, bias in zip(circuit.nodes, circuit.bias_only, strict=True)
        ],
        "edges": [list(edge) for edge in circuit.edges],
        "unembedding": [list(entry) for entry in circuit.unembedding],
        "means": [float(circuit.means[node.site][node.index]) for node in circuit.nodes],
        "ablation": circuit.ablation,
        "calibration": [circuit.calibration.scale, circuit.calibration.shift],
        "metrics": dict(circuit.metrics),
        "evidence": evidence,
    }


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
