"""Where the pages of circuits lie, and what each tells; what they show is made elsewhere."""

import dataclasses
import types

import jax
import pytest

from circuits_jax.config import ModelConfig, PruneConfig
from circuits_jax.model.model import Model
from circuits_jax.model.transformer import init_params
from circuits_jax.runs import pages
from tests.experiments.circuits import every_third_node

CONFIG = ModelConfig(n_layer=1, d_model=8, d_head=4, d_mlp=8, vocab_size=16, n_ctx=8)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "evidence_of", lambda run, circuit, pairs=None, folder=None: {})
    monkeypatch.setattr(pages, "embed_vocabulary", lambda tokenizer: {})
    monkeypatch.setattr(
        pages,
        "build_report",
        lambda title, shown, *, settings: f"{len(shown[0][0].nodes)} nodes, audited {list(settings.audits)}",
    )
    model = Model(CONFIG, init_params(CONFIG, jax.random.PRNGKey(0)))
    return types.SimpleNamespace(
        model=model, tokenizer=types.SimpleNamespace(hash="t"), folder=tmp_path, name="run"
    )


def test_another_circuit_of_a_task_has_a_page_of_its_own(run, monkeypatch):
    circuit = every_third_node(run, "quotes", PruneConfig())
    fewer = dataclasses.replace(circuit, edges=circuit.edges[1:])
    zeros = dataclasses.replace(circuit, ablation="mean")
    circuit.save(run.folder / "circuits" / "quotes")
    audited = lambda path, folders: dict.fromkeys((folder.name for folder in folders), {})  # noqa: E731
    monkeypatch.setattr(pages, "read_audits", audited)
    saved, *others = (pages.draw(run, each).path for each in (circuit, fewer, zeros))
    assert saved == run.folder / "circuits" / "quotes" / "page.html"
    assert len({saved, *others}) == 3 and {path.parent for path in others} == {saved.parent}
    assert "audited ['quotes']" in saved.read_text("utf-8")
    assert all("audited []" in path.read_text("utf-8") for path in others)  # that was of the saved one
    assert pages.draw(run, fewer).path == others[0]
    (again,) = [pages.load_circuit(saved.parent)]
    assert pages.draw(run, again).path == saved and again.identity == circuit.identity
    assert again.digest == circuit.digest
