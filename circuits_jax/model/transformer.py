"""The decoder: one forward pass, with a tap at every site.

Letters in shape comments: B batch, T tokens, D d_model, A channels of all heads (heads * d_head),
H heads, N neurons, V vocabulary.  docs/method.md, "Model"; exact numerics in docs/numerics.md.
"""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from circuits_jax.config import ModelConfig
from circuits_jax.model import scopes, sites
from circuits_jax.model.abs_topk import abs_top_k
from circuits_jax.model.attention import attend, split_heads
from circuits_jax.model.cache import Cache, Past
from circuits_jax.model.linear import Linear
from circuits_jax.model.parameters import ALL_LAYERS, BLOCK
from circuits_jax.model.placement import PARTS, by_parts, by_rows, table
from circuits_jax.model.stacking import layers_stacked, unstack_layers
from circuits_jax.model.taps import Tap
from circuits_jax.storage.errors import ConfigError

Params = Mapping[str, Any]
Records = dict[str, jax.Array]

INIT_STD = 0.02
RMS_EPS = float(jnp.finfo(jnp.float32).eps)  # also for bfloat16, which is normalised in float32
LAYER_NORM_EPS = 1e-5


class Seam:
    """Where the outside meets the network: applies the tap and keeps the records asked for."""

    def __init__(self, prefix: str, tap: Tap | None, wanted: Collection[str]):
        self._prefix, self._tap, self._wanted = prefix, tap, wanted
        self.records: Records = {}

    def __call__(self, location: str, x: jax.Array) -> jax.Array:
        site = self._prefix + location
        if self._tap is not None:
            x = self._tap(site, x)
        if site in self._wanted:
            self.records[site] = x
        return x


class Attention(nn.Module):
    """Attention on what the half reads: [B, T, d_read] -> ([B, T, D], the past with these tokens)."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: jax.Array, seam: Seam, past: Past | None) -> tuple[jax.Array, Past | None]:
        c = self.config
        qkv = _linear(c, 3 * c.d_attn, "c_attn")(x)
        q, k, v = jnp.split(qkv, 3, axis=-1)
        # AbsTopK chooses among the channels of all heads together.
        q = seam("attn.q", abs_top_k(by_parts(q, -1), c.kept_activations("attn_q", c.d_attn), axes=PARTS))
        k = seam("attn.k", abs_top_k(by_parts(k, -1), c.kept_activations("attn_k", c.d_attn), axes=PARTS))
        v = seam("attn.v", abs_top_k(by_parts(v, -1), c.kept_activations("attn_v", c.d_attn), axes=PARTS))
        sink = self.param("sink", nn.initializers.zeros, (c.heads,)) if c.attention_sink else None
        q, k, v = (by_parts(split_heads(a, c.heads), 1) for a in (q, k, v))
        start = 0 if past is None else past.length
        if past is not None:
            past = past.extend(k, v)
            k, v = past.k, past.v
        y = by_parts(attend(q, k, v, sink, start, c.attention == "causal"), 1)
        y = seam("attn.y", by_parts(y.swapaxes(1, 2).reshape(*x.shape[:-1], c.d_attn), -1))
        return by_rows(_linear(c, c.d_model, "c_proj", residual=True)(y)), past


class MLP(nn.Module):
    """Two linear layers and a nonlinearity: [B, T, d_read] -> [B, T, D]."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: jax.Array, seam: Seam) -> jax.Array:
        c = self.config
        x = _activation(c.activation, by_parts(_linear(c, c.neurons, "c_fc")(x), -1))
        x = seam("mlp.post_act", abs_top_k(x, c.kept_activations("mlp_neuron", c.neurons), axes=PARTS))
        return by_rows(_linear(c, c.d_model, "c_proj", residual=True)(x))


class Block(nn.Module):
    """One layer: an attention half, then an MLP half, each added to the residual stream."""

    config: ModelConfig
    layer: int

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        positions: jax.Array | None,
        tap: Tap | None,
        wanted: Collection[str],
        past: Past | None,
    ) -> tuple[jax.Array, Records, Past | None]:
        c = self.config
        seam = Seam(f"{self.layer}.", tap, wanted)
        x = seam("resid_in", x)
        read = self._read(x, positions, "1", "attn_in")
        delta, past = Attention(c, name="attn")(seam("attn.act_in", read), seam, past)
        x = self._write(x, seam("attn.resid_delta", self._sparse(delta, "attn_out")), "resid_post_attn")
        x = seam("resid_mid", x)
        read = self._read(x, positions, "2", "mlp_in")
        delta = MLP(c, name="mlp")(seam("mlp.act_in", read), seam)
        x = self._write(x, seam("mlp.resid_delta", self._sparse(delta, "mlp_out")), "resid_post_mlp")
        return x, seam.records, past

    def _read(self, x: jax.Array, positions: jax.Array | None, half: str, location: str) -> jax.Array:
        """What a half reads: the normed residual stream, with normed positions joined to it."""
        read = _norm(self.config, f"ln_{half}")(x)
        if positions is not None:
            features = _norm(self.config, f"ln_p{half}")(positions)
            features = jnp.broadcast_to(features, (*x.shape[:-1], features.shape[-1]))
            read = jnp.concatenate([read, features], axis=-1)
        return by_rows(self._sparse(read, location))

    def _write(self, x: jax.Array, delta: jax.Array, location: str) -> jax.Array:
        """Adds a half's output to the residual stream, then its nonlinearity and AbsTopK."""
        x = _activation(self.config.residual_activation, x + delta)
        return by_rows(self._sparse(x, location))

    def _sparse(self, x: jax.Array, location: str) -> jax.Array:
        return abs_top_k(x, self.config.kept_activations(location, x.shape[-1]))


