"""The model that comes with the library, `cj.load("shipped")`: read where that lies, written elsewhere.

    shipped.json     the model's hash, what else is to be known of it, and a digest of every other file
    MODEL_CARD.md    the same for people, with the figures of every task
    model/           the model with its tokenizer, in the sparse format
    run/             what its workdir has beside the model: circuits, audits, the rows of training, a corpus

The library's own folder may be read-only and is never written.  What is written goes to a workdir, which is
made of these files when it is first needed and is from then on a workdir like any other.  The corpus is one
of generated programs: no text of other people's code is here.  `runs.shipping` makes the folder.
"""

import contextlib
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from circuits_jax import released
from circuits_jax.circuits.circuit import MANIFEST
from circuits_jax.circuits.stories.story import FILE as STORY
from circuits_jax.data import store
from circuits_jax.runs.audit_tables import audit_table, intervals_note
from circuits_jax.runs.run import Run
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import CheckpointError, UserError
from circuits_jax.storage.files import check_writable, read_bytes, read_json, read_json_if_any, write_aside
from circuits_jax.storage.paths import as_path, exists
from circuits_jax.training.workdir import load_config
from circuits_jax.viewer.audit_page import build_audit_page

NAME = "shipped"
FOLDER = Path(__file__).parents[1] / NAME
WORKDIR = "runs/shipped"

FORMAT, VERSION = "circuits_jax.shipped", 1
RECORD, MODEL, RUN = "shipped.json", "model", "run"
_WAY_OUT = "install circuits_jax again, from a wheel or a checkout that has it"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ShippedRun(Run):
    """The run of the shipped model.

    Attributes:
      shipped: The folder that it is read from.
      workdir: Where results go; it is made when one is first to be kept.
    """

    shipped: Path = FOLDER

    @property
    def folder(self) -> Path:
        """The workdir, made now unless it is there.

        Raises:
          CheckpointError: if another run lies there, or the shipped model of another release.
          UserError: if it cannot be written.
        """
        return unpack(self.shipped, super().folder)

    @property
    def circuit_folders(self) -> list[Path]:
        """Those of the workdir, once it is there, before that the shipped ones."""
        known = _hash_in(super().folder) == read_record(self.shipped)["model"]
        if known and exists(super().folder / filenames.CONFIG):
            return super().circuit_folders
        return _circuits(self.shipped)


def load_shipped(workdir: str | Path | None = None, folder: Path = FOLDER) -> ShippedRun:
    """Opens the shipped model; nothing is written.

    Args:
      workdir: Where results are to go, by default WORKDIR below the current folder.
      folder: That the model lies in.

    Raises:
      CheckpointError: if this install has none, it is of another release's form, or a file was altered.
    """
    record = read_record(folder)
    for name, digest in record["sha256"].items():
        if _digest(folder / name) != digest:
            raise CheckpointError(f"{folder / name} was altered or cut short; {_WAY_OUT}")
    model = dataclasses.replace(released.load_sparse(folder / MODEL), source=NAME)
    config = load_config(folder / RUN)
    corpus = store.read(folder / RUN / filenames.DATA / str(config.data.hash))
    place = as_path(WORKDIR if workdir is None else workdir)
    return ShippedRun(model, place, config, corpus, folder)


def read_record(folder: Path) -> dict[str, Any]:
    """What `shipped.json` says.

    Raises:
      CheckpointError: if there is none, or it is of a form that this release does not read.
    """
    if not exists(folder / RECORD):
        raise CheckpointError(f"this install of circuits_jax has no shipped model ({folder}); {_WAY_OUT}")
    record = read_json(folder / RECORD)
    if (record.get("format"), record.get("version")) != (FORMAT, VERSION):
        raise CheckpointError(
            f"{folder / RECORD} is of format {record.get('format')!r}, version {record.get('version')!r}; "
            f"this release reads {FORMAT!r}, version {VERSION}: {_WAY_OUT}"
        )
    return record


