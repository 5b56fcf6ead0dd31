"""A plausible circuit without training: a random sparse network, cut backward from two answer tokens."""

import hashlib

import jax
import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.circuit import Calibration, Circuit, Node
from circuits_jax.config import ModelConfig, to_dict
from circuits_jax.model import sites
from circuits_jax.model.transformer import Params, init_params
from circuits_jax.model.wiring import wires
from circuits_jax.tasks.task import Pairs

HOSTILE = ("</script>", "<img src=x onerror=alert(1)>", "\u2028", "\u202e", "&amp;", "\x0c", "{{data}}")
PIECES = (
    *(
        '"',
        "'",
        "\n",
        " ",
        "(",
        ")",
        "[",
        "]",
        ":",
        ",",
        " =",
        ".",
        "    ",
        "\n    ",
        "def",
        " return",
        " if",
    ),
    *(
        " name",
        " value",
        "self",
        "print",
        " for",
        " in",
        " range",
        "items",
        "0",
        "1",
        "2",
        " open",
        "import",
        " os",
    ),
    *(
        " not",
        " None",
        " True",
        "class",
        " data",
        " line",
        "split",
        "join",
        "append",
        " +",
        " -",
        " ==",
        "x",
        "y",
    ),
    *HOSTILE,
)


class PieceTokenizer:
    """As much of a tokenizer as the viewer asks for."""

    def __init__(self, vocab_size: int):
        self.vocab_size, self.eot = vocab_size, vocab_size - 1

    def pieces(self, ids: list[int]) -> list[str]:
        return [PIECES[token] if token < len(PIECES) else f" word{token}" for token in ids]


def config_of(d_model: int = 64, n_layer: int = 2, vocab_size: int = 96, n_ctx: int = 48) -> ModelConfig:
    return ModelConfig(
        n_layer=n_layer, d_model=d_model, d_head=8, n_ctx=n_ctx, vocab_size=vocab_size, bigram=False
    )


def sparse_params(config: ModelConfig, keep: float = 1 / 16, seed: int = 0) -> Params:
    """Random parameters of which each matrix keeps the largest; biases are random, so that nodes differ."""
    rng = np.random.default_rng(seed)

    def cut(path: tuple, leaf: jax.Array) -> np.ndarray:
        leaf = np.asarray(leaf)
        if path[-1].key == "bias":
            return rng.normal(0, 0.05, leaf.shape).astype(np.float32) * (rng.random(leaf.shape) < 0.3)
        if leaf.ndim < 2:
            return leaf
        threshold = np.sort(np.abs(leaf).ravel())[int(leaf.size * (1 - keep))]
        return np.where(np.abs(leaf) >= threshold, leaf * 10, 0)

    return jax.tree_util.tree_map_with_path(
        cut, jax.jit(init_params, static_argnums=0)(config, jax.random.key(seed))
    )


def grow_nodes(config: ModelConfig, params: Params, answers: np.ndarray, count: int) -> tuple[Node, ...]:
    """About `count` nodes, found by walking strong weights backward from the answers' logits."""
    matrices = {}
    for wire in wires(config.n_layer):
        weights = np.asarray(wire.weights(params))
        matrices.setdefault(wire.target, []).append((wire.source, weights))
    weights = np.abs(graph.unembedding(config, params)[:, answers]).max(axis=1)
    last = f"{config.n_layer - 1}.mlp.resid_delta"
    queue = [Node(last, int(channel)) for channel in np.argsort(-weights)[:6]]
    kept: dict[Node, None] = {}
    rng = np.random.default_rng(0)
    while queue and len(kept) < count:
        node = queue.pop(rng.integers(len(queue)))  # neither deep nor broad first
        for each in (node, *_partners(config, node)):
            if each not in kept:
                kept[each] = None
                queue += _sources(config, matrices, each)
    order = list(sites.node_sites(config))
    return tuple(sorted(kept, key=lambda node: (order.index(node.site), node.index)))


