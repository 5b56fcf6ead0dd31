"""Small circuits, their evidence and pages, and one browser, made once for all tests of the viewer."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from circuits_jax.circuits.circuit import Circuit, Importance
from circuits_jax.data.tokenizers.bpe import SentencePieceTokenizer, train_sentencepiece
from circuits_jax.model.model import Model
from circuits_jax.tasks.task import Pairs
from circuits_jax.viewer.assembly import PageSettings, RunFigures, build_report
from circuits_jax.viewer.circuit_page.evidence import EvidenceOptions, gather_evidence
from circuits_jax.viewer.circuit_page.vocabulary import embed_vocabulary
from tests.viewer import synthetic
from tests.viewer.browser import CHROMIUM, Browser, Tab
from tests.viewer.page import Element, parse

METRICS = [{"step": 10 * i, "loss": 4 - 0.1 * i, "l0": 1 / i, "gradient_rms": 1.0} for i in range(1, 20)]
METRICS[4]["validation_loss"] = METRICS[18]["validation_loss"] = 3.7
RESULTS = [
    {"task": "single_double_quote", "nodes": 40, "accuracy": 0.957},
    {"task": "while_true", "nodes": None, "accuracy": 0.5, "note": "refused <b>"},
]
SUMMARY = {"layers": 2, "corpus": "a <b>bold</b> corpus", "validation_loss": 2.9}
TITLE = "Circuits & <friends>"
TEXTS = (
    "def f(x):\n    print(\"a\", 'b')  # ünï\n    return {x: [1, 22]}\n",
    "x = '''q'''\nfor i in range(10):\n    y += 1\n",
)


@dataclasses.dataclass(frozen=True)
class Example:
    circuit: Circuit
    evidence: dict
    page: str


@dataclasses.dataclass(frozen=True)
class Live:
    """A circuit whose page can run it on typed text, with what Python needs to do the same."""

    model: Model
    circuit: Circuit
    tokenizer: SentencePieceTokenizer
    pairs: Pairs
    evidence: dict
    page: str


@pytest.fixture(scope="session")
def example() -> Example:
    """Pieces that try to break out of the page; an empty circuit beside it; no typed prompts."""
    config = synthetic.config_of(d_model=32, n_ctx=24)
    params = synthetic.sparse_params(config, keep=1 / 8)
    circuit = synthetic.make_circuit(config, params, count=40)
    options = EvidenceOptions(windows=8, batch=8)
    model = Model(config, params, synthetic.PieceTokenizer(config.vocab_size))
    evidence = gather_evidence(
        circuit, model, synthetic.make_pairs(config), synthetic.make_windows(config), options
    )
    bare = dataclasses.replace(
        circuit, task="bare", nodes=(), edges=(), bias_only=(), embedding=(), unembedding=()
    )
    nothing = {**evidence, "nodes": [], "words": {}, "network": None, "no_network": "there are no nodes"}
    circuits = [(circuit, evidence), (bare, nothing)]
    return Example(circuit, evidence, build_report(TITLE, circuits, RunFigures(METRICS, RESULTS, SUMMARY)))


@pytest.fixture(scope="session")
def tokenizer() -> SentencePieceTokenizer:
    return train_sentencepiece(TEXTS * 8, 330, ('"""', "'''", '"', "'"))


@pytest.fixture(scope="session")
def live(tokenizer: SentencePieceTokenizer) -> Live:
    """Removed edges, a bigram table, importance, and a real tokenizer."""
    size = tokenizer.vocab_size
    config = dataclasses.replace(synthetic.config_of(d_model=32, vocab_size=size, n_ctx=32), bigram=True)
    rng = np.random.default_rng(3)
    params = jax.tree.map(np.asarray, synthetic.sparse_params(config, keep=1 / 8))
    params = {**params, "bigram": rng.normal(0, 0.3, (size, size)).astype(np.float32)}
    texts = [(f'print("{word}', f"print('{word}") for word in ("a", "return x", "for i in 22", "ünï")]
    pairs = text_pairs(tokenizer, texts)
    whole = synthetic.make_circuit(config, params, 40, answers=pairs.answers[0])
    means = {f"{i}.attn.y": rng.normal(0, 0.2, config.d_attn).astype(np.float32) for i in range(2)}
    circuit = dataclasses.replace(
        whole,
        edges=whole.edges[::2],
        means={**whole.means, **means},
        importance=weigh(whole, len(whole.edges[::2])),
        provenance={"seed": 5, "history": [[0, 1500, None], [25, 900, 0.7], [50, 100, 0.3], [75, 40, 0.2]]},
    )
    windows = rng.integers(0, size, (12, config.n_ctx + 1)).astype(np.int32)
    model = Model(config, params, tokenizer)
    evidence = gather_evidence(circuit, model, pairs, windows, EvidenceOptions(windows=8, batch=8))
    page = build_report(
        "live",
        [(circuit, evidence)],
        settings=PageSettings(vocabularies={circuit.tokenizer_hash: embed_vocabulary(tokenizer)}),
    )
    return Live(model, circuit, tokenizer, pairs, evidence, page)


