"""Loss against nodes kept: how far the most important nodes of a circuit alone carry its task."""

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation.edge_removal import remove_edges
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_batch, pair_difference
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.model.model import Model
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import Params
from circuits_jax.tasks.calibration import calibrate
from circuits_jax.tasks.metrics import loss_of_difference
from circuits_jax.tasks.task import Pairs

MAX_PAIRS = 64
POINTS = 12


def loss_curve(circuit: Circuit, model: Model, pairs: Pairs) -> list[list[float]]:
    """[[nodes kept, task loss, the same calibrated anew], ...], nodes in the order of their ablation deltas.

    Args:
      circuit: The circuit; without importance there is no order, and no curve.
      model: The model that it was cut from.
      pairs: Its task's pairs; the first MAX_PAIRS are used.
    """
    count = len(circuit.nodes)
    if circuit.importance is None or count < 2:
        return []
    order = np.argsort(-np.asarray(circuit.importance.node_deltas), kind="stable")
    model = remove_edges(circuit, model)
    batch = pair_batch(pairs, model.config.n_ctx).first(MAX_PAIRS)
    means = {site: jnp.asarray(mean) for site, mean in circuit.means.items()}

    @jax.jit
    def losses(params: Params, batch: PairBatch, masks: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        difference = pair_difference(model.network, params, batch, mix(masks, means))
        return loss_of_difference(difference), calibrate(difference)[2]

    curve = []
    for kept in sorted({int(round(x)) for x in np.geomspace(1, count, min(POINTS, count))}):
        masks = {site: np.zeros_like(mask) for site, mask in circuit.masks().items()}
        for place in order[:kept]:
            masks[circuit.nodes[place].site][circuit.nodes[place].index] = 1
        found = losses(model.device_params, batch, masks)
        curve.append([kept, *(float(f"{float(loss):.4g}") for loss in found)])
    return curve
