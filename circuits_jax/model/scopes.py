"""What parts of a program are called, so that a compiled one can be read (`training.compiling`).

A scope is a name in the metadata of what is traced within it; it computes nothing.
"""

import contextlib

import jax

ABS_TOPK, PROJECTION, OPTIMIZER, ATTENTION, BIGRAM = PARTS = (
    "abs_topk",
    "projection",
    "optimizer",
    "attention",
    "bigram",
)
"""Parts whose traffic is told apart."""
RARELY, TURNS = "rarely_{}", "about_{}_turns"


def part(name: str) -> contextlib.AbstractContextManager[None]:
    """What is traced within is of the part `name`, of PARTS."""
    if name not in PARTS:
        raise ValueError(f"unknown part {name!r}; choose one of {', '.join(PARTS)}")
    return jax.named_scope(name)


def rarely(branch: bool) -> contextlib.AbstractContextManager[None]:
    """Around a `lax.cond` whose predicate hardly ever is `branch`: a step's figures leave that branch out."""
    return jax.named_scope(RARELY.format(str(branch).lower()))


def about_turns(count: int) -> contextlib.AbstractContextManager[None]:
    """Around a loop that takes some `count` turns, where only the data say how many."""
    return jax.named_scope(TURNS.format(count))
