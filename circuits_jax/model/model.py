"""A network with its parameters and its tokenizer: one object, wherever they came from."""

import dataclasses
import functools
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from circuits_jax.config import ModelConfig
from circuits_jax.model.fingerprint import model_hash
from circuits_jax.model.taps import Tap
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.model.transformer import Params, Records, Transformer
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.surroundings import settled


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A network that can be called: `logits, records = model("print('hello", record=["0.mlp.post_act"])`.

    Attributes:
      config: The network's shape and options.
      params: Its parameters, a tree of float32 arrays: numpy's, or JAX's where they lie on a mesh.
      tokenizer: The tokenizer it reads text with; None if none lies beside the weights.
      source: Where it came from: a workdir, a checkpoint; "" if it was made here.
      raw_config: The configuration file of a checkpoint from elsewhere, as parsed.
    """

    config: ModelConfig
    params: Params
    tokenizer: Tokenizer | None = None
    source: str = ""
    raw_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def network(self) -> Transformer:
        """The flax module, whose `apply(params, tokens, ...)` is the one forward pass."""
        return Transformer(self.config)

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of configuration and parameters, by which circuits and bridges name their model."""
        return model_hash(self.config, self.params)

    @functools.cached_property
    def device_params(self) -> Params:
        """The parameters on a device, so that calls need not copy them there; those on a mesh stay."""
        leaves = jax.tree.leaves(self.params)
        on_devices = any(isinstance(leaf, jax.Array) for leaf in leaves)
        if on_devices:
            return self.params
        with jax.ensure_compile_time_eval():  # the first call may be inside the caller's jit
            return jax.device_put(self.params)

    @settled
    def __call__(
        self,
        prompt: str | Sequence[int] | np.ndarray | jax.Array,
        tap: Tap | None = None,
        record: Collection[str] = (),
    ) -> tuple[jax.Array, Records]:
        """`apply` on text, token ids [T] or a batch of them [B, T].

        Raises:
          ConfigError: for text without a tokenizer, an empty prompt, or one longer than the context.
        """
        return self.apply(self.tokens(prompt), tap, record)

    @settled
    def apply(
        self,
        tokens: np.ndarray | jax.Array,
        tap: Tap | None = None,
        record: Collection[str] = (),
        at: np.ndarray | jax.Array | None = None,
    ) -> tuple[jax.Array, Records]:
        """The one forward pass.

        Args:
          tokens: int [B, T], T <= n_ctx.
          tap: `f(site, x) -> x`, called at every site (`model.taps`).  With a tap nothing is compiled here;
            wrap the call in `jax.jit` yourself where that pays.
          record: Names of the sites to return.
          at: int [B]; when given, only the logits at that position of each row are computed.

        Returns:
          (logits float32 [B, T, V], or [B, V] with `at`; {site: [B, T, width]}).

        Raises:
          ConfigError: if a name in `record` is not a site of this model, or T is larger than n_ctx.
        """
        if isinstance(record, str) or not isinstance(record, Collection):
            raise ConfigError(f"record is {record!r}; give a list of sites")
        if tap is None:
            return _forward(self.network, tuple(record), self.device_params, tokens, at)
        if not callable(tap):
            raise ConfigError(f"the tap is {tap!r}; give f(site, x) -> x, such as cj.taps.ablate(circuit)")
        return self.network.apply(self.device_params, tokens, tap=tap, record=record, at=at)

    def tokens(self, prompt: str | Sequence[int] | np.ndarray | jax.Array) -> jax.Array | np.ndarray:
        """A prompt as a batch of token ids, int [B, T].

        Raises:
          ConfigError: for text without a tokenizer, or an empty prompt.
        """
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise ConfigError(f"no tokenizer lies beside {self.name}; give token ids instead of text")
            prompt = self.tokenizer.encode(prompt)
        if not isinstance(prompt, jax.Array):
            prompt = np.asarray(prompt)
        if not prompt.size:
            raise ConfigError("the prompt is empty; give at least one token")
        if prompt.ndim not in (1, 2) or not np.issubdtype(prompt.dtype, np.integer):
            raise ConfigError(
                f"a prompt is text, or integer token ids [T] or [B, T]; this is {prompt.dtype} "
                f"of shape {tuple(prompt.shape)}"
            )
        return prompt[None] if prompt.ndim == 1 else prompt

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What tokens stand for, in quotes; `#5` where no tokenizer says."""
        tokenizer = self.tokenizer
        if tokenizer is None:
            return [f"#{i}" for i in map(int, ids)]
        known = tokenizer.vocab_size
        return [repr(tokenizer.pieces([i])[0]) if i < known else f"#{i}" for i in map(int, ids)]

    @property
    def name(self) -> str:
        """Where it came from, for messages."""
        return self.source or "this model"

    @property
    def model(self) -> Transformer:
        """Deprecated: `network`, as the checkpoints of `released.load` called it."""
        warnings.warn("Model.model is now Model.network", DeprecationWarning, stacklevel=2)
        return self.network

    def __repr__(self) -> str:
        c = self.config
        size = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        return f"Model({self.name}: {c.n_layer} layers of {c.d_model}, {size:,} parameters)"


@functools.partial(jax.jit, static_argnums=(0, 1))
def _forward(
    network: Transformer, record: tuple[str, ...], params: Params, tokens: jax.Array, at: jax.Array | None
) -> tuple[jax.Array, Records]:
    return network.apply(params, tokens, record=record, at=at)
