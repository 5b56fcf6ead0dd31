"""Activations of a circuit's nodes in the full model; only the kept columns leave the device."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.circuit import Node
from circuits_jax.config import ModelConfig
from circuits_jax.model.attention import rows_at_once
from circuits_jax.model.model import Model
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.storage.errors import CircuitError
from circuits_jax.tasks.task import Pairs


def sample_windows(windows: np.ndarray, count: int, config: ModelConfig) -> np.ndarray:
    """Up to `count` evenly spaced windows without their last token, int32 [m, n_ctx].

    Raises:
      CircuitError: if there are none, or they are not windows of n_ctx + 1 tokens.
    """
    if len(windows) == 0 or windows.shape[-1] != config.n_ctx + 1:
        raise CircuitError(
            f"corpus windows have shape {windows.shape}; the circuit's model needs at least one of "
            f"n_ctx + 1 = {config.n_ctx + 1} tokens"
        )
    chosen = np.linspace(0, len(windows) - 1, min(count, len(windows))).astype(int)
    return np.asarray(windows[chosen, :-1], np.int32)


def prompt_rows(pairs: Pairs, config: ModelConfig, eot: int) -> np.ndarray:
    """All pairs as rows A, B, A, B, ... of n_ctx tokens: the shape that corpus rows have.

    Raises:
      CircuitError: if a prompt is longer than the model's context.
    """
    tokens = pairs.tokens.reshape(-1, pairs.tokens.shape[-1])
    spare = config.n_ctx - tokens.shape[-1]
    if spare < 0:
        raise CircuitError(
            f"prompts of task {pairs.task} have up to {tokens.shape[-1]} tokens, more than the circuit's "
            f"model reads ({config.n_ctx}); build the pairs with n_ctx {config.n_ctx}"
        )
    return np.pad(tokens, ((0, 0), (0, spare)), constant_values=eot).astype(np.int32)


def record_nodes(nodes: Sequence[Node], model: Model, rows: np.ndarray, batch: int) -> np.ndarray:
    """Activations of `nodes` in the full model on `rows` int32 [R, n_ctx]: float32 [R, n_ctx, nodes]."""
    record = _recorder(nodes, model.network)
    batch = rows_at_once(model.config, batch, rows.shape[-1])
    padded = np.pad(rows, ((0, -len(rows) % batch), (0, 0)))
    starts = range(0, len(padded), batch)
    parts = [np.asarray(record(model.device_params, padded[start : start + batch])) for start in starts]
    return np.concatenate(parts)[: len(rows)]


def _recorder(nodes: Sequence[Node], network: Transformer) -> Callable[[Params, np.ndarray], jax.Array]:
    """A compiled (params, tokens [B, T]) -> float32 [B, T, nodes]."""
    places: dict[str, list[int]] = {}
    for place, node in enumerate(nodes):
        places.setdefault(node.site, []).append(place)

    @jax.jit
    def record(params: Params, tokens: jax.Array) -> jax.Array:
        _, records = network.apply(params, tokens, record=tuple(places))
        out = jnp.zeros((*tokens.shape, len(nodes)), jnp.float32)
        for site, here in places.items():
            columns = np.array([nodes[place].index for place in here])
            out = out.at[..., np.array(here)].set(records[site][..., columns].astype(jnp.float32))
        return out

    return record
