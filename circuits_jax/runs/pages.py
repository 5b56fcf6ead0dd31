"""The pages of a run's circuits: HTML files that open anywhere, and an index of them.

The index is `<workdir>/report.html`, a saved circuit's page `<workdir>/circuits/<task>/page.html`; that of
another circuit of the task lies beside it.
"""

import dataclasses
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from circuits_jax.circuits.circuit import Circuit, load_circuit
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.config.conversion import former_names
from circuits_jax.runs.own_tasks import kept_pairs
from circuits_jax.runs.pruning import Outcome, check_unchanged, cut_command
from circuits_jax.storage import notices
from circuits_jax.storage.errors import CircuitError, UserError
from circuits_jax.storage.filenames import (
    AUDIT,
    AUDIT_PAGE,
    BRIDGES_PAGE,
    CIRCUITS,
    INDEX,
    PAGE,
    PRUNE,
    QUICKSTART,
    SPARSE,
)
from circuits_jax.storage.files import check_writable, read_json_if_any
from circuits_jax.storage.paths import exists
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.tasks import Pairs, build_pairs, find_task
from circuits_jax.training.metrics import read_metrics
from circuits_jax.training.multihost.processes import is_primary
from circuits_jax.viewer.alternatives import alternatives
from circuits_jax.viewer.assembly import (
    IndexRow,
    PageSettings,
    RunFigures,
    build_index,
    build_report,
    write_report,
)
from circuits_jax.viewer.circuit_page.evidence import Evidence, circuit_network, gather_evidence
from circuits_jax.viewer.circuit_page.kept import kept_evidence
from circuits_jax.viewer.circuit_page.vocabulary import embed_vocabulary
from circuits_jax.viewer.edge_readings import read_shown
from circuits_jax.viewer.stories import read_told
from circuits_jax.viewer.verdicts import read_audits, verdict_words

if TYPE_CHECKING:
    from circuits_jax.runs.run import Run

# Reports of the commands that cut circuits; what the first says of a task is newer.
RECORDS = (PRUNE, QUICKSTART)

Notes = Mapping[str, Mapping[str, str]]  # {circuit's name: {node: note}}, of `read_annotations`


@dataclasses.dataclass(frozen=True, repr=False)
class Page(os.PathLike[str]):
    """A page on disk, which shows itself in a notebook.

    Attributes:
      path: The file.
      content: One self-contained page of the same circuits, without links to other files.
    """

    path: Path
    content: str

    @classmethod
    def of(cls, path: Path) -> "Page":
        """The self-contained page in a file."""
        return cls(path, path.read_text(encoding="utf-8"))

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Page({str(self.path)!r})"

    def _repr_html_(self) -> str:
        # A frame of its own, so that the page's addresses and styles do not meet the notebook's.
        return f'<iframe srcdoc="{html.escape(self.content)}" width="100%" height="800"></iframe>'


def draw(run: "Run", circuit: Circuit | None = None) -> Page:
    """See `Run.page`."""
    if circuit is None:
        return write_pages(run, all_outcomes(run), run_summary(run))
    circuit.check_model(run.model.hash, run.tokenizer.hash)
    return _write_circuit(run, circuit)


