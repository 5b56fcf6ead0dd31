"""The page's own forward pass and tokenizer against Python's."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax import viewer
from circuits_jax.circuits.ablation.edge_removal import remove_edges
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.config import TOPK_LOCATIONS, ModelConfig
from circuits_jax.data.tokenizers.tinypython import TinyPython
from circuits_jax.model.model import Model
from circuits_jax.model.taps import mix
from circuits_jax.viewer.assembly import PageSettings, build_report
from circuits_jax.viewer.circuit_page.live import embed_network
from circuits_jax.viewer.circuit_page.vocabulary import embed_vocabulary
from tests.data.tokenizers.test_tinypython import learn_merges, write_pair
from tests.quick import quick_cases
from tests.viewer import conftest, synthetic
from tests.viewer.conftest import Live, Pages

PAGE = Path(viewer.__file__).parent / "page"
VARIANTS = {
    "plain": {},
    "concat": {"position": "concat", "d_pos": 8},
    "gpt2": {"position": "add", "norm": "layer", "activation": "relu", "tied_unembed": True},
    "residual": {
        "residual_activation": "relu", "activation_locations": TOPK_LOCATIONS, "bigram": True,
        "logits_bias": True,
    },
    "dense": {"attention_sink": False, "activation_fraction": None, "bias": False},
    "nodes at the end": {},
}  # fmt: skip
SCRIPTS = ("graph.js", "bytes.js", "bpe.js", "forward.js")


def scripts() -> str:
    return "".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)


def python_logits(circuit: Circuit, model: Model, tokens: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The circuit's logits at the positions `last`, in Python: float32 [P, V]."""
    cut = remove_edges(circuit, model)
    tap = mix(*({k: jnp.asarray(v) for k, v in each.items()} for each in (circuit.masks(), circuit.means)))
    run = jax.jit(lambda p, t, at: cut.network.apply(p, t, tap=tap, at=at)[0])
    return np.asarray(run(cut.device_params, tokens, last))


