"""The network that node pruning runs: AbsTopK and masks in its tap, and nodes that are out for good cut away.

A node whose mask will stay 0 is a constant, its mean.  What reads it then need not: its row of the next
matrix is removed and mean x row is folded into the bias.  AbsTopK still needs every *output* of a location to
choose among, unless none of them is kept; then XLA drops the computation by itself, for nothing uses it.
Where few are kept, counting how many outputs beat each of them is cheaper than finding the threshold.

No second forward pass is needed for this.  The same `Transformer` runs without AbsTopK of its own
(`competition.without_topk`), so that the tap sees what competes; the tap applies AbsTopK and masks and hands
on the columns that are left, and parameters with as few rows take them (docs/method.md, "Pruning").

A removed value channel is worth mean x (1 - the sink's weight), which differs by position.  One of its
head's removed channels carries a constant 1 through the attention instead, and its row of the output
projection is the sum of mean x row over all removed channels of that head.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation.competition import without_topk
from circuits_jax.circuits.ablation.donors import AnyPairs, reference
from circuits_jax.circuits.ablation.means import Means
from circuits_jax.circuits.ablation.pairs import pair_difference
from circuits_jax.circuits.masks import Masks
from circuits_jax.config import CONSTANT_ABLATIONS, ModelConfig
from circuits_jax.model import sites
from circuits_jax.model.abs_topk import abs_top_k, top_k_mask_at
from circuits_jax.model.blocks import map_rows
from circuits_jax.model.parameters import get, updated
from circuits_jax.model.taps import Tap, compose
from circuits_jax.model.target import target
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.model.wiring import layers_of, linear_layers

LEAST = 8  # columns of a location that is cut but not empty
WASTE = 2.0
WORTH = 0.5
# Columns, at most, whose ranks are counted one by one, with a pass over all outputs each.
RANKED = 16
# Columns of every location alike, so that circuits of many sizes share programs.
EVEN = (16, 64)
# Multiplications for each token that compiling other programs is worth (on CPU), summed over what they judge.
COMPILATION = 300e6
PASSES = 31  # of bisection for the threshold; the search on a CPU takes a dozen, with more work in each
COMPARISON = 4  # multiplications that take as long (on CPU)

Capacities = dict[str, int]


class CompactNetwork(NamedTuple):
    """A network from which nodes were cut; arrays only, so that it can be one run's own.

    Attributes:
      layers: {name of a linear layer: the parameters of one that lost rows}.
      columns: {node site and attn.y: int32 [capacity]}, the columns that are left; filled up with the width.
      others: {node site: float32 [width]}, what stands in where a mask is 0.
    """

    layers: Mapping[str, Any]
    columns: Mapping[str, jax.Array]
    others: Mapping[str, jax.Array]


class Held(NamedTuple):
    """What removed nodes are held at.

    Attributes:
      values: {site: [width], [T, width], or of donors [2N, T, width]}.
      joined: Sites that are handed on with what `values` has for them beside (`edge_removal.beside`).
    """

    values: Means
    joined: Collection[str] = ()


def masked_difference(
    network: Transformer,
    shared: tuple[Params, Means, CompactNetwork | tuple],
    kept: Masks,
    pairs: AnyPairs,
) -> jax.Array:
    """l[answer A] - l[answer B] with the nodes outside `kept` at their means, float32 [N, 2].

    Args:
      network: As it is, with biases (`edge_removal.with_biases`).
      shared: (its parameters; means of the node sites; of `compact`, whose nodes include those of `kept`, or
        () for the whole network, as pairs with donors need it).
      kept: {node site: [width]}.
      pairs: N pairs; removed nodes take their donors' values where they have some.
    """
    params, means, compacted = shared
    held = reference(network, params, tuple(kept), means, pairs)
    if compacted:
        params = updated(params, compacted.layers)
    return difference_held(network, params, Held(held), kept, pairs, compacted)


def difference_held(
    network: Transformer,
    params: Params,
    held: Held,
    kept: Masks,
    pairs: AnyPairs,
    compacted: CompactNetwork | tuple = (),
) -> jax.Array:
    """The same, given what removed nodes are held at.

    Args:
      network: As it is, with biases.
      params: What runs.
      held: What removed nodes are held at.
      kept: {node site: [width]}.
      pairs: N pairs.
      compacted: Of `compact`.
    """
    config, length, values = network.config, pairs.tokens.shape[-1], held.values
    last_half = None
    if config.position != "concat":  # there the last MLP reads positions too, of all tokens
        here = (jnp.arange(length) == jnp.repeat(pairs.last, 2)[:, None])[..., None]
        last_half = _last_half(config, here)
        values = {site: _at_last(config, site, x, here) for site, x in values.items()}
    tap = compose(masking(config, kept, values, compacted), _joining(values, held.joined), last_half)
    return pair_difference(without_topk(network), params, pairs, tap)


def masking(config: ModelConfig, kept: Mapping, means: Means, compacted: CompactNetwork | tuple = ()) -> Tap:
    """A tap for the network without AbsTopK: AbsTopK, mask x + (1 - mask) mean, then the columns left."""
    others = compacted.others if compacted else means
    columns = compacted.columns if compacted else {}
    read = {linear.carried for linear in linear_layers(config.n_layer)}  # by a matrix, whose rows are cut too

    def tap(site: str, x: jax.Array) -> jax.Array:
        chosen, k = columns.get(site), sites.kept_at(config, site)
        if chosen is None:
            x = _abs_top_k(x, k)
            return _mixed(x, kept[site], others[site]) if site in kept else x
        if site not in kept:  # attn.y, which has no AbsTopK of its own
            return _chosen(x, chosen)
        if len(chosen) > RANKED and site not in read:
            return _mixed(_abs_top_k(x, k), kept[site], others[site])
        left = _chosen_top_k(x, k, chosen)
        mask, other = _chosen(kept[site], chosen), _chosen(others[site], chosen)
        if site in read:
            return _mixed(left, mask, other)
        # The other columns are constants, and where none is left, what came before is not computed.
        return others[site].astype(x.dtype) + _spread(mask.astype(x.dtype) * (left - other), chosen, x.shape)

    return tap


def _last_half(config: ModelConfig, here: jax.Array) -> Tap:
    """Takes only each prompt's last position through what follows the last attention.

    Nothing mixes positions any more there, so no other position can reach the logits that are asked for.

    Args:
      config: The network's.
      here: bool [2N, T, 1], true at that position.
    """
    attention, mlp = layers_of(config.n_layer)[-1]
    length = here.shape[1]

    def tap(site: str, x: jax.Array) -> jax.Array:
        if site in (attention.output.carried, mlp.stream):
            return jnp.sum(jnp.where(here, x, 0), axis=1, keepdims=True)
        return jnp.broadcast_to(x, (len(x), length, x.shape[-1])) if site == sites.FINAL else x

    return tap


def _at_last(config: ModelConfig, site: str, x: jax.Array, here: jax.Array) -> jax.Array:
    """What is held at `site`: only at the last position where `_last_half` leaves no other."""
    attention, mlp = layers_of(config.n_layer)[-1]
    if x.ndim < 3 or site not in (attention.write, mlp.read, *mlp.units, mlp.write, sites.FINAL):
        return x
    return jnp.sum(jnp.where(here, x, 0), axis=1, keepdims=True)


def _joining(held: Means, joined: Collection[str]) -> Tap:
    def tap(site: str, x: jax.Array) -> jax.Array:
        return jnp.concatenate([x, held[site].astype(x.dtype)], axis=-1) if site in joined else x

    return tap


def capacities(
    config: ModelConfig, envelopes: Sequence[Mapping[str, np.ndarray]], compiled: Sequence[Capacities] = ()
) -> Capacities:
    """Column capacities for each node site: 0, a power of two, or the full width.

    Each of the `envelopes` fits into them.  Capacities among `compiled` that are large enough and cost at
    most WASTE times as much are taken instead.
    """
    room = {
        site: _capacity(int(max(envelope[site].sum() for envelope in envelopes)), width)
        for site, width in sites.node_sites(config, sites.FINAL in envelopes[0]).items()
    }
    fitting = [each for each in compiled if all(each[site] >= count for site, count in room.items())]
    fitting = [each for each in fitting if cost(config, each) <= WASTE * cost(config, room)]
    return min(fitting, key=lambda each: cost(config, each), default=room)


def cost(config: ModelConfig, room: Capacities) -> int:
    """Work for one token, in multiplications: those of the cut matrices, and AbsTopK's comparisons."""
    widths = sites.node_sites(config, sites.FINAL in room)
    comparisons = sum(
        width * (room[site] if room[site] <= RANKED else PASSES)
        for site, width in widths.items()
        if sites.kept_at(config, site) is not None
    )
    # Besides what is left, one column a head carries what the removed value channels add.
    products = sum(
        (room[linear.source] + (config.heads if linear.carried != linear.source else 0)) * widths[target]
        for linear in linear_layers(config.n_layer)
        for target in linear.targets
    )
    return COMPARISON * comparisons + products


