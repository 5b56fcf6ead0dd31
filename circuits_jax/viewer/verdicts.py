"""What an audit said of circuits, read back for their pages; a circuit that changed since has no verdict."""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from circuits_jax.circuits.audit.records import VERSION, is_of, read_any_version
from circuits_jax.circuits.circuit import Circuit

UNKNOWN, STALE = "not audited", "needs a new audit"


def read_audits(path: Path, folders: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """{circuit's folder name: {verdict, controls}} out of `audit.json`; empty where there is none of use.

    Of a file of an earlier release that audited a circuit, the verdict is that it needs a new audit.

    Args:
      path: The file, there or not.
      folders: Of circuits; a report counts for a folder whose circuit is the one that was audited.

    Raises:
      PointerError: if the file is a Git LFS pointer.
    """
    found = read_any_version(path)
    if not found:  # a missing audit is said on the page
        return {}
    try:
        audits, version = _of_folders(found, folders), found["version"]
        if version < VERSION:
            stale = {
                "verdict": {"verdict": STALE, "failed": [], "close": [], "criteria": []},
                "controls": None,
            }
            return dict.fromkeys(audits, stale)
        return audits if version == VERSION else {}
    except (AttributeError, KeyError, TypeError):  # cut by hand, say: as good as missing
        return {}


def _of_folders(found: Mapping[str, Any], folders: Iterable[Path]) -> dict[str, dict[str, Any]]:
    audits = {}
    for folder in folders:
        with contextlib.suppress(LookupError, AttributeError, TypeError):  # one edited by hand costs itself
            report = found["tasks"].get(folder.name)
            if report and is_of(report, folder, report.get("settings", found["settings"])):
                one = {name: report[name] for name in ("verdict", "controls")}
                if isinstance(one["verdict"]["verdict"], str):
                    audits[folder.name] = one
    return audits


def verdict_words(audit: Mapping[str, Any] | None, circuit: Circuit | None = None) -> str:
    """The verdict of one of `read_audits` on `circuit`, or that there is none."""
    if audit is not None:
        verdict = audit["verdict"]
        return verdict["verdict"] + (", close" if verdict.get("close") else "")
    return STALE if circuit is not None and circuit.of_two_splits else UNKNOWN
