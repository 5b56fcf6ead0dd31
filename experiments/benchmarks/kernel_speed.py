"""How fast AbsTopK's kernel is on the accelerator at hand, beside the compiler's own program.

    python -m experiments.benchmarks.kernel_speed --shapes=16384x1024,16384x2048 --repeats=20

For a GPU, where `mesh.kernels` leaves the kernel out unless it is asked for, and for a TPU.  The two run in
turn, forward alone and with the gradient; ratios are medians over neighbouring runs.  Says whether both give
the same bits, and how far each is from one read and one write at `--gigabytes_per_second`.  On a CPU the
kernel is interpreted, so that times say nothing there.  Whole steps, with and without:
`device_check --config.mesh.kernels=pallas`, and `none`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from circuits_jax.commands import launching
from circuits_jax.model import kernels
from circuits_jax.model.abs_topk import abs_top_k
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.tables import Row
from experiments.benchmarks.sparse_speed import timed

TYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
KEPT = 4  # one entry of so many


def define_flags() -> None:
    """The flags of this benchmark."""
    launching.define_workdir()
    flags.DEFINE_list("shapes", ["16384x1024", "16384x2048", "16384x8192"], "ROWSxWIDTH, several.")
    flags.DEFINE_integer("repeats", 20, "Runs of each way.", lower_bound=1)
    flags.DEFINE_float("gigabytes_per_second", 4800.0, "Of the device's memory; 4800 is an H200's.")


def program(choice: str, gradient: bool) -> Callable[[jax.Array], jax.Array]:
    """AbsTopK, or its gradient, with the kernels of `choice`, compiled."""

    def kept(x: jax.Array) -> jax.Array:
        with kernels.using(choice):
            return abs_top_k(x, x.shape[-1] // KEPT)

    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(kept(x).astype(jnp.float32) ** 2)

    return jax.jit(jax.grad(total) if gradient else kept)


def compare(shape: tuple[int, int], name: str, gradient: bool, repeats: int, speed: float) -> Row:
    """One shape and type: milliseconds of both ways, and whether they agree."""
    x = jax.random.normal(jax.random.key(0), shape, TYPES[name])
    kernel, plain = (program(choice, gradient) for choice in (kernels.PALLAS, kernels.NONE))
    seconds = timed({"kernel": lambda: kernel(x), "plain": lambda: plain(x)}, repeats)
    least = 2 * x.size * x.dtype.itemsize / (1e9 * speed)
    return {
        "shape": "x".join(map(str, shape)),
        "type": name,
        "pass": "gradient" if gradient else "forward",
        "kernel, ms": round(1e3 * float(np.median(seconds["kernel"])), 4),
        "compiler, ms": round(1e3 * float(np.median(seconds["plain"])), 4),
        "ratio": round(float(np.median(seconds["kernel"] / seconds["plain"])), 3),
        "kernel, times one read and one write": round(float(np.median(seconds["kernel"])) / least, 2),
        "equal": str(bool(jnp.array_equal(kernel(x), plain(x)))),
    }


def read_shape(text: str) -> tuple[int, int]:
    """ROWSxWIDTH.

    Raises:
      ConfigError: for anything else.
    """
    rows, _, width = text.partition("x")
    if not (rows.isdecimal() and width.isdecimal() and int(rows) and int(width) > KEPT):
        raise ConfigError(f"--shapes has {text!r}; write ROWSxWIDTH, such as 16384x1024")
    return int(rows), int(width)


def main() -> None:
    """The benchmark."""
    given = flags.FLAGS
    shapes = [read_shape(each) for each in given.shapes]
    rows = [
        compare(shape, name, gradient, given.repeats, given.gigabytes_per_second)
        for shape in shapes
        for name in TYPES
        for gradient in (False, True)
    ]
    launching.report(rows, None, {"device": jax.devices()[0].device_kind, "repeats": given.repeats})


if __name__ == "__main__":
    define_flags()
    launching.start(main)