def write_pages(
    run: "Run",
    outcomes: Sequence[Outcome],
    summary: Mapping[str, Any],
    notes: Notes | None = None,
    out: Path | None = None,
) -> Page:
    """Writes the page of every circuit, and the index of them.

    Args:
      run: With a workdir and a corpus.
      outcomes: Circuits by the names of their folders, and tasks that were refused.
      summary: Figures of the run for the index.
      notes: People's names for nodes.
      out: Folder for the pages in place of the workdir.

    Raises:
      UserError: if that folder cannot be written; nothing was drawn then.
    """
    folders, home = run.folder / CIRCUITS, out or run.folder
    check_writable(home, "or draw into a folder of yours: python -m circuits_jax view WORKDIR --out=DIR")
    cut = [outcome for outcome in outcomes if outcome.circuit is not None]
    places = [folders / outcome.task for outcome in cut]
    beside = {folders / each.task: each.circuit for each in cut if each.circuit is not None}
    audits, found = _audits(run, home, places), _beside(beside)
    others = {
        outcome.task: alternatives(run.folder, outcome.task, outcome.circuit)
        for outcome in cut
        if outcome.circuit is not None
    }
    audit_page = AUDIT_PAGE if audits and exists(home / AUDIT_PAGE) else None
    above = (f"../../{INDEX}", audit_page and f"../../{audit_page}")
    vocabularies = {run.tokenizer.hash: embed_vocabulary(run.tokenizer)}
    keys, shown = [each.task for each in cut], list[tuple[Circuit, Evidence]]()
    for outcome in ProgressBar(cut, desc="page", disable=not is_primary()):
        folder = folders / outcome.task
        shown.append((outcome.circuit, evidence_of(run, outcome.circuit, outcome.test, folder)))
        settings = PageSettings([outcome.task], vocabularies, audits, others, notes, *above, **found)
        page = build_report(f"{outcome.task}, a circuit of {run.name}", shown[-1:], settings=settings)
        write_report(home / CIRCUITS / outcome.task / PAGE, page)
    rows = [
        IndexRow(name, circuit, verdict_words(audits.get(name), circuit), f"{CIRCUITS}/{quote(name)}/{PAGE}")
        for name, (circuit, _) in zip(keys, shown, strict=True)
    ]
    refused = [(each.task, each.refusal or "") for each in outcomes if each.circuit is None]
    figures = RunFigures(read_metrics(run.folder), (), summary)
    title, bridges = f"Circuits of {run.name}", _bridge_page(home, run.name)
    index = build_index(title, rows, refused, figures, audit_page, bridges)
    write_report(home / INDEX, index)
    return Page(
        home / INDEX,
        build_report(title, shown, figures, PageSettings(keys, vocabularies, audits, others, notes, **found)),
    )


def read_outcomes(run: "Run") -> list[Outcome]:
    """The circuits saved in the workdir, named as their folders, with the test pairs of their tasks;
    of those whose task is not to be found, why.

    Raises:
      CircuitError: if there are none, or none is left that can be read, is of this run's model and has a
        task that is to be found and unchanged; otherwise those are left out, which is told.
    """
    if not run.circuit_folders:
        raise CircuitError(f"{run.folder} holds no circuits; cut some: {cut_command(run)}")
    outcomes = []
    for folder in run.circuit_folders:
        try:
            circuit, pairs = read_circuit(run, folder)
            outcomes.append(Outcome(folder.name, circuit, None, pairs))
        except UserError as error:
            outcomes.append(Outcome(folder.name, None, str(error), None))
            notices.at_the_end(f"left out {folder.name}: {error}")
    if all(outcome.circuit is None for outcome in outcomes):
        raise CircuitError("; ".join(str(outcome.refusal) for outcome in outcomes[:3]))
    return outcomes


def read_circuit(run: "Run", folder: Path) -> tuple[Circuit, Pairs]:
    """The circuit in `folder`, cut from the run's model, and test pairs of its task.

    Raises:
      CircuitError: if it cannot be read, or is not of this run's model.
    """
    circuit = load_circuit(folder)
    circuit.check_model(run.model.hash, run.tokenizer.hash)
    return circuit, test_pairs(run, circuit, str(folder))


def test_pairs(run: "Run", circuit: Circuit, where: str) -> Pairs:
    """Test pairs of a circuit's task, as pruning drew them.

    Raises:
      CircuitError: if the circuit does not say how it was pruned.
      TaskError: if its task is no longer to be found, or has changed since.
    """
    prune = circuit.provenance.get("prune")
    prune = former_names(prune) if isinstance(prune, Mapping) else {}
    if not {"test_pairs", "seed"} <= set(prune):
        raise CircuitError(f"{where} does not say how the circuit was pruned; prune again")
    task = find_task(circuit.task, [*prune.get("tasks", ()), *kept_pairs(run, circuit.task)])
    drawn = {}
    for split in Splits._fields:
        if (count := prune.get(f"{split}_pairs")) is None or (circuit.of_two_splits and split == "select"):
            continue
        n_ctx = run.model.config.n_ctx
        drawn[split] = build_pairs(task, run.tokenizer, split, count, prune["seed"], n_ctx)
        check_unchanged(circuit, split, drawn[split])
    return drawn["test"]


