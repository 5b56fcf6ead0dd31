"""The released state dict <-> the parameter tree (FACTS "State dict").

One table, `layout`, says which tensor lies where and drives both directions.  Released linear weights
are [out, in]; ours are [in, out].
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Sharding

from circuits_jax.config import ModelConfig
from circuits_jax.errors import CheckpointError
from circuits_jax.released.files import listed
from circuits_jax.released.mapped import forget_pages

Tensors = Mapping[str, np.ndarray]
Tree = dict[str, Any]

LOGITS_BIAS = "final_logits_bias"
BIGRAM = "bigram_table"
HEAD = "lm_head.weight"
EMBEDDING = "transformer.wte.weight"
POSITIONS = "transformer.wpe.weight"
WRAPPER = "circuit_model."  # before every name in the Hugging Face layout
FLOATS = ("float32", "float16", "bfloat16")
# A causal mask, not a bias: saved by models built without flash attention.
_MASK = re.compile(r"transformer\.h\.\d+\.attn\.bias")
_LAYER = re.compile(r"transformer\.h\.(\d{1,6})\.")


class Tensor(NamedTuple):
    """One parameter: its released name and shape, its path in the tree, whether it is transposed there."""

    name: str
    shape: tuple[int, ...]
    path: tuple[str, ...]
    transposed: bool = False

    @property
    def key(self) -> str:
        """The path in one word: "h_0/attn/c_attn/kernel"."""
        return "/".join(self.path)

    @property
    def own_shape(self) -> tuple[int, ...]:
        """The shape in the tree."""
        return self.shape[::-1] if self.transposed else self.shape


def layout(config: ModelConfig) -> Iterator[Tensor]:
    """Every tensor of a model of this configuration; allocates nothing."""
    c = config
    yield Tensor(EMBEDDING, (c.vocab_size, c.d_model), ("wte", "embedding"))
    if c.position != "none":
        size = c.d_model if c.position == "add" else c.d_pos
        yield Tensor(POSITIONS, (c.n_ctx, size), ("wpe", "embedding"))
    for layer in range(c.n_layer):
        yield from _block(c, f"transformer.h.{layer}.", (f"h_{layer}",))
    yield from _norm(c, "transformer.ln_f", ("ln_f",), c.d_model)
    if not c.tied_unembed:
        yield Tensor(HEAD, (c.vocab_size, c.d_model), ("lm_head", "kernel"), True)
    if c.logits_bias:
        yield Tensor(LOGITS_BIAS, (c.vocab_size,), ("logits_bias",))
    if c.bigram:
        yield Tensor(BIGRAM, (c.vocab_size, c.vocab_size), ("bigram",))


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
        named = "" if layers else f"; its tensors are named {listed(sorted(state)) or 'nothing'}"
        raise CheckpointError(f"the configuration has {config.n_layer} layers, the file {layers}{named}")
    if config.tied_unembed:
        _untie(state, strict)
    wanted = list(layout(config))
    _check(state, wanted, strict)
    return build_tree((t.path, _import(state, t, _branch(shardings, t.path))) for t in wanted)


def state_from_params(params: Mapping[str, Any], config: ModelConfig) -> dict[str, np.ndarray]:
    """The released state dict, float32, of a parameter tree; the inverse of `params_from_state`.

    A tied unembedding is listed under both of its names, as one array.  A model without positions gets
    a position table of zeros, since the released code always adds one.

    Raises:
      CheckpointError: if the tree does not fit `config`, naming the first tensor that does not.
    """
    state = {
        tensor.name: np.ascontiguousarray(value.T if tensor.transposed else value)
        for tensor, value in leaves(params, config)
    }
    if config.tied_unembed:
        state[HEAD] = state[EMBEDDING]
    if config.position == "none":
        state[POSITIONS] = np.zeros((config.n_ctx, config.d_model), np.float32)
    return state


def build_tree(items: Iterable[tuple[tuple[str, ...], np.ndarray]]) -> Tree:
    """Nested dicts from (path, array) pairs."""
    tree: Tree = {}
    for (*above, last), value in items:
        branch = tree
        for key in above:
            branch = branch.setdefault(key, {})
        branch[last] = value
    return tree


def leaves(params: Mapping[str, Any], config: ModelConfig) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Each tensor of `config` with its value in `params`, in our orientation.

    Raises:
      CheckpointError: if a tensor is missing, surplus, or of another shape or type.
    """
    surplus = set(_paths(params)) - {tensor.path for tensor in layout(config)}
    if surplus:
        names = listed(sorted("/".join(path) for path in surplus))
        raise CheckpointError(f"the parameters hold {names}, which the configuration has not")
    for tensor in layout(config):
        value: Any = params
        for key in tensor.path:
            if not isinstance(value, Mapping) or key not in value:
                raise CheckpointError(f"the parameters lack {tensor.key}, which the configuration has")
            value = value[key]
        value = np.asarray(value)
        if value.dtype != np.float32 or value.shape != tensor.own_shape:
            raise CheckpointError(
                f"{tensor.key}: expected float32 {list(tensor.own_shape)}, "
                f"found {value.dtype} {list(value.shape)}"
            )
        yield tensor, value


