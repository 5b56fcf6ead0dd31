"""`audit.json`: the audits of a run's circuits, and one of them as an object."""

import dataclasses
import glob
import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from circuits_jax.circuits.audit.controls.kinds import SEARCHED, rows_of
from circuits_jax.circuits.circuit import MANIFEST, load_circuit
from circuits_jax.circuits.full_model import UNKNOWN, known_of, missed_by
from circuits_jax.config import CONTROLS, AuditConfig, to_dict
from circuits_jax.config.identity import identity
from circuits_jax.storage import notices
from circuits_jax.storage.errors import CheckpointError, CircuitError, UserError
from circuits_jax.storage.files import read_json_if_any, write_aside
from circuits_jax.storage.lfs import refuse_pointer
from circuits_jax.storage.paths import exists, is_remote

# Version 1 judged by pairs that pruning may have chosen by, version 2 had controls that could not win,
# version 3 had other orders of curves, powers and ties of tests, and words of verdicts.  The first reports of
# version 4 flag the full model by test pairs, as "assessment"; `_with_flag` puts pruning's flag in its place.
FORMAT, VERSION = "circuits_jax.audit", 4
# Of what an audit under way keeps, rows of controls and other parts.  Those of version 1 were of pairs that
# pruning may have reported, and of moved circuits of every ablation; version 2 had random weights as small as
# those of a model that has not been trained, version 3 searches that never gave up.
_PARTS_VERSION = 4


@dataclasses.dataclass(frozen=True, repr=False)
class AuditReport:
    """The audit of one circuit; it prints as one line and shows itself in a notebook.

    Attributes:
      task: The circuit's task.
      report: All that was measured, as it stands in `audit.json`: dicts, lists and numbers.
    """

    task: str
    report: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """ "faithful", "no better than the control", "not shown" or "not shown (full controls not run)"."""
        return self.report["verdict"]["verdict"]

    @property
    def failed(self) -> tuple[str, ...]:
        """The criteria that decided against "faithful"."""
        return tuple(self.report["verdict"]["failed"])

    @property
    def close(self) -> tuple[str, ...]:
        """The criteria whose interval crosses their bound: other templates might have decided otherwise."""
        return tuple(self.report["verdict"]["close"])

    @property
    def figures(self) -> dict[str, float]:
        """The figures that decided the verdict, sizes in nodes or edges; a control's in edges."""
        report = self.report
        figures = {
            "nodes": report["circuit"]["nodes"],
            "edges": report["circuit"]["edges"],
            "loss alone": report["circuit"]["test"]["calibrated_loss"]["value"],
            "loss without": report["references"][report["ablation"]]["necessity"]["value"],
            "flips inside": report["interchange"]["circuit"]["value"],
            "flips outside": report["interchange"]["outside"]["value"],
            "gap": report["completeness"]["gap"],
        }
        if report["controls"] is not None:
            rows = report["controls"]["rows"]
            draws = [row["edges"] for kind in SEARCHED for row in rows_of(rows, kind)]
            figures["smallest control"] = min(draws)
        return figures

    def __repr__(self) -> str:
        notes = "".join(f" ({text})" for text in self._notes())
        figures = ", ".join(f"{name} {_short(value)}" for name, value in self.figures.items())
        return f"{self.task}: {self.verdict}{notes}; under {self.report['ablation']} ablation: {figures}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{_short(value)}</td></tr>"
            for name, value in {"ablation": self.report["ablation"], **self.figures}.items()
        )
        notes = "".join(f"<p>{html.escape(text)}</p>" for text in self._notes())
        caption = f"{html.escape(self.task)}: {html.escape(self.verdict)}"
        return f"<table><caption>{caption}</caption>{rows}</table>{notes}"

    def _notes(self) -> list[str]:
        named = {"failed": self.failed, "close": self.close}
        notes = [f"{what}: {', '.join(names)}" for what, names in named.items() if names]
        missed = self.report["circuit"].get("missed") is not None
        return notes + ["misses its target: beside controls it counts as all edges"] * missed


def circuit_key(folder: Path, settings: Mapping[str, Any]) -> str:
    """Hash of the circuit in `folder`, whose manifest names its arrays' hash, and of the audit's settings."""
    return _key(folder, identity(AuditConfig, settings))


def controls_key(folder: Path, corpus: str, seed: int) -> str:
    """Hash of what the rows of the controls of the circuit in `folder` depend on."""
    text = json.dumps([_PARTS_VERSION, corpus, seed]).encode()
    return hashlib.sha256((folder / MANIFEST).read_bytes() + text).hexdigest()[:16]


def measured_folder(key: str, corpus: str) -> str:
    """What the folder of an audit's finished parts is called; earlier versions measured something else."""
    return f"{VERSION}.{_PARTS_VERSION}-{key[:16]}-{corpus[:8]}"


def covers(report: Mapping[str, Any], choice: str) -> bool:
    """Whether a report has as many controls as `choice`, one of CONTROLS, asks for."""
    made = report["controls"]["choice"] if report["controls"] else "none"
    return CONTROLS.index(made) >= CONTROLS.index(choice)


def was_compared(report: Mapping[str, Any]) -> bool:
    """Whether a report has curves and tests, or says why its model can have none."""
    return report.get("curves") is not None or report.get("not_compared") is not None


