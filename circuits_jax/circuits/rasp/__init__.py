"""RASP programs that tracr compiled into weights: networks whose circuit no one here wrote.

`python -m circuits_jax tracr` prunes them and compares with what is known (docs/statistics.md, "Compiled
programs").  The compiled weights are part of this package; only compiling anew needs the extra `tracr`.
"""

from circuits_jax.circuits.rasp.network import Network, embed
from circuits_jax.circuits.rasp.programs import PROGRAMS, RaspProgram
from circuits_jax.circuits.rasp.truth import Truth, truth_of
from circuits_jax.circuits.rasp.weights import Compiled, load, save

__all__ = ["PROGRAMS", "Compiled", "Network", "RaspProgram", "Truth", "embed", "load", "save", "truth_of"]
