"""The notebooks, executed from their first cell to their last at a tiny size."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from circuits_jax import released
from circuits_jax.config import ModelConfig
from circuits_jax.data.generated_source import corpus_words, generate_programs
from circuits_jax.data.words import WORDS
from tests.experiments.command import ROOT
from tests.released.models import random_params
from tests.released.test_tinypython import write_pair

pytestmark = pytest.mark.slow  # notebooks start kernels of their own: minutes where the machine is busy

COLAB = ROOT / "launch" / "colab"
NOTEBOOKS = sorted(COLAB.glob("*.ipynb"))
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
    "prune": {"steps": 5, "train_pairs": 16, "heldout_pairs": 16, "tasks": ["while_return_true"]},
}


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
            texts += [output.get("data", {}).get("text/html", "") for output in cell.outputs]
            shown[cell.source.splitlines()[0]] = "".join(texts)
    return shown


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small corpus."""
    place = tmp_path_factory.mktemp("colab")
    words = [word for kinds in WORDS["train"].values() for word in kinds if word.islower()]
    held_out = "\n".join(f"{word} = {word}" for kinds in WORDS["heldout"].values() for word in kinds)
    (place / "tree").mkdir()
    for number, text in enumerate(generate_programs(corpus_words(words), seed=0, count=60)):
        (place / "tree" / f"{number}.py").write_text(text + held_out + "\n" * number)
    return place


@pytest.fixture(scope="module")
def quickstart(place):
    """What the quickstart's notebook shows; it leaves a run behind."""
    config = TINY | {"data": TINY["data"] | {"roots": [str(place / "tree")]}}
    with pytest.MonkeyPatch.context() as monkeypatch:
        return execute("quickstart", place, f"config = from_dict(Config, {config!r})", monkeypatch)


def test_quickstart_trains_looks_inside_prunes_and_shows_the_page(quickstart, place):
    assert "L0 in all" in quickstart["state, corpus = pretrain(config, workdir)"]
    predictions = quickstart["run = load_run(workdir)"].splitlines()
    assert [line.count("', '") + line.count("\", '") >= 1 for line in predictions] == [True, True]
    rows = quickstart["outcomes = prune_tasks(run, corpus, config.prune, workdir)"]
    assert "'task': 'while_return_true'" in rows and "knows nothing" in rows  # four steps teach nothing
    page = quickstart["page = write_page(run, corpus, outcomes, {}, workdir).read_text()"]
    assert page.startswith("<iframe srcdoc=") and "while_return_true" in page
    assert (place / "runs" / "quickstart" / "report.html").exists()


def test_a_task_of_ones_own(quickstart, place, monkeypatch):
    del quickstart  # whose run it reads
    parameters = 'prune = PruneConfig(tasks=("call_or_index.py",), steps=5, train_pairs=16, heldout_pairs=16)'
    shown = execute("your_own_task", place, parameters, monkeypatch)
    asked = shown["from circuits_jax.tasks import get_task"]
    first, second, accuracy = asked.splitlines()
    assert first.endswith("-> ')\\n'") and second.endswith("-> ']\\n'")
    assert 0 <= float(accuracy.split()[1]) <= 1
    assert "'task': 'call_or_index'" in shown["corpus = prepare_corpus(run.config, workdir)"]


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
    assert "L0 in all 0.2" in shown["checkpoint = released.load(path)"]
    assert "'def f(values)" in shown["tokens = np.array([checkpoint.tokenizer.encode(prompt)])"]
    assert "of 16 channels" in shown["values = np.asarray(records[site][0, -1])"]
    (copied,) = (text for line, text in shown.items() if "save_sparse" in line)
    assert copied == "identical: True\n"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_results_and_install_themselves(path: Path):
    notebook = json.loads(path.read_text("utf-8"))
    nbformat.validate(notebook)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    install = "".join(code[0]["source"])
    assert 'OWNER = ""' in install and "github.com/{OWNER}/circuits_jax" in install
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
