"""How fast sparse products make the forward pass on a CPU, beside the dense ones, on random sparse weights.

    python -m experiments.benchmarks.sparse_speed --sizes=M,8x1024 --repeats=9

The ways run in turn in one process: "dense" on the whole batch, "dense by row" and "sparse by row" on one row
of tokens at a time (`model.linear.make_forward`).  Ratios are medians over neighbouring runs.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from circuits_jax.commands import launching
from circuits_jax.config import MeshConfig, ModelConfig
from circuits_jax.config.checks import check_choice
from circuits_jax.model.linear import make_forward, sparse_params
from circuits_jax.model.transformer import Params, Transformer, init_params
from circuits_jax.training.mesh.meshes import make_mesh, replicated, rows

SIZES = {
    "M": ModelConfig(n_layer=4, d_model=512, n_ctx=256, vocab_size=2048),
    "8x1024": ModelConfig(n_layer=8, d_model=1024, n_ctx=256, vocab_size=2048),
}
# Tokens a second of the released PyTorch code at M, on the same 2 cores (docs/performance.md).
RELEASED = {"M": "1600-1900"}


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    flags.DEFINE_list("sizes", list(SIZES), f"Of {', '.join(SIZES)}.")
    flags.DEFINE_list("keeps", ["0.01", "0.001"], "Shares of weights that are not zero.")
    flags.DEFINE_integer("batch", 8, "Rows of tokens.", lower_bound=1)
    flags.DEFINE_integer("repeats", 7, "Runs of each way.", lower_bound=1)


def random_sparse(config: ModelConfig, keep: float, seed: int = 0) -> Params:
    """Random parameters; of kernels, embeddings and biases a share `keep` is not zero, no floor."""
    rng = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key == "scale":
            return np.ones(leaf.shape, np.float32)
        values = rng.standard_normal(leaf.shape, np.float32)
        if path[-1].key in ("kernel", "embedding", "bias"):
            values[rng.random(leaf.shape, np.float32) >= keep] = 0
        return values

    shapes = jax.eval_shape(lambda: init_params(config, jax.random.PRNGKey(0)))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def timed(ways: Mapping[str, Callable[[], jax.Array]], repeats: int) -> dict[str, np.ndarray]:
    """Seconds of each run of each way, all ways in turn, after one run that compiles."""
    for way in ways.values():
        way().block_until_ready()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way().block_until_ready()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def compare(size: str, keep: float, batch: int, repeats: int) -> list[dict[str, str | float]]:
    """One row for each way of running the forward pass."""
    config = SIZES[size]
    model, mesh = Transformer(config), make_mesh(MeshConfig(), batch)
    tokens = np.random.default_rng(1).integers(config.vocab_size, size=(batch, config.n_ctx), dtype=np.int32)
    tokens = jax.device_put(jnp.asarray(tokens), rows(mesh))
    params = random_sparse(config, keep)
    dense = jax.device_put(params, replicated(mesh))
    sparse = jax.device_put(sparse_params(params), replicated(mesh))
    whole = jax.jit(lambda params, tokens: model.apply(params, tokens)[0], out_shardings=rows(mesh))
    by_row = make_forward(model, mesh)
    seconds = timed(
        {
            "dense": lambda: whole(dense, tokens),
            "dense by row": lambda: by_row(dense, tokens),
            "sparse by row": lambda: by_row(sparse, tokens),
        },
        repeats,
    )
    return [
        {
            "size": size,
            "keep": keep,
            "way": way,
            "ms, least": 1e3 * float(taken.min()),
            "ms, median": 1e3 * float(np.median(taken)),
            "tokens/s": int(tokens.size / np.median(taken)),
            "times dense": float(np.median(seconds["dense"] / taken)),
            "released": RELEASED.get(size, ""),
        }
        for way, taken in seconds.items()
    ] + [_error(model, params, sparse, tokens[:1], size, keep)]


def _error(
    model: Transformer, params: Params, sparse: Any, tokens: jax.Array, size: str, keep: float
) -> dict[str, str | float]:
    """The largest difference of a logit, dense against sparse, without AbsTopK.

    With it, a sum rounded otherwise may decide between two almost equal activations.
    """
    config = dataclasses.replace(model.config, activation_fraction=None)
    forward = jax.jit(lambda params, tokens: Transformer(config).apply(params, tokens)[0])
    here = jax.devices()[0]
    first, second = (forward(*jax.device_put((tree, tokens), here)) for tree in (params, sparse))
    return {
        "size": size,
        "keep": keep,
        "way": "difference",
        "largest logit": float(jnp.abs(first).max()),
        "largest difference": float(jnp.abs(first - second).max()),
    }


def main() -> None:
    """The command."""
    given = flags.FLAGS
    for size in given.sizes:
        check_choice("--sizes", size, tuple(SIZES))
    table = [
        row
        for size in given.sizes
        for keep in map(float, given.keeps)
        for row in compare(size, keep, given.batch, given.repeats)
    ]
    launching.report(table, launching.workdir() / "sparse_speed.json", {"devices": jax.device_count()})


if __name__ == "__main__":
    define_flags()
    launching.start(main)
