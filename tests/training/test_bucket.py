"""A workdir in a bucket, here a folder behind fsspec; tests/experiments/test_buckets.py has servers."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from circuits_jax.circuits.circuit import load_circuit
from circuits_jax.data.local_copy import keep_tokenizer, local_folder
from circuits_jax.storage import buckets
from circuits_jax.storage.errors import BucketError, ConfigError
from circuits_jax.storage.paths import as_path, is_remote
from circuits_jax.training.checkpoints import Checkpoints, newest
from circuits_jax.training.metrics import MetricsWriter, read_metrics
from circuits_jax.training.workdir import check, claim, load_config
from tests.training.tiny import CONFIG, replace

VERSION_1 = Path(__file__).parents[1] / "testdata" / "circuit_v1"
fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    files = fsspec.filesystem(
        "dir", path=str(tmp_path / "server"), fs=fsspec.filesystem("file", auto_mkdir=True)
    )
    files.mkdir("bucket")
    monkeypatch.setattr(buckets, "_file_system", lambda scheme: files)
    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda protocol: type(files))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return as_path("gs://bucket/run [1]")


def test_a_run_claims_its_workdir_and_finds_its_configuration(workdir):
    claim(workdir, CONFIG)
    assert (workdir / "config.json").is_file() and workdir.is_dir() and is_remote(workdir)
    assert load_config(workdir) == CONFIG
    with pytest.raises(ConfigError, match="holds a run of another configuration"):
        check(workdir, replace(CONFIG, "model", n_layer=2))


def test_metrics_are_there_at_the_end_and_cut_back_to_the_restored_step(workdir):
    with MetricsWriter(workdir, 0) as writer:
        for step in range(1, 6):
            writer.write(step, {"loss": step / 2})
        writer.flush()  # as before a checkpoint: the run may be killed
        assert [row["step"] for row in read_metrics(workdir)] == [1, 2, 3, 4, 5]
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


def test_checkpoints_are_whole_and_the_newest_and_best_are_kept(workdir):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    checkpoints = Checkpoints(workdir, keep=2, keep_best=1)
    for step, loss in ((1, 0.5), (2, 0.9), (3, None), (4, 0.8)):
        checkpoints.save(step, {"a": jax.numpy.arange(4) + step}, loss)
    checkpoints.close()
    (workdir / "checkpoints" / "9" / "half.txt").write_text("killed")  # without its last file
    assert newest(workdir) == 4 and Checkpoints(workdir).steps() == [1, 3, 4]
    like = {"a": jax.ShapeDtypeStruct((4,), np.int32, sharding=device)}
    assert Checkpoints(workdir).restore(like)["a"].tolist() == [4, 5, 6, 7]
    Checkpoints(workdir, keep=2).close()
    assert (workdir / "checkpoints" / "9").names() == []


def test_a_missing_bucket_and_a_closed_one_are_told_in_a_line(workdir, monkeypatch):
    with pytest.raises(BucketError, match=r"no bucket gs://other \(404\).*storage buckets create gs://other"):
        load_config(as_path("gs://other/run"))

    def closed(*args, **options):
        raise OSError("Forbidden: b/bucket/o")

    monkeypatch.setattr(buckets._file_system("gs://"), "pipe_file", closed, raising=False)
    with pytest.raises(BucketError, match="gs://bucket refuses this account .*roles/storage.objectUser"):
        check(workdir / "new", CONFIG)
