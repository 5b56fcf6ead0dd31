"""Circuits of one run or of several side by side: `<folder>/compare.html`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuits_jax.circuits.circuit import MANIFEST, Circuit
from circuits_jax.runs.opening import load_workdir
from circuits_jax.runs.own_tasks import read_named
from circuits_jax.runs.pages import Notes, evidence_of, read_circuit
from circuits_jax.runs.run import Run
from circuits_jax.storage.errors import CircuitError
from circuits_jax.storage.filenames import AUDIT, CIRCUITS, COMPARISON, INDEX
from circuits_jax.storage.files import check_writable
from circuits_jax.storage.paths import as_path, exists
from circuits_jax.tasks import remember
from circuits_jax.viewer.assembly import PageSettings, build_report, write_report
from circuits_jax.viewer.circuit_page.evidence import Evidence
from circuits_jax.viewer.circuit_page.vocabulary import embed_vocabulary
from circuits_jax.viewer.verdicts import read_audits


@dataclasses.dataclass(frozen=True)
class Opening:
    """How the runs of circuits are opened.

    Attributes:
      store: Folder that their corpora lie in, if those were shared and have moved.
      files: Of the user's own tasks; those in Python run only if they are among them.
      changed_tasks: Whether they run although no circuit of the runs was cut with them as they are.
    """

    store: str | None = None
    files: Sequence[str] = ()
    changed_tasks: bool = False


def compare_circuits(
    names: Sequence[str],
    home: Path,
    notes: Notes | None = None,
    opening: Opening = Opening(),  # noqa: B008 - frozen
    out: Path | None = None,
) -> Path:
    """Writes the comparison of two circuits or more into the folder `home`.

    Args:
      names: Tasks whose circuits lie in `home`, if it is a workdir, or folders of any run's circuits.
      home: Where the page goes, unless `out` says otherwise.
      notes: By the names that the circuits have on the page.
      opening: How the runs are opened.
      out: Folder for the page.

    Raises:
      CircuitError: for fewer than two names, or one that is no circuit of a run.
      TaskError: if a circuit's task is not to be found, or its file may not run.
    """
    if len(names) < 2:
        raise CircuitError(f"{', '.join(names)} alone cannot be compared; name two circuits or more")
    folders = [_circuit_folder(name, home) for name in names]
    runs: dict[Path, Run] = {}
    for folder in folders:
        workdir = _workdir_of(folder)
        if workdir not in runs:
            runs[workdir] = load_workdir(workdir, opening.store)
    for task in read_named(list(runs.values()), opening.files, opening.changed_tasks).values():
        remember(task)
    return _write([(runs[_workdir_of(folder)], folder) for folder in folders], home, notes, out)


def _write(chosen: Sequence[tuple[Run, Path]], home: Path, notes: Notes | None, out: Path | None) -> Path:
    """The page of (run, folder of a circuit) pairs."""
    check_writable(
        out or home,
        "or draw into a folder of yours: python -m circuits_jax view WORKDIR --compare=... --out=DIR",
    )
    shown: list[tuple[Circuit, Evidence]] = []
    keys: list[str] = []
    vocabularies: dict[str, Any] = {}
    audits = []
    for run, folder in chosen:
        circuit, pairs = read_circuit(run, folder)
        vocabularies[run.tokenizer.hash] = embed_vocabulary(run.tokenizer)
        shown.append((circuit, evidence_of(run, circuit, pairs, folder)))
        workdir = run.folder.resolve()
        keys.append(folder.name if workdir == home.resolve() else f"{workdir.name} {folder.name}")
        audits.append(read_audits(run.folder / AUDIT, [folder]).get(folder.name))
    keys = [key if keys.index(key) == place else f"{key} {place + 1}" for place, key in enumerate(keys)]
    known = {key: audit for key, audit in zip(keys, audits, strict=True) if audit is not None}
    index = INDEX if exists((out or home) / INDEX) else None
    settings = PageSettings(keys, vocabularies, known, annotations=notes, home=index, comparison=True)
    place = (out or home) / COMPARISON
    write_report(place, build_report(" and ".join(keys), shown, settings=settings))
    return place


def _circuit_folder(name: str, home: Path) -> Path:
    folder = home / CIRCUITS / name
    folder = folder if exists(folder / MANIFEST) else as_path(name)
    if not exists(folder / MANIFEST):
        raise CircuitError(f"{name} is no circuit of {home}, nor the folder of another run's circuit")
    return folder


def _workdir_of(folder: Path) -> Path:
    return folder.resolve().parent.parent
