"""Evidence against activations of every site, read one window at a time, without batches or padding."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.errors import CircuitError, ConfigError
from circuits_jax.model import sites
from circuits_jax.model.transformer import Transformer
from circuits_jax.viewer.evidence import EvidenceOptions, gather_evidence
from tests.viewer import synthetic

OPTIONS = EvidenceOptions(windows=6, batch=4, contexts=3, context_tokens=8, prompts=3, words=2)


@dataclasses.dataclass(frozen=True)
class Case:
    circuit: Circuit
    evidence: dict
    corpus: dict[str, np.ndarray]  # site -> [windows, n_ctx, width], computed one window at a time
    tokens: np.ndarray
    pairs: object
    params: object

    def column(self, place: int) -> np.ndarray:
        node = self.circuit.nodes[place]
        return self.corpus[node.site][..., node.index]


@pytest.fixture(scope="module")
def case() -> Case:
    config = synthetic.config_of(d_model=16, n_layer=1, n_ctx=20)
    params = synthetic.sparse_params(config, keep=1 / 4)
    circuit = synthetic.make_circuit(config, params, count=14)
    pairs, windows = synthetic.make_pairs(config), synthetic.make_windows(config, count=11)
    tokenizer = synthetic.PieceTokenizer(config.vocab_size)
    evidence = gather_evidence(circuit, params, tokenizer, pairs, windows, OPTIONS)
    tokens = windows[[0, 2, 4, 6, 8, 10], :-1]  # six of eleven, evenly spaced
    rows = [read(config, params, row) for row in tokens]
    corpus = {site: np.stack([row[site] for row in rows]) for site in rows[0]}
    return Case(circuit, evidence, corpus, tokens, pairs, params)


def read(config, params, tokens: np.ndarray) -> dict[str, np.ndarray]:
    return {site: np.asarray(x)[0] for site, x in forward(config)(params, tokens[None]).items()}


@functools.cache
def forward(config):
    everywhere = tuple(sites.sites(config))
    return jax.jit(lambda params, tokens: Transformer(config).apply(params, tokens, record=everywhere)[1])


def test_statistics_are_those_of_the_full_model(case):
    for place, node in enumerate(case.evidence["nodes"]):
        values = case.column(place).astype(np.float64)
        assert node["mean"] == pytest.approx(np.mean(values), rel=1e-3, abs=1e-6)
        assert node["std"] == pytest.approx(np.std(values), rel=1e-3, abs=1e-6)
        assert node["active"] == pytest.approx(np.count_nonzero(values) / values.size, rel=1e-3)
        assert (node["min"], node["max"]) == pytest.approx((values.min(), values.max()), rel=1e-3, abs=1e-6)
    assert case.evidence["corpus"] == {"windows": 6, "tokens": 6 * 20}


def test_contexts_show_the_extreme_tokens(case):
    shown = 0
    for place, node in enumerate(case.evidence["nodes"]):
        values = case.column(place)
        for name, sign in (("positive", 1), ("negative", -1)):
            heights = sorted((float(max(sign * row)) for row in values), reverse=True)
            heights = [height for height in heights if height > 0][:3]
            contexts = node["contexts"][name] if values.min() != values.max() else []
            peaks = [sign * context["values"][context["peak"]] for context in contexts]
            expected = heights if values.min() != values.max() else []
            assert peaks == pytest.approx(expected, rel=1e-3)
            for context in contexts:
                assert occurs(context, case.tokens, values)
                shown += 1
    assert shown > 10


def occurs(context: dict, tokens: np.ndarray, values: np.ndarray) -> bool:
    """Whether tokens and values stand side by side, in this order, somewhere in one window."""
    size = len(context["tokens"])
    assert size == len(context["values"]) == 8
    return any(
        row[start : start + size].tolist() == context["tokens"]
        and np.allclose(heat[start : start + size], context["values"], rtol=1e-3, atol=1e-6)
        for row, heat in zip(tokens, values, strict=True)
        for start in range(len(row) - size + 1)
    )


def test_prompt_values_are_per_token_without_padding(case):
    config = synthetic.config_of(d_model=16, n_layer=1, n_ctx=20)
    assert len(case.evidence["prompts"]) == 3
    for which, prompt in enumerate(case.evidence["prompts"]):
        end = case.pairs.last[which]
        for side in (0, 1):
            tokens = case.pairs.tokens[which, side, : end + 1]
            assert prompt["tokens"][side] == tokens.tolist()
            records = read(config, case.params, tokens)
            for place, node in enumerate(case.circuit.nodes):
                found = case.evidence["nodes"][place]["prompts"][which][side]
                np.testing.assert_allclose(found, records[node.site][:, node.index], rtol=1e-3, atol=1e-6)


def test_words_are_the_heaviest_tokens_of_each_channel(case):
    table = np.asarray(case.params["wte"]["embedding"])
    assert case.evidence["words"]
    for channel, words in case.evidence["words"].items():
        column = table[:, int(channel)]
        assert words["count"] == np.count_nonzero(column)
        weights = [abs(weight) for _, weight in words["top"]]
        assert weights == pytest.approx(sorted(np.abs(column), reverse=True)[: len(weights)], rel=1e-3)
        assert all(column[token] == pytest.approx(weight, rel=1e-3) for token, weight in words["top"])


def test_every_token_named_has_a_text_and_all_is_json(case):
    text = json.dumps(case.evidence, allow_nan=False)
    assert json.loads(text) == case.evidence
    pieces = case.evidence["pieces"]
    for node in case.evidence["nodes"]:
        for context in node["contexts"]["positive"] + node["contexts"]["negative"]:
            assert all(str(token) in pieces for token in context["tokens"])
    assert pieces["0"] == '"' and pieces["1"] == "'"


def test_order_of_nodes_and_size_of_batches_do_not_matter(case):
    config = synthetic.config_of(d_model=16, n_layer=1, n_ctx=20)
    turned = dataclasses.replace(case.circuit, nodes=case.circuit.nodes[::-1])
    windows = synthetic.make_windows(config, count=11)
    options = dataclasses.replace(OPTIONS, batch=5)
    tokenizer = synthetic.PieceTokenizer(config.vocab_size)
    evidence = gather_evidence(turned, case.params, tokenizer, case.pairs, windows, options)
    for one, other in zip(evidence["nodes"][::-1], case.evidence["nodes"], strict=True):
        assert one["mean"] == pytest.approx(other["mean"], rel=2e-3, abs=1e-6)
        assert one["active"] == other["active"]


def test_a_circuit_without_nodes_has_empty_evidence(case):
    config = synthetic.config_of(d_model=16, n_layer=1, n_ctx=20)
    bare = dataclasses.replace(case.circuit, nodes=(), edges=(), bias_only=(), embedding=(), unembedding=())
    windows = synthetic.make_windows(config, count=2)
    tokenizer = synthetic.PieceTokenizer(config.vocab_size)
    evidence = gather_evidence(bare, case.params, tokenizer, case.pairs, windows, OPTIONS)
    assert evidence["nodes"] == [] and len(evidence["prompts"]) == 3


@pytest.mark.parametrize("shape", [(0, 21), (3, 20)])
def test_windows_that_do_not_fit_are_refused(case, shape):
    with pytest.raises(CircuitError, match="n_ctx \\+ 1 = 21"):
        gather_evidence(case.circuit, case.params, None, case.pairs, np.zeros(shape, np.int32), OPTIONS)


def test_prompts_longer_than_the_context_are_refused(case):
    config = synthetic.config_of(d_model=16, n_layer=1, n_ctx=20)
    pairs = synthetic.make_pairs(config, length=21)
    tokenizer = synthetic.PieceTokenizer(config.vocab_size)
    with pytest.raises(CircuitError, match="21 tokens"):
        gather_evidence(case.circuit, case.params, tokenizer, pairs, synthetic.make_windows(config), OPTIONS)


def test_options_below_one_are_refused():
    with pytest.raises(ConfigError, match="evidence.windows is 0"):
        EvidenceOptions(windows=0)
