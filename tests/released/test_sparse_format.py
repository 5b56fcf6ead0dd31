"""The format of our own for sparse weights."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy

from circuits_jax import released
from circuits_jax.config import ModelConfig
from circuits_jax.data.bigram import count_bigrams
from circuits_jax.data.counts_file import Origin, save_counts
from circuits_jax.model.model import Model
from circuits_jax.released.sparse_format import decode, encode
from circuits_jax.runs.opening import load
from circuits_jax.storage.errors import CheckpointError
from tests.released.models import TINY, VARIETY, assert_equal, random_params

CONFIGS = [*VARIETY.values(), ModelConfig(n_layer=1, d_model=8, n_ctx=6, vocab_size=11, d_head=4)]


@pytest.mark.parametrize("keep", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("config", CONFIGS)
def test_round_trip(config, keep, tmp_path):
    params = random_params(config, keep=keep)
    checkpoint = released.load_sparse(released.save_sparse(params, config, tmp_path))
    assert checkpoint.config == config and checkpoint.tokenizer is None
    assert_equal(checkpoint.params, params)


@pytest.mark.parametrize(
    ("last", "kind"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16), (65536, np.uint32)]
)
def test_smallest_integers(last, kind):
    tensor = np.zeros((2, 50000), np.float32)
    tensor.flat[last] = 1
    stored = encode("t", tensor)
    assert stored["t.gaps"].dtype == kind and stored["t.gaps"].tolist() == [last]
    assert decode("t", tensor.shape, stored).tobytes() == tensor.tobytes()


def test_every_bit_comes_back():
    tensor = np.zeros(1000, np.float32)
    tensor[[3, 500, 999]] = [-0.0, np.nan, 1e-45]
    stored = encode("t", tensor)
    assert stored["t.values"].size == 3
    assert decode("t", (1000,), stored).tobytes() == tensor.tobytes()


def test_dense_where_dense_is_smaller():
    tensor = np.zeros(1000, np.float32)
    tensor[:790] = 1
    assert set(encode("t", tensor)) == {"t.gaps", "t.values", "t.shape"}
    tensor[:800] = 1
    assert set(encode("t", tensor)) == {"t"}


def test_one_in_a_thousand_takes_little_more_than_its_nonzeros(tmp_path):
    config = ModelConfig(n_layer=2, d_model=256, n_ctx=64, vocab_size=512, bigram=False)
    params = random_params(config, keep=1e-3)
    nonzeros = sum(np.count_nonzero(leaf) for leaf in map(np.asarray, leaves(params)))
    folder = released.save_sparse(params, config, tmp_path)
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < 6 * nonzeros + 16_000  # four bytes a value, two a gap, and the header


def test_the_same_model_is_the_same_bytes(tmp_path):
    params = random_params(TINY, keep=0.1)
    written = {
        released.save_sparse(params, TINY, tmp_path / str(i)).joinpath("weights.safetensors").read_bytes()
        for i in range(8)
    }
    assert len(written) == 1
    assert safetensors.numpy.load(written.pop()).keys() > {"h_0/mlp/c_fc/kernel.gaps"}


def leaves(tree):
    for value in tree.values():
        yield from leaves(value) if isinstance(value, dict) else [value]


def test_as_the_readme_tells_it(tmp_path):
    """A reader that knows only the README's words."""
    params = random_params(TINY, keep=0.1)
    folder = released.save_sparse(params, TINY, tmp_path)
    about = json.loads((folder / "config.json").read_text())
    assert (about["format"], about["version"]) == ("circuits_jax sparse weights", 1)
    stored = safetensors.numpy.load_file(folder / "weights.safetensors")
    name = "h_0/attn/c_attn/kernel"
    matrix = [[0.0] * 24 for _ in range(8)]
    assert stored[name + ".shape"].tolist() == [8, 24]
    index = 0
    for gap, value in zip(stored[name + ".gaps"].tolist(), stored[name + ".values"], strict=True):
        index += gap
        matrix[index // 24][index % 24] = value
    np.testing.assert_array_equal(np.asarray(matrix, np.float32), params["h_0"]["attn"]["c_attn"]["kernel"])


def rewrite(folder, change):
    stored = safetensors.numpy.load_file(folder / "weights.safetensors")
    change(stored)
    safetensors.numpy.save_file(stored, folder / "weights.safetensors")


NAME = "h_0/mlp/c_fc/kernel"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop(NAME + ".values"), f"{NAME} is missing"),
        (lambda s: s.update({"extra": np.zeros(1, np.float32)}), "holds extra"),
        (lambda s: s.update({NAME + ".shape": np.array([12, 8])}), r"shape \[8, 12\], found \[12, 8\]"),
        (lambda s: s.update({NAME + ".gaps": s[NAME + ".gaps"][:-1]}), "as many"),
        (lambda s: s.update({NAME + ".gaps": s[NAME + ".gaps"] + np.uint8(90)}), "outside the 96 entries"),
        (lambda s: s.update({NAME + ".gaps": s[NAME + ".gaps"] * np.uint8(0)}), "outside the 96 entries"),
        (lambda s: s.update({NAME + ".gaps": s[NAME + ".gaps"].astype(np.int64) - 1}), "unsigned"),
        (lambda s: s.update({NAME + ".values": s[NAME + ".values"].astype(np.float16)}), "float32"),
        (lambda s: s.update({"h_0/ln_1/scale": np.ones(9, np.float32)}), r"h_0/ln_1/scale expected .*\[8\]"),
    ],
)
def test_damaged_tensors(change, words, tmp_path):
    folder = released.save_sparse(random_params(TINY, keep=0.1), TINY, tmp_path)
    rewrite(folder, change)
    with pytest.raises(CheckpointError, match=words):
        released.load_sparse(folder)