@pytest.mark.parametrize("variant", quick_cases({name: name for name in VARIANTS}, ("plain", "gpt2")))
def test_the_page_computes_what_python_computes(pages: Pages, variant: str):
    settings = {"n_layer": 2, "d_model": 32, "d_head": 8, "n_ctx": 24, "vocab_size": 96, "bigram": False}
    config = ModelConfig(**{**settings, **VARIANTS[variant]})
    rng = np.random.default_rng(0)

    def denser(x: np.ndarray) -> np.ndarray:  # biases, sinks and tables that start at zero, too
        return x + (x == 0) * (rng.random(x.shape) < 0.1) * rng.normal(0, 0.3, x.shape).astype(np.float32)

    params = jax.tree.map(lambda x: denser(np.asarray(x)), synthetic.sparse_params(config, keep=1 / 8))
    whole = synthetic.make_circuit(config, params, 40, final=variant == "nodes at the end")
    means = {f"{i}.attn.y": rng.normal(0, 0.3, config.d_attn).astype(np.float32) for i in range(2)}
    circuit = dataclasses.replace(whole, edges=whole.edges[::2], means={**whole.means, **means})
    tokens = rng.integers(0, 96, (4, 18)).astype(np.int32)
    model = Model(config, params)
    expected = python_logits(circuit, model, tokens, np.full(4, 17))[:, :2]
    network, reason = embed_network(circuit, model, [0, 1])
    assert not reason
    case = json.dumps(
        {"network": network, "nodes": [list(n) for n in circuit.nodes], "tokens": tokens.tolist()}
    )
    found = pages.open("").evaluate(
        f"(() => {{ {scripts()} const c = {case}; const n = makeNetwork(c.network, c.nodes);"
        "return c.tokens.map((t) => { const r = runNetwork(n, t);"
        "return [[...r.logits.values()], r.margin]; }); })()"
    )
    for (logits, margin), row in zip(found, expected, strict=True):
        assert (
            margin is None or margin > 1e-6
        )  # else AbsTopK might choose otherwise, and the test would prove nothing
        np.testing.assert_allclose(logits, row, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-3  # the prompt matters


@pytest.mark.slow
def test_every_embedded_and_every_typed_prompt_has_pythons_answer(pages: Pages, live: Live):
    tab = pages.open(live.page)
    worst = float(tab.wait("document.querySelector('.agreement')?.dataset.worst"))
    assert worst < 1e-4
    assert tab.evaluate("document.querySelector('.agreement').dataset.prompts") == str(
        2 * len(live.pairs.last)
    )
    texts = ('print("ab', "x = [1, 2", "é\t'q\n    \"", "22 22  22\n")
    ids = [live.tokenizer.encode(text) for text in texts]
    rows = np.array([(row + [0] * 32)[:32] for row in ids])
    last = np.array([len(row) - 1 for row in ids])
    expected = python_logits(live.circuit, live.model, rows, last)
    for text, row, logits in zip(texts, ids, expected, strict=True):
        tab.click(".bench textarea")
        tab.evaluate("document.querySelector('.bench textarea').select()")
        tab.type(text)
        shown = "[...document.querySelectorAll('.strip .token')].map((e) => Number(e.dataset.token))"
        tab.wait(f"JSON.stringify({shown}) === '{json.dumps(row, separators=(',', ':'))}'")
        for answer in live.pairs.answers[0]:
            logit = tab.evaluate(f"document.querySelector('[data-answer=\"{answer}\"]').dataset.logit")
            assert float(logit) == pytest.approx(float(logits[answer]), abs=1e-4)


def test_a_task_prompt_can_be_edited_as_the_text_it_is(pages: Pages, live: Live):
    """Also where a character is several tokens, one a byte."""
    text = "x = '漢\t"
    ids = live.tokenizer.encode(text)
    assert len(ids) > len(text)
    prompts = [{**live.evidence["prompts"][0], "tokens": [ids, ids]}]
    vocabularies = {live.circuit.tokenizer_hash: embed_vocabulary(live.tokenizer)}
    evidence = {**live.evidence, "prompts": prompts}
    tab = pages.open(
        build_report("t", [(live.circuit, evidence)], settings=PageSettings(vocabularies=vocabularies))
    )
    assert tab.evaluate("document.querySelector('.bench textarea').value") == text


@pytest.mark.slow
def test_a_held_node_is_held(pages: Pages, live: Live):
    """Holding a node in the page is what a tap does in Python, at one position or at all."""
    sources = {edge.source for edge in live.circuit.edges}
    node = next(
        n
        for i, n in enumerate(live.circuit.nodes)
        if n.site.endswith(("act_in", "post_act")) and i in sources
    )
    tokens = live.pairs.tokens[:1, 0, : live.pairs.last[0] + 1]
    cut = remove_edges(live.circuit, live.model)
    removed = mix(
        *({k: jnp.asarray(v) for k, v in x.items()} for x in (live.circuit.masks(), live.circuit.means))
    )
    for at in (None, 1):

        def tap(site, x, at=at):
            x = removed(site, x)
            where = slice(None) if at is None else at
            return x.at[:, where, node.index].set(2.5) if site == node.site else x

        expected = jax.jit(lambda p, t, tap=tap: cut.network.apply(p, t, tap=tap)[0][0, -1])(
            cut.device_params, jnp.asarray(tokens)
        )
        held = f"{node}=2.5" + ("" if at is None else f"@{at}")
        tab = pages.open(live.page, f"#set={held.replace('=', '%3D')}&node={node}")
        for answer in live.pairs.answers[0]:
            logit = tab.evaluate(f"document.querySelector('[data-answer=\"{answer}\"]').dataset.logit")
            assert float(logit) == pytest.approx(float(expected[answer]), abs=1e-4)
        assert str(node) in tab.evaluate("document.querySelector('.held').textContent")


@pytest.mark.parametrize("kind", ["sentencepiece", "tinypython"])
def test_text_is_encoded_as_python_does(pages: Pages, tokenizer, kind: str, tmp_path: Path):
    if kind == "tinypython":
        tokenizer = TinyPython(write_pair(tmp_path / "pair", learn_merges("".join(conftest.TEXTS), 30)))
    rng = np.random.default_rng(0)
    alphabet = [
        *"abcdefgxy 012.,:()[]{}#\t\n\r\"'\\\u2581éß\u0301漢😀\x00\u200b\ufeff\x85\xa0\x1c/",
        '"""',
        "'''",
    ]
    alphabet += ["    ", "print", "return ", "range(10)", "<0x0A>", "<|endoftext|>", "<unk>"]
    texts = ["".join(rng.choice(alphabet, rng.integers(0, 40))) for _ in range(400)] + [
        "",
        " ",
        *conftest.TEXTS,
    ]
    vocabulary = json.dumps(embed_vocabulary(tokenizer))
    found = pages.open("").evaluate(
        f"(() => {{ {scripts()} const encode = makeEncoder({vocabulary});"
        f"return {json.dumps(texts)}.map(encode); }})()"
    )
    assert found == [tokenizer.encode(text) for text in texts]
    assert any(len(ids) > 30 for ids in found)


def test_what_does_not_fit_says_so(live: Live, monkeypatch: pytest.MonkeyPatch, pages: Pages):
    monkeypatch.setattr("circuits_jax.viewer.circuit_page.live.MAX_BYTES", 1000)
    network, reason = embed_network(live.circuit, live.model, [0, 1])
    assert network is None and "too many weights" in reason
    half = dataclasses.replace(live.model, config=dataclasses.replace(live.model.config, dtype="bfloat16"))
    assert "bfloat16" in embed_network(live.circuit, half, [0, 1])[1]
    evidence = {**live.evidence, "network": None, "no_network": reason}
    address = f"#node={live.circuit.nodes[0]}&paint=value"
    tab = pages.open(build_report("t", [(live.circuit, evidence)]), address)
    assert "does not run in this page" in tab.evaluate("document.querySelector('.bench').textContent")
    recorded = evidence["prompts"][0]["circuit"][0][0]
    logit = tab.evaluate("document.querySelector('[data-logit]').dataset.logit")
    assert float(logit) == pytest.approx(recorded)
    assert tab.evaluate("document.querySelector('.legend').classList.contains('values')")  # as recorded


def test_a_tokenizer_that_does_not_run_in_the_page_is_said(live: Live, pages: Pages):
    tab = pages.open(build_report("t", [(live.circuit, live.evidence)]))
    tab.wait("document.querySelector('.agreement').dataset.worst")
    assert "cannot be typed" in tab.evaluate("document.querySelector('.agreement').textContent")
    assert tab.evaluate("document.querySelector('.bench textarea').disabled")
