"""Are the circuits of a run what its model really uses?  The verdict on each, and how it was reached.

`<workdir>/audit.json` and `audit.html` hold the reports.  A circuit that was audited already, with the same
settings, is not examined again; nor are the others when an audit is stopped and started anew.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from circuits_jax.circuits.ablation.means import Subject
from circuits_jax.circuits.audit.auditor import STAGES, Auditor, Report, verdict_of
from circuits_jax.circuits.audit.controls import empty_controls, other_seeds
from circuits_jax.circuits.audit.real_code import Natural, find_natural
from circuits_jax.circuits.audit.records import (
    FORMAT,
    VERSION,
    AuditReport,
    circuit_key,
    earlier_refusals,
    earlier_reports,
    kept_reports,
)
from circuits_jax.circuits.circuit import MANIFEST, Circuit, load_circuit
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.config import CONSTANT_ABLATIONS, AuditConfig, PruneConfig, from_dict, to_dict
from circuits_jax.runs.corpora import reference_windows
from circuits_jax.runs.own_tasks import read_named
from circuits_jax.runs.pruning import CIRCUITS, check_unchanged, cut_command
from circuits_jax.storage.errors import CircuitError, ConfigError, TaskError
from circuits_jax.storage.files import write_aside, write_json
from circuits_jax.storage.locks import locked
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.tasks import Pairs, Task, build_pairs, find_task, get_task
from circuits_jax.training.device_memory import AUDITING, memory_told
from circuits_jax.training.multihost.processes import is_primary
from circuits_jax.viewer.audit_page import build_audit_page

if TYPE_CHECKING:
    from circuits_jax.runs.run import Run

T = TypeVar("T")
REPORTS, PAGE, LOCK = "audit.json", "audit.html", ".audit.lock"


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
      controls: Whether to prune for controls too, the expensive part.
    """

    def __init__(self, run: "Run", config: AuditConfig, controls: bool):
        self.run, self.config, self._controls = run, config, controls
        self._auditors: dict[tuple[int, int], Auditor] = {}
        self._pruners: dict[PruneConfig, Pruner] = {}

    def examine(self, subject: AuditSubject, advance: Callable[[str], None] = lambda stage: None) -> Report:
        """The report on one circuit.

        Args:
          subject: The circuit.
          advance: Called with the name of each stage as it begins.

        Raises:
          TaskError: if its task has too few pairs under this tokenizer, or other ones than it was cut on.
        """
        prune, circuit, task = subject.prune, subject.circuit, subject.task
        if circuit.ablation not in CONSTANT_ABLATIONS:
            raise TaskError(
                f"{task.name} was pruned under {circuit.ablation} ablation, which the audit does not know; "
                f"prune it under one of {', '.join(CONSTANT_ABLATIONS)}"
            )
        counts = {"train": prune.train_pairs, "select": prune.select_pairs, "test": prune.test_pairs}
        if circuit.of_two_splits:  # it was chosen by test pairs
            del counts["select"]
        drawn = {split: self._pairs(task, split, count, prune.seed) for split, count in counts.items()}
        for split, pairs in drawn.items():
            check_unchanged(circuit, split, pairs)
        train, chosen = drawn["train"], drawn["test" if circuit.of_two_splits else "select"]
        seed = prune.seed + 1 + self.config.seed
        test = self._pairs(task.unlike(train, chosen), "test", self.config.pairs, seed)
        report = self._auditor(prune).audit(circuit, train, test, self._natural(test), advance)
        advance("controls")
        splits = Splits(train, chosen, test)
        report["controls"] = self._run_controls(subject, splits) if self._controls else None
        report |= {"pairs": len(test.last), "ablation": circuit.ablation, "key": subject.key}
        report["corpus"] = self.run.corpus.hash
        verdict = verdict_of(report, circuit.ablation, self.config)
        return report | {"verdict": dataclasses.asdict(verdict)}

    def _pairs(self, task: Task, split: str, count: int, seed: int) -> Pairs:
        return build_pairs(task, self.run.tokenizer, split, count, seed, self.run.model.config.n_ctx)

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
            self._auditors[place] = Auditor(self.run.model, self._windows(prune), self.config)
        return self._auditors[place]

    def _run_controls(self, subject: AuditSubject, splits: Splits) -> Report:
        pruner, masks = self._pruner(subject), subject.circuit.masks()
        own = subject.circuit.metrics.get("run/seed", subject.prune.seed)  # one that a search chose
        first = subject.prune.seed + 1
        seeds = [seed for seed in range(first, first + self.config.seeds + 1) if seed != own]
        windows, sparsity = self._windows(subject.prune), self.run.whole_config.sparsity
        return {
            "empty": empty_controls(pruner, self.run.model, sparsity, windows, splits, self.config.seed),
            "seeds": other_seeds(pruner, masks, splits, seeds[: self.config.seeds]),
        }

    def _pruner(self, subject: AuditSubject) -> Pruner:
        prune = dataclasses.replace(subject.prune, tasks=("all",))
        if prune not in self._pruners:
            self._pruners[prune] = Pruner(Subject(self.run.model, subject.circuit.means), prune)
        return self._pruners[prune]


