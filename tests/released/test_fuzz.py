"""Mutated checkpoints: each loads or gives one clear line, and none runs anything."""

import json
import resource
import warnings
import zipfile

import numpy as np
import pytest

from circuits_jax import released
from circuits_jax.data.tokenizers.bpe import train_sentencepiece
from circuits_jax.data.tokenizers.folder import load_released_tokenizer
from circuits_jax.released.torch_files.write import write_torch_file
from circuits_jax.storage.errors import CheckpointError, UserError
from tests.data.tokenizers.test_tinypython import write_pair
from tests.released.models import TINY, random_params
from tests.released.test_load import shard
from tests.released.viz.test_viz import published

KINDS = {
    "bucket": ("final_model.pt", "beeg_config.json"),
    "huggingface": ("model.safetensors", "config.json"),
    "sparse": ("weights.safetensors", "config.json"),
    "tokenizer": ("encoder.json", "vocab.bpe"),
    "circuit": ("viz_data.pt", "viz_data.pt"),
    "sharded": ("model.safetensors.index.json", "one.safetensors"),
    "sentencepiece": ("tokenizer.model", "tokenizer.model"),
    "pickle": ("data.pkl", "data.pkl"),
}


def build(kind, folder):
    """A small whole checkpoint, and the function that loads it."""
    params = random_params(TINY, keep=0.2)
    if kind == "sparse":
        return released.save_sparse(params, TINY, folder), released.load_sparse
    if kind == "circuit":
        folder.mkdir()
        write_torch_file(folder / "viz_data.pt", published())
        return folder, lambda folder: released.import_viz(folder / "viz_data.pt", "task")
    if kind == "tokenizer":
        return write_pair(folder), released.TinyPython
    if kind == "sentencepiece":
        train_sentencepiece(["def f(x):\n    return x + 1\n"] * 50, 285, ()).save(folder / "tokenizer.model")
        return folder, lambda folder: load_released_tokenizer(folder, 10**6)
    if kind == "pickle":
        return unpacked(released.export(params, TINY, folder)), packed
    if kind == "sharded":
        shard(released.export(params, TINY, folder, "huggingface"))
        return folder, released.load
    return released.export(params, TINY, folder, kind), released.load


def unpacked(folder):
    """A checkpoint whose pickle lies beside it: its mutations are not found by the archive's checksums."""
    with zipfile.ZipFile(folder / "final_model.pt") as file:
        (folder / "data.pkl").write_bytes(file.read("final_model/data.pkl"))
    return folder


def packed(folder):
    """Loads the checkpoint with the pickle beside it in place of its own."""
    path = folder / "final_model.pt"
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    members["final_model/data.pkl"] = (folder / "data.pkl").read_bytes()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return released.load(folder)


def mutated(content, rng):
    """A few bytes changed, cut out, doubled, swapped for others of the file, or the end lost."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, other, size = rng.integers(len(content) + 1, size=3) if content else (0, 0, 0)
        size = int(size) % 9
        match rng.integers(6):
            case 0:
                content[at : at + 1] = rng.bytes(1)
            case 1:
                content[at : at + 1] = bytes(byte ^ (1 << rng.integers(8)) for byte in content[at : at + 1])
            case 2:
                del content[at : at + size]
            case 3:
                content[at:at] = content[other : other + size]
            case 4:
                content[at : at + size] = rng.choice([b"\0", b"\xff", b"9", b"q"]) * size
            case 5:
                del content[at if rng.random() < 0.1 else len(content) :]
    return bytes(content)


def fuzz(kind, count, folder, seed=0):
    """The outcomes of loading `count` mutations: how many loaded, and the messages of the others."""
    folder, load = build(kind, folder)
    names = KINDS[kind]
    originals = {name: (folder / name).read_bytes() for name in names}
    rng = np.random.default_rng(seed)
    loaded, messages = 0, []
    for _ in range(count):
        name = names[0] if rng.random() < 0.75 else names[1]
        (folder / name).write_bytes(mutated(originals[name], rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load(folder)
            loaded += 1
        except UserError as error:
            messages.append(str(error))
        (folder / name).write_bytes(originals[name])
    load(folder)
    return loaded, messages


def check(kind, count, folder):
    loaded, messages = fuzz(kind, count, folder)
    assert loaded + len(messages) == count
    assert all(message and "\n" not in message and str(folder) in message for message in messages)
    assert len(messages) > count / 10


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files(kind, tmp_path):
    check(kind, 150, tmp_path / "x")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_mutated_files(kind, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check(kind, 10_000, tmp_path / "x")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


SIZES = ("n_layer", "d_model", "vocab_size", "block_size", "d_mlp", "n_head", "d_head")


@pytest.mark.parametrize("key", SIZES)
def test_absurd_sizes_allocate_nothing(key, tmp_path):
    folder, load = build("bucket", tmp_path / "x")
    path = folder / "beeg_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {key: values[key] * 10**9}))
    with pytest.raises(CheckpointError):
        load(folder)
