"""The three splits of a task, also for tasks that were written when there were two.

Masks are learnt on `train`; `select` is what every choice is made by; `test` is only reported.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from circuits_jax.data.programs.words import SPLITS
from circuits_jax.storage.errors import TaskError
from circuits_jax.tasks.template import Template

BEFORE = "heldout"  # what `test` was called when there were two splits

Templates = Mapping[str, tuple[Template, ...]]
Words = Mapping[str, Mapping[str, tuple[str, ...]]]
T = TypeVar("T")


def group_numbers(templates: Sequence[Template]) -> list[int]:
    """For each of `templates`, the number of its group; one without a group is a group of its own."""
    names = [template.group or place for place, template in enumerate(templates)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] for name in names]


def three_splits(name: str, templates: Templates) -> dict[str, tuple[Template, ...]]:
    """`templates` of the task `name` by the names of SPLITS.

    What is called `heldout` is `test`.  Where there is no `select`, it is the last quarter of the training
    templates, at least one of them; templates of one group stay together.  Of one training template nothing
    can be taken, and `select` is empty.

    Raises:
      TaskError: for another split, or no template to learn from or to test with.
    """
    found = _renamed(f"task {name!r}", templates)
    for split in ("train", "test"):
        if not found.get(split):
            raise TaskError(f"task {name!r} has no {split} template; give each split at least one")
    if "select" not in found:
        numbers = group_numbers(found["train"])
        count = max(numbers) + 1
        first = count - min(max(1, count // 4), count - 1)  # the group that `select` begins with
        sides: dict[bool, list[Template]] = {True: [], False: []}
        for template, number in zip(found["train"], numbers, strict=True):
            sides[number < first].append(template)
        found |= {"train": tuple(sides[True]), "select": tuple(sides[False])}
    return {split: tuple(found[split]) for split in SPLITS}


def split_by_hash(digests: Sequence[bytes], splits: Sequence[str | None]) -> list[str]:
    """The split of every group of lines of a user's file.

    A quarter of the groups without one is tested with, the others are learnt from, by their first bytes.
    Where no group is for `select`, it gets a quarter of the groups that are learnt from, by their second
    bytes, and at least one if there are two.

    Args:
      digests: Of each group, which do not change when other groups come or go.
      splits: Of each, where the file says it.
    """
    found = [
        split or ("test" if digest[0] < 64 else "train")
        for digest, split in zip(digests, splits, strict=True)
    ]
    free = [i for i, split in enumerate(splits) if split is None]
    if "test" not in found and len(free) > 1:
        found[min(free, key=lambda i: digests[i])] = "test"
    if "select" not in found:
        learnt = sorted(
            (i for i, split in enumerate(found) if split == "train"), key=lambda i: digests[i][1:]
        )
        count = max(1, sum(digests[i][1] < 64 for i in learnt))
        for i in learnt[: min(count, len(learnt) - 1)]:
            found[i] = "select"
    return found


def three_word_lists(name: str, words: Words) -> dict[str, Mapping[str, tuple[str, ...]]]:
    """`words` of the task `name` by the names of SPLITS; a missing `select` gets every third of train.

    Raises:
      TaskError: for another split, or one without words.
    """
    found = _renamed(f"the words of task {name!r}", words)
    if "train" in found and "select" not in found:
        train = found["train"]
        found["select"] = {kind: each if kind == "d" else each[2::3] for kind, each in train.items()}
        found["train"] = {
            kind: each if kind == "d" else tuple(word for place, word in enumerate(each) if place % 3 != 2)
            for kind, each in train.items()
        }
    for split in SPLITS:
        if split not in found:
            raise TaskError(f"task {name!r} has no {split} words; give each split some")
    return found


def _renamed(what: str, by_split: Mapping[str, T]) -> dict[str, T]:
    """`by_split` with `heldout` called `test`."""
    if unknown := sorted(set(by_split) - {*SPLITS, BEFORE}):
        raise TaskError(f"{what} has a split {unknown[0]!r}; choose among {', '.join(SPLITS)}")
    if {"test", BEFORE} <= set(by_split):
        raise TaskError(f"{what} has both a split test and a split {BEFORE}, its old name; keep test")
    return {"test" if split == BEFORE else split: each for split, each in by_split.items()}
