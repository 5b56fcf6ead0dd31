"""Are the circuits of a run what its model really uses?  The verdict on each, and how it was reached.

`<workdir>/audit.json` and `audit.html` hold the reports.  A circuit that was audited already, with the same
settings, is not examined again; nor are the others when an audit is stopped and started anew.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from circuits_jax.circuits.ablation.means import Subject, means_of
from circuits_jax.circuits.audit.against_others import curves_and_tests
from circuits_jax.circuits.audit.auditor import STAGES, Auditor, verdict_of
from circuits_jax.circuits.audit.controls.relabelled import answers_of
from circuits_jax.circuits.audit.controls.running import Case, ControlRuns, draws_of
from circuits_jax.circuits.audit.kept import keep_in
from circuits_jax.circuits.audit.real_code import Natural, find_natural
from circuits_jax.circuits.audit.records import (
    FORMAT,
    VERSION,
    AuditReport,
    circuit_key,
    controls_key,
    covers,
    earlier_refusals,
    earlier_reports,
    kept_reports,
    measured_folder,
    put_aside,
    was_compared,
)
from circuits_jax.circuits.circuit import MANIFEST, Circuit, load_circuit
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.circuits.pruning.sweep import total_steps
from circuits_jax.config import (
    DEFAULT_CONTROLS,
    QUICK_DRAWS,
    AuditConfig,
    PruneConfig,
    control_choice,
    from_dict,
    to_dict,
)
from circuits_jax.config.identity import as_recorded
from circuits_jax.runs.audit_tables import audit_table, intervals_note, those_that_show
from circuits_jax.runs.corpora import reference_windows, token_counts
from circuits_jax.runs.judging import check_ablation, judging_pairs
from circuits_jax.runs.own_tasks import kept_pairs, read_named
from circuits_jax.runs.pruning import cut_command
from circuits_jax.storage import notices
from circuits_jax.storage.errors import CircuitError, ConfigError, TaskError, UserError
from circuits_jax.storage.filenames import AUDIT, AUDIT_PAGE, CIRCUITS
from circuits_jax.storage.files import check_writable, write_aside, write_json
from circuits_jax.storage.locks import locked
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.storage.tables import Report
from circuits_jax.tasks import Pairs, Task, find_task, get_task
from circuits_jax.training.device_memory import AUDITING, memory_told
from circuits_jax.training.multihost.processes import is_primary
from circuits_jax.viewer.audit_page import build_audit_page

if TYPE_CHECKING:
    from circuits_jax.runs.run import Run

T = TypeVar("T")
LOCK = ".audit.lock"
# In the folder of circuits: parts of reports, a folder an audit; finished controls, a folder a circuit.
MEASURED, CONTROLS = ".measured", ".controls"


@dataclasses.dataclass(frozen=True)
class AuditSubject:
    """A circuit to audit.

    Attributes:
      task: What it is for.
      circuit: As saved.
      prune: The settings it was found with.
      key: Hash of the circuit and of the audit's settings.
    """

    task: Task
    circuit: Circuit
    prune: PruneConfig
    key: str


class RunAuditor:
    """Audits circuits of one run; they share compilations, means and pruners.

    Args:
      run: With a workdir and a corpus.
      config: Sizes and thresholds.
      controls: "none", "quick" or "full"; they are the expensive part.
      home: Folder that finished parts are kept in; None for the run's.

    Raises:
      ConfigError: for another choice of controls.
    """

    def __init__(self, run: "Run", config: AuditConfig, controls: str | bool, home: Path | None = None):
        self.run, self.config, self._choice = run, config, control_choice(controls)
        self._home = home
        self._auditors: dict[tuple[int, int], Auditor] = {}
        self._pruners: dict[PruneConfig, Pruner] = {}

    def examine(self, subject: AuditSubject, advance: Callable[[str], None] = lambda stage: None) -> Report:
        """The report on one circuit.

        Args:
          subject: The circuit.
          advance: Called with the name of each stage as it begins.

        Raises:
          TaskError: if its task has too few pairs under this tokenizer, or other ones than it was cut on, or
            if its controls cannot be built.
        """
        prune, circuit, task = subject.prune, subject.circuit, subject.task
        check_ablation(circuit, "the audit does")
        seed = prune.seed + 1 + self.config.seed
        splits = judging_pairs(self.run, task, circuit, prune, self.config.pairs, seed)
        train, test = splits.train, splits.test
        if self._choice != "none":
            answers_of(splits)  # before any work, whether there can be controls
        report = self._auditor(prune).audit(circuit, train, test, self._natural(test), advance)
        advance("controls")
        report["controls"] = None if self._choice == "none" else self._run_controls(subject, splits)
        advance("tests")
        report |= self._against_others(subject, train, test)
        report |= {"pairs": len(test.last), "ablation": circuit.ablation, "key": subject.key}
        report["corpus"] = self.run.corpus.hash
        verdict = verdict_of(report, circuit.ablation, self.config)
        return report | {"verdict": dataclasses.asdict(verdict)}

    def _against_others(self, subject: AuditSubject, train: Pairs, test: Pairs) -> Report:
        """Of `curves_and_tests`; none where there are no controls."""
        if self._choice == "none":
            return {"curves": None, "tests": None, "not_compared": None}
        keep = keep_in(self._kept(MEASURED) / measured_folder(subject.key, self.run.corpus.hash))
        auditor, thorough = self._auditor(subject.prune), self._choice == "full"
        return curves_and_tests(auditor, subject.circuit, train, test, thorough, keep)

    def _kept(self, what: str) -> Path:
        """The folder of what is kept until the next audit."""
        return (self._home or self.run.folder) / CIRCUITS / what

    def _natural(self, pairs: Pairs) -> Natural | str:
        config, windows = self.config, self.run.corpus.validation.tokens
        try:
            return find_natural(
                pairs, self.run.tokenizer, windows, config.natural, config.natural_context, config.seed
            )
        except TaskError as error:
            return str(error)

    def _windows(self, prune: PruneConfig) -> np.ndarray:
        return reference_windows(self.run.corpus, self.run.whole_config, prune)

    def _auditor(self, prune: PruneConfig) -> Auditor:
        place = (prune.seed, prune.mean_batches)
        if place not in self._auditors:
            most = self.config.draws if self._choice == "full" else QUICK_DRAWS  # told in docs/method.md
            config = dataclasses.replace(self.config, draws=min(self.config.draws, most))
            self._auditors[place] = Auditor(self.run.model, self._windows(prune), config)
        return self._auditors[place]

    def _run_controls(self, subject: AuditSubject, splits: Splits) -> Report:
        run, circuit, prune = self.run, subject.circuit, subject.prune
        pruner, windows = self._pruner(subject), self._windows(prune)
        case = Case(
            circuit=circuit,
            subject=pruner.subject,
            splits=splits,
            corpus=windows,
            counts=token_counts(run.corpus, run.model.config.vocab_size),
            others=self._others(),
            unfit=(run.tokenizer.eot,),
            seed=self.config.seed,
        )
        key = controls_key(run.folder / CIRCUITS / circuit.task, run.corpus.hash, self.config.seed)
        rows = ControlRuns(case, pruner, self._kept(CONTROLS) / key).run(
            draws_of(self._choice, self.config), is_primary()
        )
        pieces = run.tokenizer.pieces
        rows = [row | {"tokens": pieces(row["labels"])} if "labels" in row else row for row in rows]
        return {"choice": self._choice, "target": prune.target, "rows": rows}

    def _others(self) -> list[Circuit]:
        """The run's circuits that are whole and of its model."""
        circuits = []
        for folder in self.run.circuit_folders:
            with contextlib.suppress(CircuitError):
                circuit = load_circuit(folder)
                circuit.check_model(self.run.model.hash, self.run.tokenizer.hash)
                circuits.append(circuit)
        return circuits

    def _pruner(self, subject: AuditSubject) -> Pruner:
        prune = dataclasses.replace(subject.prune, tasks=("all",))
        model = self.run.model
        held = Subject(model, means_of(subject.circuit, model, lambda: self._windows(prune)))
        if prune not in self._pruners:
            self._pruners[prune] = Pruner(held, prune)
        return self._pruners[prune].on(held)


