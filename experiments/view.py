"""Writes the page of a run's circuits: one HTML file that opens anywhere.

python -m experiments.view --workdir=runs/quickstart
"""

from collections.abc import Mapping
from pathlib import Path

from circuits_jax.circuits.circuit import load_circuit
from circuits_jax.data.corpus import Corpus
from circuits_jax.errors import CircuitError
from circuits_jax.model.fingerprint import model_hash
from circuits_jax.tasks import build_pairs, get_task
from circuits_jax.training.metrics import read_metrics
from circuits_jax.training.run import Run, load_run
from circuits_jax.viewer.evidence import gather_evidence
from circuits_jax.viewer.report import build_report, write_report
from experiments import common
from experiments.pretrain import prepare_corpus
from experiments.prune import Outcome, table


def write_page(
    run: Run, corpus: Corpus, outcomes: list[Outcome], summary: Mapping[str, str | float], workdir: Path
) -> Path:
    """Gathers what fires each node and writes `<workdir>/report.html`."""
    shown = [
        (
            outcome.circuit,
            gather_evidence(
                outcome.circuit, run.params, run.tokenizer, outcome.heldout, corpus.validation.tokens
            ),
        )
        for outcome in common.progress(outcomes, "page")
        if outcome.circuit is not None
    ]
    page = build_report(workdir.name, shown, read_metrics(workdir), table(outcomes), summary)
    path = workdir / "report.html"
    write_report(path, page)
    return path


def read_outcomes(run: Run, workdir: Path) -> list[Outcome]:
    """The circuits saved in `workdir`, with the held-out pairs they were judged on.

    Raises:
      CircuitError: if there are none, or one is not of this run's model.
    """
    folders = sorted(path.parent for path in workdir.glob("circuits/*/circuit.json"))
    if not folders:
        raise CircuitError(f"{workdir} holds no circuits; cut some with experiments.prune")
    identity, outcomes = model_hash(run.config.model, run.params), []
    for folder in folders:
        circuit = load_circuit(folder)
        circuit.check_model(identity, run.tokenizer.hash)
        prune = circuit.provenance["prune"]
        pairs = build_pairs(
            get_task(circuit.task), run.tokenizer, "heldout", prune["heldout_pairs"], prune["seed"],
            run.config.model.n_ctx,
        )  # fmt: skip
        outcomes.append(Outcome(circuit.task, circuit, None, pairs))
    return outcomes


def main() -> None:
    """The command."""
    workdir = common.workdir()
    run = load_run(workdir)
    outcomes = read_outcomes(run, workdir)
    corpus = prepare_corpus(run.config, workdir)
    print(write_page(run, corpus, outcomes, {}, workdir))


if __name__ == "__main__":
    common.run(main)
