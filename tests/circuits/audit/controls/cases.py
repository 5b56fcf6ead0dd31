"""A planted network, pruned, as a case of controls."""

import jax
import numpy as np

from circuits_jax.circuits.ablation.means import Subject, reference_activations
from circuits_jax.circuits.audit.controls.running import Case
from circuits_jax.circuits.pruning.assembly import make_circuit
from circuits_jax.circuits.pruning.nodes import Pruner


def pruned_case(planted, model, prune):
    """(the case of the circuit that pruning finds in a model on the pairs of `planted`, the pruner)."""
    means = reference_activations(model, planted.corpus, "mean")
    subject = Subject(model, {site: np.asarray(mean) for site, mean in means.items()})
    pruner = Pruner(subject, prune, jax.devices()[:1])
    circuit = make_circuit(pruner.prune(planted.splits, allow_unlearned=True), subject, prune, planted.splits)
    counts = np.bincount(planted.corpus.ravel(), minlength=model.config.vocab_size)
    return Case(circuit, subject, planted.splits, planted.corpus, counts, unfit=(0,)), pruner
