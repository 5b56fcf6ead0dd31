"""The readings of a run's circuits: which of their edges a rule on tokens tells (docs/method.md, "Readings").

`<workdir>/circuits/<task>/readings.json` holds those of a circuit.  A circuit that was read already, with the
same settings and rules, is not read again; one whose reading was stopped goes on from there.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits_jax.circuits.ablation.means import means_of
from circuits_jax.circuits.ablation.pairs import pair_batches
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.readings.measure import EdgeReader, Given
from circuits_jax.circuits.readings.records import (
    FILE,
    FORMAT,
    UNFINISHED,
    VERSION,
    ReadingsReport,
    best_first,
    earlier,
    is_weak,
    of_circuit,
    summary_of,
)
from circuits_jax.circuits.readings.rules import Rules, Words, edge_name, given_ids
from circuits_jax.config import ReadingsConfig, to_dict
from circuits_jax.runs.auditing import AuditSubject, saved_subject
from circuits_jax.runs.corpora import reference_windows
from circuits_jax.runs.judging import check_ablation, judging_pairs
from circuits_jax.storage.errors import ConfigError, TaskError, check_kind
from circuits_jax.storage.filenames import CIRCUITS
from circuits_jax.storage.files import read_bytes, write_json
from circuits_jax.storage.locks import locked
from circuits_jax.storage.paths import as_path
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.storage.tables import Report
from circuits_jax.training.device_memory import memory_told
from circuits_jax.training.multihost.processes import is_primary

if TYPE_CHECKING:
    from circuits_jax.runs.run import Run

LOCK = ".readings.lock"
MOST_EDGES = 4096  # each is a pass over the pairs at least
SAVE_SECONDS = 10.0
HELPS = "lower readings.pairs"
FUNCTION = "a function"  # what a report says of rules that cannot be written


def read_circuit_edges(run: "Run", circuit: Circuit, rules: Rules | str | Path | None) -> ReadingsReport:
    """See `Run.readings`."""
    reports, refusals = read_edges(run, [saved_subject(run, circuit)], run.whole_config.readings, rules)
    if circuit.task in refusals:
        raise TaskError(refusals[circuit.task])
    return reports[circuit.task]


def read_edges(
    run: "Run",
    subjects: Sequence[AuditSubject],
    config: ReadingsConfig,
    rules: Rules | str | Path | None = None,
) -> tuple[dict[str, ReadingsReport], dict[str, str]]:
    """Reads the edges of circuits, saving `readings.json` beside each.

    Args:
      run: With a workdir and a corpus.
      subjects: Of `find_subjects`.
      config: Sizes and thresholds.
      rules: A user's, or the JSON file that holds them; of one circuit.

    Returns:
      ({task: report}, {task: why it was refused}).

    Raises:
      ConfigError: for rules of several circuits, or rules that name or select nothing.
      CircuitError: for an edge that the circuit has not.
      LockError: if another process reads the run's circuits.
      UserError: if the workdir cannot be written.
    """
    if rules is not None and len(subjects) != 1:
        raise ConfigError(
            f"rules are of the edges of one circuit, and there are {len(subjects)}; name its task alone"
        )
    if rules is not None and not callable(rules):
        way_out = "{'SOURCE -> TARGET': token ids or texts}, a JSON file of such, or a function"
        check_kind("what gives the rules", rules, (Mapping, str, Path), way_out)
    if isinstance(rules, str | Path):
        rules = read_rules(as_path(rules))
    reports: dict[str, ReadingsReport] = {}
    refusals: dict[str, str] = {}
    total = sum(len(subject.circuit.edges) for subject in subjects)
    with (
        locked(run.folder, LOCK),
        memory_told(HELPS),
        ProgressBar(total=2 * total, desc="readings", disable=not is_primary()) as bar,
    ):
        for subject in subjects:
            name, end = subject.task.name, bar.n + 2 * len(subject.circuit.edges)
            bar.set_postfix(task=name)
            try:
                report = _Reading(run, subject, config, rules).report(bar.update)
                reports[name] = ReadingsReport(name, report)
            except TaskError as error:
                refusals[name] = str(error)
            bar.update(end - bar.n)
    return reports, refusals


def read_rules(path: Path) -> dict[str, Any]:
    """A user's rules as a JSON file has them, {"SOURCE -> TARGET": [token ids and texts]}.

    Raises:
      CheckpointError: if the file cannot be read.
      ConfigError: if it holds something else, or an edge twice.
    """
    content = read_bytes(path)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
            raise ConfigError(f"{path} names {twice!r} twice; keep one of the two")
        return found

    try:
        rules = json.loads(content.decode("utf-8-sig"), object_pairs_hook=once)
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(rules, dict) or not rules:
        raise ConfigError(f'{path} holds no rules; write {{"SOURCE -> TARGET": [token ids or texts]}}')
    return rules


def readings_file(run: "Run", task: str) -> Path:
    """Where the readings of a task's circuit lie."""
    return run.folder / CIRCUITS / task / FILE


