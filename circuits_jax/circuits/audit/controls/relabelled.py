"""The same prompts, asked for other tokens: relabelled and inverted answers.

See docs/statistics.md, "Controls".  The model tells the two prompts of a pair apart as it does for the task
itself; only what is to be said of it is another.
"""

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np

from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.storage.errors import TaskError
from circuits_jax.tasks.task import Pairs

POOL = 16  # tokens of nearest frequency that a label is drawn from


def answers_of(splits: Splits) -> tuple[int, int]:
    """The two answer tokens that all pairs of a task share.

    Raises:
      TaskError: if there are others.
    """
    found = np.unique(np.concatenate([pairs.answers.ravel() for pairs in splits]))
    if len(found) != 2:
        raise TaskError(
            f"the controls of {splits.train.task} cannot be built: its pairs have {len(found)} different "
            "answer tokens, and relabelling takes two; audit it without controls (--controls=none)"
        )
    return int(found[0]), int(found[1])


def inverted(splits: Splits) -> Splits:
    """The task with each pair's two answers exchanged."""
    return Splits(*(_with_answers(pairs, "inverted", pairs.answers[:, ::-1]) for pairs in splits))


def relabelled(splits: Splits, labels: Mapping[int, int]) -> Splits:
    """The task with its answers replaced: {answer token: the token that stands for it}."""

    def replaced(pairs: Pairs) -> Pairs:
        answers = np.zeros_like(pairs.answers)
        for answer, label in labels.items():
            answers[pairs.answers == answer] = label
        return _with_answers(pairs, "relabelled", answers)

    return Splits(*map(replaced, splits))


def draw_labels(
    counts: np.ndarray, answers: Collection[int], unfit: Collection[int], seed: int
) -> dict[int, int]:
    """For each answer another token, drawn from the POOL that occur most nearly as often in the corpus.

    Args:
      counts: int [V], how often each token occurs.
      answers: Token ids of the task's answers.
      unfit: Tokens that are not to be labels, such as the end of text.
      seed: Of the draw.

    Raises:
      TaskError: for a vocabulary without enough other tokens.
    """
    rng = np.random.RandomState(seed)
    rarity = np.log(np.asarray(counts, np.float64) + 1)
    taken = {*answers, *unfit}
    labels = {}
    for answer in answers:
        others = np.array([token for token in rng.permutation(len(counts)) if token not in taken], int)
        if not len(others):
            raise TaskError(
                f"the controls cannot be built: of {len(counts)} tokens none are left to relabel the answers "
                "with; audit without controls (--controls=none)"
            )
        # Stable, so that of equally near ones it is the permutation that decides.
        nearest = others[np.argsort(np.abs(rarity[others] - rarity[answer]), kind="stable")[:POOL]]
        labels[answer] = int(rng.choice(nearest))
        taken.add(labels[answer])
    return labels


def _with_answers(pairs: Pairs, how: str, answers: np.ndarray) -> Pairs:
    return dataclasses.replace(pairs, task=f"{pairs.task} ({how})", answers=np.ascontiguousarray(answers))
