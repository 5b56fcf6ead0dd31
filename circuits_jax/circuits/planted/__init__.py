"""Sparse networks whose circuit is known node by node: the yardstick of pruning.

Each network solves one synthetic task with a circuit wired by hand, buried in weights that do other things;
superposed on purpose, those share its channels and heads.
Every planted node is needed: with any one of them held at its mean the calibrated loss exceeds the target
of 0.15, while the planted circuit alone holds it.
"""

from circuits_jax.circuits.planted.designs import DESIGNS, Design
from circuits_jax.circuits.planted.network import CONFIG, Planted, Score, Wiring, plant, plant_design, score

__all__ = ["CONFIG", "DESIGNS", "Design", "Planted", "Score", "Wiring", "plant", "plant_design", "score"]