def weigh(circuit: Circuit, edges: int) -> Importance:
    """Made-up ablation deltas, a few of them negative."""
    rng = np.random.default_rng(1)
    nodes = rng.gamma(0.4, 0.3, len(circuit.nodes)).astype(np.float32) - 0.02
    return Importance(nodes, rng.gamma(0.4, 0.1, edges).astype(np.float32), {}, {}, {}, 8)


def text_pairs(tokenizer: SentencePieceTokenizer, texts: list[tuple[str, str]]) -> Pairs:
    ids = [[tokenizer.encode(text) for text in pair] for pair in texts]
    lengths = [len(a) for a, _ in ids]
    assert all(len(a) == len(b) for a, b in ids)
    tokens = np.full((len(ids), 2, max(lengths)), tokenizer.eot, np.int32)
    for row, pair in enumerate(ids):
        tokens[row, :, : lengths[row]] = pair
    answers = [tokenizer.encode(quote)[0] for quote in "\"'"]
    return Pairs(
        "single_double_quote", "test", tokens, np.array(lengths, np.int32) - 1,
        np.tile(np.array(answers, np.int32), (len(ids), 1)), texts, 1.0,
    )  # fmt: skip


class Pages:
    """Opens pages in tabs of one browser; at the end of a test none may have complained."""

    def __init__(self, browser: Browser, folder: Path, shots: Path):
        self._browser, self._folder, self._shots, self._tabs = browser, folder, shots, []

    def open(self, page: str, address: str = "", **options: int | bool) -> Tab:
        path = self._folder / f"page{len(self._tabs)}.html"
        path.write_text(page, encoding="utf-8")
        tab = self._browser.open(f"file://{path}{address}", **options)
        self._tabs.append(tab)
        return tab

    def keep(self, tab: Tab, name: str, whole: bool = False) -> None:
        """Leaves a picture of the window, or of the whole page, among the artifacts of the tests."""
        tab.screenshot(self._shots / f"{name}.png", whole)

    def close(self) -> None:
        complaints = [said for tab in self._tabs for said in tab.complaints()]
        for tab in self._tabs:
            tab.close()
        assert not complaints, complaints


@pytest.fixture(scope="module")  # Playwright's event loop is in the way of others' while it is up
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome on PATH; install one to test the page in a browser")
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def shots(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a screenshot of every view is left: pytest's cache, unless VIEWER_SCREENSHOTS names a folder."""
    if "VIEWER_SCREENSHOTS" in os.environ:
        return Path(os.environ["VIEWER_SCREENSHOTS"])
    cache = getattr(request.config, "cache", None)
    return cache.mkdir("viewer-screenshots") if cache else tmp_path_factory.mktemp("screenshots")


@pytest.fixture
def pages(browser: Browser, tmp_path: Path, shots: Path) -> Iterator[Pages]:
    pages = Pages(browser, tmp_path, shots)
    yield pages
    pages.close()


def document(tab: Tab) -> Element:
    """The document as it stands now."""
    return parse(tab.evaluate("document.documentElement.outerHTML"))


@pytest.fixture(scope="module")
def plain(browser, tmp_path_factory: pytest.TempPathFactory, example: Example) -> Element:
    """The example's page as it opens."""
    pages = Pages(browser, tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("shots"))
    tab = pages.open(example.page)
    tab.wait("document.querySelector('.agreement').dataset.worst")
    found = document(tab)
    pages.close()
    return found
