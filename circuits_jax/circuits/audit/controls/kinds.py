"""The kinds of control, and their rows as `audit.json` has them (docs/statistics.md, "Controls").

A row is plain data: `kind`, `draw`, `edges`, `nodes`, `outcome` ("met", "missed" or "thrown away"), `loss`
(on the pairs of its target; None where it is not a number), `seconds`, and what tells draws apart.  One that
missed has all edges and nodes of its model; its loss is the full model's, unless `found` says how many nodes
and edges it had.  `learnt` is how learning masks ended: step, nodes, and the task loss of its last batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

RELABELLED, INVERTED, MEMORISED = "relabelled", "inverted", "memorised"
RANDOM, SHUFFLED = "random weights", "shuffled weights"
MOVED, SEED = "moved", "other seed"
# Searched like the circuit, whose edges are compared with theirs.
SEARCHED = (RELABELLED, INVERTED, MEMORISED, RANDOM, SHUFFLED)
TRAINED = "trained"  # the `scale` of random weights; those of audits of before had that of initialisation
MET, MISSED, THROWN_AWAY = "met", "missed", "thrown away"
FIELDS = frozenset({"kind", "draw", "edges", "nodes", "outcome", "loss", "seconds"})


def rows_of(rows: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    """The rows that count for a kind: none that was thrown away, of memorisation those that decide."""
    counted = [row for row in rows if row["kind"] == kind and row["outcome"] != THROWN_AWAY]
    if kind != MEMORISED or not counted:
        return counted
    decides = deciding_pairs(counted)
    return [row for row in counted if row["pairs"] == decides]


def deciding_pairs(rows: Sequence[Mapping[str, Any]]) -> int:
    """The largest number of pairs that a draw could memorise; the least that was tried if none could.

    Args:
      rows: Of memorisation, at least one.
    """
    met = [row["pairs"] for row in rows if row["outcome"] == MET]
    return max(met) if met else min(row["pairs"] for row in rows)