def unpack(folder: Path, workdir: Path) -> Path:
    """Makes `workdir` that of the shipped model's run, unless it is that already; returns it.

    Stories that a later release tells of the same model come into it all the same.

    Raises:
      CheckpointError: if another run lies there, or the shipped model of another release.
      LockError: if another process makes it at this moment.
      UserError: if it cannot be written.
    """
    record = read_record(folder)
    if _is_there(record["model"], workdir):
        _add_stories(folder, record, workdir)
        return workdir
    check_writable(workdir, "or name another folder: --workdir=DIR, or cj.load('shipped', workdir=DIR)")
    config = load_config(folder / RUN)
    for name in (RECORD, *(each for each in record["sha256"] if each.startswith(f"{RUN}/"))):
        if name != f"{RUN}/{filenames.CONFIG}":  # which comes last, with the checkpoint
            _copy(folder / name, workdir / name.removeprefix(f"{RUN}/"))
    _draw_audits(workdir)
    try:
        released.as_workdir(folder / MODEL, workdir, config=config)
    except CheckpointError:
        if not _is_there(record["model"], workdir):  # another process was faster
            raise
    return workdir


def _is_there(model: str, workdir: Path) -> bool:
    """Whether `workdir` is that of the shipped model of this hash; refuses that of anything else."""
    if not exists(workdir / filenames.CONFIG):
        return False
    found = _hash_in(workdir)
    if found is None:
        raise CheckpointError(
            f"{workdir} holds a run that is not the shipped model's; name another folder: --workdir=DIR, or "
            "cj.load('shipped', workdir=DIR)"
        )
    if found != model:
        raise CheckpointError(
            f"{workdir} holds the shipped model of another release, {found[:12]}, and this release ships "
            f"{model[:12]}; open that one as a run of yours (cj.load with its folder), or name another "
            "folder: --workdir=DIR, or cj.load('shipped', workdir=DIR)"
        )
    return True


def _add_stories(folder: Path, record: dict[str, Any], workdir: Path) -> None:
    """Puts stories that were told since `workdir` was made into it, if it can be written."""
    known, digests = read_json_if_any(workdir / RECORD).get("sha256"), record["sha256"]
    known = known if isinstance(known, dict) else {}
    new = [name for name in digests if name.endswith(f"/{STORY}") and name not in known]
    if not new:
        return
    with contextlib.suppress(UserError, OSError):  # a workdir that is only looked at
        for name in new:
            target = workdir / name.removeprefix(f"{RUN}/")
            circuit, shipped = target.with_name(MANIFEST), name.replace(STORY, MANIFEST)
            same = exists(circuit) and _digest(circuit) == digests[shipped]  # not cut anew since
            if same and not exists(target):
                _copy(folder / name, target)
        _copy(folder / RECORD, workdir / RECORD)


def _hash_in(workdir: Path) -> str | None:
    """The hash of the shipped model that a workdir was made of; None for another workdir."""
    found = read_json_if_any(workdir / RECORD).get("model")
    return found if isinstance(found, str) else None


def _circuits(folder: Path) -> list[Path]:
    return sorted(path.parent for path in (folder / RUN).glob(f"{filenames.CIRCUITS}/*/{MANIFEST}"))


def _digest(path: Path) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()


def _copy(source: Path, target: Path) -> None:
    content = read_bytes(source)
    with write_aside(target) as file:
        file.write(content)


def _draw_audits(workdir: Path) -> None:
    """Writes the page of the audits, as `runs.auditing` does."""
    reports = read_json_if_any(workdir / filenames.AUDIT).get("tasks") or {}
    if reports:
        title, rows = f"Audit of {NAME}", audit_table(reports, {})
        page = build_audit_page(title, rows, reports, intervals_note(reports))
        with write_aside(workdir / filenames.AUDIT_PAGE) as file:
            file.write(page.encode())
