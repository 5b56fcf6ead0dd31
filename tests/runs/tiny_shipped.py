"""A run with everything that ships, made without training: random parameters, a circuit and its audit."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

import circuits_jax as cj
from circuits_jax.circuits.audit.records import FORMAT, VERSION, circuit_key
from circuits_jax.circuits.circuit import Importance
from circuits_jax.circuits.readings import records as readings
from circuits_jax.config import to_dict
from circuits_jax.data.corpus import prepare
from circuits_jax.model.sites import node_sites
from circuits_jax.runs.corpora import with_corpus
from circuits_jax.runs.run import Run
from circuits_jax.storage.files import write_json
from circuits_jax.training.checkpoints import Checkpoints
from circuits_jax.training.frozen import keep_frozen
from circuits_jax.training.workdir import claim
from tests.circuits.stories import told
from tests.experiments.circuits import every_third_node
from tests.training.tiny import make_state
from tests.viewer.test_audit_page import REPORT
from tests.wheel.test_wheel import corpus
from tests.wheel.tiny_run import SETTINGS

TASK, REFUSED = "while_return_true", "with_as"
SMALL = {"model.d_model": 16, "model.d_mlp": 16, "model.bigram": "counts", "data.grammar": 2}


def make_run(place: Path) -> Run:
    """The run, in the new folder `place`."""
    config = cj.load_config("quickstart", {**SETTINGS, **SMALL, "data.roots": (str(corpus(place / "tree")),)})
    workdir = place / "run"
    corpus_ = prepare(config.data, config.model.vocab_size, config.model.n_ctx, workdir)
    config = with_corpus(config, corpus_)
    keep_frozen(config, workdir, corpus_)
    rng = np.random.default_rng(0)
    state = make_state(config)
    params = jax.tree.map(lambda x: np.where(rng.random(x.shape) < 0.1, x, np.float32(0)), state.params)
    checkpoints = Checkpoints(workdir, keep=1)
    step = config.train.steps
    checkpoints.save(step, state.replace(params=params, step=np.asarray(step, state.step.dtype)))
    checkpoints.close()
    claim(workdir, config)
    rows = [{"step": 1, "loss": 3.5, "l0": 1.0}, {"step": step, "loss": 3.0123456, "validation_loss": 2.75}]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row | {"rate": 7.0}) + "\n" for row in rows))
    run = cj.load(workdir)
    _add_circuit(run)
    refused = {"task": REFUSED, "refused": "the model knows nothing of it"}
    write_json(workdir / "prune.json", {"summary": {}, "rows": [refused]})
    return run


def _add_circuit(run: Run) -> None:
    """A circuit with a story, an audit and readings."""
    config = run.config
    circuit = every_third_node(run, TASK, dataclasses.replace(config.prune, tasks=(TASK, "/home/me/own.py")))
    circuit = dataclasses.replace(
        circuit,
        metrics={
            name: 0.25 for name in ("test/calibrated_loss", "test/calibrated_accuracy", "full/test/loss")
        },
        taus={site: np.full(width, 0.5, np.float32) for site, width in node_sites(run.model.config).items()},
        importance=Importance(
            np.arange(len(circuit.nodes), dtype=np.float32),
            np.zeros(len(circuit.edges), np.float32),
            *({site: np.ones(width, np.float32) for site, width in node_sites(run.model.config).items()},)
            * 2,
            {"nodes": 3},
            8,
        ),
    )
    folder = run.folder / "circuits" / TASK
    circuit.save(folder)
    part = told.role("part", circuit.nodes[:1], told.claim("swap"))
    write_json(folder / "story.json", told.told_of(circuit, [part]))
    settings = to_dict(config.audit)
    report = REPORT | {
        "key": circuit_key(folder, settings),
        "settings": settings,
        "curves": None,
        "tests": None,
    }
    table = {"format": FORMAT, "version": VERSION, "settings": settings, "summary": {}, "rows": []}
    write_json(run.folder / "audit.json", table | {"tasks": {TASK: report}})
    found = {"format": readings.FORMAT, "version": readings.VERSION, "circuit": readings.of_circuit(folder)}
    write_json(
        folder / "readings.json", found | {"rows": [], "summary": {}, "settings": to_dict(config.readings)}
    )
