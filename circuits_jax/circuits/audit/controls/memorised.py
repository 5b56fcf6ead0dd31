"""Pairs whose answers are right by lot: how many edges do masks need to learn them by heart?

See docs/statistics.md, "Controls".  Judged on those very pairs, so that the target can be met; there is
nothing in them to generalise.
"""

import dataclasses

import numpy as np

from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.tasks.task import Pairs

SIZES = (8, 16, 32, 64)


def memorisable(pairs: Pairs) -> tuple[int, ...]:
    """Those of SIZES for which there are pairs that share no prompt; if not even the least, all there are."""
    most = len(_distinct(pairs))
    return tuple(size for size in SIZES if size <= most) or (most,)


def memorised(splits: Splits, count: int, seed: int) -> Splits:
    """`count` training pairs, half of them with exchanged answers, to be learnt and judged by.

    They are repeated until they are as many as the training pairs, so that the search is the task's own.

    Args:
      splits: The task's pairs.
      count: Of `memorisable`.
      seed: Of which pairs these are, and of the lot.
    """
    rng, train = np.random.RandomState(seed), splits.train
    chosen = rng.permutation(_distinct(train))[:count]
    # Exactly half: a lot that by chance leaves all answers as they are would be the task itself.
    exchanged = rng.permutation(count) < count // 2
    answers = np.where(exchanged[:, None], train.answers[chosen, ::-1], train.answers[chosen])
    own = _repeated(train, chosen, answers)
    # Nothing is judged by the last; with the longest prompts the programs are those compiled for the task.
    return Splits(own, own, max(splits, key=lambda pairs: int(pairs.last.max())))


def _distinct(pairs: Pairs) -> np.ndarray:
    """Places of pairs that share no prompt: one prompt with two answers could not be memorised."""
    seen: set[bytes] = set()
    places = []
    for place, prompts in enumerate(pairs.tokens):
        keys = {prompt.tobytes() for prompt in prompts}
        if not keys & seen:
            seen |= keys
            places.append(place)
    return np.array(places, int)


def _repeated(pairs: Pairs, chosen: np.ndarray, answers: np.ndarray) -> Pairs:
    """The pairs at `chosen` with these answers, over and over, as many as `pairs`."""
    rows = np.resize(np.arange(len(chosen)), len(pairs.last))
    at = chosen[rows]
    return dataclasses.replace(
        pairs,
        task=f"{pairs.task} (memorised)",
        tokens=pairs.tokens[at],
        last=pairs.last[at],
        answers=answers[rows],
        texts=[pairs.texts[place] for place in at],
        continuations=[pairs.continuations[place] for place in at] if pairs.continuations else [],
        template=pairs.template[at],
    )