def is_of(report: Mapping[str, Any], folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a report, made with `settings` by any release, is of the circuit in `folder` as it is now."""
    return report.get("key") in (circuit_key(folder, settings), _key(folder, settings))


def _key(folder: Path, settings: Mapping[str, Any]) -> str:
    text = json.dumps(settings, sort_keys=True).encode()
    return hashlib.sha256((folder / MANIFEST).read_bytes() + text).hexdigest()


def read_reports(path: Path) -> dict[str, Any]:
    """What `audit.json` holds; nothing if it is not there, or not one of this version."""
    found = read_any_version(path)
    return found if found.get("version") == VERSION else {}


def read_any_version(path: Path) -> dict[str, Any]:
    """What `audit.json` holds, whatever its version; nothing if it is not there or is something else.

    Raises:
      PointerError: if it is a Git LFS pointer.
    """
    found = read_json_if_any(path)
    return found if found.get("format") == FORMAT else {}


def put_aside(path: Path) -> None:
    """Renames an `audit.json` of which this release can keep nothing, and tells it; another is left.

    Raises:
      CheckpointError: if the file is a Git LFS pointer.
      UserError: if it cannot be renamed.
    """
    why = _unread(path)
    if why is None:
        return
    aside = _name_aside(path)
    try:
        if is_remote(path):  # an object cannot be renamed
            aside.write_bytes(path.read_bytes())
            path.unlink()
        else:
            path.rename(aside)
    except OSError as error:
        raise UserError(
            f"{path} {why}, and cannot be renamed to {aside.name}: {error.strerror or error}; move it away"
        ) from error
    notices.at_the_end(f"{path} {why}: its audits are not taken over; it is kept as {aside.name}")


def copy_aside(path: Path) -> str:
    """Keeps a copy of an `audit.json` whose next writing leaves out what is damaged; gives the copy's name.

    Raises:
      UserError: if it cannot be written.
    """
    aside = _name_aside(path)
    try:
        content = path.read_bytes()
        for before in path.parent.glob(f"{glob.escape(path.name)}.damaged*"):
            if before.read_bytes() == content:  # of an audit that was stopped before it wrote
                return before.name
        with write_aside(aside) as file:
            file.write(content)
    except OSError as error:
        raise UserError(
            f"{path} has damaged audits, and cannot be copied to {aside.name}: {error.strerror or error}; "
            "move it away"
        ) from error
    return aside.name


def _name_aside(path: Path) -> Path:
    """A name beside a damaged file that nothing has yet."""
    aside = path.with_name(f"{path.name}.damaged")
    while exists(aside):
        aside = aside.with_name(f"{aside.name}+")
    return aside


def _unread(path: Path) -> str | None:
    """Why nothing of an `audit.json` can be kept; None if it can be, or there is none."""
    try:
        content = path.read_bytes()
        refuse_pointer(content, path)
        found = json.loads(content)
    except FileNotFoundError:
        return None
    except CheckpointError:
        raise
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    except (ValueError, RecursionError) as error:
        return f"is not valid JSON ({error})"
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return "holds no audits"
    if found.get("version") != VERSION:
        return f"is of version {found.get('version')!r}, and this release reads version {VERSION}"
    return None if isinstance(found.get("tasks"), dict) else "holds no table of audits by task"


def kept_reports(path: Path, circuits: Path) -> dict[str, dict[str, Any]]:
    """What earlier audits found, by task, for circuits that are still the same, each with its "settings".

    One that is damaged is there as {}.

    Args:
      path: `audit.json`, there or not.
      circuits: The folder of the run's circuits.
    """
    found = read_reports(path)
    tasks, settings = found.get("tasks"), found.get("settings")
    kept: dict[str, dict[str, Any]] = {}
    for task, report in tasks.items() if isinstance(tasks, dict) else ():  # an edited file may hold anything
        if not exists(circuits / task / MANIFEST):
            continue
        own = report.get("settings", settings) if isinstance(report, dict) else None
        if not isinstance(own, dict) or not isinstance(report.get("key"), str):
            kept[task] = {}
        elif is_of(report, circuits / task, own):
            kept[task] = _with_flag(report, circuits / task) | {"settings": own}
    return kept


def _with_flag(report: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A report of the circuit in `folder`, with the full model's flag in the place of one by test pairs."""
    model = report.get("model")
    if not isinstance(model, dict) or "flag" in model:
        return report
    try:
        known = known_of(load_circuit(folder))
    except CircuitError:
        known = UNKNOWN
    rest = {name: value for name, value in model.items() if name != "assessment"}
    return report | {"model": rest | known}


def earlier_reports(path: Path, circuits: Path, config: AuditConfig) -> dict[str, dict[str, Any]]:
    """Those of `kept_reports` that were made with the settings of now, `config`, and by today's rules."""
    wanted = identity(AuditConfig, to_dict(config))
    kept = kept_reports(path, circuits)
    return {
        task: each
        for task, each in kept.items()
        if each
        and identity(AuditConfig, each["settings"]) == wanted
        and not _counts_otherwise(each, circuits / task)
    }


def _counts_otherwise(report: Mapping[str, Any], folder: Path) -> bool:
    """Whether a report compares a circuit that misses its own target with controls by its own edges.

    Reports did so before such a circuit counted as all edges of its model.
    """
    circuit = report.get("circuit")  # an edited file may hold anything
    if report.get("controls") is None or not isinstance(circuit, Mapping) or "counted_edges" in circuit:
        return False
    try:
        return missed_by(load_circuit(folder)) is not None
    except CircuitError:
        return False


def earlier_refusals(path: Path, circuits: Path) -> dict[str, str]:
    """Why earlier audits refused circuits that are still there, by task."""
    rows = read_reports(path).get("rows")
    return {
        row["task"]: str(row["refused"])
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict)
        and isinstance(row.get("task"), str)
        and "refused" in row
        and exists(circuits / row["task"] / MANIFEST)
    }


def _short(value: float | str) -> str:
    return f"{value:.3f}" if isinstance(value, float) else html.escape(str(value))
