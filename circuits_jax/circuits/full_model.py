"""What pruning recorded of a circuit and of its full model (docs/method.md, "Pruning")."""

from typing import Any

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.tasks.metrics import CHANCE

GOOD, MEDIOCRE, AT_CHANCE = "good", "mediocre", "at chance"
# Below chance by less than this, in nats, a model knows nothing of a task.
MARGIN = 0.1
UNKNOWN: dict[str, Any] = {"flag": None, "select_loss": None}


def known_of(circuit: Circuit) -> dict[str, Any]:
    """{"flag": GOOD, MEDIOCRE or AT_CHANCE, "select_loss": the calibrated loss that decides it, in nats}.

    Both are what pruning recorded, so that tables, audits and pages say the same of one circuit.  They are
    of select pairs, or of test pairs where there were two splits and pruning chose by those.  Of a circuit
    that does not say, because it was made in another way, both are None.

    MEDIOCRE is a warning: a mask can repair such a model, so that its circuit explains less than it seems to.
    """
    split = "test" if circuit.of_two_splits else "select"
    loss = circuit.metrics.get(f"full/{split}/calibrated_loss")
    mediocre = circuit.provenance.get("mediocre_model")
    if loss is None or mediocre is None:
        return UNKNOWN
    if not loss <= CHANCE - MARGIN:
        return {"flag": AT_CHANCE, "select_loss": loss}
    return {"flag": MEDIOCRE if mediocre else GOOD, "select_loss": loss}


def missed_by(circuit: Circuit) -> float | None:
    """The calibrated loss, in nats, of a circuit that misses its target on the pairs that pruning chose by.

    None where it meets it, or does not say.
    """
    if circuit.provenance.get("met_target") is not False:
        return None
    split = "test" if circuit.of_two_splits else "select"
    return circuit.metrics.get(f"{split}/calibrated_loss")
