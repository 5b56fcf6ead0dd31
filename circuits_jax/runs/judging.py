"""The pairs that a saved circuit is judged on, and those that pruning saw (docs/statistics.md)."""

from typing import TYPE_CHECKING

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.config import CONSTANT_ABLATIONS, PruneConfig
from circuits_jax.runs.pruning import check_unchanged
from circuits_jax.storage.errors import TaskError
from circuits_jax.tasks import Pairs, Task, build_pairs

if TYPE_CHECKING:
    from circuits_jax.runs.run import Run


def check_ablation(circuit: Circuit, what: str) -> None:
    """Raises TaskError unless what a circuit's removed nodes are held at are constants, as `what` needs it.

    Under other ablations its calibration and figures are of values that differ from prompt to prompt.
    """
    if circuit.ablation not in CONSTANT_ABLATIONS:
        raise TaskError(
            f"{circuit.task} was pruned under {circuit.ablation} ablation, which {what} not know; "
            f"prune it under one of {', '.join(CONSTANT_ABLATIONS)}"
        )


def judging_pairs(
    run: "Run", task: Task, circuit: Circuit, prune: PruneConfig, count: int, seed: int
) -> Splits:
    """The pairs that a circuit was cut on and chosen by, and `count` test pairs that pruning never drew.

    Args:
      run: Of the circuit's model.
      task: The circuit's.
      circuit: As saved.
      prune: What it was found with.
      count: Test pairs.
      seed: Of those; not pruning's own.

    Raises:
      TaskError: if there are too few pairs under this tokenizer, or the circuit was cut on other ones.
    """

    def drawn(of: Task, split: str, number: int, draw: int) -> Pairs:
        return build_pairs(of, run.tokenizer, split, number, draw, run.model.config.n_ctx)

    counts = {"train": prune.train_pairs, "select": prune.select_pairs, "test": prune.test_pairs}
    if circuit.of_two_splits:  # it was chosen by test pairs
        del counts["select"]
    own = {split: drawn(task, split, number, prune.seed) for split, number in counts.items()}
    for split, pairs in own.items():
        check_unchanged(circuit, split, pairs)
    train, chosen = own["train"], own.get("select", own["test"])
    return Splits(train, chosen, drawn(task.unlike(*own.values()), "test", count, seed))
