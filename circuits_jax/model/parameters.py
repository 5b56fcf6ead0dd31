"""Every parameter tensor of a Transformer, one row each: the only place that knows their names.

A row says what a tensor is called here and in the released state dict, its shape, whether it can be sparse,
where the floor of the sparsity applies, how a mesh splits it and whether it is trained.  Projection,
partition rules, checkpoints from elsewhere, reports and pages read the table, so that a new tensor is a new
row (and its use in `model/transformer.py`).  Sources: docs/method.md, "Weight sparsity"; docs/numerics.md,
"State dict".
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from circuits_jax.config import ModelConfig
from circuits_jax.config.mesh import FSDP, MODEL

Shape = tuple[int, ...]

MATRIX, EMBEDDING, BIAS, DENSE = "matrix", "embedding", "bias", "dense"

# Names of single tensors, for the places that read one of them.
TOKEN_EMBEDDING = "wte/embedding"
POSITION_EMBEDDING = "wpe/embedding"
UNEMBEDDING = "lm_head/kernel"
BIGRAM = "bigram"
LOGITS_BIAS = "logits_bias"
# Of one layer, or one half of it; "{layer}" is its number.
BLOCK = "h_{layer}"
ALL_LAYERS = BLOCK.format(layer="all")  # the branch of all layers together (`model.stacking`)
SINK = "h_{layer}/attn/sink"
QKV, ATTENTION_OUT = "h_{layer}/attn/c_attn", "h_{layer}/attn/c_proj"
MLP_IN, MLP_OUT = "h_{layer}/mlp/c_fc", "h_{layer}/mlp/c_proj"
NORMS = {"attn": "h_{layer}/ln_1", "mlp": "h_{layer}/ln_2"}
POSITION_NORMS = {"attn": "h_{layer}/ln_p1", "mlp": "h_{layer}/ln_p2"}
FINAL_NORM = "ln_f"


class SparsityRule(NamedTuple):
    """How the projection treats one tensor.

    Attributes:
      kind: MATRIX (always sparse), EMBEDDING and BIAS (sparse unless switched off), or DENSE (never sparse).
      floor_axis: The axis along which the weights of one unit lie, where the floor applies; else None.
        Kernels are [in, out]: the incoming weights of a unit lie along axis 0 (q, k and v channels,
        neurons), its outgoing weights along axis 1 (v channels, neurons).
    """

    kind: str
    floor_axis: int | None = None


def _always(config: ModelConfig) -> bool:
    del config
    return True


@dataclasses.dataclass(frozen=True)
class _Row:
    """One line of the table; "{layer}" in names stands for every layer's number."""

    name: str
    released: str
    shape: Callable[[ModelConfig], Shape]
    rule: SparsityRule
    axes: tuple[str | None, ...] = ()
    transposed: bool = False
    exists: Callable[[ModelConfig], bool] = _always
    trained: Callable[[ModelConfig], bool] = _always

    @functools.cached_property
    def pattern(self) -> str:
        """A regular expression that matches the name in every layer."""
        return self.name.replace("{layer}", r"\d+")


def _linear(
    name: str, released: str, shape: Callable[[ModelConfig], Shape], floor_axis: int, axes: tuple[str, str]
) -> tuple[_Row, _Row]:
    """Kernel [in, out] and bias [out] of a linear layer; released kernels are [out, in].

    Matrices that read the residual stream are split by output over `model`; those that write it by input, so
    only one sum is exchanged.  A bias as wide as the residual stream is whole.
    """
    bias_axes = (MODEL,) if axes[1] == MODEL else ()
    return (
        _Row(
            f"{name}/kernel", f"{released}.weight", shape, SparsityRule(MATRIX, floor_axis), axes, True
        ),
        _Row(
            f"{name}/bias",
            f"{released}.bias",
            lambda c: shape(c)[1:],
            SparsityRule(BIAS),
            bias_axes,
            exists=lambda c: c.bias,
        ),
    )  # fmt: skip