def audit_circuit(run: "Run", circuit: Circuit, controls: str | bool) -> AuditReport:
    """See `Run.audit`."""
    control_choice(controls)
    config = run.whole_config.audit
    reports, refusals = audit(run, [saved_subject(run, circuit)], config, controls)
    if circuit.task in refusals:
        raise TaskError(refusals[circuit.task])
    return AuditReport(circuit.task, reports[circuit.task])


def saved_subject(run: "Run", circuit: Circuit) -> AuditSubject:
    """A circuit of the run, as it was saved.

    Raises:
      CircuitError: if it is of another model, or the run holds no such circuit.
      TaskError: if its task is one of the user's own that was not read.
    """
    circuit.check_model(run.model.hash, run.tokenizer.hash)
    folder = run.folder / CIRCUITS / circuit.task
    if not (folder / MANIFEST).exists() or load_circuit(folder).identity != circuit.identity:
        raise CircuitError(
            f"{run.folder} holds no such circuit of {circuit.task}; give a saved one: run.prune(task)"
        )
    (subject,) = find_subjects(run, [circuit.task], run.whole_config.audit)
    return subject


def find_subjects(
    run: "Run", names: Sequence[str], config: AuditConfig, changed_tasks: bool = False
) -> list[AuditSubject]:
    """The circuits in the workdir of the tasks or task files `names`; "all" among them: of every task.

    Args:
      run: With circuits.
      names: Of tasks, as the user gave them; a Python file runs only if it is among them.
      config: The audit's settings.
      changed_tasks: Whether such a file runs although no circuit here was cut with it as it is.

    Raises:
      ConfigError: for no names.
      CircuitError: if there are none, one of `names` is missing, or one is not of this run's model.
      TaskError: for an unknown task, or if none is left; circuits that only "all" names and that cannot be
        audited are left out, which is told.
    """
    if not names:
        raise ConfigError("no task is named; name tasks, files of tasks, or all")
    there = [folder.name for folder in run.circuit_folders]
    if not there:
        raise CircuitError(f"{run.folder} holds no circuits; cut some: {cut_command(run)}")
    own = read_named([run], names, changed_tasks)
    named = {
        own[given].name if given in own else given if given in there else get_task(given).name
        for given in names
        if given != "all"
    }
    missing = sorted(named - set(there))
    if missing:
        raise CircuitError(
            f"{run.folder} holds no circuit of {missing[0]}, only of {', '.join(there)}; "
            f"cut it: {cut_command(run)}"
        )
    subjects, left_out = list[AuditSubject](), list[str]()
    for name in there if "all" in names else [name for name in there if name in named]:
        try:
            subjects.append(_find_subject(run, name, config, own.values()))
        except UserError as error:
            if name in named:
                raise
            left_out.append(str(error))
            notices.at_the_end(f"left out {name}: {error}")
    if not subjects:
        raise TaskError("; ".join(left_out[:3]))
    return subjects


