"""Every setting of a run, as frozen dataclasses that check themselves.

Inside the library only these dataclasses travel.  `experiments/` turns them into an
`ml_collections.ConfigDict` so that flags can override single values, and back.  Each value is
checked once, here, when its dataclass is made; the error names the field, the value and the choices.
"""

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from circuits_jax.checks import (
    check_choice,
    check_decay,
    check_fraction,
    check_not_negative,
    check_positive,
    check_seed,
)
from circuits_jax.errors import ConfigError

T = TypeVar("T")

NORMS = ("rms", "layer")
ACTIVATIONS = ("gelu", "relu")
RESIDUAL_ACTIVATIONS = ("identity", "relu")
POSITIONS = ("none", "add", "concat")
DTYPES = ("float32", "bfloat16")
ANNEALS = ("linear", "exponential")
GRADIENT_MODES = ("rescale", "clip")
ABLATIONS = ("mean", "zero")
# Places where AbsTopK may act (METHOD section 2); the first eight are the paper's default.
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
    """The decoder's shape and options (METHOD section 2, FACTS "Config -> model").

    Attributes:
      n_layer: Number of layers, each an attention half and an MLP half.
      d_model: Width of the residual stream.
      n_ctx: Longest sequence, in tokens.
      vocab_size: Rows of the embedding.
      d_head: Channels of one attention head.
      n_head: Heads; None means d_model // d_head.
      d_mlp: Neurons of one MLP; None means 4 * d_model.
      norm: "rms" (zero keeps its meaning) or "layer".
      activation: "gelu" (exact, erf) or "relu".
      residual_activation: Applied to the residual stream after each half.
      position: "none", "add" (learned, added to the embedding) or "concat" (d_pos channels joined to
        each half's input, as the released models' `d_pos_emb`).
      d_pos: Channels of a concatenated position embedding.
      bias: Whether linear layers have biases.
      norm_bias: Whether a LayerNorm has a bias (an RMSNorm never has).
      tied_unembed: Whether the unembedding is the transposed token embedding.
      attention_sink: Whether each head has a learned sink logit in its softmax.
      bigram: Whether a vocab x vocab table, row = current token, is added to the logits.
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
    bigram: bool = True
    logits_bias: bool = False
    activation_fraction: float | None = 0.25
    activation_locations: tuple[str, ...] = TOPK_LOCATIONS[:8]
    dtype: str = "float32"

    def __post_init__(self) -> None:
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
    def d_read(self) -> int:
        """Width of what a half reads: the residual stream and any concatenated positions."""
        return self.d_model + self.d_pos

    def kept_activations(self, location: str, width: int) -> int | None:
        """AbsTopK's k at `location` (truncated, as released), or None where it does not act."""
        if self.activation_fraction is None or location not in self.activation_locations:
            return None
        return int(self.activation_fraction * width)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The corpus, its split and its tokenizer.

    Attributes:
      roots: Folders of Python source; empty means the running interpreter's standard library.
      exclude: Folder names that are left out wherever they occur.
      validation_fraction: Share of files (by content hash) held out for validation.
      generated_share: Share of training windows taken from small generated programs.
      symbols: Strings that are always one token of their own.
      seed: Seed of the shuffle.
    """

    roots: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ("site-packages", "dist-packages", "test", "tests", "idle_test")
    validation_fraction: float = 0.05
    generated_share: float = 0.0
    symbols: tuple[str, ...] = ('"""', "'''", '"', "'")
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("data.seed", self.seed)
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(
                f"data.validation_fraction is {self.validation_fraction}; it must lie between 0 and 1"
            )
        if not 0 <= self.generated_share < 0.5:
            raise ConfigError(
                f"data.generated_share is {self.generated_share}; it must lie in [0, 0.5): "
                "real code stays the larger part"
            )


