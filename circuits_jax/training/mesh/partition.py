r"""How parameters are split over a mesh: an ordered table of (name pattern, axes), the first match wins.

A rule such as `h_\d+/mlp/c_fc/kernel = fsdp, model` splits the first dimension of each tensor of that name
over the axis `fsdp` and the second over `model`.  A pattern must match the whole name or its end from a "/"
on, so that the same rules fit the optimizer's moments, and a model that is a branch of a larger tree.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from circuits_jax.config import ModelConfig
from circuits_jax.config.mesh import AXES
from circuits_jax.model.parameters import mesh_axes, parameter_name
from circuits_jax.storage.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class PartitionRule:
    """Tensors whose name matches `pattern` are split, dimension by dimension, over the mesh axes `axes`."""

    pattern: str
    axes: tuple[str | tuple[str, ...] | None, ...] = ()

    def matches(self, name: str) -> bool:
        """Whether `name`, or its end from a "/" on, is of the pattern."""
        return re.fullmatch(_anywhere(self.pattern), name) is not None

    def __str__(self) -> str:
        names = (
            "-" if axis is None else axis if isinstance(axis, str) else "+".join(axis) for axis in self.axes
        )
        return f"{self.pattern} = {', '.join(names) or '-'}"


def model_rules(config: ModelConfig) -> tuple[PartitionRule, ...]:
    """The table of a Transformer, one rule a row of `model.parameters`."""
    return tuple(PartitionRule(pattern, axes) for pattern, axes in mesh_axes(config))


def parse_rules(texts: Sequence[str]) -> tuple[PartitionRule, ...]:
    """Rules from `mesh.rules`: "pattern = axis, axis", "-" for a dimension that is whole, "a+b" for two axes.

    Raises:
      ConfigError: for a rule of another form, a pattern that is none, or an axis that no mesh has or that is
        named twice.
    """
    return tuple(map(_parse, texts))


def combined(
    own: Sequence[PartitionRule], rules: Sequence[PartitionRule], tree: Any
) -> tuple[PartitionRule, ...]:
    """`own` followed by the `rules`, without those that `own` leaves no tensor to match.

    A rule that matches no tensor at all stays; `shardings` refuses it.
    """
    names = [parameter_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    left = [name for name in names if not any(rule.matches(name) for rule in own)]

    def replaced(rule: PartitionRule) -> bool:
        return any(map(rule.matches, names)) and not any(map(rule.matches, left))

    return (*own, *(rule for rule in rules if not replaced(rule)))


def shardings(tree: Any, rules: Sequence[PartitionRule], mesh: Mesh) -> Any:
    """The NamedSharding of every tensor of a parameter tree.

    Args:
      tree: Arrays or ShapeDtypeStructs.
      rules: The table; every one must be the first match of some tensor of `tree`, which settles it.
      mesh: The devices.

    Raises:
      ConfigError: for a tensor that no rule matches, a rule that decides nothing, a rule for more dimensions
        than a tensor has, or one whose axes do not divide a dimension.
    """
    used = set()

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = parameter_name(path)
        rule = _first_match(name, rules)
        used.add(rule)
        return NamedSharding(mesh, _spec(name, leaf.shape, rule, mesh))

    placed = jax.tree_util.tree_map_with_path(place, tree)
    unused = [str(rule) for rule in rules if rule not in used]
    if unused:
        raise ConfigError(
            f"no parameter is left for the partition rule {unused[0]!r}; correct its pattern or its place, "
            "for the first rule that matches wins"
        )
    return placed


def like_params(tree: Any, rules: Sequence[PartitionRule], mesh: Mesh) -> Any:
    """The NamedSharding of everything in a tree that holds copies of the parameters, such as Adam's moments.

    Scalars, such as counts, are whole on every device.
    """

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        if not leaf.shape:
            return NamedSharding(mesh, PartitionSpec())
        name = parameter_name(path)
        return NamedSharding(mesh, _spec(name, leaf.shape, _first_match(name, rules), mesh))

    return jax.tree_util.tree_map_with_path(place, tree)


def stacked(layers: Sequence[NamedSharding]) -> NamedSharding:
    """The sharding of one tensor of all layers, [n_layer, ...], from those of each layer's.

    Raises:
      ConfigError: if layers are split in different ways.
    """
    first = layers[0]
    if any(other.spec != first.spec for other in layers):
        raise ConfigError(
            "mesh.scan_layers stacks the layers, and mesh.rules split them in different ways; give all "
            "layers one rule, or set mesh.scan_layers=False"
        )
    return NamedSharding(first.mesh, PartitionSpec(None, *first.spec))


def _first_match(name: str, rules: Sequence[PartitionRule]) -> PartitionRule:
    for rule in rules:
        if rule.matches(name):
            return rule
    raise ConfigError(
        f"no partition rule matches the parameter {name!r}; add one to mesh.rules, such as '{name} = -'"
    )


def _spec(name: str, shape: tuple[int, ...], rule: PartitionRule, mesh: Mesh) -> PartitionSpec:
    if len(rule.axes) > len(shape):
        raise ConfigError(
            f"the partition rule {str(rule)!r} is for {len(rule.axes)} dimensions, but {name} "
            f"has {len(shape)}"
        )
    axes = []
    for size, axis in zip(shape, rule.axes, strict=False):
        names = () if axis is None else (axis,) if isinstance(axis, str) else axis
        names = tuple(each for each in names if mesh.shape[each] > 1)
        ways = math.prod(mesh.shape[each] for each in names)
        if size % ways:
            raise ConfigError(
                f"{name} has the shape {' x '.join(map(str, shape))}, and {'+'.join(names)} = {ways} does "
                f"not divide {size}; change the mesh, or put another rule first, such as "
                f"--config.mesh.rules=\"('{name} = -',)\""
            )
        axes.append(names[0] if len(names) == 1 else names or None)
    return PartitionSpec(*axes)


def _parse(text: str) -> PartitionRule:
    pattern, equals, axes = (part.strip() for part in text.rpartition("="))
    if not equals or not pattern or not axes:
        raise ConfigError(f"the partition rule {text!r} is not of the form 'pattern = axis, axis'")
    try:
        re.compile(_anywhere(pattern))
    except re.error as error:
        raise ConfigError(f"the pattern of the partition rule {text!r} cannot be read: {error}") from error
    rule = PartitionRule(pattern, tuple(_parse_axis(each.strip(), text) for each in axes.split(",")))
    named = [name for names in rule.axes for name in names or ()]
    if len(set(named)) < len(named):
        raise ConfigError(f"the partition rule {text!r} names an axis twice; each can split one dimension")
    return rule


def _anywhere(pattern: str) -> str:
    """What matches `pattern`, or a longer name that ends in it."""
    return f"(?:.*/)?(?:{pattern})"


def _parse_axis(name: str, rule: str) -> tuple[str, ...] | None:
    if name == "-":
        return None
    names = tuple(part.strip() for part in name.split("+"))
    for each in names:
        if each not in AXES:
            raise ConfigError(
                f"the partition rule {rule!r} names the axis {each!r}, which no mesh has; choose of "
                f"{', '.join(AXES)}, or '-' for none"
            )
    return names