def audit_circuit(run: "Run", circuit: Circuit, controls: bool) -> AuditReport:
    """See `Run.audit`."""
    folder = run.folder / CIRCUITS / circuit.task
    if not (folder / MANIFEST).exists() or load_circuit(folder).nodes != circuit.nodes:
        raise CircuitError(
            f"{run.folder} holds no such circuit of {circuit.task}; audit a saved one: run.prune(task)"
        )
    config = run.whole_config.audit
    reports, refusals = audit(run, find_subjects(run, [circuit.task], config), config, controls)
    if circuit.task in refusals:
        raise TaskError(refusals[circuit.task])
    return AuditReport(circuit.task, reports[circuit.task])


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
      CircuitError: if there are none, one is missing, or one is not of this run's model.
      TaskError: for an unknown task.
    """
    if not names:
        raise ConfigError("no task is named; name tasks, files of tasks, or all")
    there = [folder.name for folder in run.circuit_folders]
    if not there:
        raise CircuitError(f"{run.folder} holds no circuits; cut some: {cut_command(run)}")
    own = read_named([run], names, changed_tasks)
    subjects = []
    for given in there if "all" in names else names:
        name = own[given].name if given in own else given if given in there else get_task(given).name
        if name not in there:
            raise CircuitError(
                f"{run.folder} holds no circuit of {name}, only of {', '.join(there)}; "
                f"cut it: {cut_command(run)}"
            )
        folder = run.folder / CIRCUITS / name
        circuit = load_circuit(folder)
        circuit.check_model(run.model.hash, run.tokenizer.hash)
        if "prune" not in circuit.provenance:
            raise CircuitError(f"{folder} does not say how the circuit was pruned; prune again")
        prune = from_dict(PruneConfig, circuit.provenance["prune"], f"{folder / MANIFEST}: prune")
        task = find_task(name, prune.tasks, own.values())
        subjects.append(AuditSubject(task, circuit, prune, circuit_key(folder, to_dict(config))))
    return subjects


def audit(
    run: "Run", subjects: Sequence[AuditSubject], config: AuditConfig, controls: bool = True
) -> tuple[dict[str, Report], dict[str, str]]:
    """Audits circuits, saving `audit.json` after each and the page at the end; both keep earlier audits.

    Returns:
      ({task: report}, {task: why it was refused}), of `subjects` alone.

    Raises:
      LockError: if another process audits the run's circuits.
      UserError: if the workdir cannot be written.
    """
    with locked(run.folder, LOCK), memory_told(AUDITING):
        return _audit(run, subjects, config, controls)


def _audit(
    run: "Run", subjects: Sequence[AuditSubject], config: AuditConfig, controls: bool
) -> tuple[dict[str, Report], dict[str, str]]:
    path, circuits = run.folder / REPORTS, run.folder / CIRCUITS
    kept, refused = kept_reports(path, circuits), earlier_refusals(path, circuits)
    earlier = earlier_reports(path, circuits, config)
    if controls:
        earlier = {task: report for task, report in earlier.items() if report["controls"] is not None}
    auditor, stages = RunAuditor(run, config, controls), len(STAGES) + 1
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
    page = build_audit_page(f"Audit of {run.name}", rows, together, _note(together))
    with write_aside(audit_page(run)) as file:
        file.write(page.encode())
    return reports, refusals


def _without(these: Mapping[str, T], others: Mapping[str, Any]) -> dict[str, T]:
    """What is said of tasks of which `others` say nothing."""
    return {task: each for task, each in these.items() if task not in others}


def _note(reports: Mapping[str, Report]) -> str:
    """What the intervals of the reports are, which may be of audits with different settings."""
    tasks: dict[float, list[str]] = {}
    for task, report in reports.items():
        tasks.setdefault(report["settings"]["confidence"], []).append(task)
    if len(tasks) < 2:
        each = f"{min(tasks, default=0.95):.0%}"
    else:
        each = "; ".join(f"{confidence:.0%} for {', '.join(found)}" for confidence, found in tasks.items())
    return f"Intervals are those of Student's t over templates: {each}."


def audit_page(run: "Run") -> Path:
    """Where the audit's page lies."""
    return run.folder / PAGE


def audit_table(reports: Mapping[str, Report], refusals: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row a task: the verdict and the figures that decided it."""
    rows: list[dict[str, Any]] = []
    for task, report in reports.items():
        controls, natural = report["controls"], report["natural"]
        found = AuditReport(task, report)
        figures = found.figures
        best = figures.pop("best control", None)
        row = {"task": task, "verdict": found.verdict, **figures, "model": report["model"]["assessment"]}
        if controls is not None:
            row["best control"] = best
            if controls["seeds"]:
                row["overlap"] = float(np.mean([each["jaccard"] for each in controls["seeds"]]))
        if "why_not" not in natural:
            row["natural"] = natural["circuit"]["accuracy"]["value"]
        rows.append(row | {"failed": ", ".join(found.failed), "close": ", ".join(found.close)})
    return rows + [{"task": task, "refused": why} for task, why in refusals.items()]
