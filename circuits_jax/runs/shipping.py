"""Makes the folder of the shipped model out of a finished run (`runs.shipped` says what lies in it).

The same run gives the same bytes.  What was made of other people's code and reads like it, the windows of
the run's corpus, is left out: the corpus that ships is of generated programs, written by the run's grammar
with the words of our own tasks.  Of a circuit the arrays of its search are left out, too, which no page
shows: the taus and the attributions of nodes outside it.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from circuits_jax import released
from circuits_jax.circuits.audit.records import FORMAT as AUDIT_FORMAT
from circuits_jax.circuits.audit.records import VERSION as AUDIT_VERSION
from circuits_jax.circuits.audit.records import circuit_key, kept_reports
from circuits_jax.circuits.circuit import Circuit, load_circuit
from circuits_jax.circuits.readings.records import FILE as READINGS
from circuits_jax.circuits.readings.records import of_circuit, read_readings
from circuits_jax.circuits.stories.files import has_story, read_story
from circuits_jax.circuits.stories.story import FILE as STORY
from circuits_jax.config import Config, to_dict
from circuits_jax.data import store
from circuits_jax.data.programs.generator import corpus_words, find_grammar, generate_programs
from circuits_jax.data.programs.words import WORDS
from circuits_jax.data.windows import write_windows
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.runs.audit_tables import audit_table
from circuits_jax.runs.model_card import CARD, model_card
from circuits_jax.runs.pages import read_records, test_pairs
from circuits_jax.runs.run import Run
from circuits_jax.runs.shipped import FORMAT, MODEL, RECORD, RUN, VERSION, read_record
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import CheckpointError, CircuitError, TaskError
from circuits_jax.storage.files import aside_of, check_writable, read_json_if_any, write_aside, write_json
from circuits_jax.storage.paths import exists
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.tasks import TASKS, Pairs
from circuits_jax.tasks.withheld import spells_withheld
from circuits_jax.training.checkpoints import newest
from circuits_jax.training.metrics import read_metrics
from circuits_jax.viewer.assembly import CURVES
from circuits_jax.viewer.circuit_page.evidence import gather_evidence
from circuits_jax.viewer.circuit_page.kept import keep_evidence

MOST_BYTES = 4_000_000
# Windows of generated programs: those that evidence is gathered on, and those that means are taken over.
WINDOWS = {"validation": 256, "train": 512}


class Shipment(NamedTuple):
    """What was made.

    Attributes:
      folder: Where it lies.
      sizes: Bytes of every file, by name.
    """

    folder: Path
    sizes: dict[str, int]


def ship(run: Run, out: Path, most: int = MOST_BYTES) -> Shipment:
    """Makes the folder `out` of the shipped model from a run; what was there before is replaced.

    Args:
      run: Finished, with circuits of built-in tasks.
      out: The folder; by its name and no other is it read again.
      most: Bytes that it may have in all.

    Raises:
      CheckpointError: if the run is not finished, `out` holds something else, or it would be too large.
      CircuitError: if a circuit is not of the run's model, or of a task of the user's own.
      UserError: if `out` cannot be written.
    """
    steps = run.whole_config.train.steps
    if (done := newest(run.folder)) != steps:
        raise CheckpointError(f"{run.folder} has trained {done} of {steps} steps; finish it first")
    if exists(out) and not exists(out / RECORD) and any(out.iterdir()):
        raise CheckpointError(f"{out} holds something else than a shipped model; name another folder")
    check_writable(out.parent, "or name another folder: --out=DIR")
    aside = aside_of(out)
    try:
        _build(run, aside)
        return _put(aside, out, most)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def ship_told(
    workdir: Path, out: Path, stories: bool = True, audits: bool = True, most: int = MOST_BYTES
) -> Shipment:
    """Puts what is told of circuits in a workdir of the shipped model into its folder `out`; all else stays.

    So stories are told and measured, and circuits audited, without the run that the model was made of.

    Args:
      workdir: That `cj.load("shipped")` made.
      out: The folder of the shipped model.
      stories, audits: What is put there.
      most: Bytes that it may have in all.

    Raises:
      CheckpointError: if `workdir` is of another model, a story cannot be read, or the folder would be too
        large; `out` is as it was then.
      CircuitError: for a story of another circuit.
      UserError: if `out` cannot be written.
    """
    record = read_record(out)
    if read_json_if_any(workdir / RECORD).get("model") != record["model"]:
        raise CheckpointError(
            f"{workdir} is no workdir of the model {record['model'][:12]} in {out}; name the one that "
            "view --model=shipped made"
        )
    check_writable(out.parent, "or name another folder: --out=DIR")
    aside = aside_of(out)
    try:
        shutil.copytree(out, aside)
        for target in sorted((aside / RUN / filenames.CIRCUITS).iterdir()) if stories else ():
            (target / STORY).unlink(missing_ok=True)
            _ship_story(load_circuit(target), workdir / filenames.CIRCUITS / target.name, target)
        if audits:
            found = _ship_audits(workdir, aside / RUN)
            record |= {"verdicts": {task: each["verdict"]["verdict"] for task, each in sorted(found.items())}}
        _close(aside, record, workdir)
        return _put(aside, out, most)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put(made: Path, out: Path, most: int) -> Shipment:
    """Puts a folder that is made in the place of `out`.

    Raises:
      CheckpointError: if it has more than `most` bytes.
    """
    sizes = {name: (made / name).stat().st_size for name in _files(made)}
    if (total := sum(sizes.values())) > most:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
        raise CheckpointError(
            f"the model would take {total:,} bytes, and {most:,} are allowed; the largest files are "
            + ", ".join(f"{name} ({sizes[name]:,})" for name in largest)
        )
    shutil.rmtree(out, ignore_errors=True)
    made.rename(out)
    return Shipment(out, sizes)


def _build(run: Run, folder: Path) -> None:
    """Writes everything into a new folder, the record and the card last."""
    config, home = run.whole_config, folder / RUN
    places = {source: home / filenames.CIRCUITS / source.name for source in run.circuit_folders}
    pairs = {source: _ship_circuit(run, source, target) for source, target in places.items()}
    counts = run.folder / filenames.BIGRAM_COUNTS if config.model.bigram == "counts" else None
    released.save_sparse(run.model.params, config.model, folder / MODEL, run.tokenizer, counts)
    model = released.load_sparse(folder / MODEL)
    if model.hash != run.model.hash:
        raise CheckpointError(f"the parameters of {run.folder} do not come back from {folder / MODEL}")
    corpus = _make_corpus(home / filenames.DATA, run.tokenizer, config)
    windows = store.read(corpus).validation.tokens
    for source, target in ProgressBar(places.items(), desc="evidence"):
        evidence = gather_evidence(load_circuit(target), run.model, pairs[source], windows)
        keep_evidence(target, evidence, corpus.name)
    # Of the run as it is from now on: its table is the model's own, its corpus the one that ships.
    recipe = _without_places(config)
    data = dataclasses.replace(recipe.data, hash=corpus.name)
    write_json(home / filenames.CONFIG, to_dict(dataclasses.replace(recipe, model=model.config, data=data)))
    _write_lines(home / filenames.METRICS, _training(run.folder))
    audits = _ship_audits(run.folder, home)
    _, refused = read_records(run.folder)
    left = {task: why for task, why in refused.items() if not exists(home / filenames.CIRCUITS / task)}
    _write_compact(
        home / filenames.PRUNE,
        {"summary": {}, "rows": [{"task": task, "refused": why} for task, why in sorted(left.items())]},
    )
    record = {
        "format": FORMAT,
        "version": VERSION,
        "model": model.hash,
        "tokenizer": run.tokenizer.hash,
        "release": importlib.metadata.version("circuits_jax"),
        "config": to_dict(recipe),
        "corpus": _about_corpus(run),
        "tasks": _scores(run),
        "verdicts": {task: report["verdict"]["verdict"] for task, report in sorted(audits.items())},
    }
    _close(folder, record, run.folder)


def _close(folder: Path, record: Mapping[str, Any], workdir: Path) -> None:
    """Writes the record with the digests of all other files, and the card."""
    names = [name for name in _files(folder) if name not in (RECORD, CARD)]
    write_json(folder / RECORD, {**record, "sha256": {name: _digest(folder / name) for name in names}})
    _refuse_place(folder, workdir)
    with write_aside(folder / CARD) as file:
        file.write(model_card(folder).encode())


def _ship_circuit(run: Run, source: Path, target: Path) -> Pairs:
    """Writes a circuit without the arrays of its search, its story, the readings of its edges, what `exhaust`
    found; gives the test pairs of its task.
    """
    circuit = load_circuit(source)
    circuit.check_model(run.model.hash, run.tokenizer.hash)
    if circuit.task not in TASKS or source.name != circuit.task:
        raise CircuitError(
            f"{source} is of {circuit.task}, a task of your own; only circuits of built-in tasks ship: "
            "move it away"
        )
    pairs = test_pairs(run, circuit, str(source))
    _slim(circuit).save(target)
    _ship_story(circuit, source, target)
    readings = read_readings(source)
    if readings is not None:
        _write_compact(target / READINGS, readings | {"circuit": of_circuit(target)})
    place = f"{filenames.EXHAUST_FOLDER}/{circuit.task}/{filenames.EXHAUST}"
    if exhausted := read_json_if_any(run.folder / place):
        _write_compact(target.parents[1] / place, exhausted)
    return pairs


def _ship_story(circuit: Circuit, source: Path, target: Path) -> None:
    """Writes the circuit's story, if it has one, beside it in `target`."""
    if has_story(source):
        read_story(source / STORY, circuit).save(target)