def _sources(config: ModelConfig, matrices: dict, node: Node) -> list[Node]:
    """The strongest sources of `node`, and the writes of its channel below it."""
    layer, location = sites.parse(node.site)
    found = []
    for source, matrix in matrices.get(node.site, []):
        strongest = np.argsort(-np.abs(matrix[:, node.index]), kind="stable")[:2]
        found += [Node(source, int(i)) for i in strongest if matrix[i, node.index]]
    if location.endswith("act_in") and node.index < config.d_model:
        if location.startswith("mlp"):
            found.append(Node(f"{layer}.attn.resid_delta", node.index))
        if layer:
            found.append(Node(f"{layer - 1}.mlp.resid_delta", node.index))
    return found


def _partners(config: ModelConfig, node: Node) -> list[Node]:
    """A query and a key channel of a value channel's head."""
    layer, location = sites.parse(node.site)
    first = node.index - node.index % config.d_head
    return [Node(f"{layer}.attn.{name}", first + 1) for name in "qk" if location == "attn.v"]


def make_circuit(
    config: ModelConfig,
    params: Params,
    count: int = 60,
    task: str = "single_double_quote",
    answers: np.ndarray | None = None,
    final: bool = False,
) -> Circuit:
    """With `final`, half of the channels that are written are nodes of the final residual stream too."""
    answers = np.array([0, 1]) if answers is None else answers
    nodes = grow_nodes(config, params, answers, count)
    if final:
        written = sorted({node.index for node in nodes if node.site.endswith("resid_delta")})
        nodes += tuple(Node(sites.FINAL, index) for index in written[::2])
    rng = np.random.default_rng(1)
    widths = sites.node_sites(config, final)
    means = {site: rng.normal(0, 0.1, width).astype(np.float32) for site, width in widths.items()}
    masks = {site: np.zeros(width) for site, width in widths.items()}
    for node in nodes:
        masks[node.site][node.index] = 1
    live = graph.reached(config, params, masks)
    return Circuit(
        task=task,
        nodes=nodes,
        edges=graph.edges_of(config, params, nodes),
        bias_only=tuple(not live[node.site][node.index] for node in nodes),
        means=means,
        ablation="mean",
        embedding=graph.embedding_entries(config, params, nodes),
        unembedding=graph.unembedding_entries(config, params, nodes, answers),
        calibration=Calibration(1.4, -0.08),
        metrics={
            "test/loss": 0.2113, "test/calibrated_loss": 0.1391, "test/accuracy": 0.957,
            "test/calibrated_accuracy": 0.962, "full/test/calibrated_accuracy": 0.984,
            "train/loss": 0.19, "train/calibrated_loss": 0.1498, "train/accuracy": 0.97,
            "full/test/loss": 0.0912, "full/test/calibrated_loss": 0.088, "full/test/accuracy": 0.98,
            "full/train/loss": 0.08, "full/train/calibrated_loss": 0.079, "full/train/accuracy": 0.99,
        },
        model_config=to_dict(config),
        model_hash=hashlib.sha256(b"model").hexdigest(),
        tokenizer_hash=hashlib.sha256(b"tokenizer").hexdigest(),
        provenance={},
    )  # fmt: skip


def make_pairs(config: ModelConfig, count: int = 5, length: int = 14, seed: int = 0) -> Pairs:
    """Prompts that differ in one token, with different lengths."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, len(PIECES), (count, 1, length)).astype(np.int32).repeat(2, axis=1)
    tokens[:, 0, 3], tokens[:, 1, 3] = 0, 1
    last = rng.integers(9, length, count).astype(np.int32)
    for row, end in enumerate(last):
        tokens[row, :, end + 1 :] = config.vocab_size - 1
    answers = np.tile(np.array([[0, 1]], np.int32), (count, 1))
    texts = [("", "")] * count
    return Pairs(
        task="single_double_quote",
        split="test",
        tokens=tokens,
        last=last,
        answers=answers,
        texts=texts,
        continuations=texts,
        survived=1.0,
    )


def make_windows(config: ModelConfig, count: int = 40, seed: int = 0) -> np.ndarray:
    return (
        np.random.default_rng(seed).integers(0, config.vocab_size, (count, config.n_ctx + 1)).astype(np.int32)
    )
