"""A planted network with its task and its truth, and how a recovered circuit compares with it."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np

from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.planted.designs import DESIGNS, Design
from circuits_jax.circuits.planted.distractors import bury, superpose
from circuits_jax.circuits.planted.draft import Draft
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.config import ModelConfig
from circuits_jax.config.checks import check_choice
from circuits_jax.model.model import Model
from circuits_jax.model.transformer import Params
from circuits_jax.tasks.task import Pairs

CONFIG = ModelConfig(n_layer=2, d_model=64, n_ctx=16, vocab_size=64, d_head=16, bigram="none")
EOT = 0
BALLAST = 6.0  # the embedding entry that all tokens share: it holds the residual norm nearly constant
ANSWER_GAIN = 1.5
CORPUS_BATCHES, CORPUS_ROWS = 4, 64

NodePair = tuple[Node, Node]


@dataclasses.dataclass(frozen=True)
class Planted:
    """A network whose circuit for one task is known.

    Attributes:
      name: Of the circuit: quotes, brackets or binding.
      config, params: The network, of float32 numpy arrays.
      nodes, edges: The circuit, sorted; of all its copies.
      copies: The nodes of each copy, which alone solves the task.
      splits: The task's pairs; the three splits' words differ.
      corpus: int32 [batches, rows, n_ctx], windows of packed prompts, for mean activations.
    """

    name: str
    config: ModelConfig
    params: Params
    nodes: tuple[Node, ...]
    edges: tuple[NodePair, ...]
    splits: Splits
    corpus: np.ndarray
    copies: tuple[tuple[Node, ...], ...] = ()

    @property
    def train(self) -> Pairs:
        """Pairs that masks are learnt on."""
        return self.splits.train

    @property
    def test(self) -> Pairs:
        """Pairs that figures are reported of."""
        return self.splits.test

    @functools.cached_property
    def model(self) -> Model:
        """The network as a model, without a tokenizer."""
        return Model(self.config, self.params, source=f"planted {self.name}")


@dataclasses.dataclass(frozen=True)
class Score:
    """Precision: share of the found that is planted.  Recall: share of the planted that was found."""

    node_precision: float
    node_recall: float
    edge_precision: float
    edge_recall: float


@dataclasses.dataclass(frozen=True)
class Wiring:
    """How a circuit is planted.

    Attributes:
      copies: How often, each time with channels, heads and neurons of its own.
      superposed: Whether distractors share the circuit's channels and heads.
    """

    copies: int = 1
    superposed: bool = False


def plant(
    name: str,
    seed: int,
    train_pairs: int = 512,
    select_pairs: int = 256,
    test_pairs: int = 256,
    wiring: Wiring = Wiring(),  # noqa: B008  frozen
) -> Planted:
    """Wires the circuit `name` into a network whose other weights, and whose layout, depend on `seed`.

    Args:
      name: Of DESIGNS.
      seed: Decides everything that the design does not.
      train_pairs, select_pairs, test_pairs: How many of each.
      wiring: How it is wired.

    Raises:
      ConfigError: if there is no such circuit.
    """
    check_choice("planted circuit", name, DESIGNS)
    return plant_design(DESIGNS[name], seed, train_pairs, select_pairs, test_pairs, wiring)


def plant_design(
    design: Design,
    seed: int,
    train_pairs: int,
    select_pairs: int,
    test_pairs: int,
    wiring: Wiring = Wiring(),  # noqa: B008  frozen
) -> Planted:
    """`plant`, of a design that may be one's own."""
    rng = np.random.default_rng(seed)
    ids = _vocabulary(design)
    draft = Draft(CONFIG, rng)
    wired = _wire(draft, design, ids, wiring.copies)
    twins = [[ids[token] for token in group] for group in design.twins]
    bury(draft, twins, [ids[token] for token in design.answers], rng)
    words = [token for token in ids if token.startswith("word")]
    if wiring.superposed:
        superpose(draft, [ids[word] for word in words], np.random.default_rng([seed, 2]))
    own = np.random.default_rng([seed, 1])  # so that the other draws are those of before there was `select`
    learnt, tested, chosen = words[::2], words[1::4], words[3::4]
    return Planted(
        name=design.name,
        config=CONFIG,
        params=draft.params,
        nodes=draft.nodes(),
        edges=tuple(sorted(draft.edges)),
        splits=Splits(
            train=_pairs(design, ids, "train", learnt, train_pairs, rng),
            select=_pairs(design, ids, "select", chosen, select_pairs, own),
            test=_pairs(design, ids, "test", tested, test_pairs, rng),
        ),
        corpus=_corpus(design, ids, words, rng),
        copies=wired,
    )


