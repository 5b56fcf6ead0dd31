"""Changes nodes by hand and compares the next tokens before and after.

Interventions are those of `circuits.ablation.edits`, and a circuit kept or ablated.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from circuits_jax.circuits.ablation.edge_removal import remove_edges
from circuits_jax.circuits.ablation.edits import Edit, at_positions, intervene, parse_edit
from circuits_jax.circuits.ablation.means import Means, mean_activations
from circuits_jax.circuits.circuit import Circuit, load_circuit
from circuits_jax.config import ModelConfig
from circuits_jax.config.checks import check_choice
from circuits_jax.model.generate import check_prompt
from circuits_jax.model.model import Model
from circuits_jax.model.taps import Tap, ablate, compose, only
from circuits_jax.runs.corpora import reference_windows
from circuits_jax.runs.run import Run
from circuits_jax.runs.tables import Row
from circuits_jax.storage.errors import ConfigError

ROLES = ("keep", "ablate", "means")
# Of the flags that name edits: an example, and the sign that no other has.
EXAMPLES = {"set": "--set=1.mlp.post_act.40=0", "ablate": "--ablate=1.attn.v.12:mean"}
_SIGNS = {"set": "=", "ablate": ":"}


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


def read_prompt(model: Model, text: str | None, ids: Sequence[str] | None) -> list[int]:
    """The token ids of a prompt that is given as text or as ids.

    Raises:
      ConfigError: if there are none, both, too many, or ids that the model has not.
    """
    if (text is None) == (ids is None):
        raise ConfigError("give a prompt: --prompt=TEXT or, as token ids, --tokens=5,3,9")
    if ids is not None:
        try:
            prompt = [int(token) for token in ids]
        except ValueError as error:
            raise ConfigError(f"--tokens={','.join(ids)} holds something that is no number") from error
    elif text is None or model.tokenizer is None:
        raise ConfigError(f"no tokenizer lies beside {model.name}; give the prompt as ids, --tokens=5,3,9")
    else:
        prompt = model.tokenizer.encode(text)
    check_prompt(prompt, model.config)
    return prompt


def read_edits(texts: Mapping[str, Sequence[str]], config: ModelConfig) -> list[Edit]:
    """What the flags --set and --ablate name, {flag: its values, each one edit or several with commas}.

    Raises:
      ConfigError: for a text of another form, or a node that the model has not.
    """
    edits = []
    for flag, values in texts.items():
        for text in ",".join(values).split(",") if values else ():
            if _SIGNS[flag] not in text:
                raise ConfigError(f"--{flag}={text} lacks a {_SIGNS[flag]!r}; write {EXAMPLES[flag]}")
            edits.append(parse_edit(text, config))
    return edits


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
            f"no means are known for {run.model.name}, which has no corpus; name a circuit "
            "whose means to use (--circuit), or ablate with :zero"
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


def read_positions(text: str, length: int, flag: str) -> list[int]:
    """`all`, `last` or a list of positions, negative ones counted from the end.

    Raises:
      ConfigError: if it is none of these, or a position is outside the prompt.
    """
    if text == "all":
        return list(range(length))
    try:
        chosen = [-1] if text == "last" else [int(each) for each in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--{flag} is {text!r}; choose all, last, or positions such as 0,3,-1") from error
    for each in chosen:
        if not -length <= each < length:
            raise ConfigError(f"--{flag} names position {each}; the prompt has 0 to {length - 1}")
    return [each % length for each in chosen]


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
