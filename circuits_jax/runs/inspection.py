"""What a model is made of: configuration, nonzero weights, dead units, and what a token's embedding says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation.means import in_parts
from circuits_jax.model import sites
from circuits_jax.model.model import Model
from circuits_jax.model.parameters import TOKEN_EMBEDDING, get
from circuits_jax.runs.run import Run
from circuits_jax.sparsity.report import SparsitySummary, summarize_sparsity
from circuits_jax.storage import notices
from circuits_jax.storage.errors import ConfigError, UserError
from circuits_jax.storage.tables import Row


def inspect_model(run: Run, windows: int) -> tuple[list[Row], Row]:
    """(one row a tensor, settings and figures of the whole model).

    Args:
      run: The model, with its corpus where it has one.
      windows: Validation windows on which units may fire.
    """
    summary = summarize_sparsity(run.model.params)
    rows: list[Row] = [
        {**dataclasses.asdict(t), "shape": str(t.shape), "L0": t.fraction} for t in summary.tensors
    ]
    return rows, _settings(run.model) | sparsity_figures(summary) | silent_units(run, windows)


def inspect_token(run: Run, text: str, channels: int, others: int) -> tuple[list[Row], Row]:
    """(one row a channel of a token's embedding, the token).

    Args:
      run: The model.
      text: A piece of text that is one token, or an id.
      channels: To show, the largest first.
      others: Tokens to show of each channel.

    Raises:
      ConfigError: if `text` is no token.
    """
    model = run.model
    token = find_token(text, model)
    count = int(np.count_nonzero(np.asarray(get(model.params, TOKEN_EMBEDDING))[token]))
    told = f"{model.pieces([token])[0]} (#{token}), {count} of {model.config.d_model} channels not zero"
    return embedding_rows(token, model, channels, others), {"token": told}


def find_token(text: str, model: Model) -> int:
    """The id that `text` names: a piece, else a number.

    Raises:
      ConfigError: if it is neither.
    """
    ids = [] if model.tokenizer is None else model.tokenizer.encode(text)
    if len(ids) == 1:
        return ids[0]
    number = text.removeprefix("#")
    if not number.isdecimal():
        split = f"; it is {' '.join(model.pieces(ids))} here" if ids else ""
        raise ConfigError(f"{text!r} is not one token{split}; give one piece, or an id such as #5")
    if int(number) >= model.config.vocab_size:
        raise ConfigError(f"there is no token {number}; the model has 0 to {model.config.vocab_size - 1}")
    return int(number)


def embedding_rows(token: int, model: Model, channels: int, others: int) -> list[Row]:
    """One row for each nonzero channel of the token's embedding, with the largest other tokens in it."""
    table = np.asarray(get(model.params, TOKEN_EMBEDDING))
    nonzero = np.flatnonzero(table[token])
    rows: list[Row] = []
    for channel in nonzero[np.argsort(-np.abs(table[token, nonzero]), kind="stable")][:channels].tolist():
        column = table[:, channel]
        shared = [int(i) for i in np.argsort(-np.abs(column), kind="stable") if column[i] != 0 and i != token]
        told = zip(model.pieces(shared[:others]), shared, strict=False)
        rows.append(
            {
                "channel": channel,
                "weight": float(column[token]),
                "other tokens": len(shared),
                "largest": "  ".join(f"{piece} {column[i]:+.3f}" for piece, i in told),
            }
        )
    return rows


def silent_units(run: Run, windows: int) -> dict[str, str]:
    """Activation-dead units: never nonzero on tokens of the validation corpus, for a run of ours.

    Where that has none, and none can be made, why is told at the end of the command.
    """
    if run.config is None:
        return {}
    try:
        corpus = run.corpus
    except UserError as error:
        notices.at_the_end(f"note: units that are never nonzero are left out: {error}")
        return {}
    tokens = corpus.validation.rows(slice(windows))[:, :-1]
    wanted, network = sites.unit_sites(run.model.config), run.model.network

    @jax.jit
    def fires(params: dict, tokens: jax.Array) -> dict[str, jax.Array]:
        _, records = network.apply(params, tokens, record=wanted)
        return {site: (x != 0).any((0, 1)) for site, x in records.items()}

    found = [fires(run.model.device_params, part) for part in in_parts(run.model.config, [tokens])]
    fired = jax.device_get(jax.tree.map(lambda *parts: jnp.any(jnp.stack(parts), axis=0), *found))
    counts = [f"{site} {int((~fired[site]).sum())} of {fired[site].size}" for site in wanted]
    return {f"never nonzero on {tokens.size:,} tokens": ", ".join(counts)}


def sparsity_figures(summary: SparsitySummary) -> Row:
    """L0 and dead units, weight-dead ones by layer."""
    found: Row = {"L0": summary.total, "L0 without embeddings": summary.without_embeddings}
    for kind in sites.UNITS:
        layers = [units for units in summary.units if units.kind == kind]
        dead, count = sum(units.dead for units in layers), sum(units.units for units in layers)
        by_layer = ", ".join(str(units.dead) for units in layers)
        found[f"weight-dead {kind}"] = f"{dead} of {count} (by layer: {by_layer})"
    return found


def _settings(model: Model) -> Row:
    settings: Row = {"model": model.name}
    return settings | {
        name: ", ".join(value) if isinstance(value, tuple) else str(value)
        for name, value in dataclasses.asdict(model.config).items()
    }
