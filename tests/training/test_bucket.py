"""A workdir in a bucket, here a folder behind fsspec: our own files; orbax uses tensorstore for its own."""

import json
from pathlib import Path

import pytest
from etils import epath

from circuits_jax.circuits.circuit import load_circuit
from circuits_jax.data.local_copy import keep_tokenizer, local_folder
from circuits_jax.storage.errors import ConfigError
from circuits_jax.training.metrics import MetricsWriter, read_metrics
from circuits_jax.training.workdir import check, claim, load_config
from tests.training.tiny import CONFIG, replace

VERSION_1 = Path(__file__).parents[1] / "testdata" / "circuit_v1"
fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    files = fsspec.filesystem(
        "dir", path=str(tmp_path / "bucket"), fs=fsspec.filesystem("file", auto_mkdir=True)
    )
    monkeypatch.setattr(epath.backend.fsspec_backend, "_get_filesystem", lambda name: files)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return epath.Path("gs://bucket/run")


def test_a_run_claims_its_workdir_and_finds_its_configuration(workdir):
    claim(workdir, CONFIG)
    assert load_config(workdir) == CONFIG
    with pytest.raises(ConfigError, match="holds a run of another configuration"):
        check(workdir, replace(CONFIG, "model", n_layer=2))


def test_metrics_are_there_at_the_end_and_cut_back_to_the_restored_step(workdir):
    with MetricsWriter(workdir, 0) as writer:
        for step in range(1, 6):
            writer.write(step, {"loss": step / 2})
    assert [row["step"] for row in read_metrics(workdir)] == [1, 2, 3, 4, 5]
    with MetricsWriter(workdir, 3) as writer:
        writer.write(7, {"loss": 1.0})
    assert [row["step"] for row in read_metrics(workdir)] == [1, 2, 3, 7]
    assert json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])["loss"] == 1.0


def test_the_tokenizer_is_kept_in_the_bucket_and_found_from_another_machine(workdir, tmp_path, monkeypatch):
    here = local_folder(workdir)
    assert here.is_dir() and local_folder(workdir) == here
    (here / "tokenizer.model").write_bytes(b"pieces")
    keep_tokenizer(here, workdir)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    there = local_folder(workdir)
    assert there != here and (there / "tokenizer.model").read_bytes() == b"pieces"
    assert local_folder(tmp_path) == tmp_path


def test_circuits_are_saved_in_the_bucket_and_read_from_it(workdir):
    circuit = load_circuit(VERSION_1)
    circuit.save(workdir / "circuits" / "quotes")
    assert load_circuit(workdir / "circuits" / "quotes").nodes == circuit.nodes
    (found,) = workdir.glob("circuits/*/circuit.json")
    assert found.parent.name == "quotes"
