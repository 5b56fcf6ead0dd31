"""Lists the tasks: an example pair, the answer tokens, what survives the tokenizer, and how a model does.

    python -m experiments.tasks --workdir=runs/quickstart [--tasks=single_double_quote,my_task.py]

`--tasks` takes names, and files of your own: a Python file that defines a Task, or a JSONL of pairs.
"""

import functools

import jax
import numpy as np
from absl import flags

from circuits_jax.circuits.ablation import pair_difference, trim
from circuits_jax.errors import TaskError
from circuits_jax.tasks import TASKS, Pairs, Task, build_pairs, get_task
from circuits_jax.tasks.metrics import loss_of_difference, right_margin
from circuits_jax.training.run import Run, load_run
from experiments import common

_PAIRS = flags.DEFINE_integer("pairs", 128, "Held-out pairs a task is judged on.", lower_bound=1)


def main() -> None:
    """The command."""
    run = load_run(common.workdir())
    difference = jax.jit(functools.partial(pair_difference, run.model))
    rows = []
    for task in [get_task(name) for name in flags.FLAGS.tasks]:
        try:
            pairs = build_pairs(task, run.tokenizer, "heldout", _PAIRS.value, 0, run.config.model.n_ctx)
        except TaskError as error:
            rows.append({"task": task.name, "refused": str(error)})
            continue
        _show_example(task, pairs, run)
        margin = right_margin(
            difference(run.params, trim(pairs, run.config.model.n_ctx), pairs.last, pairs.answers)
        )
        rows.append(
            {
                "task": task.name,
                "answers": " or ".join(_answers(pairs, run)),
                "tokens": f"{pairs.last.min() + 1} to {pairs.last.max() + 1}",
                "survived": pairs.survived,
                "bigram alone": _bigram_accuracy(pairs, run),
                "loss": float(loss_of_difference(margin * np.array([1.0, -1.0]))),
                "accuracy": float((margin > 0).mean()),
            }
        )
    common.report(rows, common.workdir() / "tasks.json")


def _show_example(task: Task, pairs: Pairs, run: Run) -> None:
    kind = " (preference)" if task.preference else ""
    print(f"{task.name}{kind}: {task.description}")
    for role, text, answer in zip("AB", pairs.texts[0], pairs.answers[0], strict=True):
        print(f"  {role}  {text!r} -> {run.tokenizer.pieces([int(answer)])[0]!r}")


def _answers(pairs: Pairs, run: Run) -> list[str]:
    """The answer tokens of the task's pairs, or how many there are where they vary."""
    tokens = np.unique(pairs.answers)
    if len(tokens) > 4:
        return [f"{len(tokens)} tokens"]
    return [repr(piece) for piece in run.tokenizer.pieces(tokens.tolist())]


def _bigram_accuracy(pairs: Pairs, run: Run) -> float | str:
    """Accuracy of the bigram table alone, ties counting half: chance, if the task is sound."""
    if not run.config.model.bigram:
        return "no table"
    end = np.take_along_axis(pairs.tokens, pairs.last[:, None, None], axis=2)[..., 0]
    logits = np.asarray(run.params["bigram"])[end[..., None], pairs.answers[:, None, :]]
    margin = (logits[..., 0] - logits[..., 1]) * np.array([1.0, -1.0])
    return float(((margin > 0) + 0.5 * (margin == 0)).mean())


if __name__ == "__main__":
    flags.DEFINE_list("tasks", list(TASKS), "Task names or files; all twenty by default.")
    common.run(main)