def test_other_versions_and_configurations(tmp_path):
    folder = released.save_sparse(random_params(TINY), TINY, tmp_path)
    about = json.loads((folder / "config.json").read_text())
    for change, words in [
        ({"version": 3}, "version 3; this library reads .* versions 1 and 2"),
        ({"version": 2}, "bigram_counts"),
        ({"format": "x"}, "format 'x'"),
        ({"model": {"d_model": "8"}}, "d_model is '8'"),
        ({"model": {"deep": 1}}, "unknown config key model.deep"),
        ({"model": about["model"] | {"n_layer": 10**9}}, "1000000000 layers"),
        ({"model": [1]}, "config.json"),
    ]:
        (folder / "config.json").write_text(json.dumps(about | change))
        with pytest.raises(CheckpointError, match=words):
            released.load_sparse(folder)
    with pytest.raises(CheckpointError, match="cannot be read"):
        released.load_sparse(tmp_path / "nowhere")


def test_the_loader_of_released_layouts_names_the_one_that_reads_it(tmp_path):
    folder = released.save_sparse(random_params(TINY), TINY, tmp_path)
    with pytest.raises(CheckpointError, match="'circuits_jax sparse weights'; load_sparse reads that"):
        released.load(folder)


COUNTED = dataclasses.replace(VARIETY["sparse"], bigram="counts")
WINDOWS = np.array([[0, 1, 2, 1], [10, 2, 1, 1]], np.int32)


@pytest.fixture
def counted(tmp_path):
    """(parameters with their table, the file of its counts)."""
    counts = count_bigrams(WINDOWS, COUNTED.vocab_size)
    save_counts(tmp_path / "bigram.npz", counts, Origin("a" * 64, "b" * 16, 7.5))
    params = random_params(VARIETY["sparse"], keep=0.2)
    return params | {"bigram": counts.logits(7.5)}, tmp_path / "bigram.npz"


def test_a_table_of_counts_comes_back_from_the_counts(counted, tmp_path):
    params, counts = counted
    folder = released.save_sparse(params, COUNTED, tmp_path / "small", counts=counts)
    assert "bigram" not in safetensors.numpy.load_file(folder / "weights.safetensors")
    assert json.loads((folder / "config.json").read_text())["version"] == 2
    model = released.load_sparse(folder)
    assert_equal(model.params, params)
    assert model.config == dataclasses.replace(COUNTED, bigram="learned")
    assert model.hash == Model(COUNTED, params).hash
    without = {name: leaf for name, leaf in params.items() if name != "bigram"}
    again = released.save_sparse(without, COUNTED, tmp_path / "again", counts=counts)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {
        p.name: p.read_bytes() for p in folder.iterdir()
    }
    assert_equal(load(folder).model.params, params)  # by the door for all models


def test_the_table_as_the_readme_tells_it(counted, tmp_path):
    params, counts = counted
    folder = released.save_sparse(params, COUNTED, tmp_path / "small", counts=counts)
    prior = json.loads((folder / "config.json").read_text())["bigram_counts"]["prior"]
    stored, size = np.load(folder / "bigram.npz"), COUNTED.vocab_size
    found = np.zeros((size, size))
    place = 0
    for row, many in enumerate(stored["sizes"]):
        for _ in range(many):
            found[row, stored["columns"][place]] = stored["counts"][place]
            place += 1
    p = (found.sum(axis=0) + 1) / (found.sum() + size)
    table = np.log((found + prior * p) / (found.sum(axis=1, keepdims=True) + prior))
    np.testing.assert_array_equal(table.astype(np.float32), params["bigram"])


def test_counts_that_are_missing_damaged_or_of_another_model_are_told(counted, tmp_path):
    params, counts = counted
    folder = released.save_sparse(params, COUNTED, tmp_path / "small", counts=counts)
    other = count_bigrams(WINDOWS, COUNTED.vocab_size)
    for origin, size, words in (
        (Origin("a" * 64, "b" * 16, 8.0), other, "of another prior"),
        (Origin("a" * 64, "b" * 16, 7.5), count_bigrams(WINDOWS, 12), "do not fit a vocabulary of 11"),
    ):
        save_counts(folder / "bigram.npz", size, origin)
        with pytest.raises(CheckpointError, match=f"{words}.*copy the folder again"):
            released.load_sparse(folder)
    (folder / "bigram.npz").write_bytes(b"none")
    with pytest.raises(CheckpointError, match="bigram.npz holds no bigram counts that can be read"):
        released.load_sparse(folder)
    (folder / "bigram.npz").unlink()
    with pytest.raises(CheckpointError, match="bigram.npz cannot be read"):
        released.load_sparse(folder)
    with pytest.raises(CheckpointError, match="which the configuration has not"):
        released.save_sparse(random_params(TINY), TINY, tmp_path / "none", counts=counts)
    values = json.loads((folder / "config.json").read_text())
    values["model"]["bigram"] = False
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="a bigram table, which the model has not"):
        released.load_sparse(folder)


def test_parameters_must_fit(tmp_path):
    with pytest.raises(CheckpointError, match="lack"):
        released.save_sparse({}, TINY, tmp_path / "out")
    assert not (tmp_path / "out").exists()
