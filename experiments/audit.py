"""Are the circuits of a run what its model really uses?  METHOD 7's verdict on each, and how it was reached.

    python -m experiments.audit --workdir=runs/quickstart [--tasks=single_double_quote] [--controls=false]

Writes `audit.json` and `audit.html` into the workdir.  A circuit that was audited already, with the same
settings, is not examined again; nor are the others when the command is stopped and started anew.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from circuits_jax.circuits.audit import STAGES, Auditor, Report, verdict_of
from circuits_jax.circuits.circuit import MANIFEST, Circuit, load_circuit
from circuits_jax.circuits.controls import empty_controls, other_seeds
from circuits_jax.circuits.natural import Natural, find_natural
from circuits_jax.circuits.prune import Pruner
from circuits_jax.config import AuditConfig, PruneConfig, from_dict, to_dict
from circuits_jax.data.corpus import Corpus
from circuits_jax.errors import CircuitError, ConfigError, TaskError
from circuits_jax.files import write_aside, write_json
from circuits_jax.model.fingerprint import model_hash
from circuits_jax.tasks import Pairs, Task, build_pairs, find_task, get_task
from circuits_jax.training.mesh import data_mesh
from circuits_jax.training.run import Run, load_run
from circuits_jax.viewer.audit_page import build_audit_page
from experiments import common
from experiments.pretrain import prepare_corpus

FORMAT, VERSION = "circuits_jax.audit", 1

_CONTROLS = flags.DEFINE_bool("controls", True, "Prune for controls too, the expensive part.")


@dataclasses.dataclass(frozen=True)
class Subject:
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


class Audit:
    """The audit of one run's circuits; they share compilations, means and pruners."""

    def __init__(self, run: Run, corpus: Corpus, config: AuditConfig, controls: bool):
        self._run, self._corpus, self.config, self._controls = run, corpus, config, controls
        self._auditors: dict[tuple[int, int], Auditor] = {}
        self._pruners: dict[PruneConfig, Pruner] = {}

    def examine(self, subject: Subject, bar: tqdm) -> Report:
        """The report on one circuit.

        Raises:
          TaskError: if its task has too few pairs under this tokenizer, or other ones than it was cut on.
        """

        def advance(stage: str) -> None:
            bar.update()
            bar.set_postfix(task=subject.task.name, stage=stage)

        prune, circuit = subject.prune, subject.circuit
        train = self._pairs(subject, "train", prune.train_pairs, prune.seed)
        if circuit.provenance.get("pairs", [train.digest])[0] != train.digest:
            raise TaskError(
                f"the pairs of {subject.task.name} are not those that its circuit was cut on (the task, or "
                "its file, has changed since); prune again"
            )
        # Drawn anew: pruning may have chosen among circuits by the held-out pairs it saw.
        heldout = self._pairs(subject, "heldout", self.config.pairs, prune.seed + 1 + self.config.seed)
        auditor = self._auditor(prune)
        report = auditor.audit(circuit, train, heldout, self._natural(heldout), advance)
        advance("controls")
        report["controls"] = self._run_controls(subject, (train, heldout)) if self._controls else None
        report |= {"pairs": len(heldout.last), "ablation": circuit.ablation, "key": subject.key}
        verdict = verdict_of(report, circuit.ablation, self.config)
        return report | {"verdict": dataclasses.asdict(verdict)}

    def _pairs(self, subject: Subject, split: str, count: int, seed: int) -> Pairs:
        run = self._run
        return build_pairs(subject.task, run.tokenizer, split, count, seed, run.config.model.n_ctx)

    def _natural(self, pairs: Pairs) -> Natural | str:
        config, windows = self.config, self._corpus.validation.tokens
        try:
            return find_natural(
                pairs, self._run.tokenizer, windows, config.natural, config.natural_context, config.seed
            )
        except TaskError as error:
            return str(error)

    def _auditor(self, prune: PruneConfig) -> Auditor:
        place = (prune.seed, prune.mean_batches)
        if place not in self._auditors:
            windows = self._windows(prune)
            self._auditors[place] = Auditor(self._run.model, self._run.params, windows, self.config)
        return self._auditors[place]

    def _windows(self, prune: PruneConfig) -> np.ndarray:
        """Training windows for mean activations, int32 [mean_batches, batch_size, n_ctx]."""
        count, size = prune.mean_batches, self._run.config.train.batch_size
        order = np.random.RandomState(prune.seed).permutation(len(self._corpus.train))[: count * size]
        tokens = self._corpus.train.tokens[np.resize(order, count * size), :-1]
        return np.asarray(tokens).reshape(count, size, -1)

    def _run_controls(self, subject: Subject, pairs: tuple[Pairs, Pairs]) -> Report:
        pruner, masks = self._pruner(subject), subject.circuit.masks()
        own = subject.circuit.metrics.get("run/seed", subject.prune.seed)  # one that a search chose
        first = subject.prune.seed + 1
        seeds = [seed for seed in range(first, first + self.config.seeds + 1) if seed != own]
        windows, sparsity = self._windows(subject.prune), self._run.config.sparsity
        return {
            "empty": empty_controls(pruner, self._run.model, sparsity, windows, pairs, self.config.seed),
            "seeds": other_seeds(pruner, masks, pairs, seeds[: self.config.seeds]),
        }

    def _pruner(self, subject: Subject) -> Pruner:
        prune = dataclasses.replace(subject.prune, tasks=("all",))
        if prune not in self._pruners:
            params = jax.device_put(self._run.params)
            mesh = data_mesh(prune.batch_pairs, "prune.batch_pairs")
            self._pruners[prune] = Pruner(self._run.model, params, subject.circuit.means, prune, mesh)
        return self._pruners[prune]


