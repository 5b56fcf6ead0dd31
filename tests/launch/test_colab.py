"""The notebooks, executed from their first cell to their last at a tiny size."""

import ast
import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import circuits_jax as cj
from circuits_jax import released
from circuits_jax.config import ModelConfig
from circuits_jax.data.programs.generator import corpus_words, generate_programs
from circuits_jax.data.programs.words import WORDS
from tests.data.tokenizers.test_tinypython import write_pair
from tests.experiments.command import ROOT
from tests.released.models import random_params

pytestmark = pytest.mark.slow  # notebooks start kernels of their own: minutes where the machine is busy

COLAB = ROOT / "launch" / "colab"
NOTEBOOKS = sorted(COLAB.glob("*.ipynb"))
LONGEST = 15  # lines of code besides the cell that installs
TINY = {
    "model": {
        "n_layer": 1,
        "d_model": 32,
        "d_mlp": 32,
        "n_ctx": 64,
        "vocab_size": 1800,
        "activation_fraction": 1,
    },
    "data": {"validation_fraction": 0.25},
    "train": {"steps": 4, "batch_size": 2, "eval_every": 2, "checkpoint_every": 2},
    "prune": {
        "steps": 5,
        "train_pairs": 16,
        "select_pairs": 16,
        "test_pairs": 16,
        "tasks": ["while_return_true"],
    },
}
# A model of four steps knows nothing of any task: its circuit is cut all the same, once the reason is told.
ALL_THE_SAME = """
refusing = cj.Run.prune
def prune(run, task, **given):
    try:
        return refusing(run, task, **given)
    except cj.UserError as error:
        print(error)
        return refusing(run, task, allow_unlearned=True, **given)
cj.Run.prune = prune
"""


def execute(name, place, parameters, monkeypatch):
    """Runs a notebook in the folder `place`; the text that each cell of code shows, by its first line."""
    notebook = nbformat.read(COLAB / f"{name}.ipynb", as_version=4)
    (after,) = [i for i, cell in enumerate(notebook.cells) if cell.metadata.get("tags") == ["parameters"]]
    notebook.cells.insert(after + 1, nbformat.v4.new_code_cell(parameters))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(place / "programs"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(place)}}).execute()
    shown = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts = [output.get("text", "") for output in cell.outputs if output.get("name") != "stderr"]
            data = [output.get("data", {}) for output in cell.outputs]
            texts += [each.get("text/html", each.get("text/plain", "")) for each in data]
            shown[cell.source.splitlines()[0]] = "".join(texts)
    return shown


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small corpus."""
    place = tmp_path_factory.mktemp("colab")
    words = [word for kinds in WORDS["train"].values() for word in kinds if word.islower()]
    held_out = "\n".join(
        f"{word} = {word}"
        for split in ("select", "test")
        for kinds in WORDS[split].values()
        for word in kinds
    )
    (place / "tree").mkdir()
    for number, text in enumerate(generate_programs(corpus_words(words), seed=0, count=60)):
        (place / "tree" / f"{number}.py").write_text(text + held_out + "\n" * number)
    return place


@pytest.fixture(scope="module")
def quickstart(place):
    """What the quickstart's notebook shows; it leaves a run behind."""
    audit = {"pairs": 16, "draws": 2, "natural": 8, "seeds": 1}
    config = TINY | {"data": TINY["data"] | {"roots": [str(place / "tree")]}, "audit": audit}
    parameters = f"""
from circuits_jax.config import from_dict
config, task = from_dict(cj.Config, {config!r}), cj.TASKS["while_return_true"]
{ALL_THE_SAME}"""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return execute("quickstart", place, parameters, monkeypatch)


def told_score(shown):
    """The score that a cell shows."""
    score = ast.literal_eval(shown[shown.index("{") :])
    assert {"loss", "accuracy", "bigram"} <= set(score)
    assert 0 <= score["accuracy"] <= 1 and score["loss"] > 0
    return score


