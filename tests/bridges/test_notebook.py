"""The notebook on bridges, executed at a tiny size."""

import json

import pytest

from tests.launch.test_colab import TINY, execute, place  # noqa: F401  (a fixture)

pytestmark = pytest.mark.slow


def test_the_notebook_trains_both_models_steers_and_shows_the_page(place, monkeypatch):  # noqa: F811
    steer = {
        "tasks": ["while_return_true"], "pairs": 8, "choose_pairs": 16, "draws": 1, "texts": 4,
        "separation": 0.1,
    }  # fmt: skip
    config = TINY | {
        "data": TINY["data"] | {"roots": [str(place / "tree")]},
        "bridge": {"dense": "runs/dense", "ridge_batches": 2},
        "steer": steer,
    }
    dense = config | {"sparsity": {"target": 1.0}, "bridge": {}}
    parameters = f"""
from circuits_jax.config import from_dict
dense_config, config = from_dict(cj.Config, {dense!r}), from_dict(cj.Config, {config!r})
workdir = "runs/bridges"
"""
    shown = execute("bridges", place, parameters, monkeypatch)
    assert "KL(dense || sparse)" in shown["joined, corpus = bridging.train_bridges(config, workdir)"]
    rows = json.loads((place / "runs" / "bridges" / "bridges.json").read_text())["rows"]
    assert "0.resid_mid" in [row["site"] for row in rows]
    assert "while_return_true" in shown['sparse = cj.load(f"{workdir}/sparse")']
    page = shown["rows, page = steering.steer(workdir, config.steer)"]
    assert page.startswith("<iframe srcdoc=") and "Sites and routes" in page
    assert "0.resid_mid" in page and "flips at" in page