def _slim(circuit: Circuit) -> Circuit:
    found, prune = circuit.importance, circuit.provenance["prune"]
    importance = None if found is None else dataclasses.replace(found, attribution={}, exact={})
    # Names of other tasks that were cut by the same command may be files of the user's.
    named = {**prune, "tasks": [circuit.task]}
    return dataclasses.replace(
        circuit, taus=None, importance=importance, provenance={**circuit.provenance, "prune": named}
    )


def _ship_audits(workdir: Path, home: Path) -> dict[str, Any]:
    """Writes `audit.json` of the audits that are of the circuits as they are; gives them by task."""
    circuits = home / filenames.CIRCUITS
    audits = {
        task: report | {"key": circuit_key(circuits / task, report["settings"])}
        for task, report in kept_reports(workdir / filenames.AUDIT, workdir / filenames.CIRCUITS).items()
        if report
    }
    if audits:
        about = {"format": AUDIT_FORMAT, "version": AUDIT_VERSION, "summary": {}}
        settings = next(iter(audits.values()))["settings"]
        rows = audit_table(audits, {})
        _write_compact(home / filenames.AUDIT, about | {"settings": settings, "rows": rows, "tasks": audits})
    return audits


def _make_corpus(place: Path, tokenizer: Tokenizer, config: Config) -> Path:
    """A corpus of generated programs alone, with the words that built-in tasks are learnt with."""
    scratch = place / ".new"
    scratch.mkdir(parents=True)
    words = corpus_words(" ".join(kind) for kind in WORDS["train"].values())
    grammar = find_grammar(config.data.grammar, spells_withheld)
    counts, size = {}, config.model
    for seed, (split, wanted) in enumerate(WINDOWS.items()):
        programs = written = 0
        path = scratch / store.windows_file(split)
        with write_windows(path, tokenizer.eot, size.n_ctx, tokenizer.vocab_size) as writer:
            for text in generate_programs(words, seed, count=2**31, grammar=grammar):
                writer.add(tokenizer.encode_batch([text]))
                programs, written = programs + 1, written + len(text.encode())
                if writer.count >= wanted:
                    break
            found = {"generated": writer.count, "generated_distinct": writer.count}
            counts[split] = {"files": programs, "bytes": written, "tokens": writer.tokens, **found}
    facts = {
        "files": sum(each["files"] for each in counts.values()),
        "skipped": 0,
        "bytes": sum(each["bytes"] for each in counts.values()),
        "content": "",
        "made_of": {"generated": config.data.grammar, "n_ctx": size.n_ctx, "tokenizer": tokenizer.hash},
    }
    return store.keep(scratch, place, tokenizer, counts, facts)