def _find_subject(run: "Run", name: str, config: AuditConfig, own: Iterable[Task]) -> AuditSubject:
    """The circuit called `name`, whose task may be one of the user's `own`."""
    folder = run.folder / CIRCUITS / name
    circuit = load_circuit(folder)
    circuit.check_model(run.model.hash, run.tokenizer.hash)
    if "prune" not in circuit.provenance:
        raise CircuitError(f"{folder} does not say how the circuit was pruned; prune again")
    values = as_recorded(PruneConfig, circuit.provenance["prune"])
    prune = from_dict(PruneConfig, values, f"{folder / MANIFEST}: prune")
    task = find_task(name, [*prune.tasks, *kept_pairs(run, name)], own)
    return AuditSubject(task, circuit, prune, circuit_key(folder, to_dict(config)))


def audit(
    run: "Run",
    subjects: Sequence[AuditSubject],
    config: AuditConfig,
    controls: str | bool = DEFAULT_CONTROLS,
    out: Path | None = None,
) -> tuple[dict[str, Report], dict[str, str]]:
    """Audits circuits, saving `audit.json` after each and the page at the end; both keep earlier audits.

    Args:
      run: With a workdir and a corpus.
      subjects: The circuits.
      config: Sizes and thresholds.
      controls: Whether to prune for controls too, the expensive part.
      out: Folder for the two files in place of the workdir, which may be a colleague's.

    Returns:
      ({task: report}, {task: why it was refused}), of `subjects` alone.

    Raises:
      ConfigError: for an unknown choice of controls.
      LockError: if another process audits the run's circuits.
      UserError: if the folder cannot be written, or its `audit.json` is a Git LFS pointer or can neither be
        read nor renamed; nothing was audited then.
    """
    choice, home = control_choice(controls), out or run.folder
    check_writable(home, "or name a folder of yours: --out=DIR")
    with locked(home, LOCK), memory_told(AUDITING):
        return _audit(run, subjects, config, choice, home)


