"""Lists the tasks: an example pair, the answer tokens, what survives the tokenizer, and how a model does.

    python -m experiments.tasks --workdir=runs/quickstart [--tasks=single_double_quote,my_task.py]

`--tasks` takes names, and files of your own: a Python file that defines a Task, or a JSONL of pairs.  Where
the workdir has a tokenizer and no checkpoint yet, the model's columns are left out.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from absl import flags

from circuits_jax.circuits.ablation import pair_difference, trim
from circuits_jax.data.local import local_folder
from circuits_jax.data.tokenizer import Tokenizer, load_tokenizer
from circuits_jax.errors import ConfigError, TaskError
from circuits_jax.files import exists
from circuits_jax.tasks import TASKS, Pairs, Task, build_pairs, get_task
from circuits_jax.tasks.metrics import loss_of_difference, right_margin
from circuits_jax.tasks.task import MAX_TOKENS
from circuits_jax.training.checkpoints import newest
from circuits_jax.training.run import Run, load_run
from experiments import common

_PAIRS = flags.DEFINE_integer("pairs", 128, "Held-out pairs a task is judged on.", lower_bound=1)
_AT_ONCE = 512  # pairs in one forward pass


def main() -> None:
    """The command."""
    if not flags.FLAGS.tasks:
        raise ConfigError("--tasks is empty; name tasks or files of tasks, or leave it out for all twenty")
    run, tokenizer = _open(common.workdir())
    n_ctx = run.config.model.n_ctx if run else MAX_TOKENS
    figures = _figures_of(run) if run else lambda pairs: {}
    rows: list[dict[str, str | float]] = []
    for task in [get_task(name) for name in flags.FLAGS.tasks]:
        try:
            pairs = build_pairs(task, tokenizer, "heldout", _PAIRS.value, 0, n_ctx)
        except TaskError as error:
            rows.append({"task": task.name, "refused": str(error)})
            continue
        _show_example(task, pairs, tokenizer)
        rows.append(
            {
                "task": task.name,
                "answers": " or ".join(_answers(pairs, tokenizer)),
                "tokens": f"{pairs.last.min() + 1} to {pairs.last.max() + 1}",
                "survived": pairs.survived,
                **figures(pairs),
            }
        )
    common.report(rows, common.workdir() / "tasks.json")


def _open(workdir: Path) -> tuple[Run | None, Tokenizer]:
    """The run in `workdir`, if it has a checkpoint, and its tokenizer."""
    file = local_folder(workdir) / "tokenizer.model"
    if newest(workdir) is None and exists(file):
        return None, load_tokenizer(file)
    run = load_run(workdir)
    return run, run.tokenizer


def _figures_of(run: Run) -> Callable[[Pairs], dict[str, str | float]]:
    """How the run's model does on pairs, and its bigram table alone."""
    difference = jax.jit(functools.partial(pair_difference, run.model))

    def figures(pairs: Pairs) -> dict[str, str | float]:
        tokens = trim(pairs, run.config.model.n_ctx)
        margin = np.concatenate(
            [
                right_margin(difference(run.params, tokens[part], pairs.last[part], pairs.answers[part]))
                for part in (slice(start, start + _AT_ONCE) for start in range(0, len(tokens), _AT_ONCE))
            ]
        )
        return {
            "bigram alone": _bigram_accuracy(pairs, run),
            "loss": float(loss_of_difference(margin * np.float32([1, -1]))),
            "accuracy": float((margin > 0).mean()),
        }

    return figures


def _show_example(task: Task, pairs: Pairs, tokenizer: Tokenizer) -> None:
    kind = " (preference)" if task.preference else ""
    print(f"{task.name}{kind}: {task.description}")
    for role, text, answer in zip("AB", pairs.texts[0], pairs.answers[0], strict=True):
        print(f"  {role}  {text!r} -> {tokenizer.pieces([int(answer)])[0]!r}")


def _answers(pairs: Pairs, tokenizer: Tokenizer) -> list[str]:
    """The answer tokens of the task's pairs, or how many there are where they vary."""
    tokens = np.unique(pairs.answers)
    if len(tokens) > 4:
        return [f"{len(tokens)} tokens"]
    return [repr(piece) for piece in tokenizer.pieces(tokens.tolist())]


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
