"""Weights of which nearly all are zeros, for inference on a CPU: the one forward with sparse products.

    fast = make_forward(model)
    logits = fast(sparse_params(params), tokens)

A linear layer whose kernel is a `SparseKernel` multiplies its nonzeros only, by the compressed-row product
that comes with JAX; everything else of the forward pass stays as it is, and so do its activations, up to the
rounding of sums.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import Mesh, PartitionSpec

from circuits_jax.model import rounded

# Below this share of nonzeros the sparse product was the faster one (docs/performance.md, "Sparse products on
# a CPU").
DENSEST = 1 / 32


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("values", "sources", "starts"),
    meta_fields=("shape",),
)
@dataclasses.dataclass(frozen=True)
class SparseKernel:
    """A kernel [inputs, outputs] by its nonzeros, output by output; `x @ kernel` is its product.

    Attributes:
      values: float32 [nonzeros].
      sources: int32 [nonzeros], the input that each belongs to.
      starts: int32 [outputs + 1]: output o has the nonzeros from `starts[o]` up to `starts[o + 1]`.
      shape: (inputs, outputs).
    """

    values: jax.Array
    sources: jax.Array
    starts: jax.Array
    shape: tuple[int, int]

    @classmethod
    def of(cls, kernel: np.ndarray) -> "SparseKernel":
        """The nonzeros of a dense kernel [inputs, outputs]."""
        outputs, sources = np.nonzero(kernel.T)
        starts = np.searchsorted(outputs, np.arange(kernel.shape[1] + 1))
        values = np.asarray(kernel[sources, outputs], np.float32)
        return cls(
            jnp.asarray(values),
            jnp.asarray(sources, jnp.int32),
            jnp.asarray(starts, jnp.int32),
            tuple(kernel.shape),
        )

    def dense(self) -> np.ndarray:
        """float32 [inputs, outputs]."""
        kernel = np.zeros(self.shape, np.float32)
        outputs = np.repeat(np.arange(self.shape[1]), np.diff(self.starts))
        kernel[np.asarray(self.sources), outputs] = np.asarray(self.values)
        return kernel

    def __rmatmul__(self, x: jax.Array) -> jax.Array:
        """[..., inputs] -> [..., outputs], summed in float32, in the type of `x`."""
        from jax.experimental.sparse import BCSR  # half a second of imports, for those who use it

        rows = _in_order(x.reshape(-1, x.shape[-1]).astype(jnp.float32))
        transposed = BCSR((self.values, self.sources, self.starts), shape=self.shape[::-1])
        product = _in_order((transposed @ rows.T).T)
        return product.reshape(*x.shape[:-1], self.shape[1]).astype(x.dtype)


class Linear(nn.Dense):
    """`x @ kernel + bias`, the kernel dense or a SparseKernel; the bias may differ by token, [T, out]."""

    dot_general: Any = rounded.dot_general

    def __call__(self, inputs: jax.Array) -> jax.Array:
        kernel: Any = self.get_variable("params", "kernel")
        bias: Any = self.get_variable("params", "bias")
        if not isinstance(kernel, SparseKernel) and getattr(bias, "ndim", 0) < 2:
            return super().__call__(inputs)
        outputs = inputs.astype(self.dtype) @ (
            kernel if isinstance(kernel, SparseKernel) else kernel.astype(self.dtype)
        )
        return outputs + bias.astype(self.dtype) if self.use_bias else outputs


def sparse_params(params: Mapping[str, Any], densest: float = DENSEST) -> dict[str, Any]:
    """`params` with a SparseKernel for every kernel whose share of nonzeros is `densest` or less."""
    tree: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            tree[name] = sparse_params(value, densest)
        elif name == "kernel" and np.count_nonzero(value) <= densest * value.size:
            tree[name] = SparseKernel.of(np.asarray(value))
        else:
            tree[name] = jnp.asarray(value)
    return tree


def make_forward(model: Any, mesh: Mesh | None = None) -> Callable[[Any, jax.Array], jax.Array]:
    """A compiled (params, tokens [B, T]) -> logits [B, T, V] that works on one row of tokens at a time.

    A row's activations stay in the processor's cache, where those of a batch would go through memory at every
    pass of AbsTopK.

    Args:
      model: The Transformer.
      mesh: Devices that the rows are dealt to; None takes one device.
    """

    def forward(params: Any, tokens: jax.Array) -> jax.Array:
        return jax.lax.map(lambda row: model.apply(params, row[None])[0][0], tokens)

    if mesh is None:
        return jax.jit(forward)
    rows = PartitionSpec(mesh.axis_names)
    return jax.jit(jax.shard_map(forward, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows))


def _in_order(x: jax.Array) -> jax.Array:
    # Else the product's own order of axes, tokens last, would spread to AbsTopK, which it slows down.
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))