def _block(c: ModelConfig, name: str, path: tuple[str, ...]) -> Iterator[Tensor]:
    norms = [("ln_1", c.d_model), ("ln_2", c.d_model)]
    if c.position == "concat":
        norms += [("ln_p1", c.d_pos), ("ln_p2", c.d_pos)]
    for norm, size in norms:
        yield from _norm(c, name + norm, (*path, norm), size)
    yield from _linear(c, name + "attn.c_attn", (*path, "attn", "c_attn"), c.d_read, 3 * c.d_attn)
    yield from _linear(c, name + "attn.c_proj", (*path, "attn", "c_proj"), c.d_attn, c.d_model)
    if c.attention_sink:
        yield Tensor(name + "attn.attn_imp.sink_logit", (c.heads,), (*path, "attn", "sink"))
    yield from _linear(c, name + "mlp.c_fc", (*path, "mlp", "c_fc"), c.d_read, c.neurons)
    yield from _linear(c, name + "mlp.c_proj", (*path, "mlp", "c_proj"), c.neurons, c.d_model)


def _linear(c: ModelConfig, name: str, path: tuple[str, ...], inputs: int, outputs: int) -> Iterator[Tensor]:
    yield Tensor(name + ".weight", (outputs, inputs), (*path, "kernel"), True)
    if c.bias:
        yield Tensor(name + ".bias", (outputs,), (*path, "bias"))


def _norm(c: ModelConfig, name: str, path: tuple[str, ...], size: int) -> Iterator[Tensor]:
    yield Tensor(name + ".weight", (size,), (*path, "scale"))
    if c.norm == "layer" and c.norm_bias:
        yield Tensor(name + ".bias", (size,), (*path, "bias"))


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


def _check(state: Tensors, wanted: list[Tensor], strict: bool) -> None:
    """Raises CheckpointError unless `state` holds what is wanted, and nothing else."""
    names = {tensor.name for tensor in wanted}
    missing = sorted(names - set(state) - {BIGRAM})
    if missing:
        raise CheckpointError(f"missing tensors: {listed(missing)}; the file does not fit its configuration")
    present = [tensor for tensor in wanted if tensor.name in state]
    shapes = [
        f"{tensor.name} expected {list(tensor.shape)}, found {list(state[tensor.name].shape)}"
        for tensor in present
        if state[tensor.name].shape != tensor.shape
    ]
    if shapes:
        raise CheckpointError(f"wrong shape: {listed(shapes)}")
    types = [f"{t.name} is {state[t.name].dtype}" for t in present if state[t.name].dtype.name not in FLOATS]
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
    state: MutableMapping[str, np.ndarray], tensor: Tensor, sharding: Sharding | None
) -> np.ndarray | jax.Array:
    """Takes the tensor out of `state`, as float32 in our orientation; zeros if it is not there."""
    value = state.pop(tensor.name, None)
    if value is None:
        value = np.broadcast_to(np.float32(0), tensor.shape)
    own = value.T if tensor.transposed else value

    def part(index: tuple[slice, ...]) -> np.ndarray:
        return np.array(own[index], np.float32, order="C")

    whole = (slice(None),) * own.ndim
    imported = part(whole) if sharding is None else jax.make_array_from_callback(own.shape, sharding, part)
    forget_pages(value)
    return imported


def _branch(tree: Mapping[str, Any] | None, path: tuple[str, ...]) -> Any:
    """What lies at `path`, or None if there is no tree."""
    for key in path if tree is not None else ():
        tree = tree[key]
    return tree


def _paths(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _paths(value, (*above, key))
        else:
            yield (*above, key)
