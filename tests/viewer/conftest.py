"""One small circuit, its evidence and its page, made once for all tests of the viewer's page."""

import dataclasses

import pytest

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.viewer.evidence import EvidenceOptions, gather_evidence
from circuits_jax.viewer.report import build_report
from tests.viewer import synthetic

METRICS = [{"step": 10 * i, "loss": 4 - 0.1 * i, "l0": 1 / i, "gradient_rms": 1.0} for i in range(1, 20)]
METRICS[4]["validation_loss"] = METRICS[18]["validation_loss"] = 3.7
RESULTS = [
    {"task": "single_double_quote", "nodes": 40, "accuracy": 0.957},
    {"task": "while_true", "nodes": None, "accuracy": 0.5, "note": "refused <b>"},
]
SUMMARY = {"layers": 2, "corpus": "a <b>bold</b> corpus", "validation_loss": 2.9}
TITLE = "Circuits & <friends>"


@dataclasses.dataclass(frozen=True)
class Example:
    circuit: Circuit
    evidence: dict
    page: str


@pytest.fixture(scope="session")
def example() -> Example:
    config = synthetic.config_of(d_model=32, n_ctx=24)
    params = synthetic.sparse_params(config, keep=1 / 8)
    circuit = synthetic.make_circuit(config, params, count=40)
    options = EvidenceOptions(windows=8, batch=8)
    evidence = gather_evidence(
        circuit,
        params,
        synthetic.PieceTokenizer(config.vocab_size),
        synthetic.make_pairs(config),
        synthetic.make_windows(config),
        options,
    )
    bare = dataclasses.replace(
        circuit, task="bare", nodes=(), edges=(), bias_only=(), embedding=(), unembedding=()
    )
    nothing = {**evidence, "nodes": [], "words": {}}
    circuits = [(circuit, evidence), (bare, nothing)]
    return Example(circuit, evidence, build_report(TITLE, circuits, METRICS, RESULTS, SUMMARY))
