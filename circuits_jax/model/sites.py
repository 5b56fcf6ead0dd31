"""The table of places in the network: the name, the width and the meaning of every site.

A *site* is a named activation of shape [batch, tokens, width] that the forward pass shows to its tap.
Names are those of the released code (docs/numerics.md, "Forward pass"): `"{layer}.attn.act_in"` and so on,
and `"final_resid"`.  A *node* is one index at one of the eight node locations of a layer, or, where that is
asked for (`prune.final_resid`), at the final residual stream (docs/method.md, "Nodes and edges").  The masks
and means of a circuit name its node sites.

`transformer_lens_name` and `from_transformer_lens` translate to and from TransformerLens' hook names.
"""

import fnmatch
import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

from circuits_jax.config import ModelConfig
from circuits_jax.storage.errors import ConfigError

FINAL = "final_resid"


class _Location(NamedTuple):
    """One location of a layer.

    Attributes:
      name: As in "{layer}.{name}".
      width: The property of the model's configuration that is its width.
      node: Whether its indices are nodes.
      topk: Where, of `config.TOPK_LOCATIONS`, AbsTopK acts right before it; None if nowhere.
      transformer_lens: What TransformerLens calls it; its q, k, v and z have an axis of heads, ours are flat.
    """

    name: str
    width: str
    node: bool
    topk: str | None
    transformer_lens: str


# In the order in which the forward pass reaches them.
_TABLE = (
    _Location("resid_in", "d_model", False, "resid_post_mlp", "hook_resid_pre"),
    _Location("attn.act_in", "d_read", True, "attn_in", "ln1.hook_normalized"),
    _Location("attn.q", "d_attn", True, "attn_q", "attn.hook_q"),
    _Location("attn.k", "d_attn", True, "attn_k", "attn.hook_k"),
    _Location("attn.v", "d_attn", True, "attn_v", "attn.hook_v"),
    _Location("attn.y", "d_attn", False, None, "attn.hook_z"),
    _Location("attn.resid_delta", "d_model", True, "attn_out", "hook_attn_out"),
    _Location("resid_mid", "d_model", False, "resid_post_attn", "hook_resid_mid"),
    _Location("mlp.act_in", "d_read", True, "mlp_in", "ln2.hook_normalized"),
    _Location("mlp.post_act", "neurons", True, "mlp_neuron", "mlp.hook_post"),
    _Location("mlp.resid_delta", "d_model", True, "mlp_out", "hook_mlp_out"),
)
_BY_NAME = {row.name: row for row in _TABLE}
_BY_TOPK = {row.topk: row for row in _TABLE if row.topk is not None}
LOCATIONS = tuple(_BY_NAME)
NODE_LOCATIONS = tuple(row.name for row in _TABLE if row.node)
# Units that may be dead: what they are called in reports, and their location.
UNITS = {"q": "attn.q", "k": "attn.k", "v": "attn.v", "neuron": "mlp.post_act"}
_AFTER = "hook_resid_post"  # TransformerLens' name of a layer's end: the next one's "resid_in", or FINAL


def width(config: ModelConfig, location: str) -> int:
    """Entries in the last axis of `location` (a member of LOCATIONS, or FINAL).

    Raises:
      ConfigError: if there is no such location.
    """
    if location == FINAL:
        return config.d_model
    if location in _BY_NAME:
        return int(getattr(config, _BY_NAME[location].width))
    raise ConfigError(f"unknown location {location!r}; a layer has {', '.join(LOCATIONS)}")


def topk_width(config: ModelConfig, topk: str) -> int:
    """Among how many entries AbsTopK chooses at `topk`, of `config.TOPK_LOCATIONS`."""
    return width(config, _BY_TOPK[topk].name)


def kept_at(config: ModelConfig, site: str) -> int | None:
    """How many entries AbsTopK keeps right before the tap at `site`, or None where it does not act."""
    if site == FINAL:  # what comes after the last layer, as a later layer's first site after the one before
        return kept_at(config, f"{config.n_layer}.{_TABLE[0].name}")
    layer, location = parse(site)
    topk = _BY_NAME[location].topk if layer > 0 or location != _TABLE[0].name else None
    return None if topk is None else config.kept_activations(topk, width(config, location))


