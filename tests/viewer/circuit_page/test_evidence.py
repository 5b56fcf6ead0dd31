"""Evidence against activations of every site, read one window at a time, without batches or padding."""

import base64
import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.model import sites
from circuits_jax.model.model import Model
from circuits_jax.model.transformer import Transformer
from circuits_jax.storage.errors import CircuitError, ConfigError
from circuits_jax.tasks.task import Pairs
from circuits_jax.viewer.circuit_page.evidence import EvidenceOptions, gather_evidence
from circuits_jax.viewer.circuit_page.record import record_nodes
from tests.viewer import synthetic

OPTIONS = EvidenceOptions(windows=6, batch=4, contexts=2, context_tokens=8, prompts=3, words=2)


@dataclasses.dataclass(frozen=True)
class Case:
    circuit: Circuit
    evidence: dict
    corpus: dict[str, np.ndarray]  # site -> [windows, n_ctx, width], computed one window at a time
    tokens: np.ndarray
    pairs: Pairs
    model: Model

    def column(self, place: int) -> np.ndarray:
        node = self.circuit.nodes[place]
        return self.corpus[node.site][..., node.index]


@pytest.fixture(scope="module")
def case() -> Case:
    config = synthetic.config_of(d_model=16, n_layer=1, n_ctx=20)
    params = synthetic.sparse_params(config, keep=1 / 4)
    circuit = synthetic.make_circuit(config, params, count=14)
    pairs, windows = synthetic.make_pairs(config), synthetic.make_windows(config, count=11)
    model = Model(config, params, synthetic.PieceTokenizer(config.vocab_size))
    evidence = gather_evidence(circuit, model, pairs, windows, OPTIONS)
    tokens = windows[[0, 2, 4, 6, 8, 10], :-1]  # six of eleven, evenly spaced
    rows = [read(config, params, row) for row in tokens]
    corpus = {site: np.stack([row[site] for row in rows]) for site in rows[0]}
    return Case(circuit, evidence, corpus, tokens, pairs, model)


def read(config, params, tokens: np.ndarray) -> dict[str, np.ndarray]:
    return {site: np.asarray(x)[0] for site, x in forward(config)(params, tokens[None]).items()}


@functools.cache
def forward(config):
    everywhere = tuple(sites.sites(config))
    return jax.jit(lambda params, tokens: Transformer(config).apply(params, tokens, record=everywhere)[1])


@pytest.mark.slow
def test_statistics_are_those_of_the_full_model(case):
    for place, node in enumerate(case.evidence["nodes"]):
        values = case.column(place).astype(np.float64)
        assert node["mean"] == pytest.approx(np.mean(values), rel=1e-3, abs=1e-6)
        assert node["std"] == pytest.approx(np.std(values), rel=1e-3, abs=1e-6)
        assert node["active"] == pytest.approx(np.count_nonzero(values) / values.size, rel=1e-3)
        assert (node["min"], node["max"]) == pytest.approx((values.min(), values.max()), rel=1e-3, abs=1e-6)
    corpus = case.evidence["corpus"]
    assert (corpus["windows"], corpus["tokens"], corpus["length"]) == (6, 6 * 20, 20)


