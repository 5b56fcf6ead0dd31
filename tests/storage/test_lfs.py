"""A Git LFS pointer in place of any file is told as such."""

import json

import pytest

from circuits_jax import released
from circuits_jax.circuits.audit.records import read_any_version
from circuits_jax.circuits.circuit import MANIFEST, TENSORS, load_circuit
from circuits_jax.circuits.pruning.sweep import _read_scores
from circuits_jax.circuits.rasp import weights
from circuits_jax.config import AuditConfig
from circuits_jax.configs.finding import config_file
from circuits_jax.configs.finding import load_config as configuration
from circuits_jax.data.sources import left_out
from circuits_jax.data.sources.python_trees import read_source
from circuits_jax.data.sources.rows import read_jsonl, read_parquet
from circuits_jax.data.tokenizers.bpe import load_tokenizer
from circuits_jax.released.mapped_files import read_safetensors
from circuits_jax.released.torch_files.read import read_torch_file
from circuits_jax.runs.auditing import audit
from circuits_jax.runs.pages import read_records
from circuits_jax.runs.run import Run
from circuits_jax.storage.errors import UserError
from circuits_jax.storage.files import read_json, read_json_if_any
from circuits_jax.storage.lfs import PointerError
from circuits_jax.training.metrics import MetricsWriter
from circuits_jax.training.workdir import load_config
from circuits_jax.viewer import bridge_page
from circuits_jax.viewer.circuit_page.annotations import read_annotations
from circuits_jax.viewer.verdicts import read_audits

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n"


@pytest.mark.parametrize(
    "read",
    [
        read_json, read_json_if_any, read_safetensors, read_torch_file, load_tokenizer, read_annotations,
        lambda path: list(read_jsonl(str(path), "text")), lambda path: list(read_parquet(str(path), "text")),
        lambda path: released.import_viz(path, "quotes"), lambda path: read_audits(path, ()),
        lambda path: config_file(str(path)), lambda path: configuration(str(path)),
        read_any_version, lambda path: _read_scores(path, 1), bridge_page._read,
    ],
)  # fmt: skip
def test_a_file(tmp_path, read):
    path = tmp_path / "file"
    path.write_text(POINTER)
    with pytest.raises(UserError, match="file is a Git LFS pointer.*run git lfs pull"):
        read(path)


@pytest.mark.parametrize("name", [MANIFEST, TENSORS])
def test_a_circuit(tmp_path, name):
    tensors = {"file": TENSORS, "sha256": "0"}
    manifest = {"format": "circuits_jax.circuit", "version": 2, "tensors": tensors}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(UserError, match=f"{name} is a Git LFS pointer"):
        load_circuit(tmp_path)


def test_what_commands_noted_in_a_workdir(tmp_path):
    (tmp_path / "prune.json").write_text(POINTER)
    with pytest.raises(PointerError, match="prune.json is a Git LFS pointer"):
        read_records(tmp_path)


def test_a_compiled_program(tmp_path):
    (tmp_path / "sort.npz").write_text(POINTER)
    with pytest.raises(PointerError, match="sort.npz is a Git LFS pointer"):
        weights.load("sort", tmp_path)


@pytest.mark.parametrize("name", ["final_model.pt", "model.safetensors", "beeg_config.json"])
def test_a_checkpoint(tmp_path, name):
    (tmp_path / "beeg_config.json").write_text("{}")
    (tmp_path / "final_model.pt").write_bytes(b"x")
    if name == "model.safetensors":
        (tmp_path / "final_model.pt").unlink()
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(UserError, match="Git LFS pointer"):
        released.load(tmp_path)


def test_source_code_that_is_not_here_is_skipped(tmp_path):
    (tmp_path / "a.py").write_text(POINTER)
    assert read_source(str(tmp_path / "a.py")) == left_out.LeftOut(left_out.POINTER, len(POINTER))


def test_a_workdirs_configuration(tmp_path):
    (tmp_path / "config.json").write_text(POINTER)
    with pytest.raises(UserError, match="config.json is a Git LFS pointer"):
        load_config(tmp_path)


def test_metrics_that_are_not_here_are_not_written_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(POINTER)
    with pytest.raises(PointerError, match="metrics.jsonl is a Git LFS pointer"):
        MetricsWriter(tmp_path, 5)
    assert path.read_text() == POINTER


def test_audits_that_are_not_here_are_not_written_over(tmp_path):
    path = tmp_path / "audit.json"
    path.write_text(POINTER)
    with pytest.raises(PointerError, match="audit.json is a Git LFS pointer"):
        audit(Run(None, tmp_path), [], AuditConfig())
    assert path.read_text() == POINTER
