"""The notebook on bridges, executed at a tiny size."""

import pytest

from tests.launch.test_colab import TINY, execute

pytestmark = pytest.mark.slow


def test_the_notebook_trains_both_models_steers_and_shows_the_page(place, monkeypatch):  # noqa: F811
    config = TINY | {
        "data": TINY["data"] | {"roots": [str(place / "tree")]},
        "bridge": {"dense": "runs/dense", "ridge_batches": 2},
    }
    dense = config | {"sparsity": {"target": 1.0}, "bridge": {}}
    parameters = f"""
dense_config, config = from_dict(Config, {dense!r}), from_dict(Config, {config!r})
steer = SteerConfig(tasks=("while_return_true",), pairs=8, choose_pairs=16, draws=1, texts=4, separation=0.1)
dense_workdir, workdir = Path("runs/dense"), Path("runs/bridges")
"""
    shown = execute("bridges", place, parameters, monkeypatch)
    assert "0.resid_mid" in shown["joined, corpus = train_bridges(config, workdir)"]
    assert "while_return_true" in shown['sparse = load_run(workdir / "sparse")']
    assert "flips at" in shown["run = read_bridges(workdir)"]
    page = shown['page = (workdir / "bridges.html").read_text()']
    assert page.startswith("<iframe srcdoc=") and "Sites and routes" in page
