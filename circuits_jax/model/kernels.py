"""Which parts of the network are computed by kernels of our own: a choice that changes no result."""

import contextlib
import contextvars
from collections.abc import Iterator

from circuits_jax.config.mesh import KERNELS
from circuits_jax.model.target import target

AUTO, PALLAS, NONE = KERNELS
_CHOICE: contextvars.ContextVar[str] = contextvars.ContextVar("kernels", default=AUTO)


@contextlib.contextmanager
def using(choice: str) -> Iterator[None]:
    """What is traced within the block uses kernels as `mesh.kernels` says.

    Args:
      choice: "auto" (on TPUs, whose compiler they have passed), "pallas" (on GPUs too; on CPUs they are
        interpreted, slowly) or "none".
    """
    if choice not in KERNELS:
        raise ValueError(f"unknown kernels {choice!r}; choose one of {', '.join(KERNELS)}")
    token = _CHOICE.set(choice)
    try:
        yield
    finally:
        _CHOICE.reset(token)


def wanted() -> bool:
    """Whether what is being traced uses them."""
    return _CHOICE.get() == PALLAS or (_CHOICE.get() == AUTO and target().platform == "tpu")