def find_subjects(run: Run, workdir: Path, names: list[str], config: AuditConfig) -> list[Subject]:
    """The circuits in `workdir` of the tasks or task files `names`; ["all"]: of every task.

    Raises:
      ConfigError: for no names.
      CircuitError: if there are none, one is missing, or one is not of this run's model.
      TaskError: for an unknown task.
    """
    if not names:
        raise ConfigError("--tasks is empty; name tasks, files of tasks, or all")
    there = sorted(path.parent.name for path in workdir.glob(f"circuits/*/{MANIFEST}"))
    if not there:
        raise CircuitError(f"{workdir} holds no circuits; cut some with experiments.prune")
    identity, subjects = model_hash(run.config.model, run.params), []
    for given in there if names == ["all"] else names:
        name = given if given in there else get_task(given).name
        if name not in there:
            raise CircuitError(
                f"{workdir} holds no circuit of {name}, only of {', '.join(there)}; "
                "cut it with experiments.prune"
            )
        folder = workdir / "circuits" / name
        circuit = load_circuit(folder)
        circuit.check_model(identity, run.tokenizer.hash)
        if "prune" not in circuit.provenance:
            raise CircuitError(f"{folder} does not say how the circuit was pruned; prune again")
        prune = from_dict(PruneConfig, circuit.provenance["prune"], f"{folder / MANIFEST}: prune")
        task = find_task(name, (given, *prune.tasks))
        subjects.append(Subject(task, circuit, prune, circuit_key(folder, config)))
    return subjects


def circuit_key(folder: Path, config: AuditConfig) -> str:
    """Hash of the circuit in `folder`, whose manifest names its arrays' hash, and of the audit's settings."""
    settings = json.dumps(to_dict(config), sort_keys=True).encode()
    return hashlib.sha256((folder / MANIFEST).read_bytes() + settings).hexdigest()


def table(reports: dict[str, Report], refusals: dict[str, str]) -> list[dict[str, Any]]:
    """One row a task: the verdict and the figures that decided it."""
    rows: list[dict[str, Any]] = []
    for task, report in reports.items():
        controls, natural = report["controls"], report["natural"]
        row = {
            "task": task,
            "verdict": report["verdict"]["verdict"],
            "nodes": report["circuit"]["nodes"],
            "edges": report["circuit"]["edges"],
            "loss alone": report["circuit"]["heldout"]["calibrated_loss"]["value"],
            "loss without": report["references"][report["ablation"]]["necessity"]["value"],
            "flips inside": report["interchange"]["circuit"]["value"],
            "flips outside": report["interchange"]["outside"]["value"],
            "gap": report["completeness"]["gap"],
            "model": report["model"]["assessment"],
        }
        if controls is not None:
            row["best control"] = min(each["nodes"] for each in controls["empty"].values())
            if controls["seeds"]:
                row["overlap"] = float(np.mean([each["jaccard"] for each in controls["seeds"]]))
        if "why_not" not in natural:
            row["natural"] = natural["circuit"]["accuracy"]["value"]
        rows.append(row | {"failed": ", ".join(report["verdict"]["failed"])})
    return rows + [{"task": task, "refused": why} for task, why in refusals.items()]


def earlier_reports(workdir: Path, config: AuditConfig) -> dict[str, Report]:
    """What an earlier call found, by task, for circuits that are still the same, with the same settings."""
    try:
        found = json.loads((workdir / "audit.json").read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (FORMAT, VERSION):
        return {}
    tasks = found.get("tasks")
    reports = tasks if isinstance(tasks, dict) else {}  # an edited file may hold anything
    folders = {task: workdir / "circuits" / task for task in reports}
    return {
        task: report
        for task, report in reports.items()
        if (folders[task] / MANIFEST).exists()
        and isinstance(report, dict)
        and report.get("key") == circuit_key(folders[task], config)
    }


def audit(examiner: Audit, subjects: list[Subject], earlier: dict[str, Report], workdir: Path) -> None:
    """Audits `subjects` that are not in `earlier`, saving after each; prints a table and writes the page."""
    path, config, stages = workdir / "audit.json", examiner.config, len(STAGES) + 1
    details = {"format": FORMAT, "version": VERSION, "settings": to_dict(config)}
    reports: dict[str, Report] = {}
    refusals: dict[str, str] = {}
    with tqdm(total=stages * len(subjects), desc="audit", disable=jax.process_index() != 0) as bar:
        for place, subject in enumerate(subjects):
            name = subject.task.name
            try:
                reports[name] = earlier[name] if name in earlier else examiner.examine(subject, bar)
            except TaskError as error:
                refusals[name] = str(error)
            rows = table(reports, refusals)
            write_json(path, details | {"summary": {}, "rows": rows, "tasks": earlier | reports})
            bar.update(stages * (place + 1) - bar.n)
    page = workdir / "audit.html"
    note = f"Intervals are {config.confidence:.0%} bootstrap intervals over pairs."
    with write_aside(page) as file:
        file.write(build_audit_page(f"Audit of {workdir.name}", rows, reports, note).encode())
    common.report(rows, path, {"page": str(page)}, details | {"tasks": earlier | reports})


def main() -> None:
    """The command."""
    workdir, config = common.workdir(), common.read_config().audit
    run = load_run(workdir)
    subjects = find_subjects(run, workdir, flags.FLAGS.tasks, config)
    earlier = earlier_reports(workdir, config)
    if _CONTROLS.value:
        earlier = {task: report for task, report in earlier.items() if report["controls"] is not None}
    examiner = Audit(run, prepare_corpus(run.config, workdir), config, _CONTROLS.value)
    audit(examiner, subjects, earlier, workdir)


if __name__ == "__main__":
    flags.DEFINE_list("tasks", ["all"], "Tasks, or files of tasks, whose circuits are audited.")
    common.run(main)