@dataclasses.dataclass(frozen=True)
class SparsityConfig:
    """How many weights survive each step (METHOD section 3).

    Attributes:
      target: Fraction of entries every sparse tensor keeps at the end; 1 trains a dense model.
      anneal_start: Share of training after which the fraction begins to fall from 1.
      anneal_end: Share of training at which it reaches `target`.
      anneal: "linear" or "exponential" in the fraction.
      floor: j: no neuron and no attention channel keeps fewer than j of its incoming, or outgoing, weights.
      sparse_biases: Whether biases are projected.
      sparse_embeddings: Whether token and position embeddings and the unembedding are projected.
    """

    target: float = 1 / 32
    anneal_start: float = 0.01
    anneal_end: float = 0.5
    anneal: str = "linear"
    floor: int = 1
    sparse_biases: bool = True
    sparse_embeddings: bool = True

    def __post_init__(self) -> None:
        check_fraction("sparsity.target", self.target)
        check_choice("sparsity.anneal", self.anneal, ANNEALS)
        if not 0 <= self.anneal_start <= self.anneal_end <= 1:
            raise ConfigError(
                f"sparsity.anneal_start {self.anneal_start} and anneal_end {self.anneal_end} "
                "must satisfy 0 <= start <= end <= 1"
            )
        check_not_negative("sparsity.floor", self.floor)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW on gradients of RMS 1 (METHOD section 3).

    Attributes:
      learning_rate: Base rate, before warm-up, decay and sharkfin.
      warmup: Share of training over which the rate rises from 0.
      sharkfin: Whether the rate is multiplied by 1/sqrt(scheduled L0 fraction).
      b1, b2, eps: Adam's.
      weight_decay: Decoupled decay, on matrices only.
      gradient_rms: Root mean square the gradient is brought to, over all entries of all tensors.
      gradient_mode: "rescale" (always) or "clip" (only when larger).
    """

    learning_rate: float = 1e-2
    warmup: float = 0.01
    sharkfin: bool = True
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 0.1
    weight_decay: float = 0.1
    gradient_rms: float = 1.0
    gradient_mode: str = "rescale"

    def __post_init__(self) -> None:
        check_positive("optimizer.learning_rate", self.learning_rate)
        check_positive("optimizer.eps", self.eps)
        check_positive("optimizer.gradient_rms", self.gradient_rms)
        check_choice("optimizer.gradient_mode", self.gradient_mode, GRADIENT_MODES)
        check_decay("optimizer.b1", self.b1)
        check_decay("optimizer.b2", self.b2)
        check_not_negative("optimizer.weight_decay", self.weight_decay)
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"optimizer.warmup is {self.warmup}; it must lie in [0, 1)")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length and rhythm of a run, all in steps.

    Attributes:
      steps: Optimizer steps.
      batch_size: Windows of n_ctx + 1 tokens a step, over all devices.
      seed: Seed of the initial parameters.
      bigram_prior: Strength, in tokens, of the unigram prior of a bigram table that starts from the
        corpus' counts; None starts it at zeros, as the paper does.
      log_every: Steps between rows of metrics.jsonl.
      eval_every: Steps between validation losses.
      eval_batches: Validation batches read each time.
      checkpoint_every: Steps between checkpoints.
      keep_checkpoints: Newest checkpoints kept.
    """

    steps: int = 2000
    batch_size: int = 16
    seed: int = 0
    bigram_prior: float | None = None
    log_every: int = 10
    eval_every: int = 250
    eval_batches: int = 8
    checkpoint_every: int = 250
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "seed" and value is not None:
                check_positive(f"train.{field.name}", value)
        check_seed("train.seed", self.seed)


@dataclasses.dataclass(frozen=True)
class PruneConfig:
    """Finding the smallest circuit (METHOD section 6).

    Attributes:
      tasks: Names of the tasks to prune for.
      steps: Optimizer steps on the masks.
      batch_pairs: Contrast pairs a step (two prompts each).
      train_pairs, heldout_pairs: Pairs built of each split.
      k_coef: Price of one kept node, in nats.
      learning_rate, weight_decay, b2: AdamW's, the rate decaying linearly to 0.
      init_mean, init_std: Of the masks' parameters tau.
      temperature: Of the sigmoid whose derivative stands in for the step's.
      target: Calibrated task loss the circuit must hold on held-out pairs.
      slack: Share of the target that is demanded of the training pairs during the search, so that pairs of
        other words and templates hold the target too.
      ablation: What a removed node is held at: its corpus "mean", or "zero".
      mean_batches: Corpus batches the means are taken over.
      seed: Seed of tau and of the pairs' order.
    """

    tasks: tuple[str, ...] = ("single_double_quote", "bracket_counting", "set_or_string")
    steps: int = 300
    batch_pairs: int = 64
    train_pairs: int = 512
    heldout_pairs: int = 256
    k_coef: float = 1e-4
    learning_rate: float = 1e-2
    weight_decay: float = 1e-3
    b2: float = 0.95
    init_mean: float = 0.1
    init_std: float = 0.01
    temperature: float = 1.0
    target: float = 0.15
    slack: float = 0.8
    ablation: str = "mean"
    mean_batches: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("steps", "batch_pairs", "train_pairs", "heldout_pairs", "learning_rate"):
            check_positive(f"prune.{field}", getattr(self, field))
        for field in ("temperature", "target", "mean_batches"):
            check_positive(f"prune.{field}", getattr(self, field))
        check_fraction("prune.slack", self.slack)
        check_decay("prune.b2", self.b2)
        for field in ("k_coef", "weight_decay", "init_std"):
            check_not_negative(f"prune.{field}", getattr(self, field))
        if not self.tasks:
            raise ConfigError("prune.tasks is empty; name at least one task")
        check_choice("prune.ablation", self.ablation, ABLATIONS)
        check_seed("prune.seed", self.seed)


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    sparsity: SparsityConfig = SparsityConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    prune: PruneConfig = PruneConfig()


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested dicts of plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Builds dataclass `cls` from nested mappings.

    Raises:
      ConfigError: for unknown keys (all of them named, with the known ones) or a wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} is {values!r}; it must be a table of settings")
    hints = typing.get_type_hints(cls)
    unknown = [f"{where}.{key}" for key in values if key not in hints]
    if unknown:
        raise ConfigError(f"unknown config key {', '.join(unknown)}; {where} has {', '.join(hints)}")
    return cls(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as type `hint`, or ConfigError naming `where`."""
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} is {value!r}; it must be a list")
        (item, _) = typing.get_args(hint)
        return tuple(_convert(item, each, f"{where}[{index}]") for index, each in enumerate(value))
    options = typing.get_args(hint) or (hint,)
    if value is None and type(None) in options:
        return None
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) not in options:
        names = " or ".join(option.__name__ for option in options)
        raise ConfigError(f"{where} is {value!r}, of type {type(value).__name__}; it must be {names}")
    return value
