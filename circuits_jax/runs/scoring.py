"""How well a model does on tasks, and what the tasks ask."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation.edge_removal import remove_edges
from circuits_jax.circuits.ablation.pairs import pair_batch
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.config import CONSTANT_ABLATIONS
from circuits_jax.config.checks import check_choice
from circuits_jax.model.model import Model
from circuits_jax.model.parameters import BIGRAM, get
from circuits_jax.model.taps import only
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage.errors import CircuitError, TaskError
from circuits_jax.storage.tables import Row
from circuits_jax.tasks import Pairs, Task, build_pairs
from circuits_jax.tasks.metrics import logit_difference, loss_of_difference, right_margin
from circuits_jax.tasks.template import fill, with_padding

if TYPE_CHECKING:
    from circuits_jax.runs.run import Run

SPLITS = ("test", "select")  # the pairs that masks are learnt on show nothing
PAIRS = 128  # of a score, where nothing else is said
_AT_ONCE = 512  # pairs in one forward pass


def score(run: "Run", task: Task, split: str, circuit: Circuit | None, count: int | None) -> dict[str, float]:
    """See `Run.score`."""
    check_choice("the split", split, SPLITS)
    model, known = run.model, {} if circuit is None else circuit.provenance.get("prune", {})
    seed = known.get("seed", 0 if run.config is None else run.config.prune.seed)
    count = count or known.get(f"{split}_pairs", PAIRS)
    pairs = build_pairs(task, run.tokenizer, split, count, seed, model.config.n_ctx)
    if circuit is None:
        return model_figures(model, pairs)
    circuit.check_model(model.hash, run.tokenizer.hash)
    if circuit.ablation not in CONSTANT_ABLATIONS:
        raise CircuitError(
            f"the circuit of {circuit.task} was cut and calibrated under {circuit.ablation} ablation, and "
            "scores hold removed nodes at constants; its own figures are in circuit.metrics"
        )
    return circuit_figures(circuit, model, pairs)


def model_figures(model: Model, pairs: Pairs) -> dict[str, float]:
    """{"loss", "accuracy", "bigram"} of the full model, and of its bigram table alone where it has one."""
    found = _figures(_differences(model, pairs))
    return found | ({"bigram": bigram_accuracy(model, pairs)} if model.config.has_bigram else {})


def circuit_figures(circuit: Circuit, model: Model, pairs: Pairs) -> dict[str, float]:
    """{"loss", "accuracy"} of the circuit alone, and the same with its saved calibration."""
    difference = _differences(remove_edges(circuit, model), pairs, circuit)
    scale, shift = circuit.calibration.scale, circuit.calibration.shift
    calibrated = _figures(scale * difference + shift)
    return _figures(difference) | {f"calibrated_{name}": value for name, value in calibrated.items()}


def bigram_accuracy(model: Model, pairs: Pairs) -> float:
    """Accuracy of the bigram table alone, ties counting half: chance, if the task is sound."""
    end = np.take_along_axis(pairs.tokens, pairs.last[:, None, None], axis=2)[..., 0]
    logits = np.asarray(get(model.params, BIGRAM))[end[..., None], pairs.answers[:, None, :]]
    margin = (logits[..., 0] - logits[..., 1]) * np.array([1.0, -1.0])
    return float(((margin > 0) + 0.5 * (margin == 0)).mean())


def pairs_or_refusal(task: Task, tokenizer: Tokenizer, count: int, model: Model | None) -> Pairs | str:
    """Test pairs of a task that fit the model's context, if there is a model, or why there are none."""
    n_ctx = sys.maxsize if model is None else model.config.n_ctx
    try:
        return build_pairs(task, tokenizer, "test", count, 0, n_ctx)
    except TaskError as error:
        return str(error)


def task_rows(
    tasks: Sequence[tuple[Task, Pairs | str]], tokenizer: Tokenizer, model: Model | None
) -> list[Row]:
    """One row a task: its answer tokens, its length, what survives the tokenizer, how the model does.

    Args:
      tasks: Each with its pairs, or why there are none.
      tokenizer: That the pairs were built with.
      model: None leaves its columns out.
    """
    rows: list[Row] = []
    for task, pairs in tasks:
        if isinstance(pairs, str):
            rows.append({"task": task.name, "refused": pairs})
            continue
        row: Row = {
            "task": task.name,
            "answers": " or ".join(_answers(pairs, tokenizer)),
            "tokens": f"{pairs.last.min() + 1} to {pairs.last.max() + 1}",
            "survived": pairs.survived,
        }
        if model is not None:
            figures: Row = dict(model_figures(model, pairs))
            row |= {"bigram alone": figures.pop("bigram", "no table"), **figures}
        rows.append(row)
    return rows


def example(task: Task, pairs: Pairs, tokenizer: Tokenizer) -> str:
    """The task's first pair, for people."""
    lines = [f"{task.name}{' (preference)' if task.preference else ''}: {task.description}"]
    for role, text, answer in zip("AB", pairs.texts[0], pairs.answers[0], strict=True):
        lines.append(f"  {role}  {text!r} -> {tokenizer.pieces([int(answer)])[0]!r}")
    return "\n".join(lines)


def text_example(task: Task) -> str:
    """The task's name, what it asks and one pair of prompts, as text alone: no tokenizer is asked."""
    template = task.templates["test"][0]
    words = {kind: tuple(chosen) for kind, chosen in task.words["test"].items()}
    filled = fill(template, words, np.random.RandomState(0))
    lines = [f"{task.name}{' (preference)' if task.preference else ''}: {task.description}"]
    for role, prompt, after in zip("AB", filled.prompts, filled.continuations, strict=True):
        lines.append(f"  {role}  {with_padding(prompt, filled, 0)!r} -> {after!r}")
    return "\n".join(lines)


def _differences(model: Model, pairs: Pairs, circuit: Circuit | None = None) -> np.ndarray:
    """l[answer A] - l[answer B] by pair role, float32 [N, 2]."""
    batch, tap = pair_batch(pairs, model.config.n_ctx), None if circuit is None else only(circuit)
    found = []
    for start in range(0, batch.size, _AT_ONCE):
        tokens, last, answers = (x[start : start + _AT_ONCE] for x in batch)
        rows = tokens.reshape(-1, tokens.shape[-1])
        logits, _ = model.apply(rows, tap=tap, at=np.repeat(last, 2))
        found.append(np.asarray(logit_difference(logits, jnp.asarray(answers))))
    return np.concatenate(found)


def _figures(difference: np.ndarray) -> dict[str, float]:
    return {
        "loss": float(loss_of_difference(jnp.asarray(difference))),
        "accuracy": float((np.asarray(right_margin(jnp.asarray(difference))) > 0).mean()),
    }


def _answers(pairs: Pairs, tokenizer: Tokenizer) -> list[str]:
    """The answer tokens of the task's pairs, or how many there are where they vary."""
    tokens = np.unique(pairs.answers)
    if len(tokens) > 4:
        return [f"{len(tokens)} tokens"]
    return [repr(piece) for piece in tokenizer.pieces(tokens.tolist())]