def order(site: str) -> tuple[float, int]:
    """What node sites are sorted by to stand in forward order: (layer, place in the layer).

    Raises:
      ConfigError: if `site` is not of that form.
    """
    if site == FINAL:
        return math.inf, 0
    layer, location = parse(site)
    return layer, LOCATIONS.index(location)


def sites(config: ModelConfig) -> dict[str, int]:
    """Every site's width, in forward order; allocates nothing."""
    layers = _layer_sites(config, LOCATIONS)
    return {**layers, FINAL: config.d_model}


def node_sites(config: ModelConfig, final: bool = False) -> dict[str, int]:
    """The sites whose indices are nodes, and how many each has, in forward order.

    Args:
      config: The model's.
      final: Whether the final residual stream has nodes too.
    """
    layers = _layer_sites(config, NODE_LOCATIONS)
    return {**layers, FINAL: config.d_model} if final else layers


def may_have_nodes(site: str) -> bool:
    """Whether `site` is of a node location, or the final residual stream."""
    return site == FINAL or site.partition(".")[2] in NODE_LOCATIONS


def unit_sites(config: ModelConfig) -> tuple[str, ...]:
    """The sites of UNITS, in forward order."""
    return tuple(_layer_sites(config, tuple(UNITS.values())))


def parse(site: str) -> tuple[int, str]:
    """`"3.mlp.post_act"` -> (3, "mlp.post_act").

    Raises:
      ConfigError: if `site` is not of that form.
    """
    layer, _, location = site.partition(".")
    if not layer.isdecimal() or location not in LOCATIONS:
        choices = ", ".join(LOCATIONS)
        raise ConfigError(f"unknown site {site!r}; a site is {{layer}}.{{location}} of {choices}")
    return int(layer), location


def transformer_lens_name(config: ModelConfig, site: str) -> str:
    """`"3.attn.q"` -> `"blocks.3.attn.hook_q"`.

    Raises:
      ConfigError: if `site` is not a site of this model.
    """
    check(config, (site,))
    if site == FINAL:
        return f"blocks.{config.n_layer - 1}.{_AFTER}"
    layer, location = parse(site)
    return f"blocks.{layer}.{_BY_NAME[location].transformer_lens}"


def from_transformer_lens(config: ModelConfig, name: str) -> str:
    """`"blocks.3.attn.hook_q"` -> `"3.attn.q"`; the inverse of `transformer_lens_name`.

    `hook_resid_post` of a layer that is not the last is the next one's `resid_in`.

    Raises:
      ConfigError: if `name` is not TransformerLens' name of a site of this model.
    """
    known = {transformer_lens_name(config, site): site for site in sites(config)}
    for layer in range(1, config.n_layer):
        known[f"blocks.{layer - 1}.{_AFTER}"] = f"{layer}.{_TABLE[0].name}"
    if name not in known:
        choices = ", ".join((*(row.transformer_lens for row in _TABLE), _AFTER))
        raise ConfigError(
            f"unknown hook {name!r}; this model has blocks.{{0..{config.n_layer - 1}}}.{{{choices}}}"
        )
    return known[name]


def select(config: ModelConfig, patterns: Iterable[str]) -> tuple[str, ...]:
    """The sites that match any of the glob `patterns` (`"*"`, `"*.mlp.post_act"`), in forward order.

    Raises:
      ConfigError: if a pattern matches no site.
    """
    known = sites(config)
    patterns = tuple(patterns)
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise ConfigError(f"no site matches {pattern!r}; this model has {_describe(config)}")
    return tuple(site for site in known if any(fnmatch.fnmatchcase(site, p) for p in patterns))


def check(config: ModelConfig, names: Collection[str]) -> None:
    """Raises ConfigError if a name is not a site of this model."""
    known = sites(config)
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown site {name!r}; this model has {_describe(config)}")


def _layer_sites(config: ModelConfig, locations: Iterable[str]) -> dict[str, int]:
    locations = tuple(locations)
    return {
        f"{layer}.{location}": width(config, location)
        for layer in range(config.n_layer)
        for location in locations
    }


def _describe(config: ModelConfig) -> str:
    return f"{{0..{config.n_layer - 1}}}.{{{', '.join(LOCATIONS)}}} and {FINAL}"
