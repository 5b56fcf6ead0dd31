"""What audits are shown as: the table, and what its intervals are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from circuits_jax.circuits.audit.records import AuditReport, copy_aside
from circuits_jax.storage import notices
from circuits_jax.storage.tables import Report
from circuits_jax.viewer.audit_page import build_audit_page

_MISSHAPED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


def audit_table(reports: Mapping[str, Report], refusals: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row a task: the verdict and the figures that decided it."""
    rows: list[dict[str, Any]] = []
    for task, report in reports.items():
        controls, natural = report["controls"], report["natural"]
        found = AuditReport(task, report)
        figures = found.figures
        row = {"task": task, "verdict": found.verdict, "ablation": report["ablation"], **figures}
        if (flag := report["model"]["flag"]) is not None:
            row["model"] = flag
        if report["circuit"].get("missed") is not None:
            row["target"] = "missed"
        if overlaps := [each["jaccard"] for each in (controls or {"rows": []})["rows"] if "jaccard" in each]:
            row["overlap"] = float(np.mean(overlaps))
        if "why_not" not in natural:
            row["natural"] = natural["circuit"]["accuracy"]["value"]
        rows.append(row | {"failed": ", ".join(found.failed), "close": ", ".join(found.close)})
    return rows + [{"task": task, "refused": why} for task, why in refusals.items()]


def those_that_show(reports: Mapping[str, Report], where: Path) -> dict[str, Report]:
    """Those of earlier audits that table and page can be made of; others, edited since, are told, and the
    file is copied aside with them.

    Args:
      reports: Read from a file, which anyone may have edited.
      where: That file.

    Raises:
      UserError: if it cannot be copied.
    """
    whole, damaged = {}, []
    for task, report in reports.items():
        one = {task: report}
        try:
            build_audit_page("", audit_table(one, {}), one, intervals_note(one))
        except _MISSHAPED:
            damaged.append(task)
        else:
            whole[task] = report
    if damaged:
        aside = copy_aside(where)
        notices.at_the_end(
            f"{where}: the audit of {', '.join(damaged)} is damaged and is left out; audit it again (the "
            f"file as it was is kept as {aside})"
        )
    return whole


def intervals_note(reports: Mapping[str, Report]) -> str:
    """What the intervals of the reports are, which may be of audits with different settings."""
    tasks: dict[float, list[str]] = {}
    for task, report in reports.items():
        tasks.setdefault(report["settings"]["confidence"], []).append(task)
    if len(tasks) < 2:
        each = f"{min(tasks, default=0.95):.0%}"
    else:
        each = "; ".join(f"{confidence:.0%} for {', '.join(found)}" for confidence, found in tasks.items())
    return (
        "Intervals are over templates, with Student's t (rates on log-odds, and Clopper and Pearson's for a "
        f"rate of 0 or 1): {each}."
    )