def worth(config: ModelConfig, room: Capacities) -> bool:
    """Whether cutting to `room` saves enough to be worth a compilation."""
    return cost(config, room) <= WORTH * cost(config, sites.node_sites(config, sites.FINAL in room))


def can_cut(ablation: str, means: Means) -> bool:
    """Whether removed nodes are held at constants that a bias can stand for: one each, at all positions."""
    return ablation in CONSTANT_ABLATIONS and all(np.ndim(mean) == 1 for mean in means.values())


def even_room(config: ModelConfig, envelope: Mapping[str, np.ndarray], judged: int) -> Capacities | None:
    """Capacities that are alike at all sites and hold `envelope`; None where they are not worth it.

    Args:
      config: The network's.
      envelope: {node site: [width]}, 1 on nodes that stay.
      judged: About how many candidates will be judged.
    """
    widths = sites.node_sites(config, sites.FINAL in envelope)
    most = max(int(np.sum(mask)) for mask in envelope.values())
    size = next((size for size in EVEN if size >= most), None)
    if size is None:
        return None
    room = {site: min(size, width) for site, width in widths.items()}
    saved = judged * (cost(config, widths) - cost(config, room))
    return room if worth(config, room) and saved >= COMPILATION else None


def means_left(cut: CompactNetwork, means: Means) -> dict[str, jax.Array]:
    """`means` of the columns that are left, 0 where there is none."""
    return {site: _chosen(jnp.asarray(means[site]), columns) for site, columns in cut.columns.items()}