def test_quickstart_trains_prunes_audits_shows_the_page_and_takes_the_circuit_out(quickstart, place):
    told_score(quickstart["run = cj.train(config, workdir)"])
    run = cj.load(place / "runs" / "quickstart")
    assert "L0 in all" in str(cj.summarize_sparsity(run.model.params))
    (shown,) = (text for line, text in quickstart.items() if line.startswith("whole, _ = run.model("))
    predicted = ast.literal_eval(shown)
    assert [len(pieces) for pieces in predicted] == [5, 5]
    assert all(isinstance(ast.literal_eval(piece), str) for pieces in predicted for piece in pieces)
    pruned = quickstart["circuit = run.prune(task)"]
    assert "while_return_true" in pruned and "knows nothing" in pruned  # four steps teach nothing
    assert [circuit.task for circuit in run.circuits] == ["while_return_true"]
    assert "while_return_true: not shown" in quickstart['run.audit(circuit, controls="none")']
    page = quickstart["run.page(circuit)"]
    assert page.startswith("<iframe srcdoc=") and "while_return_true" in page
    assert (place / "runs" / "quickstart" / "circuits" / "while_return_true" / "page.html").exists()


def test_a_task_of_ones_own(quickstart, place, monkeypatch):
    del quickstart  # whose run it reads
    parameters = f"""
import dataclasses
run = cj.load("runs/quickstart")
short = dataclasses.replace(run.config.prune, steps=5, train_pairs=16, select_pairs=16, test_pairs=16)
run = dataclasses.replace(run, config=dataclasses.replace(run.config, prune=short))
{ALL_THE_SAME}"""
    shown = execute("your_own_task", place, parameters, monkeypatch)
    task = cj.load_task(place / "call_or_index.jsonl")
    run = cj.load(place / "runs" / "quickstart")
    pairs = cj.build_pairs(task, run.tokenizer, "test", 16, 0, run.model.config.n_ctx)
    assert [run.tokenizer.pieces(ids.tolist()) for ids in pairs.answers] == [[")\n", "]\n"]] * 16
    score = told_score(shown["run.score(task, pairs=64)"])
    assert score == pytest.approx(run.score(task, pairs=64), abs=1e-5)
    (cut,) = (text for line, text in shown.items() if line.startswith("circuit = run.prune(task)"))
    assert "call_or_index" in cut
    page = shown["run.page(circuit)"]
    assert page.startswith("<iframe srcdoc=") and "call_or_index" in page


def test_a_released_model(tmp_path, monkeypatch):
    tokenizer = released.TinyPython(write_pair(tmp_path / "tokenizer"))
    config = ModelConfig(
        n_layer=1, d_model=16, d_head=8, n_ctx=64, vocab_size=tokenizer.vocab_size, position="add",
        activation_fraction=None, logits_bias=True,
    )  # fmt: skip
    params = random_params(config, keep=0.2)
    params["logits_bias"][256:] = -1e3  # ids that stand for no token in this small tokenizer
    released.export(params, config, tmp_path / "theirs", tokenizer=tokenizer)
    shown = execute("released_model", tmp_path, 'path = "theirs"', monkeypatch)
    assert "L0 in all 0.2" in shown["model = cj.load(path).model"]
    whole, without = shown['site = f"{model.config.n_layer // 2}.mlp.post_act"'].splitlines()
    assert whole.startswith("the model -> [") and without.startswith("without 0.mlp.post_act.")
    (copied,) = (text for line, text in shown.items() if "save_sparse" in line)
    assert copied == "identical: True\n"


def test_bridges(place, monkeypatch):
    config = TINY | {
        "data": TINY["data"] | {"roots": [str(place / "tree")]},
        "bridge": {"dense": "runs/dense", "ridge_batches": 1},
        "steer": {
            "tasks": ["while_return_true"],
            "pairs": 8,
            "choose_pairs": 16,
            "texts": 4,
            "resamples": 10,
        },
    }
    parameters = f"""
from circuits_jax.config import from_dict
config = from_dict(cj.Config, {config!r})
dense = from_dict(cj.Config, {config | {"bridge": {}}!r})
{ALL_THE_SAME}"""
    shown = execute("bridges", place, parameters, monkeypatch)
    for line, text in shown.items():
        if line.startswith(("joined, corpus", "rows, page = steering.steer")):
            assert text.startswith("<iframe srcdoc="), line
    assert "while_return_true" in shown["rows, page = steering.steer(workdir, config.steer)"]
    (cut,) = cj.load(place / "runs" / "bridges" / "sparse").circuits
    assert cut.task == "while_return_true"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_short(path: Path):
    notebook = json.loads(path.read_text("utf-8"))
    _, *cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    lines = [line for cell in cells for line in cell["source"] if line.strip() and not line.startswith("#")]
    assert len(lines) <= LONGEST


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_results_and_install_themselves(path: Path):
    notebook = json.loads(path.read_text("utf-8"))
    nbformat.validate(notebook)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    install = "".join(code[0]["source"])
    assert 'OWNER = ""' in install and "github.com/{OWNER}/circuits_jax" in install
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