def read_records(workdir: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What the commands that cut circuits reported: figures of the run, and {task: why it was refused}."""
    summary: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for name in RECORDS:
        try:
            found = read_json_if_any(workdir / name)
            rows = {row["task"]: row.get("refused") for row in found["rows"]}
            summary = {**found["summary"], **summary}
        except (KeyError, TypeError, AttributeError):  # not there or not theirs: the index does without
            continue
        refused = {**{task: why for task, why in rows.items() if why}, **refused}
    return summary, refused


def run_summary(run: "Run") -> dict[str, Any]:
    """Figures of the run for its index, as the commands that cut circuits recorded them."""
    return read_records(run.folder)[0]


def _write_circuit(run: "Run", circuit: Circuit) -> Page:
    """The page of one circuit, which links to the index where there is one."""
    name = circuit.task
    folder = run.folder / CIRCUITS / name
    saved = _is_saved(circuit, folder)
    places = {folder: circuit} if saved else {}  # what was found out about the saved one is not of another
    path = folder / (PAGE if saved else f"page-{circuit.digest}.html")
    audits, found = read_audits(run.folder / AUDIT, places), _beside(places)
    shown = [(circuit, evidence_of(run, circuit, folder=folder if saved else None))]
    vocabularies = {run.tokenizer.hash: embed_vocabulary(run.tokenizer)}
    others = {name: alternatives(run.folder, name, circuit)}
    alone = PageSettings([name], vocabularies, audits, others, **found)
    title = f"{name}, a circuit of {run.name}"
    home = f"../../{INDEX}" if exists(run.folder / INDEX) else None
    audit_page = f"../../{AUDIT_PAGE}" if audits else None
    linked = dataclasses.replace(alone, home=home, audit_page=audit_page)
    write_report(path, build_report(title, shown, settings=linked))
    return Page(path, build_report(title, shown, settings=alone))


def _is_saved(circuit: Circuit, folder: Path) -> bool:
    """Whether `folder` holds this very circuit."""
    try:
        return load_circuit(folder).identity == circuit.identity
    except CircuitError:  # none, or one that cannot be read
        return False


def evidence_of(
    run: "Run", circuit: Circuit, pairs: Pairs | None = None, folder: Path | None = None
) -> Evidence:
    """What a page shows of a circuit on pairs, by default test pairs, and on code.

    Args:
      run: Of the circuit.
      circuit: It.
      pairs: Of its task.
      folder: Where it is saved, if it is; what is kept there of test pairs is taken as it is.
    """
    known = None if folder is None else kept_evidence(folder, run.whole_config.data.hash)
    if pairs is None:
        pairs = test_pairs(run, circuit, circuit.task)
    if known is not None:
        return known | circuit_network(circuit, run.model, pairs)
    return gather_evidence(circuit, run.model, pairs, run.corpus.validation.tokens)


def _audits(run: "Run", home: Path, folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """What audits said of the circuits in `folders`: what lies in `home` before what lies in the workdir."""
    found = [read_audits(place / AUDIT, folders) for place in dict.fromkeys((run.folder, home))]
    return {name: audit for audits in found for name, audit in audits.items()}


def _beside(circuits: Mapping[Path, Circuit]) -> dict[str, Any]:
    """What lies beside circuits, by their folders, for their pages: readings and stories."""
    return {"readings": read_shown(circuits), "stories": read_told(circuits)}


def _bridge_page(workdir: Path, name: str) -> str | None:
    """Where the report on the bridges of this run, or of this coupled sparse model, lies, if there is one."""
    own, coupled = workdir / BRIDGES_PAGE, workdir.parent / BRIDGES_PAGE
    if own.exists():
        return BRIDGES_PAGE
    return f"../{BRIDGES_PAGE}" if name == SPARSE and coupled.exists() else None


def all_outcomes(run: "Run") -> list[Outcome]:
    """The circuits saved in the workdir, and the tasks that were refused when they were cut.

    Raises:
      CircuitError: if there are no circuits, or one is not of this run's model.
    """
    outcomes = read_outcomes(run)
    cut = {outcome.task for outcome in outcomes}  # their own reason, if any, is newer than a record's
    _, refused = read_records(run.folder)
    return outcomes + [Outcome(task, None, why, None) for task, why in refused.items() if task not in cut]