def readings_table(
    reports: Mapping[str, ReadingsReport], refusals: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One row a circuit: its edges, how many are judged, and how many of those are read."""
    rows: list[dict[str, Any]] = [
        {"task": task, "ablation": each.report["ablation"], **each.summary} for task, each in reports.items()
    ]
    return rows + [{"task": task, "refused": why} for task, why in refusals.items()]


class _Reading:
    """The reading of one circuit, from where it was stopped."""

    def __init__(self, run: "Run", subject: AuditSubject, config: ReadingsConfig, rules: Rules | None):
        self._run, self._subject, self._config = run, subject, config
        self._folder = run.folder / CIRCUITS / subject.task.name
        self._settings, self._saved = to_dict(config), time.monotonic()
        circuit = subject.circuit
        check_ablation(circuit, "readings do")
        if len(circuit.edges) > MOST_EDGES:
            raise TaskError(
                f"the circuit of {circuit.task} has {len(circuit.edges):,} edges, more than {MOST_EDGES:,}, "
                "which are too many to be read one by one; prune it to a smaller one"
            )
        self._words = Words(run.tokenizer, run.model.config.vocab_size)
        self._rules: Given | None = None
        self._recorded: Any = None
        if callable(rules):
            self._rules, self._recorded = rules, FUNCTION
        elif rules is not None:
            self._rules = ids = given_ids(circuit, rules, self._words)
            self._recorded = {edge_name(circuit, edge): ids[edge] for edge in sorted(ids)}

    def report(self, advance: Callable[[], Any]) -> dict[str, Any]:
        """What `readings.json` then holds; `advance` is called twice for each edge."""
        finished = self._earlier(FILE)
        if finished is not None:
            return finished | {"ablation": self._subject.circuit.ablation}  # files of before lack it
        edges = range(len(self._subject.circuit.edges))
        reader, begun = self._reader(), (self._earlier(UNFINISHED) or {}).get("rows", [])
        if self._rules is not None:
            reader.check(self._rules)
        rows: list[Report] = [*begun[: len(edges)]]
        for edge in edges[len(rows) :]:
            rows.append(self._ends(edge) | {"effect": reader.effect(edge)})
            advance()
            self._save(rows)
        for edge, row in enumerate(rows):
            if "passes" not in row:
                row |= {"passes": None} if is_weak(row, self._config) else reader.read(edge, self._rules)
            advance()
            self._save(rows)
        report = self._report(best_first(rows)) | {"summary": summary_of(rows, self._config)}
        write_json(self._folder / FILE, report)
        (self._folder / UNFINISHED).unlink(missing_ok=True)
        return report

    def _reader(self) -> EdgeReader:
        run, subject, config = self._run, self._subject, self._config
        prune, circuit = subject.prune, subject.circuit
        seed = prune.seed + 1 + config.seed
        splits = judging_pairs(run, subject.task, circuit, prune, config.pairs, seed)
        train, test = pair_batches([splits.train, splits.test], run.model.config.n_ctx)
        means = means_of(circuit, run.model, lambda: reference_windows(run.corpus, run.whole_config, prune))
        circuit = dataclasses.replace(circuit, means=means)
        return EdgeReader(circuit, run.model, self._words, (train, test), config)

    def _ends(self, edge: int) -> Report:
        circuit = self._subject.circuit
        source, target, _ = circuit.edges[edge]
        return {"source": str(circuit.nodes[source]), "target": str(circuit.nodes[target])}

    def _earlier(self, name: str) -> dict[str, Any] | None:
        if callable(self._rules):
            return None  # it may be another function than then
        return earlier(self._folder / name, self._folder, self._settings, self._recorded)

    def _report(self, rows: Iterable[Report]) -> dict[str, Any]:
        about = {"format": FORMAT, "version": VERSION, "circuit": of_circuit(self._folder)}
        about |= {"ablation": self._subject.circuit.ablation}
        return {**about, "settings": self._settings, "rules": self._recorded, "rows": list(rows)}

    def _save(self, rows: Sequence[Report]) -> None:
        """Keeps what is known so far, now and then."""
        if time.monotonic() - self._saved < SAVE_SECONDS:
            return
        write_json(self._folder / UNFINISHED, self._report(rows))
        self._saved = time.monotonic()