def _about_corpus(run: Run) -> dict[str, Any]:
    """What the run was trained on, in figures."""
    corpus = run.corpus
    kept = read_json_if_any(run.folder / filenames.DATA / corpus.hash / store.MANIFEST)
    data = run.whole_config.data
    return {
        "own folders": bool(data.roots),
        "hash": corpus.hash,
        "content": corpus.content,
        "files": corpus.files,
        "bytes": corpus.bytes,
        "tokens": corpus.tokens,
        "windows": len(corpus.train),
        "generated windows": int(corpus.train.counts.get("generated", 0)),
        "versions": (kept.get("made_of") or {}).get("versions", {}),
    }


def _scores(run: Run) -> dict[str, dict[str, Any]]:
    """How the model does on test pairs of every built-in task, as many as pruning reports of, or why not."""
    found: dict[str, dict[str, Any]] = {}
    for name, task in TASKS.items():
        try:
            found[name] = dict(run.score(task, "test", pairs=run.whole_config.prune.test_pairs))
        except TaskError as error:
            found[name] = {"refused": str(error)}
    return found


def _training(workdir: Path) -> Iterator[dict[str, float]]:
    """The figures of training that pages draw, with five digits."""
    for row in read_metrics(workdir):
        kept = {name: float(f"{row[name]:.5g}") for name in CURVES if name in row}
        yield {"step": row["step"], **kept}


def _without_places(config: Config) -> Config:
    """`config` without the names of this machine's folders."""
    data = dataclasses.replace(config.data, store=None, roots=())
    return dataclasses.replace(config, data=data, train=dataclasses.replace(config.train, start_from=None))


def _refuse_place(folder: Path, workdir: Path) -> None:
    """Raises CheckpointError if a text that ships names the run's folder on this machine."""
    for name in _files(folder):
        if name.endswith((".json", ".jsonl")) and str(workdir) in (folder / name).read_text("utf-8"):
            raise CheckpointError(f"{name} names the folder {workdir} of this machine, and may not ship")


def _files(folder: Path) -> list[str]:
    """Names of all files below a folder, in order."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_compact(path: Path, values: Mapping[str, Any]) -> None:
    """JSON without the spaces for people, which are a third of an audit."""
    with write_aside(path) as file:
        file.write(json.dumps(values, separators=(",", ":")).encode() + b"\n")


def _write_lines(path: Path, rows: Iterator[Mapping[str, Any]]) -> None:
    with write_aside(path) as file:
        for row in rows:
            file.write(json.dumps(row).encode() + b"\n")
