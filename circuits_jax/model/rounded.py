"""Products of bfloat16, summed in float32, where JAX's precision asks for them and the compiler does not.

XLA makes them of float32 on TPUs and GPUs (`mesh.precision=bfloat16`).  On CPUs it takes no notice, although
those with such instructions (avx512_bf16) multiply twice as many numbers a second that way.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from circuits_jax.model.target import target

PRECISION, BFLOAT16 = "jax_default_matmul_precision", "BF16_BF16_F32"  # what JAX calls them
# Older compilers refuse a product of bfloat16 ("unimplemented") on the very CPUs that have such instructions.
COMPILED = jax.__version_info__ >= (0, 10)
Dimensions = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


def dot_general(x: jax.Array, w: jax.Array, dimensions: Dimensions, **kwargs: Any) -> jax.Array:
    """`lax.dot_general`; a linear layer's [..., D] by [D, E] is rounded by hand where it has to be.

    Rounded are both factors, of the gradient's products too.  Results are of the type of `x`.
    """
    by_hand = getattr(jax.config, PRECISION, None) == BFLOAT16 and target().platform == "cpu"
    if not by_hand or x.dtype != jnp.float32 or dimensions != (((x.ndim - 1,), (0,)), ((), ())):
        return lax.dot_general(x, w, dimensions, **kwargs)
    return _product(x, w)


@jax.custom_vjp
def _product(x: jax.Array, w: jax.Array) -> jax.Array:
    """float32 [..., D] by float32 [D, E]."""
    return _rounded(x, w, x.ndim - 1, 0)


def _forwards(x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _product(x, w), (x, w)


def _backwards(factors: tuple[jax.Array, jax.Array], given: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = factors
    rows, towards = x.reshape(-1, x.shape[-1]), given.reshape(-1, given.shape[-1])
    return _rounded(given, w, given.ndim - 1, 1), _rounded(rows, towards, 0, 0)


_product.defvjp(_forwards, _backwards)


def _rounded(a: jax.Array, b: jax.Array, along_a: int, along_b: int) -> jax.Array:
    """The product of the two, rounded to bfloat16, summed along one axis of each in float32."""
    dimensions = (((along_a,), (along_b,)), ((), ()))
    if not COMPILED:  # the same numbers, without the speed
        a, b = lax.reduce_precision(a, 8, 7), lax.reduce_precision(b, 8, 7)
        return lax.dot_general(a, b, dimensions, precision=lax.Precision.HIGHEST)
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)