def compact(
    config: ModelConfig, params: Params, means: Means, envelope: Mapping[str, np.ndarray], room: Capacities
) -> CompactNetwork:
    """Cuts away every node outside `envelope`.

    Args:
      config: Of a model with biases.
      params, means: On the host.
      envelope: {node site: [width]}, 1 on the nodes that may still be kept.
      room: Columns of each node site, at least as many as `envelope` keeps.
    """
    stays = {site: np.asarray(mask) > 0 for site, mask in envelope.items()}
    others = {site: np.asarray(means[site], np.float32) for site in stays}
    columns = {site: _columns(stay, room[site]) for site, stay in stays.items()}
    layers: dict[str, dict[str, np.ndarray]] = {}
    for linear in linear_layers(config.n_layer):
        site = linear.source
        old = {key: np.asarray(x) for key, x in get(params, linear.name).items()}
        constants = (others[site] * ~stays[site])[:, None] * old["kernel"]
        kernel = np.append(old["kernel"], np.zeros((1, old["kernel"].shape[1]), np.float32), axis=0)
        new = {"kernel": kernel[columns[site]], "bias": old["bias"]}
        if linear.carried == site:
            new["bias"] = old["bias"] + constants.sum(axis=0)
        else:  # value channels: what attention makes of them meets the kernel
            by_head = constants.reshape(config.heads, config.d_head, -1).sum(axis=1)
            carriers = _carriers(config, stays[site])
            columns[linear.carried] = np.append(columns[site], carriers)
            new["kernel"] = np.append(new["kernel"], by_head, axis=0)
            others[site] = np.where(stays[site], others[site], 0)
            others[site][carriers[~stays[site][carriers]]] = 1
        layers[linear.name] = new
    return CompactNetwork(layers, columns, others)


def _capacity(count: int, width: int) -> int:
    if count == 0:
        return 0
    return min(width, max(LEAST, 1 << (count - 1).bit_length()))


def _carriers(config: ModelConfig, stays: np.ndarray) -> np.ndarray:
    """The first removed channel of each head (of one that lost none the first; its row is zero)."""
    lost = ~stays.reshape(config.heads, config.d_head)
    return (np.arange(config.heads) * config.d_head + lost.argmax(axis=1)).astype(np.int32)


def _columns(stays: np.ndarray, room: int) -> np.ndarray:
    """Indices of the kept columns, int32 [room], filled up with the width."""
    found = np.flatnonzero(stays)
    return np.append(found, np.full(room - len(found), len(stays))).astype(np.int32)


def _chosen(x: jax.Array, columns: jax.Array) -> jax.Array:
    """Those columns of `x`, and 0 for columns there are not."""
    selector = (jnp.arange(x.shape[-1])[:, None] == columns).astype(x.dtype)
    # Exact, and unlike a gather its slope is no scatter, which is slow on CPU.
    return jnp.matmul(x, selector, precision=jax.lax.Precision.HIGHEST)


def _spread(x: jax.Array, columns: jax.Array, shape: Sequence[int]) -> jax.Array:
    """`x` at those columns of an array of `shape`, 0 elsewhere; the inverse of `_chosen`."""
    selector = (columns[:, None] == jnp.arange(shape[-1])).astype(x.dtype)
    return jnp.broadcast_to(jnp.matmul(x, selector, precision=jax.lax.Precision.HIGHEST), shape)


def _mixed(x: jax.Array, mask: jax.Array, other: jax.Array) -> jax.Array:
    mask, other = mask.astype(x.dtype), other.astype(x.dtype)
    return mask * x + (1 - mask) * other


def _chosen_top_k(x: jax.Array, k: int | None, columns: jax.Array) -> jax.Array:
    """Those columns of `abs_top_k(x, k)`."""
    if len(columns) > RANKED or k is None or k >= x.shape[-1]:
        return _chosen(_abs_top_k(x, k), columns)
    mask = _local_mask(lambda rows: top_k_mask_at(rows, k, columns), x)
    return jnp.where(mask, _chosen(x, columns), 0)


def _abs_top_k(x: jax.Array, k: int | None) -> jax.Array:
    """`abs_top_k` of an array that lies on one device, as all do here."""
    return abs_top_k(x, k, cached=target().platform == "cpu")


def _local_mask(mask: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """`mask` of `x`, on a CPU of some rows at a time."""
    x = jax.lax.stop_gradient(x)
    return jax.lax.stop_gradient(map_rows(mask, x) if target().platform == "cpu" else mask(x))