def _norm(
    name: str,
    released: str,
    size: Callable[[ModelConfig], int],
    exists: Callable[[ModelConfig], bool] = _always,
) -> tuple[_Row, _Row]:
    """Gain and bias of a norm; an RMSNorm has no bias, whatever `model.norm_bias` says."""
    return (
        _Row(
            f"{name}/scale",
            f"{released}.weight",
            lambda c: (size(c),),
            SparsityRule(DENSE),
            exists=lambda c: exists(c) and c.norm != "none",
        ),
        _Row(
            f"{name}/bias",
            f"{released}.bias",
            lambda c: (size(c),),
            SparsityRule(BIAS),
            exists=lambda c: exists(c) and c.norm == "layer" and c.norm_bias,
        ),
    )


def _concatenates(config: ModelConfig) -> bool:
    return config.position == "concat"


_HEAD, _LAYER = "transformer.", "transformer.h.{layer}."
# In the order in which checkpoints list them; rows of layers stand together and repeat layer by layer.
_ROWS: tuple[_Row, ...] = (
    _Row(
        TOKEN_EMBEDDING, f"{_HEAD}wte.weight", lambda c: (c.vocab_size, c.d_model),
        SparsityRule(EMBEDDING), (MODEL, FSDP),
    ),
    _Row(
        POSITION_EMBEDDING, f"{_HEAD}wpe.weight",
        lambda c: (c.n_ctx, c.d_pos if c.position == "concat" else c.d_model),
        SparsityRule(EMBEDDING), exists=lambda c: c.position != "none",
    ),
    *_norm(NORMS["attn"], f"{_LAYER}ln_1", lambda c: c.d_model),
    *_norm(NORMS["mlp"], f"{_LAYER}ln_2", lambda c: c.d_model),
    *_norm(POSITION_NORMS["attn"], f"{_LAYER}ln_p1", lambda c: c.d_pos, _concatenates),
    *_norm(POSITION_NORMS["mlp"], f"{_LAYER}ln_p2", lambda c: c.d_pos, _concatenates),
    *_linear(QKV, f"{_LAYER}attn.c_attn", lambda c: (c.d_read, 3 * c.d_attn), 0, (FSDP, MODEL)),
    *_linear(ATTENTION_OUT, f"{_LAYER}attn.c_proj", lambda c: (c.d_attn, c.d_model), 1, (MODEL, FSDP)),
    _Row(
        SINK, f"{_LAYER}attn.attn_imp.sink_logit", lambda c: (c.heads,), SparsityRule(DENSE),
        exists=lambda c: c.attention_sink,
    ),
    *_linear(MLP_IN, f"{_LAYER}mlp.c_fc", lambda c: (c.d_read, c.neurons), 0, (FSDP, MODEL)),
    *_linear(MLP_OUT, f"{_LAYER}mlp.c_proj", lambda c: (c.neurons, c.d_model), 1, (MODEL, FSDP)),
    *_norm(FINAL_NORM, f"{_HEAD}ln_f", lambda c: c.d_model),
    _Row(
        UNEMBEDDING, "lm_head.weight", lambda c: (c.d_model, c.vocab_size), SparsityRule(EMBEDDING),
        (FSDP, MODEL), transposed=True, exists=lambda c: not c.tied_unembed,
    ),
    _Row(
        LOGITS_BIAS, "final_logits_bias", lambda c: (c.vocab_size,), SparsityRule(DENSE),
        exists=lambda c: c.logits_bias,
    ),
    _Row(
        BIGRAM, "bigram_table", lambda c: (c.vocab_size, c.vocab_size), SparsityRule(DENSE), (FSDP, MODEL),
        exists=lambda c: c.has_bigram, trained=lambda c: c.bigram == "learned",
    ),
)  # fmt: skip


class Parameter(NamedTuple):
    """One tensor of one model.

    Attributes:
      name: Its path in the parameter tree, "h_0/attn/c_attn/kernel".
      shape: In the tree.
      rule: How the projection treats it.
      released: Its name in the released state dict.
      transposed: Whether it lies there transposed.
      trained: Whether a run of this configuration trains it; one that is not is computed from the corpus.
    """

    name: str
    shape: Shape
    rule: SparsityRule
    released: str
    transposed: bool
    trained: bool

    @property
    def path(self) -> tuple[str, ...]:
        """The keys that lead to it in the tree."""
        return tuple(self.name.split("/"))

    @property
    def released_shape(self) -> Shape:
        """Its shape in the released state dict."""
        return self.shape[::-1] if self.transposed else self.shape


