"""Changes nodes by hand and compares the next tokens before and after.

Interventions are those of `circuits.ablation.edits`, and a circuit kept or ablated.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from circuits_jax.circuits.ablation.edge_removal import remove_edges
from circuits_jax.circuits.ablation.edits import Edit, at_positions, intervene
from circuits_jax.circuits.ablation.means import Means, mean_activations
from circuits_jax.circuits.circuit import Circuit, load_circuit
from circuits_jax.config.checks import check_choice
from circuits_jax.model.model import Model
from circuits_jax.model.taps import Tap, ablate, compose, only
from circuits_jax.runs.corpora import reference_windows
from circuits_jax.runs.run import Run
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.tables import Row

ROLES = ("keep", "ablate", "means")


@dataclasses.dataclass(frozen=True)
class Intervention:
    """What is changed.

    Attributes:
      edits: Of single nodes.
      where: Positions at which they act, bool [T].
      circuit: A circuit that is kept or ablated, or gives the means; or None.
      role: Of ROLES: keep the circuit's nodes and ablate all others, ablate them alone, or take only means.
    """

    edits: Sequence[Edit]
    where: np.ndarray
    circuit: Circuit | None = None
    role: str = "keep"

    def __post_init__(self) -> None:
        check_choice("the circuit's role", self.role, ROLES)


def read_circuit_of(model: Model, folder: Path) -> Circuit:
    """The circuit in `folder`.

    Raises:
      CircuitError: if there is none, or it is not of this model.
    """
    circuit = load_circuit(folder)
    tokenizer = circuit.tokenizer_hash if model.tokenizer is None else model.tokenizer.hash
    circuit.check_model(model.hash, tokenizer)
    return circuit


def corpus_means(run: Run) -> Means:
    """Mean activations over the run's own corpus, the same windows as pruning takes; of `final_resid` too.

    Raises:
      ConfigError: if it has none.
    """
    if run.config is None:
        raise ConfigError(
            f"no means are known for {run.model.name}, which has no corpus; give a circuit whose means to "
            "use, or ablate with :zero"
        )
    windows = reference_windows(run.corpus, run.config, run.config.prune)
    return mean_activations(run.model, windows, final=True)


def intervened_logits(run: Run, prompt: Sequence[int], what: Intervention) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the model on a prompt, float32 [T, V], before and after an intervention.

    Raises:
      ConfigError: for an edit that this model has no place for, or a mean that is not known.
    """
    tokens = np.array([prompt], np.int32)
    model, tap = _changed(run, what)
    before, _ = run.model.apply(tokens)

    @jax.jit
    def after(params: dict) -> jax.Array:
        return model.network.apply(params, tokens, tap=tap)[0]

    return np.asarray(before[0]), np.asarray(after(model.device_params)[0])


def compare(
    before: np.ndarray,
    after: np.ndarray,
    positions: Sequence[int],
    top: int,
    model: Model,
    prompt: Sequence[int],
) -> list[Row]:
    """One row for each of the `top` tokens before or after, at each position; logits are [T, V]."""
    rows: list[Row] = []
    for position in positions:
        old, new = before[position], after[position]
        ranks = [np.argsort(np.argsort(-logits, kind="stable")) for logits in (old, new)]
        shown = np.flatnonzero((ranks[0] < top) | (ranks[1] < top))
        probabilities = [np.asarray(jax.nn.softmax(logits)) for logits in (old, new)]
        for token in sorted(shown.tolist(), key=lambda i: ranks[0][i]):
            rows.append(
                {
                    "position": position,
                    "after": model.pieces([prompt[position]])[0],
                    "next": model.pieces([token])[0],
                    "logit": float(old[token]),
                    "logit then": float(new[token]),
                    "change": float(new[token] - old[token]),
                    "probability": float(probabilities[0][token]),
                    "probability then": float(probabilities[1][token]),
                    "rank": int(ranks[0][token]) + 1,
                    "rank then": int(ranks[1][token]) + 1,
                }
            )
    return rows


def _changed(run: Run, what: Intervention) -> tuple[Model, Tap]:
    """The network and the tap that make the edits, and what the circuit says."""
    model, means = run.model, None if what.circuit is None else what.circuit.means
    whole: Tap | None = None
    if what.circuit is not None:
        if what.role == "keep":
            model, whole = remove_edges(what.circuit, model), only(what.circuit)
        elif what.role == "ablate":
            whole = ablate(what.circuit)
    elif any(edit.value == "mean" for edit in what.edits):
        means = corpus_means(run)
    return model, compose(whole, at_positions(intervene(model.config, what.edits, means), what.where))