class Transformer(nn.Module):
    """A GPT-2-style decoder (docs/method.md, "Model"): `model.apply(params, tokens, tap=f, record=names)`.

    Over parameters whose layers are stacked (`model.stacking`) it scans, unless somebody wants to see single
    layers.  `remat` says what a backward pass computes again instead of keeping: "none", "blocks" (all in a
    layer) or "dots" (all inside a layer but matrix products).
    """

    config: ModelConfig
    remat: str = "none"

    @nn.nowrap
    def apply(self, params: Params, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Runs the forward pass; see `__call__` for the arguments after `params` (the bare tree)."""
        params = params["params"] if set(params) == {"params"} else params
        if layers_stacked(params) and _single_layers(*args, **kwargs):
            params = unstack_layers(params)
        return super().apply({"params": params}, *args, **kwargs)

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        tap: Tap | None = None,
        record: Collection[str] = (),
        at: jax.Array | None = None,
        cache: Cache | None = None,
    ) -> tuple[jax.Array, Records] | tuple[jax.Array, Records, Cache]:
        """Logits of the next token at every position.

        Args:
          tokens: int [B, T], T <= n_ctx.
          tap: Called as `tap(site, x) -> x` at every site, in forward order; what it returns is
            recorded and flows on.
          record: Names of the sites to return (`sites.select` expands patterns).
          at: int [B]; when given, only the logits at that position of each row are computed.
          cache: What came before `tokens` (`model.cache`); tap and records are of `tokens` alone.

        Returns:
          (logits float32 [B, T, V], or [B, V] with `at`; {site: [B, T, width]}), and with `cache` a third:
          the cache with `tokens` added.  Where they do not fit into it the logits are NaN.

        Raises:
          ConfigError: if a name in `record` is not a site of this model, T is larger than n_ctx, or a model
            of full attention is given a cache.
        """
        c = self.config
        sites.check(c, record)
        if cache is not None and c.attention != "causal":
            raise ConfigError(
                f"model.attention is {c.attention!r}, in which earlier tokens see later ones; such a model "
                "cannot go on from a cache"
            )
        if tokens.shape[-1] > c.n_ctx:
            raise ConfigError(
                f"a prompt of {tokens.shape[-1]} tokens is longer than the context of {c.n_ctx}; shorten it"
            )
        wte = _embedding(c, c.vocab_size, c.d_model, "wte")
        x, positions = self._embed(wte, tokens, 0 if cache is None else cache.length)
        records: Records = {}
        pasts: list[Past | None] = [None] * c.n_layer if cache is None else list(cache.layers)
        if self.has_variable("params", ALL_LAYERS):
            x = self._scan(x, positions)
        else:
            for layer in range(c.n_layer):
                block = _rematerialized(self.remat)(c, layer, name=BLOCK.format(layer=layer))
                x, recorded, pasts[layer] = block(x, positions, tap, tuple(record), pasts[layer])
                records |= recorded
        seam = Seam("", tap, record)
        x = seam(sites.FINAL, x)
        if at is not None:
            x = jnp.take_along_axis(x, at[:, None, None], axis=1)[:, 0]
            tokens = jnp.take_along_axis(tokens, at[:, None], axis=1)[:, 0]
        logits, records = self._unembed(wte, x, tokens), records | seam.records
        if cache is None:
            return logits, records
        cache = Cache(tuple(past for past in pasts if past is not None))
        return jnp.where(cache.length > cache.size, jnp.nan, logits), records, cache

    def _scan(self, x: jax.Array, positions: jax.Array | None) -> jax.Array:
        """x [B, T, D] after all layers, whose parameters are stacked; one layer is compiled."""

        def turn(block: Block, x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return block(x, positions, None, (), None)[0], None

        scan = nn.scan(
            turn, variable_axes={"params": 0}, split_rngs={"params": False}, length=self.config.n_layer
        )
        return scan(_rematerialized(self.remat)(self.config, 0, name=ALL_LAYERS), x, None)[0]

    def _embed(
        self, wte: nn.Embed, tokens: jax.Array, start: jax.Array | int
    ) -> tuple[jax.Array, jax.Array | None]:
        """(the residual stream's start [B, T, D], concatenated position features [T, d_pos] or None)."""
        c = self.config
        x = by_rows(wte(tokens))
        if c.position == "none":
            return x, None
        if c.position not in ("add", "concat"):
            raise ValueError(f"unknown position {c.position!r}; choose add, concat or none")
        size = c.d_model if c.position == "add" else c.d_pos
        wpe = _embedding(c, c.n_ctx, size, "wpe")
        positions = wpe(start + jnp.arange(tokens.shape[-1]))
        return (x + positions, None) if c.position == "add" else (x, positions)

    def _unembed(self, wte: nn.Embed, x: jax.Array, tokens: jax.Array) -> jax.Array:
        """Logits [..., V] from the residual stream [..., D] and the current tokens [...]."""
        c = self.config
        x = by_rows(_norm(c, "ln_f")(x))
        if c.tied_unembed:
            logits = wte.attend(x)
        else:
            logits = Linear(
                c.vocab_size, use_bias=False, dtype=c.dtype, kernel_init=_normal(), name="lm_head"
            )(x)
        logits = by_parts(logits.astype(jnp.float32), -1)
        if c.logits_bias:
            logits += self.param("logits_bias", nn.initializers.zeros, (c.vocab_size,))
        if c.has_bigram:
            bigram = self.param("bigram", nn.initializers.zeros, (c.vocab_size, c.vocab_size))
            with scopes.part(scopes.BIGRAM):
                logits += by_parts(jnp.take(table(bigram, split=True), tokens, axis=0), -1)
        return logits


# Inline, so that the forward pass, which flax runs too, falls away.
@functools.partial(jax.jit, static_argnums=0, inline=True)
def init_params(config: ModelConfig, rng: jax.Array) -> Params:
    """Fresh parameters: N(0, 0.02), residual projections N(0, 0.02 / sqrt(2 L)), biases 0, gains 1."""
    return Transformer(config).init(rng, jnp.zeros((1, 1), jnp.int32))["params"]


def _single_layers(
    tokens: jax.Array, tap: Any = None, record: Any = (), at: Any = None, cache: Any = None
) -> bool:
    """Whether a call of a Transformer has to tell its layers apart."""
    del tokens, at
    return tap is not None or bool(record) or cache is not None


def _rematerialized(remat: str) -> type[Block]:
    """Block, or Block that its backward pass computes again."""
    if remat == "none":
        return Block
    if remat == "blocks":
        policy = None
    elif remat == "dots":
        policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    else:
        raise ValueError(f"unknown remat {remat!r}; choose none, blocks or dots")
    return nn.remat(Block, policy=policy, static_argnums=(3, 4))  # tap and wanted; 0 is the module


def _normal(scale: float = 1.0) -> nn.initializers.Initializer:
    return nn.initializers.normal(INIT_STD * scale)


def _linear(c: ModelConfig, features: int, name: str, residual: bool = False) -> Linear:
    scale = (2 * c.n_layer) ** -0.5 if residual else 1.0
    return Linear(features, use_bias=c.bias, dtype=c.dtype, kernel_init=_normal(scale), name=name)


def _embedding(c: ModelConfig, rows: int, features: int, name: str) -> nn.Embed:
    return nn.Embed(
        rows, features, embedding_init=_normal(), dtype=c.dtype, promote_dtype=_promoted, name=name
    )


def _promoted(*arrays: jax.Array | None, dtype: Any = None, inexact: bool = True) -> list[jax.Array | None]:
    """An embedding in its compute type, placed for look-ups; beside a query, which it unembeds, as it is."""
    found = promote_dtype(*arrays, dtype=dtype, inexact=inexact)
    return [table(found[0])] if len(found) == 1 else found


def _norm(c: ModelConfig, name: str) -> Callable[[jax.Array], jax.Array]:
    if c.norm == "none":
        return lambda x: x
    if c.norm == "rms":
        return nn.RMSNorm(epsilon=RMS_EPS, dtype=c.dtype, name=name)
    if c.norm == "layer":
        return nn.LayerNorm(
            epsilon=LAYER_NORM_EPS, use_bias=c.norm_bias, use_fast_variance=False, dtype=c.dtype, name=name
        )
    raise ValueError(f"unknown norm {c.norm!r}; choose rms, layer or none")


def _activation(name: str, x: jax.Array) -> jax.Array:
    if name == "gelu":
        return jax.nn.gelu(x, approximate=False)
    if name == "relu":
        return jax.nn.relu(x)
    if name == "identity":
        return x
    raise ValueError(f"unknown activation {name!r}; choose gelu, relu or identity")
