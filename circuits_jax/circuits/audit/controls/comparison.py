"""A circuit against the distribution of its controls: the criteria of the verdict that are about them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from circuits_jax.circuits.audit.controls.kinds import MISSED, MOVED, SEARCHED, rows_of
from circuits_jax.circuits.audit.intervals import Figure
from circuits_jax.circuits.audit.verdict import Criterion, judge
from circuits_jax.config import AuditConfig

MISSES = "another circuit misses the target"
SMALLER = {kind: f"fewer edges than the {kind} controls" for kind in SEARCHED}


class Comparison(NamedTuple):
    """What `verdict.Measurements` says of controls, by the same names."""

    another_misses: Criterion
    smaller: tuple[Criterion, ...]
    beaten: bool
    full: bool


def compare(controls: Mapping[str, Any] | None, edges: int, config: AuditConfig) -> Comparison:
    """A criterion for the circuits moved here, and one for each kind that was searched.

    Args:
      controls: {"choice": of CONTROLS, "rows": of `running.ControlRuns`, "target": the loss asked for}; None
        if none were run.
      edges: Of the circuit.
      config: The thresholds.
    """
    rows = controls["rows"] if controls else []
    draws = {kind: [row["edges"] for row in rows_of(rows, kind)] for kind in SEARCHED}
    smaller = {kind: _smaller(SMALLER[kind], each, edges, config) for kind, each in draws.items()}
    beaten = any(
        smaller[kind].passed is False and (len(each) >= config.control_draws or edges >= min(each))
        for kind, each in draws.items()
    )
    another = _misses(rows_of(rows, MOVED), controls["target"] if controls else 0.0)
    full = controls is not None and controls["choice"] == "full"
    return Comparison(another, tuple(smaller.values()), beaten, full)


def _misses(rows: list[Mapping[str, Any]], target: float) -> Criterion:
    """Whether no circuit that was moved here meets the target."""
    if not rows:
        return judge(MISSES, None, target, False)
    losses = [row["loss"] for row in rows if row["loss"] is not None]
    missed = all(row["outcome"] == MISSED for row in rows)
    return Criterion(MISSES, _exact(min(losses)) if losses else None, target, False, missed, True)


def _smaller(name: str, draws: list[int], edges: int, config: AuditConfig) -> Criterion:
    """At most a share of the median draw's edges and fewer than any draw's; passed only by enough draws."""
    if not draws:
        return judge(name, None, 0.0, True)
    bound = min(config.control_share * float(np.median(draws)), min(draws) - 1)
    found = judge(name, _exact(edges), bound, True)
    few = found.passed and len(draws) < config.control_draws
    return dataclasses.replace(found, passed=None) if few else found


def _exact(value: float) -> Figure:
    return Figure(float(value), float(value), float(value))
