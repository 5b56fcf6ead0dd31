"""Writes the pages of a run's circuits, HTML files that open anywhere, and an index of them.

    python -m experiments.view runs/quickstart
    python -m experiments.view runs/quickstart --annotations=annotations.json
    python -m experiments.view runs/quickstart --compare=lambda_func,runs/other/circuits/lambda_func

The index is `<workdir>/report.html`, a circuit's page `<workdir>/circuits/<task>/page.html`, and a
comparison, of tasks of this run or folders of circuits of other runs, `<workdir>/compare.html`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from absl import flags

from circuits_jax.circuits.circuit import MANIFEST, Circuit, load_circuit
from circuits_jax.data.corpus import Corpus
from circuits_jax.errors import CircuitError
from circuits_jax.model.fingerprint import model_hash
from circuits_jax.tasks import Pairs, build_pairs, find_task
from circuits_jax.training.metrics import read_metrics
from circuits_jax.training.run import Run, load_run
from circuits_jax.viewer.annotations import read_annotations
from circuits_jax.viewer.bridge_page import PAGE as BRIDGE_PAGE
from circuits_jax.viewer.bridge_page import SPARSE as SPARSE_WORKDIR
from circuits_jax.viewer.evidence import Evidence, gather_evidence
from circuits_jax.viewer.report import build_index, build_report, write_report
from circuits_jax.viewer.verdicts import read_audits, verdict_words
from circuits_jax.viewer.vocabulary import embed_vocabulary
from experiments import common
from experiments.pretrain import prepare_corpus
from experiments.prune import Outcome

PAGE = "page.html"
# Reports of the commands that cut circuits; what the first says of a task is newer.
RECORDS = ("prune.json", "quickstart.json")

_ANNOTATIONS = flags.DEFINE_string("annotations", None, "File of notes on nodes, as a page saved it.")
_COMPARE = flags.DEFINE_list("compare", [], "Two or more circuits, tasks or folders, to set side by side.")


def write_page(
    run: Run,
    corpus: Corpus,
    outcomes: list[Outcome],
    summary: Mapping[str, str | float],
    workdir: Path,
    annotations: Mapping[str, Mapping[str, str]] | None = None,
) -> Path:
    """Writes the page of every circuit, and the index of them, whose path it returns.

    Args:
      run, corpus: The model and its tokenizer; the text that nodes are looked at on.
      outcomes: Circuits by the names of their folders, and tasks that were refused.
      summary: Figures of the run for the index.
      workdir: Where everything lies.
      annotations: Of `read_annotations`.
    """
    index, folders, name = workdir / "report.html", workdir / "circuits", _name(workdir)
    cut = [outcome for outcome in outcomes if outcome.circuit is not None]
    audits = read_audits(workdir / "audit.json", [folders / outcome.task for outcome in cut])
    vocabulary = embed_vocabulary(run.tokenizer)
    for outcome in common.progress(cut, "page"):
        evidence = gather_evidence(
            outcome.circuit, run.params, run.tokenizer, outcome.heldout, corpus.validation.tokens
        )
        page = build_report(
            f"{outcome.task}, a circuit of {name}",
            [(outcome.circuit, evidence)],
            vocabularies={run.tokenizer.hash: vocabulary},
            audits=audits,
            annotations=annotations,
            keys=[outcome.task],
            home="../../report.html",
            audit_page="../../audit.html",
        )
        write_report(folders / outcome.task / PAGE, page)
    rows = [
        (each.task, each.circuit, verdict_words(audits.get(each.task)), f"circuits/{quote(each.task)}/{PAGE}")
        for each in cut
    ]
    refused = [(each.task, each.refusal or "") for each in outcomes if each.circuit is None]
    audit_page = "audit.html" if audits else None
    page = build_index(
        f"Circuits of {name}",
        rows,
        refused,
        read_metrics(workdir),
        summary,
        audit_page,
        _bridge_page(workdir),
    )
    write_report(index, page)
    return index


def _bridge_page(workdir: Path) -> str | None:
    """Where the report on the bridges of this run, or of this coupled sparse model, lies, if there is one."""
    own, coupled = workdir / BRIDGE_PAGE, workdir.parent / BRIDGE_PAGE
    if own.exists():
        return BRIDGE_PAGE
    return f"../{BRIDGE_PAGE}" if _name(workdir) == SPARSE_WORKDIR and coupled.exists() else None


def _name(workdir: Path) -> str:
    """What people call the run; "." has no name of its own."""
    return workdir.name or Path(workdir).resolve().name


def read_outcomes(run: Run, workdir: Path) -> list[Outcome]:
    """The circuits saved in `workdir`, named as their folders, with the held-out pairs they were judged on.

    Raises:
      CircuitError: if there are none, or one is not of this run's model.
    """
    folders = sorted(path.parent for path in workdir.glob(f"circuits/*/{MANIFEST}"))
    if not folders:
        raise CircuitError(f"{workdir} holds no circuits; cut some with experiments.prune")
    outcomes = []
    for folder in folders:
        circuit, pairs = read_circuit(run, folder)
        outcomes.append(Outcome(folder.name, circuit, None, pairs))
    return outcomes


def read_records(workdir: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What the commands that cut circuits reported: figures of the run, and {task: why it was refused}."""
    summary: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for name in RECORDS:
        try:
            found = json.loads((workdir / name).read_bytes())
            rows = {row["task"]: row.get("refused") for row in found["rows"]}
            summary = {**found["summary"], **summary}
        except (OSError, ValueError, KeyError, TypeError):  # not there or not theirs: the index does without
            continue
        refused = {**{task: why for task, why in rows.items() if why}, **refused}
    return summary, refused


