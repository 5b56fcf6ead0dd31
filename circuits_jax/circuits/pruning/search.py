"""Searches for the smallest set that meets a target; the caller measures the miss.

A search is a generator: it yields a list of candidates and is sent, for each, by how much that misses the
target (at most 0 if it holds).  So the candidates of many searches can be judged by one program (`settle`).
Where it yields several an estimate will do, of all on the same prompts: what is found was asked by itself.
See docs/method.md, "Pruning".
"""

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from circuits_jax.circuits.masks import Masks, Place, without

Candidate = TypeVar("Candidate")
Found = TypeVar("Found")
Search = Generator[list[Candidate], Sequence[float], Found]


def seek_smallest(start: int, limit: int) -> Search[int, int | None]:
    """The smallest count found to hold, by a geometric scan and then bisection.

    What holds is not monotone in the count, so the scan doubles from 1 to the first that holds; bisection
    then searches between it and the one before.

    Args:
      start: The count the masks chose, tried before any larger one.
      limit: The largest count there is.

    Returns:
      The count; None if nothing that was tried holds.
    """
    failed = 0
    for count in _ladder(start, limit):
        (miss,) = yield [count]
        if miss <= 0:
            break
        failed = count
    else:
        return None
    while count - failed > 1:
        middle = (count + failed) // 2
        (miss,) = yield [middle]
        failed, count = (failed, middle) if miss <= 0 else (middle, count)
    return count


def seek_drop(kept: Masks, places: Sequence[Place], least: int = 1) -> Search[Masks, Masks]:
    """Drops as many of `places` as possible: all at once if the target holds, else each half in turn.

    Args:
      kept: What is there.
      places: What may go.
      least: Parts of no more than this are not halved any further.
    """
    if not places:
        return kept
    trial = without(kept, places)
    (miss,) = yield [trial]
    if miss <= 0:
        return trial
    if len(places) <= least:
        return kept
    half = len(places) // 2
    kept = yield from seek_drop(kept, places[:half], least)
    return (yield from seek_drop(kept, places[half:], least))


def seek_longest(kept: Masks, places: Sequence[Place], likely: int | None = None) -> Search[Masks, int]:
    """How many of `places`, from the first on, can go together, by bisection.

    Args:
      kept: What is there.
      places: What may go.
      likely: The number tried first; all by default.
    """
    held, failed = 0, len(places) + 1
    count = len(places) if likely is None else min(max(likely, 1), len(places))
    while failed - held > 1:
        (miss,) = yield [without(kept, places[:count])]
        held, failed = (count, failed) if miss <= 0 else (held, count)
        count = (held + failed) // 2
    return held


def seek_needless(kept: Masks, places: Sequence[Place]) -> Search[Masks, Masks]:
    """Drops as many of `places` as possible.

    Each round removes every place alone, then drops the least important ones together.  A place whose removal
    alone costs more than the slack plus all possible gains is kept.
    """
    while places:
        (slack,) = yield [kept]
        # Estimates are of the same few prompts, so that their differences are better than they are.
        whole, *alone = yield [kept, *(without(kept, [place]) for place in places)]
        missed, gone = np.array(alone) - whole, 0
        while places and not gone:  # what was measured holds until something goes
            most = -slack - np.minimum(missed, 0).sum()
            order = [at for at in np.argsort(missed, kind="stable") if missed[at] <= most]
            spare, rises = [places[at] for at in order], missed[order]
            likely = int((slack + np.cumsum(rises) <= 0).sum())
            gone = yield from seek_longest(kept, spare, likely)
            kept = without(kept, spare[:gone])
            places, missed = spare[max(gone, 1) :], rises[max(gone, 1) :]
    return kept


def translated(search: Search[Candidate, Found], made: Callable[[Candidate], Any]) -> Search[Any, Found]:
    """Runs `search` on `made(candidate)` instead of each candidate."""
    try:
        asked = next(search)
        while True:
            asked = search.send((yield [made(candidate) for candidate in asked]))
    except StopIteration as end:
        return end.value


def settle(
    searches: Mapping[Hashable, Search[Candidate, Found]],
    judge: Callable[[list[tuple[Hashable, Candidate]]], Sequence[float]],
) -> dict[Hashable, Found]:
    """Runs searches in lock step to their ends.

    Args:
      searches: By name.
      judge: Given (name, candidate) of one round, by how much each misses the target.

    Returns:
      What each search found.
    """
    found: dict[Hashable, Found] = {}
    asked: dict[Hashable, list[Candidate]] = {}

    def advance(name: Hashable, answers: Sequence[float] | None) -> None:
        asked.pop(name, None)
        try:
            search = searches[name]
            asked[name] = next(search) if answers is None else search.send(answers)
        except StopIteration as end:
            found[name] = end.value

    for name in searches:
        advance(name, None)
    while asked:
        questions = [(name, candidate) for name, candidates in asked.items() for candidate in candidates]
        answers = iter(judge(questions))
        given = {name: [next(answers) for _ in candidates] for name, candidates in asked.items()}
        for name, misses in given.items():
            advance(name, misses)
    return {name: found[name] for name in searches}


def _ladder(start: int, limit: int) -> list[int]:
    """1, 2, 4, 8, ... to `limit`, with `start` among them."""
    counts, count = {min(max(start, 1), limit), limit}, 1
    while count < limit:
        counts.add(count)
        count *= 2
    return sorted(counts)
