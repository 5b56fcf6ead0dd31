"""A sparse circuit at work inside the dense model (docs/method.md, "Bridges").

The circuit's network, everything outside it at its mean, takes the residual stream over from the dense model
at one site and hands it back at a later one: dense - circuit - dense.

Letters in shapes: N pairs, T tokens, S bridge sites.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from circuits_jax.bridges.evaluation import Joined
from circuits_jax.bridges.hybrid import enter
from circuits_jax.bridges.model import at_site, decode, encode, residuals
from circuits_jax.circuits.ablation.edge_removal import remove_edges
from circuits_jax.circuits.ablation.means import Means
from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.masks import Masks
from circuits_jax.model import sites
from circuits_jax.model.model import Model
from circuits_jax.model.taps import compose, mix
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.model.wiring import half_of
from circuits_jax.tasks.calibration import calibrate
from circuits_jax.tasks.metrics import CHANCE, accuracy, logit_difference


def circuit_places(circuit: Circuit, count: int) -> tuple[int, int]:
    """The bridge sites of a circuit: where its first node reads, and right after its last node writes.

    Nodes of the final residual stream stand at the last site.

    Args:
      count: S.
    """
    if not circuit.nodes:
        return 0, count - 1
    halves = []
    for node in circuit.nodes:
        if node.site == sites.FINAL:
            halves.append(count - 1)
            continue
        halves.append(half_of(count // 2)[node.site].number)
    return min(halves), min(max(halves) + 1, count - 1)


def circuit_in_dense(joined: Joined, circuit: Circuit, pairs: PairBatch) -> dict[str, Any]:
    """How much of the dense model's performance on a task the sparse circuit recovers inside it.

    Args:
      joined: The two models and their bridges.
      circuit: Cut from the sparse model.
      pairs: Held-out pairs.

    Returns:
      {"entry", "exit": sites; "rows": of each run its calibrated loss, accuracy, and the shares of the dense
      model's that it recovers: (chance - loss) / (chance - dense loss), and the same of accuracy}.
    """
    bridge = joined.bridge
    entry, end = circuit_places(circuit, len(bridge.sites))
    tokens, last, answers = pairs
    data = jnp.asarray(tokens.reshape(-1, tokens.shape[-1])), jnp.repeat(jnp.asarray(last), 2)
    dense = _runner(joined.dense, bridge.sites, data)
    sparse = {
        "circuit": _runner(remove_edges(circuit, joined.sparse), bridge.sites, data, circuit),
        "sparse model": _runner(joined.sparse, bridge.sites, data),
    }
    dense_logits, dense_stream = dense()
    entered = encode(bridge, at_site(joined.bridges, entry), dense_stream[entry : entry + 1])[0]

    def to_dense(stream: jax.Array) -> jax.Array:
        return dense(end, decode(at_site(joined.bridges, end), stream[end : end + 1])[0])[0]

    logits = {"dense model": dense_logits, "sparse model": sparse["sparse model"]()[0]}
    logits["circuit in the sparse model"] = sparse["circuit"]()[0]
    for name, run in sparse.items():
        logits[f"dense, {name}, dense"] = to_dense(run(entry, entered)[1])
        logits[f"{name}, dense"] = to_dense(run()[1])
    mean = jnp.broadcast_to(dense_stream[end].mean(axis=(0, 1)), dense_stream[end].shape)
    logits["dense, the site at its mean"] = dense(end, mean)[0]
    figures = {name: tuple(map(float, _figures(each, jnp.asarray(answers)))) for name, each in logits.items()}
    rows = [_row(name, each, figures["dense model"]) for name, each in figures.items()]
    return {"entry": bridge.sites[entry], "exit": bridge.sites[end], "rows": rows}


def _row(name: str, found: tuple[float, float], dense: tuple[float, float]) -> dict[str, str | float]:
    """One run's (loss, accuracy), and its shares of what the dense model is better than chance by."""
    shares = [
        (chance - here) / (chance - there) if abs(chance - there) > 1e-3 else float("nan")
        for chance, here, there in zip((CHANCE, 0.5), found, dense, strict=True)
    ]
    return {
        "run": name,
        "loss": found[0],
        "accuracy": found[1],
        "share of loss": shares[0],
        "share of accuracy": shares[1],
    }


def _runner(
    model: Model,
    names: Sequence[str],
    data: tuple[jax.Array, jax.Array],
    circuit: Circuit | None = None,
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Returns a function (place, value) -> (logits, residuals); without arguments, nothing is inserted.

    Logits are [2N, V], at the prompts' ends; residuals are [S, 2N, T, width].  With a circuit all other nodes
    are held at its means.
    """
    nothing = jnp.zeros((*data[0].shape, model.config.d_model))
    held = {} if circuit is None else {site: jnp.asarray(mean) for site, mean in circuit.means.items()}
    masks = {} if circuit is None else {site: jnp.asarray(mask) for site, mask in circuit.masks().items()}

    def run(place: int = -1, value: jax.Array = nothing) -> tuple[jax.Array, jax.Array]:
        entering = place, value
        return _passed(model.network, tuple(names), model.device_params, (masks, held), data, entering)

    return run


@functools.partial(jax.jit, static_argnums=(0, 1))
def _passed(
    network: Transformer,
    names: tuple[str, ...],
    params: Params,
    kept: tuple[Masks, Means],
    data: tuple[jax.Array, jax.Array],
    entering: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array]:
    tokens, ends = data
    tap = compose(enter(names, *entering), mix(*kept))
    logits, stream = residuals(network, params, tokens, tap)
    return jnp.take_along_axis(logits, ends[:, None, None], axis=1)[:, 0], stream


@jax.jit
def _figures(logits: jax.Array, answers: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(calibrated task loss, accuracy)."""
    return calibrate(logit_difference(logits, answers))[2], accuracy(logits, answers)
