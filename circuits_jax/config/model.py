"""The decoder: section `model`."""

import dataclasses

from circuits_jax.config.checks import (
    check_choice,
    check_fraction,
    check_positive,
)
from circuits_jax.config.conversion import former_switch
from circuits_jax.storage.errors import ConfigError

NORMS = ("rms", "layer", "none")
ATTENTIONS = ("causal", "full")
ACTIVATIONS = ("gelu", "relu")
RESIDUAL_ACTIVATIONS = ("identity", "relu")
POSITIONS = ("none", "add", "concat")
BIGRAMS = ("learned", "counts", "none")
DTYPES = ("float32", "bfloat16")
# Places where AbsTopK may act (docs/method.md, "AbsTopK"); the first eight are the paper's default.
TOPK_LOCATIONS = (
    "attn_in",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_out",
    "mlp_in",
    "mlp_neuron",
    "mlp_out",
    "resid_post_attn",
    "resid_post_mlp",
)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The decoder's shape and options (docs/method.md, "Model").

    Attributes:
      n_layer: Number of layers, each an attention half and an MLP half.
      d_model: Width of the residual stream.
      n_ctx: Longest sequence, in tokens.
      vocab_size: Rows of the embedding.
      d_head: Channels of one attention head.
      n_head: Heads; None means d_model // d_head.
      d_mlp: Neurons of one MLP; None means 4 * d_model.
      norm: "rms" (zero keeps its meaning), "layer" or "none".
      activation: "gelu" (exact, erf) or "relu".
      residual_activation: Applied to the residual stream after each half.
      position: "none", "add" (learned, added to the embedding) or "concat" (d_pos channels joined to
        each half's input, as the released models' `d_pos_emb`).
      d_pos: Channels of a concatenated position embedding.
      bias: Whether linear layers have biases.
      norm_bias: Whether a LayerNorm has a bias (an RMSNorm never has).
      tied_unembed: Whether the unembedding is the transposed token embedding.
      attention: "causal", or "full" for networks that are no language models (compiled programs): every
        token sees every other.
      attention_sink: Whether each head has a learned sink logit in its softmax.
      bigram: A vocab x vocab table, row = current token, that is added to the logits: "learned" with the
        other parameters, "counts" (log-probabilities of the corpus' counts, smoothed by train.bigram_prior
        and never trained) or "none".  True and False, as it was before, are "learned" and "none".
      logits_bias: Whether a bias over the vocabulary is added to the logits.
      activation_fraction: AbsTopK keeps int(fraction * width) entries; None, or 1, switches AbsTopK off.
      activation_locations: Where AbsTopK acts, of TOPK_LOCATIONS.
      dtype: Compute type of activations; parameters are always float32.
    """

    n_layer: int = 2
    d_model: int = 128
    n_ctx: int = 128
    vocab_size: int = 2048
    d_head: int = 16
    n_head: int | None = None
    d_mlp: int | None = None
    norm: str = "rms"
    activation: str = "gelu"
    residual_activation: str = "identity"
    position: str = "none"
    d_pos: int = 0
    bias: bool = True
    norm_bias: bool = True
    tied_unembed: bool = False
    attention_sink: bool = True
    bigram: str = "learned"
    logits_bias: bool = False
    activation_fraction: float | None = 0.25
    activation_locations: tuple[str, ...] = TOPK_LOCATIONS[:8]
    dtype: str = "float32"
    attention: str = "causal"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bigram", former_switch("bigram", self.bigram))
        for field in ("n_layer", "d_model", "n_ctx", "vocab_size", "d_head"):
            check_positive(f"model.{field}", getattr(self, field))
        if self.n_head is None and self.d_model % self.d_head:
            raise ConfigError(
                f"model.d_model is {self.d_model}, which model.d_head {self.d_head} does not divide; "
                "change one of them or set model.n_head"
            )
        for field in ("n_head", "d_mlp"):
            if getattr(self, field) is not None:
                check_positive(f"model.{field}", getattr(self, field))
        check_choice("model.norm", self.norm, NORMS)
        check_choice("model.activation", self.activation, ACTIVATIONS)
        check_choice("model.residual_activation", self.residual_activation, RESIDUAL_ACTIVATIONS)
        check_choice("model.position", self.position, POSITIONS)
        check_choice("model.bigram", self.bigram, BIGRAMS)
        check_choice("model.attention", self.attention, ATTENTIONS)
        check_choice("model.dtype", self.dtype, DTYPES)
        if self.d_pos < 0 or (self.position == "concat") != (self.d_pos > 0):
            raise ConfigError(
                f"model.d_pos is {self.d_pos} with model.position {self.position!r}; "
                "d_pos is greater than 0 when position is 'concat', and else 0"
            )
        if self.activation_fraction is not None:
            check_fraction("model.activation_fraction", self.activation_fraction)
        for location in self.activation_locations:
            check_choice("model.activation_locations", location, TOPK_LOCATIONS)

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.d_model // self.d_head if self.n_head is None else self.n_head

    @property
    def d_attn(self) -> int:
        """Channels of all heads together: the width of q, of k and of v."""
        return self.heads * self.d_head

    @property
    def neurons(self) -> int:
        """Neurons of one MLP."""
        return 4 * self.d_model if self.d_mlp is None else self.d_mlp

    @property
    def has_bigram(self) -> bool:
        """Whether a bigram table, trained or counted, is added to the logits."""
        return self.bigram != "none"

    @property
    def d_read(self) -> int:
        """Width of what a half reads: the residual stream and any concatenated positions."""
        return self.d_model + self.d_pos

    def kept_activations(self, location: str, width: int) -> int | None:
        """AbsTopK's k at `location` (truncated, as released), or None where it does not act."""
        if self.activation_fraction is None or location not in self.activation_locations:
            return None
        return int(self.activation_fraction * width)