def _audit(
    run: "Run", subjects: Sequence[AuditSubject], config: AuditConfig, choice: str, home: Path
) -> tuple[dict[str, Report], dict[str, str]]:
    path, circuits = home / AUDIT, run.folder / CIRCUITS
    put_aside(path)
    kept = those_that_show(kept_reports(path, circuits), path)
    refused = earlier_refusals(path, circuits)
    earlier = earlier_reports(path, circuits, config)
    earlier = {
        task: report
        for task, report in earlier.items()
        if task in kept and covers(report, choice) and (choice == "none" or was_compared(report))
    }
    auditor, stages = RunAuditor(run, config, choice, home), len(STAGES) + 2
    _tell_cost([subject for subject in subjects if subject.task.name not in earlier], choice)
    settings = to_dict(config)
    details = {"format": FORMAT, "version": VERSION, "settings": settings}
    reports: dict[str, Report] = {}
    refusals: dict[str, str] = {}
    with ProgressBar(total=stages * len(subjects), desc="audit", disable=not is_primary()) as bar:
        for place, subject in enumerate(subjects):
            name = subject.task.name

            def advance(stage: str, name: str = name) -> None:
                bar.update()
                bar.set_postfix(task=name, stage=stage)

            try:
                found = earlier[name] if name in earlier else auditor.examine(subject, advance)
                reports[name] = found | {"settings": settings}
            except TaskError as error:
                refusals[name] = str(error)
            together = kept | reports
            rows = audit_table(_without(together, refusals), _without(refused, together) | refusals)
            write_json(path, details | {"summary": {}, "rows": rows, "tasks": together})
            bar.update(stages * (place + 1) - bar.n)
    page = build_audit_page(f"Audit of {run.name}", rows, together, intervals_note(together))
    with write_aside(home / AUDIT_PAGE) as file:
        file.write(page.encode())
    return reports, refusals


def _tell_cost(subjects: Sequence[AuditSubject], choice: str) -> None:
    """Says, before it begins, of which circuits the controls take longer than usual."""
    for subject in subjects if choice != "none" and is_primary() else ():
        prune = subject.prune
        if (times := total_steps(prune) / prune.steps) > 1:
            print(
                f"note: {subject.task.name} was searched with {prune.trials} trials of {prune.seeds} seeds; "
                f"its controls are searched alike and take about {times:.0f} times as long as those of one",
                file=sys.stderr,
                flush=True,
            )


def _without(these: Mapping[str, T], others: Mapping[str, Any]) -> dict[str, T]:
    """What is said of tasks of which `others` say nothing."""
    return {task: each for task, each in these.items() if task not in others}