def score(planted: Planted, nodes: Iterable[Node], edges: Iterable[NodePair]) -> Score:
    """Compares a found circuit with the planted one."""
    node_scores = _precision_recall(set(nodes), set(planted.nodes))
    return Score(*node_scores, *_precision_recall(set(edges), set(planted.edges)))


def _precision_recall(found: set, truth: set) -> tuple[float, float]:
    shared = len(found & truth)
    return shared / max(len(found), 1), shared / max(len(truth), 1)


def _vocabulary(design: Design) -> dict[str, int]:
    """Token -> id: end of text, the answers and the design's tokens, then words."""
    special = dict.fromkeys(["<eot>", *design.tokens, *design.answers])
    words = [f"word{i}" for i in range(CONFIG.vocab_size - len(special))]
    return {token: i for i, token in enumerate([*special, *words])}


def _wire(draft: Draft, design: Design, ids: dict[str, int], copies: int) -> tuple[tuple[Node, ...], ...]:
    """The nodes of each copy."""
    wired: list[tuple[Node, ...]] = []
    for copy in range(copies):
        draft.suffix = f" {copy + 1}" if copy else ""
        shared = {} if copy else {"ballast": BALLAST}
        for token, i in ids.items():
            draft.embed(i, **shared, **design.tokens.get(token, {}))
        design.wire(draft)
        for token, sign in zip(design.answers, (1, -1), strict=True):
            draft.unembed(ids[token], answer=sign * ANSWER_GAIN)
        earlier = {node for nodes in wired for node in nodes}
        wired.append(tuple(node for node in draft.nodes() if node not in earlier))
    return tuple(wired)


def _pairs(
    design: Design,
    ids: dict[str, int],
    split: str,
    words: Sequence[str],
    count: int,
    rng: np.random.Generator,
) -> Pairs:
    tokens = np.full((count, 2, CONFIG.n_ctx), EOT, np.int32)
    last = np.zeros(count, np.int32)
    texts = []
    for i in range(count):
        prompts = design.prompts(rng, words)
        for role, prompt in enumerate(prompts):
            tokens[i, role, : len(prompt)] = [ids[token] for token in prompt]
        last[i] = len(prompts[0]) - 1
        texts.append((" ".join(prompts[0]), " ".join(prompts[1])))
    answers = np.array([ids[token] for token in design.answers], np.int32)
    return Pairs(
        task=design.name,
        split=split,
        tokens=tokens,
        last=last,
        answers=np.tile(answers, (count, 1)),
        texts=texts,
        continuations=[design.answers] * count,
        survived=1.0,
        template=np.arange(count, dtype=np.int32),  # each prompt is drawn anew
    )


def _corpus(
    design: Design, ids: dict[str, int], words: Sequence[str], rng: np.random.Generator
) -> np.ndarray:
    """Prompts of both roles, each with its end of text, packed and cut into windows."""
    stream: list[int] = []
    size = CORPUS_BATCHES * CORPUS_ROWS * CONFIG.n_ctx
    while len(stream) < size:
        prompt = design.prompts(rng, words)[rng.integers(2)]
        stream += [*(ids[token] for token in prompt), EOT]
    return np.array(stream[:size], np.int32).reshape(CORPUS_BATCHES, CORPUS_ROWS, CONFIG.n_ctx)