def read_circuit(run: Run, folder: Path) -> tuple[Circuit, Pairs]:
    """The circuit in `folder`, cut from `run`, and held-out pairs of its task.

    Raises:
      CircuitError: if it cannot be read, or is not of this run's model.
    """
    circuit = load_circuit(folder)
    circuit.check_model(model_hash(run.config.model, run.params), run.tokenizer.hash)
    prune = circuit.provenance.get("prune")
    if not isinstance(prune, Mapping) or not {"heldout_pairs", "seed"} <= set(prune):
        raise CircuitError(f"{folder} does not say how the circuit was pruned; prune again")
    task = find_task(circuit.task, prune.get("tasks", ()))
    count, n_ctx = prune["heldout_pairs"], run.config.model.n_ctx
    return circuit, build_pairs(task, run.tokenizer, "heldout", count, prune["seed"], n_ctx)


def write_comparison(
    names: list[str], workdir: Path, annotations: Mapping[str, Mapping[str, str]] | None = None
) -> Path:
    """Writes `<workdir>/compare.html` of circuits given as tasks of `workdir` or as folders of any run.

    Args:
      names: Of two circuits or more.
      workdir: Of the run whose page it becomes.
      annotations: Of `read_annotations`; by the names that the circuits have on the page.

    Raises:
      CircuitError: for fewer than two names, or one that is no circuit of a run.
    """
    if len(names) < 2:
        raise CircuitError(
            f"--compare names {', '.join(names)}; give two circuits or more, with commas between"
        )
    shown: list[tuple[Circuit, Evidence]] = []
    keys, vocabularies, runs, audits = [], {}, {}, []
    for name in names:
        folder = workdir / "circuits" / name
        folder = folder if (folder / MANIFEST).exists() else Path(name)
        if not (folder / MANIFEST).exists():
            raise CircuitError(f"{name} is no circuit of {workdir}, nor the folder of another run's circuit")
        home = folder.resolve().parent.parent
        if home not in runs:
            run = load_run(home)
            runs[home] = run, prepare_corpus(run.config, home)
        run, corpus = runs[home]
        circuit, pairs = read_circuit(run, folder)
        vocabularies[run.tokenizer.hash] = embed_vocabulary(run.tokenizer)
        shown.append(
            (circuit, gather_evidence(circuit, run.params, run.tokenizer, pairs, corpus.validation.tokens))
        )
        keys.append(folder.name if home == workdir.resolve() else f"{home.name} {folder.name}")
        audits.append(read_audits(home / "audit.json", [folder]).get(folder.name))
    keys = [key if keys.index(key) == place else f"{key} {place + 1}" for place, key in enumerate(keys)]
    path = workdir / "compare.html"
    page = build_report(
        " and ".join(keys), shown, vocabularies=vocabularies, keys=keys, home="report.html", comparison=True,
        annotations=annotations,
        audits={key: audit for key, audit in zip(keys, audits, strict=True) if audit is not None},
    )  # fmt: skip
    write_report(path, page)
    return path


def main() -> None:
    """The command."""
    workdir = common.workdir()
    annotations = None if _ANNOTATIONS.value is None else read_annotations(Path(_ANNOTATIONS.value))
    if _COMPARE.value:
        print(write_comparison(_COMPARE.value, workdir, annotations))
        return
    run = load_run(workdir)
    outcomes = read_outcomes(run, workdir)
    summary, refused = read_records(workdir)
    cut = {outcome.task for outcome in outcomes}
    outcomes += [Outcome(task, None, why, None) for task, why in refused.items() if task not in cut]
    corpus = prepare_corpus(run.config, workdir)
    print(write_page(run, corpus, outcomes, summary, workdir, annotations))


def name_workdir(arguments: list[str]) -> list[str]:
    """`DIR ...` as `--workdir=DIR ...`."""
    if arguments and not arguments[0].startswith("-"):
        return [f"--workdir={arguments[0]}", *arguments[1:]]
    return arguments


if __name__ == "__main__":
    sys.argv[1:] = name_workdir(sys.argv[1:])
    common.run(main)
