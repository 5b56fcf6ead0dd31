"""Every setting of a run, as frozen dataclasses that check themselves.

Inside the library only these dataclasses travel.  `experiments/` turns them into an
`ml_collections.ConfigDict` so that flags can override single values, and back.  Each value is
checked once, here, when its dataclass is made; the error names the field, the value and the choices.
"""

import dataclasses
import json
import math
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
BATCHINGS = ("auto", "vmap", "map")
REMATS = ("none", "blocks", "dots")
ENCODERS = ("abs_top_k", "threshold")
SOURCES = ("python", "tfds", "jsonl", "parquet")
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
      source: Where documents come from: "python" (trees of source), "tfds" (a dataset by its name), "jsonl"
        or "parquet" (files of rows).
      roots: For "python" folders of source, none meaning the running interpreter's standard library; for
        "jsonl" and "parquet" files or patterns (`/data/*.jsonl`); for "tfds" the data_dir, if it is not TFDS'
        own.
      name: TFDS' name of the dataset, such as "wiki40b/en".
      text: The feature, key or column that holds the text.
      exclude: Folder names that are left out wherever they occur in trees of source.
      deduplicate: Whether a document equal to an earlier one is left out.
      validation_fraction: Share of documents (by content hash) held out for validation.
      generated_share: Share of training windows taken from small generated programs.
      symbols: Strings that are always one token of their own.
      tokenizer_characters: Size of the sample of the training split that the tokenizer is trained on.
      seed: Seed of the shuffle.
    """

    source: str = "python"
    roots: tuple[str, ...] = ()
    name: str = ""
    text: str = "text"
    exclude: tuple[str, ...] = ("site-packages", "dist-packages", "test", "tests", "idle_test")
    deduplicate: bool = False
    validation_fraction: float = 0.05
    generated_share: float = 0.0
    symbols: tuple[str, ...] = ('"""', "'''", '"', "'")
    tokenizer_characters: int = 2**26
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("data.seed", self.seed)
        check_choice("data.source", self.source, SOURCES)
        check_positive("data.tokenizer_characters", self.tokenizer_characters)
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
      keep_best: Checkpoints of lowest validation loss kept beside them.
      start_from: A workdir, a folder in the sparse format or a released checkpoint, whose parameters the
        run starts from with a fresh optimizer and fresh schedules; None starts from random ones.
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
    keep_best: int = 0
    start_from: str | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("seed", "keep_best", "start_from") and value is not None:
                check_positive(f"train.{field.name}", value)
        check_seed("train.seed", self.seed)
        check_not_negative("train.keep_best", self.keep_best)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How a run lies on its devices; none of it changes the batches, nor, but for rounding, the result.

    Attributes:
      data: Devices along the axis that splits the batch; -1 takes all that the other axes leave.
      fsdp: Devices along the axis that splits the batch and every large tensor.
      model: Devices along the axis that splits heads, neurons and the vocabulary.
      rules: "pattern = axis, axis": how parameters whose name matches are split, one axis (or "a+b", or
        "-" for none) for each dimension; they come before the rules of the program.
      accumulate: Parts of a batch whose gradients are taken one after another.
      remat: What the backward pass computes again instead of keeping it: "none", "blocks" (all inside a
        layer) or "dots" (all inside a layer but matrix products).
      workers: Processes that read batches ahead; 0 reads them in a thread.
    """

    data: int = -1
    fsdp: int = 1
    model: int = 1
    rules: tuple[str, ...] = ()
    accumulate: int = 1
    remat: str = "none"
    workers: int = 0

    def __post_init__(self) -> None:
        for axis in ("data", "fsdp", "model"):
            if getattr(self, axis) != -1:
                check_positive(f"mesh.{axis}", getattr(self, axis))
        if [self.data, self.fsdp, self.model].count(-1) > 1:
            raise ConfigError("of mesh.data, mesh.fsdp and mesh.model only one may be -1, for what is left")
        check_positive("mesh.accumulate", self.accumulate)
        check_choice("mesh.remat", self.remat, REMATS)
        check_not_negative("mesh.workers", self.workers)


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """A trace of some steps, for TensorBoard or Perfetto.

    Attributes:
      steps: First and last step to trace; empty traces none.
    """

    steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.steps and not (len(self.steps) == 2 and 1 <= self.steps[0] <= self.steps[1]):
            raise ConfigError(
                f"profile.steps is {self.steps}; give a first and a last step, such as (20,24), or nothing"
            )


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
      batching: How one program takes many runs: "vmap", "map" (in turn), or "auto": map on CPU, else vmap.
      cuts: Shares of the steps after which settled nodes are cut out of the network, increasing; () never.
      trials: Settings tried for each task, sampled around the configured ones; the first are these.
      seeds: Seeds tried with each.
      edge_steps: Optimizer steps on the masks of the edges, after the nodes; 0 keeps every edge.
      importance_pairs: Training pairs that ablation deltas are meaned over.
      importance_nodes: Nodes of the full model, half of them of the circuit where it has as many, whose
        deltas are measured to compare first-order attributions with; 0 measures none.
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
    batching: str = "auto"
    cuts: tuple[float, ...] = ()
    trials: int = 1
    seeds: int = 1
    edge_steps: int = 40
    importance_pairs: int = 64
    importance_nodes: int = 64

    def __post_init__(self) -> None:
        for field in ("steps", "batch_pairs", "train_pairs", "heldout_pairs", "learning_rate"):
            check_positive(f"prune.{field}", getattr(self, field))
        check_positive("prune.importance_pairs", self.importance_pairs)
        for field in ("edge_steps", "importance_nodes"):
            check_not_negative(f"prune.{field}", getattr(self, field))
        for field in ("temperature", "target", "mean_batches", "trials", "seeds"):
            check_positive(f"prune.{field}", getattr(self, field))
        if any(not 0 < cut < 1 for cut in self.cuts) or list(self.cuts) != sorted(set(self.cuts)):
            raise ConfigError(f"prune.cuts is {self.cuts}; give increasing shares of the steps, in (0, 1)")
        check_fraction("prune.slack", self.slack)
        check_decay("prune.b2", self.b2)
        for field in ("k_coef", "weight_decay", "init_std"):
            check_not_negative(f"prune.{field}", getattr(self, field))
        if not self.tasks:
            raise ConfigError("prune.tasks is empty; name at least one task")
        check_choice("prune.ablation", self.ablation, ABLATIONS)
        check_choice("prune.batching", self.batching, BATCHINGS)
        check_seed("prune.seed", self.seed)


@dataclasses.dataclass(frozen=True)
class AuditConfig:
    """Is a circuit faithful?  Sizes of the examination and its thresholds (METHOD section 7).

    Attributes:
      pairs: Held-out pairs a circuit is judged on, drawn anew, not those of pruning.
      draws: Random circuits of each kind, and random parts removed for completeness.
      natural: Most positions of the validation corpus looked at.
      natural_context: Tokens that such a position has before it, at least.
      resamples: Bootstrap resamples of an interval.
      confidence: Of the intervals.
      seeds: Other seeds pruned for, to compare nodes.
      sufficient: Loss, in nats, that a circuit alone has at most; a full model above it is mediocre.
      necessary: Loss that the model without the circuit has at least.
      flips_inside: Share of answers that flip, at least, when the circuit's nodes are swapped.
      flips_outside: Share that flips, at most, when the other nodes are.
      control_share: Nodes, at most, as a share of those of the best control.
      margin: Below chance by less than this, in nats, a full model knows nothing of the task.
      seed: Of everything that is drawn.
    """

    pairs: int = 256
    draws: int = 16
    natural: int = 256
    natural_context: int = 16
    resamples: int = 2000
    confidence: float = 0.95
    seeds: int = 2
    sufficient: float = 0.15
    necessary: float = 0.5
    flips_inside: float = 0.8
    flips_outside: float = 0.2
    control_share: float = 1 / 3
    margin: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("draws", "natural", "natural_context", "resamples", "sufficient", "necessary"):
            check_positive(f"audit.{field}", getattr(self, field))
        for field in ("confidence", "flips_inside", "flips_outside", "control_share"):
            check_fraction(f"audit.{field}", getattr(self, field))
        check_not_negative("audit.seeds", self.seeds)
        check_not_negative("audit.margin", self.margin)
        check_seed("audit.seed", self.seed)
        if self.pairs < 8:
            raise ConfigError(f"audit.pairs is {self.pairs}; fewer than 8 pairs show nothing")


@dataclasses.dataclass(frozen=True)
class BridgeConfig:
    """Bridges between a dense and a sparse model (METHOD section 8).

    Attributes:
      dense: The dense model, trained and frozen: a workdir or a released checkpoint.
      sparse: An already trained sparse model, which is frozen too, so that bridges alone are trained; None
        trains one from scratch, coupled to the dense one.
      encoder: "abs_top_k", or "threshold": each channel is kept where it exceeds a learned magnitude.
      fraction: Share of the sparse stream that an "abs_top_k" encoder keeps; None for that of the sparse
        model's own AbsTopK there, or all where it has none.
      top_n: Likeliest tokens that KLs are taken over, renormalised; None for exact KLs.
      ce, kl, nmse_encode, nmse_decode, dense_to_sparse, sparse_to_dense: Coefficients of the loss' terms.
      ridge: Penalty of the closed-form bridges that evaluation compares with, as a share of the mean
        variance of a channel.
      ridge_batches: Training batches that those are fitted on.
      warm_start: Whether bridges that are trained alone start from the closed-form ones.
    """

    dense: str | None = None
    sparse: str | None = None
    encoder: str = "abs_top_k"
    fraction: float | None = None
    top_n: int | None = None
    ce: float = 1.0
    kl: float = 1.0
    nmse_encode: float = 1.0
    nmse_decode: float = 1.0
    dense_to_sparse: float = 1.0
    sparse_to_dense: float = 1.0
    ridge: float = 1e-4
    ridge_batches: int = 32
    warm_start: bool = True

    def __post_init__(self) -> None:
        check_choice("bridge.encoder", self.encoder, ENCODERS)
        if self.fraction is not None:
            check_fraction("bridge.fraction", self.fraction)
        if self.top_n is not None and self.top_n < 2:
            raise ConfigError(f"bridge.top_n is {self.top_n}; a KL needs 2 tokens or more")
        for field in ("ce", "kl", "nmse_encode", "nmse_decode", "dense_to_sparse", "sparse_to_dense"):
            check_not_negative(f"bridge.{field}", getattr(self, field))
        check_positive("bridge.ridge", self.ridge)
        check_positive("bridge.ridge_batches", self.ridge_batches)


@dataclasses.dataclass(frozen=True)
class SteerConfig:
    """Turning a sparse node inside a dense model (METHOD section 8, "Steering").

    Attributes:
      tasks: Names of the tasks, or files of tasks.
      strengths: Multiples of (B - A) that are written, increasing.
      nodes: Nodes that are written together where none are named.
      pairs: Held-out pairs that are steered.
      choose_pairs: Training pairs on which the nodes are chosen.
      draws: Draws of each random control.
      separation: Share of (A, B) prompts, at least, that a node's values must order for it to be chosen.
      texts: Windows of validation text on which specificity is measured.
      resamples, confidence: Of the bootstrap bands.
      seed: Of everything that is drawn.
    """

    tasks: tuple[str, ...] = ("single_double_quote", "while_return_true")
    strengths: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
    nodes: int = 1
    pairs: int = 128
    choose_pairs: int = 128
    draws: int = 8
    separation: float = 0.9
    texts: int = 64
    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("nodes", "pairs", "choose_pairs", "draws", "texts", "resamples"):
            check_positive(f"steer.{field}", getattr(self, field))
        for field in ("separation", "confidence"):
            check_fraction(f"steer.{field}", getattr(self, field))
        if not self.tasks:
            raise ConfigError("steer.tasks is empty; name at least one task")
        if not self.strengths or list(self.strengths) != sorted(set(self.strengths)):
            raise ConfigError(f"steer.strengths is {self.strengths}; give increasing numbers")
        if not all(map(math.isfinite, self.strengths)):
            raise ConfigError(f"steer.strengths is {self.strengths}; give finite numbers")
        check_seed("steer.seed", self.seed)


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    sparsity: SparsityConfig = SparsityConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    mesh: MeshConfig = MeshConfig()
    profile: ProfileConfig = ProfileConfig()
    prune: PruneConfig = PruneConfig()
    audit: AuditConfig = AuditConfig()
    bridge: BridgeConfig = BridgeConfig()
    steer: SteerConfig = SteerConfig()

    def __post_init__(self) -> None:
        if self.profile.steps and self.profile.steps[1] > self.train.steps:
            raise ConfigError(
                f"profile.steps is {self.profile.steps}, but train.steps is {self.train.steps}; "
                "trace steps that are taken"
            )


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
