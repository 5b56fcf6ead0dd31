"""The released state dict <-> the parameter tree (docs/numerics.md, "State dict").

The table in `model.parameters` says which tensor lies where and drives both directions.  Released linear
weights are [out, in]; ours are [in, out].
"""

import re
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding

from circuits_jax.config import ModelConfig
from circuits_jax.model import parameters
from circuits_jax.model.parameters import Parameter, build_tree, named
from circuits_jax.released.listing import listed
from circuits_jax.released.mapped_files import forget_pages
from circuits_jax.storage.errors import CheckpointError

Tensors = Mapping[str, np.ndarray]
Tree = dict[str, Any]

LOGITS_BIAS, BIGRAM, HEAD, EMBEDDING, POSITIONS = map(
    parameters.released_name,
    (
        parameters.LOGITS_BIAS,
        parameters.BIGRAM,
        parameters.UNEMBEDDING,
        parameters.TOKEN_EMBEDDING,
        parameters.POSITION_EMBEDDING,
    ),
)
WRAPPER = "circuit_model."  # before every name in the Hugging Face layout
# Others, of PyTorch's data parallelism, of its compiler and of common training loops; they may be stacked.
WRAPPERS = (WRAPPER, "module.", "_orig_mod.", "model.")
FLOATS = ("float32", "float16", "bfloat16")
# A causal mask, not a bias: saved by models built without flash attention.
_MASK = re.compile(r"transformer\.h\.\d+\.attn\.bias")
_LAYER = re.compile(r"transformer\.h\.(\d{1,6})\.")


def params_from_state(
    state: MutableMapping[str, np.ndarray],
    config: ModelConfig,
    strict: bool = True,
    shardings: Mapping[str, Any] | None = None,
) -> Tree:
    """The float32 parameter tree of a released state dict.

    Args:
      state: Released names to tensors, of float32, float16 or bfloat16.  It is emptied on the way, so
        that the two copies are never both whole in memory.
      config: The configuration the tensors must fit.
      strict: Whether surplus tensors, and tied weights that differ, are errors.  Otherwise the first are
        dropped with a warning, and of the second `lm_head.weight` wins, as in the released loader.
      shardings: A tree of shardings; with it each leaf is a jax.Array whose parts alone are copied.

    Returns:
      The tree, of numpy arrays unless there are `shardings`.

    Raises:
      CheckpointError: naming the tensors that are missing, or of another shape or type.  Two may be
        missing and are then zero, as released: `bigram_table`, and `final_logits_bias`, which
        `config.logits_bias` says.
    """
    layers = 1 + max((int(match[1]) for match in map(_LAYER.match, state) if match), default=-1)
    # Looked at first, so that a mistaken number, however large, is not gone through tensor by tensor.
    if layers != config.n_layer:
        hint = "" if layers else f"; its tensors are named {listed(sorted(state)) or 'nothing'}"
        raise CheckpointError(f"the configuration has {config.n_layer} layers, the file {layers}{hint}")
    if config.tied_unembed:
        _untie(state, strict)
    wanted = list(parameters.parameters(config))
    _check(state, wanted, strict)
    places = {} if shardings is None else named(shardings)
    return build_tree((t.name, _import(state, t, places.get(t.name))) for t in wanted)


def state_from_params(params: Mapping[str, Any], config: ModelConfig) -> dict[str, np.ndarray]:
    """The released state dict, float32, of a parameter tree; the inverse of `params_from_state`.

    A tied unembedding is listed under both of its names, as one array.  A model without positions gets
    a position table of zeros, since the released code always adds one.

    Raises:
      CheckpointError: if the tree does not fit `config`, naming the first tensor that does not.
    """
    state = {
        tensor.released: np.ascontiguousarray(value.T if tensor.transposed else value)
        for tensor, value in leaves(params, config)
    }
    if config.tied_unembed:
        state[HEAD] = state[EMBEDDING]
    if config.position == "none":
        state[POSITIONS] = np.zeros((config.n_ctx, config.d_model), np.float32)
    return state


def leaves(params: Mapping[str, Any], config: ModelConfig) -> Iterator[tuple[Parameter, np.ndarray]]:
    """Each tensor of `config` with its value in `params`, in our orientation.

    Raises:
      CheckpointError: if a tensor is missing, surplus, or of another shape or type.
    """
    found, wanted = named(params), list(parameters.parameters(config))
    surplus = sorted(set(found) - {tensor.name for tensor in wanted})
    if surplus:
        raise CheckpointError(f"the parameters hold {listed(surplus)}, which the configuration has not")
    for tensor in wanted:
        if tensor.name not in found:
            raise CheckpointError(f"the parameters lack {tensor.name}, which the configuration has")
        value = np.asarray(found[tensor.name])
        if value.dtype != np.float32 or value.shape != tensor.shape:
            raise CheckpointError(
                f"{tensor.name}: expected float32 {list(tensor.shape)}, "
                f"found {value.dtype} {list(value.shape)}"
            )
        yield tensor, value


def _untie(state: MutableMapping[str, np.ndarray], strict: bool) -> None:
    """Leaves the one matrix of a tied model under the embedding's name."""
    head = state.pop(HEAD, None)
    if head is None:
        return
    embedding = state.setdefault(EMBEDDING, head)
    if np.array_equal(head, embedding, equal_nan=head.dtype.name in FLOATS):
        return
    if strict:
        raise CheckpointError(
            f"the configuration ties {HEAD} to {EMBEDDING}, but the two differ in the file; "
            f"load with strict=False to let {HEAD} win, as the released loader does"
        )
    state[EMBEDDING] = head


def _check(state: Tensors, wanted: list[Parameter], strict: bool) -> None:
    """Raises CheckpointError unless `state` holds what is wanted, and nothing else."""
    names = {tensor.released for tensor in wanted}
    missing = sorted(names - set(state) - {BIGRAM})
    if missing:
        raise CheckpointError(f"missing tensors: {listed(missing)}; the file does not fit its configuration")
    present = [tensor for tensor in wanted if tensor.released in state]
    shapes = [
        f"{tensor.released} expected {list(tensor.released_shape)}, "
        f"found {list(state[tensor.released].shape)}"
        for tensor in present
        if state[tensor.released].shape != tensor.released_shape
    ]
    if shapes:
        raise CheckpointError(f"wrong shape: {listed(shapes)}")
    types = [
        f"{t.released} is {state[t.released].dtype}"
        for t in present
        if state[t.released].dtype.name not in FLOATS
    ]
    if types:
        raise CheckpointError(f"wrong type: {listed(types)}; weights must be one of {', '.join(FLOATS)}")
    surplus = sorted(name for name in set(state) - names if not _MASK.fullmatch(name))
    if surplus and strict:
        raise CheckpointError(
            f"tensors that the configuration has no place for: {listed(surplus)}; "
            "load with strict=False to drop them"
        )
    if surplus:
        warnings.warn(f"tensors dropped: {listed(surplus)}", stacklevel=3)


def _import(
    state: MutableMapping[str, np.ndarray], tensor: Parameter, sharding: Sharding | None
) -> np.ndarray | jax.Array:
    """Takes the tensor out of `state`, as float32 in our orientation; zeros if it is not there."""
    value = state.pop(tensor.released, None)
    if value is None:
        value = np.broadcast_to(np.float32(0), tensor.released_shape)
    own = value.T if tensor.transposed else value

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        return np.array(own[index], np.float32, order="C")

    whole = (slice(None),) * own.ndim
    imported = part(whole) if sharding is None else jax.make_array_from_callback(own.shape, sharding, part)
    forget_pages(value)
    return imported