def parameters(config: ModelConfig) -> Iterator[Parameter]:
    """Every tensor of a model of this configuration, in the order of the table; allocates nothing."""
    for row, layer in _layer_order(config.n_layer):
        if row.exists(config):
            yield Parameter(
                name=row.name.format(layer=layer),
                shape=row.shape(config),
                rule=row.rule,
                released=row.released.format(layer=layer),
                transposed=row.transposed,
                trained=row.trained(config),
            )


def trained_part(config: ModelConfig, params: Any) -> dict[str, Any]:
    """A parameter tree, of arrays or shapes, without the tensors that are not trained."""
    frozen = named(frozen_shapes(config))
    return build_tree((name, leaf) for name, leaf in named(params).items() if name not in frozen)


def frozen_shapes(config: ModelConfig) -> dict[str, Any]:
    """The tree of the tensors that are not trained, as float32 ShapeDtypeStructs; usually an empty one."""
    frozen = (row for row in parameters(config) if not row.trained)
    return build_tree((row.name, jax.ShapeDtypeStruct(row.shape, np.float32)) for row in frozen)


def merged(*trees: Any) -> dict[str, Any]:
    """One tree of the leaves of several, of which no two have one in common; None has none."""
    return build_tree(item for tree in trees for item in named(tree).items())


def mesh_axes(config: ModelConfig) -> Iterator[tuple[str, tuple[str | None, ...]]]:
    """(pattern of the name, mesh axis of each dimension) of every row that this configuration has."""
    return ((row.pattern, row.axes) for row in _ROWS if row.exists(config))


def rule_for(name: str) -> SparsityRule:
    """How the projection treats the tensor `name`, or each layer's part of the tensor of all layers.

    Raises:
      ValueError: for a name that is not in the table.
    """
    for row in _ROWS:
        if re.fullmatch(row.pattern, name) or row.name.format(layer="all") == name:
            return row.rule
    raise ValueError(f"unknown parameter {name!r}; add a row for it to circuits_jax/model/parameters.py")


def of_all_layers(name: str) -> bool:
    """Whether the tensor `name` holds all layers, along its first axis."""
    return name.startswith(f"{ALL_LAYERS}/")


def released_name(name: str) -> str:
    """The released name of a tensor outside the layers, such as UNEMBEDDING."""
    return next(row.released for row in _ROWS if row.name == name)


def parameter_name(path: tuple[Any, ...]) -> str:
    """A JAX tree path as a name: "h_0/attn/c_attn/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named(params: Any) -> dict[str, Any]:
    """The leaves of a parameter tree by name, in tree order."""
    return {parameter_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def depth(params: Mapping[str, Any]) -> int:
    """How many layers a parameter tree has."""
    return sum(re.fullmatch(BLOCK.format(layer=r"\d+"), name) is not None for name in params)


def get(params: Any, name: str, layer: int | None = None) -> Any:
    """The tensor, or the branch of the tree, called `name`; `layer` fills its "{layer}".

    Raises:
      KeyError: if the tree has none.
    """
    for key in name.format(layer=layer).split("/"):
        params = params[key]
    return params


def updated(params: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of `params` in which the branches that `changes` names have new leaves; the rest is shared.

    Args:
      params: A parameter tree.
      changes: {name of a branch: {leaf: array}}, such as {"h_0/mlp/c_fc": {"kernel": ...}}.
    """

    def copy(tree: Any, name: str) -> Any:
        if not isinstance(tree, Mapping):
            return tree
        below = {key: copy(branch, f"{name}/{key}" if name else key) for key, branch in tree.items()}
        return {**below, **changes.get(name, {})}

    return copy(params, "")


def build_tree(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Nested dicts from (name, leaf) pairs."""
    tree: dict[str, Any] = {}
    for name, value in items:
        *above, last = name.split("/")
        branch = tree
        for key in above:
            branch = branch.setdefault(key, {})
        branch[last] = value
    return tree


def _layer_order(layers: int) -> Iterator[tuple[_Row, int | None]]:
    """(row, layer) of the whole network: rows before the layers, the layers one by one, rows after them."""
    block = [row for row in _ROWS if "{layer}" in row.name]
    first = _ROWS.index(block[0])
    yield from ((row, None) for row in _ROWS[:first])
    yield from ((row, layer) for layer in range(layers) for row in block)
    yield from ((row, None) for row in _ROWS[first + len(block) :])