def unpack(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def scaled(text: str, scale: float) -> np.ndarray:
    return unpack(text, "<i2") * scale / 32767


def test_contexts_lie_at_their_quantiles(case):
    """The first context of a quantile holds the value of that rank; contexts are of different windows."""
    shown, windows = 0, unpack(case.evidence["corpus"]["ids"], "<u2").reshape(-1, 20)
    for place, node in enumerate(case.evidence["nodes"]):
        values = case.column(place)
        ranked = np.sort(values, axis=None)[::-1]
        for side, sign in (("most", 1), ("least", -1)):
            groups = node["examples"][side]
            assert bool(groups) == bool((sign * values).max() > 0 and values.min() != values.max())
            for quantile, contexts in groups:
                rank = int(quantile * ranked.size)
                assert contexts[0][3] == pytest.approx((ranked if sign > 0 else ranked[::-1])[rank], rel=1e-3)
                assert len({window for window, *_ in contexts}) == len(contexts) <= 2
                for window, start, peak, value, packed in contexts:
                    heat = scaled(packed, node["scale"])
                    tokens = windows[window, start : start + 8]
                    assert heat[peak] == pytest.approx(value, abs=2e-3 * node["scale"]) and sign * value > 0
                    assert occurs(tokens, heat, case.tokens, values)
                    shown += 1
    assert shown > 10


def occurs(tokens: np.ndarray, heat: np.ndarray, corpus: np.ndarray, values: np.ndarray) -> bool:
    """Whether tokens and values stand side by side, in this order, somewhere in one window."""
    size = len(tokens)
    return any(
        (row[start : start + size] == tokens).all()
        and np.allclose(truth[start : start + size], heat, atol=1e-3)
        for row, truth in zip(corpus, values, strict=True)
        for start in range(len(row) - size + 1)
    )


def test_histograms_count_every_value_that_is_not_zero(case):
    for place, node in enumerate(case.evidence["nodes"]):
        values = case.column(place)
        counts = node["histogram"]
        if values.min() == values.max():
            assert sum(counts) == 0
        else:
            assert sum(counts) == np.count_nonzero(values)
            assert counts[-1] >= 1 or values.max() == 0


def test_prompt_values_are_per_token_without_padding(case):
    config = synthetic.config_of(d_model=16, n_layer=1, n_ctx=20)
    assert len(case.evidence["prompts"]) == 3
    for which, prompt in enumerate(case.evidence["prompts"]):
        end = case.pairs.last[which]
        for side in (0, 1):
            tokens = case.pairs.tokens[which, side, : end + 1]
            assert prompt["tokens"][side] == tokens.tolist()
            records = read(config, case.model.params, tokens)
            for place, node in enumerate(case.circuit.nodes):
                shown = case.evidence["nodes"][place]
                found = scaled(shown["prompts"][2 * which + side], shown["scale"])
                np.testing.assert_allclose(
                    found, records[node.site][:, node.index], atol=1e-4 * shown["scale"] + 1e-6
                )


def test_words_are_the_heaviest_tokens_of_each_channel(case):
    table = np.asarray(case.model.params["wte"]["embedding"])
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
    assert all(str(token) in pieces for token in unpack(case.evidence["corpus"]["ids"], "<u2"))
    assert pieces["0"] == '"' and pieces["1"] == "'"


def test_order_of_nodes_and_size_of_batches_do_not_matter(case):
    found = record_nodes(case.circuit.nodes[::-1], case.model, case.tokens, batch=5)
    expected = np.stack([case.column(place) for place in range(len(case.circuit.nodes))], axis=-1)
    np.testing.assert_allclose(found[..., ::-1], expected, atol=1e-5)


def test_a_circuit_without_nodes_has_empty_evidence(case):
    bare = dataclasses.replace(case.circuit, nodes=(), edges=(), bias_only=(), embedding=(), unembedding=())
    windows = synthetic.make_windows(case.model.config, count=2)
    evidence = gather_evidence(bare, case.model, case.pairs, windows, OPTIONS)
    assert evidence["nodes"] == [] and len(evidence["prompts"]) == 3


@pytest.mark.parametrize("shape", [(0, 21), (3, 20)])
def test_windows_that_do_not_fit_are_refused(case, shape):
    with pytest.raises(CircuitError, match="n_ctx \\+ 1 = 21"):
        gather_evidence(case.circuit, case.model, case.pairs, np.zeros(shape, np.int32), OPTIONS)


def test_prompts_longer_than_the_context_are_refused(case):
    config = case.model.config
    pairs = synthetic.make_pairs(config, length=21)
    with pytest.raises(CircuitError, match="21 tokens"):
        gather_evidence(case.circuit, case.model, pairs, synthetic.make_windows(config), OPTIONS)


def test_a_model_without_a_tokenizer_is_refused(case):
    windows = synthetic.make_windows(case.model.config)
    without = dataclasses.replace(case.model, tokenizer=None)
    with pytest.raises(CircuitError, match="no tokenizer"):
        gather_evidence(case.circuit, without, case.pairs, windows, OPTIONS)


def test_options_below_one_are_refused():
    with pytest.raises(ConfigError, match="evidence.windows is 0"):
        EvidenceOptions(windows=0)
