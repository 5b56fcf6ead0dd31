"""Interventions by hand: nodes set to a number, to their mean or to zero, named in a short grammar.

    3.mlp.post_act.407=0.5      neuron 407 of layer 3 is 0.5
    1.attn.v.12:mean            value channel 12 of layer 1 is its mean over the corpus
    1.attn.v.12:zero            the same as 1.attn.v.12=0

Interventions act after AbsTopK, as ablations do (docs/method.md, "Ablation"), and are taps: several compose,
and a forward pass with them is an ordinary one.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.circuit import Node
from circuits_jax.config import CONSTANT_ABLATIONS, ModelConfig
from circuits_jax.config.checks import check_choice
from circuits_jax.model import sites
from circuits_jax.model.taps import Tap, mix
from circuits_jax.storage.errors import ConfigError, check_kind
from circuits_jax.storage.surroundings import settled


@dataclasses.dataclass(frozen=True)
class Edit:
    """What becomes of one node: `value` is a number, "mean" or "zero"."""

    node: Node
    value: float | str


def parse_edit(text: str, config: ModelConfig) -> Edit:
    """Reads `site.index=number`, `site.index:mean` or `site.index:zero`.

    Raises:
      ConfigError: if the text is of another form, or there is no such site or index.
    """
    name, sign, value = text.strip().partition("=" if "=" in text else ":")
    site, _, index = name.rpartition(".")
    if not sign or not site or not index.isdecimal():
        raise ConfigError(f"{text!r} is no intervention; write SITE.INDEX=NUMBER, SITE.INDEX:mean or :zero")
    node = Node(site, int(index))
    check_node(node, config)
    if sign == ":":
        check_choice(f"the ablation of {name}", value, CONSTANT_ABLATIONS)
        return Edit(node, value)
    try:
        number = float(value)
    except ValueError as error:
        raise ConfigError(f"{text!r} sets {name} to {value!r}, which is no number") from error
    if not abs(number) <= float(np.finfo(np.float32).max):  # nor is NaN
        raise ConfigError(f"{text!r} sets {name} to {value}; give a finite number that float32 can hold")
    return Edit(node, number)


def check_node(node: Node, config: ModelConfig) -> None:
    """Raises ConfigError unless the model has the site, and the site that index."""
    sites.check(config, [node.site])
    width = sites.sites(config)[node.site]
    if not 0 <= node.index < width:
        raise ConfigError(f"{node.site} has no index {node.index}; it has 0 to {width - 1}")


@settled
def intervene(
    config: ModelConfig,
    changes: Iterable[str | Edit],
    means: Mapping[str, np.ndarray | jax.Array] | None = None,
) -> Tap:
    """A tap that makes `changes` at every position.

    >>> tap = intervene(model.config, ["1.mlp.post_act.7=0", "0.attn.v.12:mean"], circuit.means)
    >>> before, _ = model.apply(tokens)
    >>> after, _ = model.apply(tokens, tap=tap)

    Args:
      config: The model's configuration.
      changes: Texts, or what `parse_edit` made of them; the later of two for one node stands.
      means: {node site: [width]}, for `:mean`.

    Raises:
      ConfigError: for a change that this model has no place for, or a mean that is not known.
    """
    check_kind("the first argument", config, ModelConfig, "model.config")
    if isinstance(changes, str):
        raise ConfigError(f"the changes are one text, {changes!r}; give a list of them")
    kept: dict[str, np.ndarray] = {}
    values: dict[str, np.ndarray] = {}
    widths = sites.sites(config)
    for each in changes:
        check_kind("a change", each, (str, Edit), "a text such as '1.attn.v.12:mean', or a parsed Edit")
        change = parse_edit(each, config) if isinstance(each, str) else each
        check_node(change.node, config)
        site, index = change.node
        kept.setdefault(site, np.ones(widths[site], np.float32))[index] = 0
        values.setdefault(site, np.zeros(widths[site], np.float32))[index] = _number(change, means)
    return mix({s: jnp.asarray(x) for s, x in kept.items()}, {s: jnp.asarray(x) for s, x in values.items()})


def at_positions(tap: Tap, where: np.ndarray) -> Tap:
    """`tap` at the positions where `where`, bool [T], is true; elsewhere nothing changes."""

    def chosen(site: str, x: jax.Array) -> jax.Array:
        return jnp.where(jnp.asarray(where)[:, None], tap(site, x), x)

    return chosen


def _number(change: Edit, means: Mapping[str, np.ndarray | jax.Array] | None) -> float:
    if change.value == "zero":
        return 0.0
    if change.value != "mean":
        return float(change.value)
    if means is None or change.node.site not in means:
        known = "no means are given" if means is None else "means are known of nodes only"
        raise ConfigError(
            f"the mean of {change.node} is not known: {known}; set it to a number, or use :zero"
        )
    return float(means[change.node.site][change.node.index])
