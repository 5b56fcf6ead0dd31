import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from circuits_jax.circuits.circuit import (
    MANIFEST,
    TENSORS,
    Calibration,
    Circuit,
    Edge,
    Entry,
    Node,
    load_circuit,
)
from circuits_jax.errors import CircuitError


def example() -> Circuit:
    return Circuit(
        task="quotes",
        nodes=(Node("0.mlp.act_in", 3), Node("0.mlp.post_act", 7), Node("0.mlp.resid_delta", 1)),
        edges=(Edge(0, 1, 0.1), Edge(1, 2, -2.5)),
        bias_only=(False, False, True),
        means={
            "0.mlp.act_in": np.linspace(0, 1, 4, dtype=np.float32),
            "0.mlp.post_act": np.arange(8, dtype=np.float32) / 3,
            "0.mlp.resid_delta": np.zeros(4, np.float32),
        },
        ablation="mean",
        embedding=(Entry(5, 3, 0.25),),
        unembedding=(),
        calibration=Calibration(1.5, -0.1),
        metrics={"heldout/calibrated_loss": 0.125, "nodes": 3.0},
        model_config={"d_model": 4, "activation_locations": ["attn_in"]},
        model_hash="a" * 64,
        tokenizer_hash="b" * 64,
        provenance={"prune": {"steps": 3}, "met_target": True},
    )


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "circuits" / "quotes"
    example().save(folder)
    return folder


def fails(folder, *words):
    """Loading raises CircuitError, in one line that holds `words`."""
    with pytest.raises(CircuitError) as caught:
        load_circuit(folder)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def edit(folder, **changes):
    manifest = json.loads((folder / MANIFEST).read_text())
    for key, value in changes.items():
        if value is None:
            del manifest[key]
        else:
            manifest[key] = value
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_what_is_saved_is_loaded(saved):
    circuit, loaded = example(), load_circuit(saved)
    for field in dataclasses.fields(Circuit):
        if field.name not in ("means", "edges", "embedding"):
            assert getattr(loaded, field.name) == getattr(circuit, field.name), field.name
    for site, mean in circuit.means.items():
        np.testing.assert_array_equal(loaded.means[site], mean)
    assert set(loaded.means) == set(circuit.means)
    assert [edge[:2] for edge in loaded.edges] == [(0, 1), (1, 2)]
    assert [edge.weight for edge in loaded.edges] == [np.float32(0.1), -2.5]
    assert loaded.embedding == circuit.embedding
    assert {type(node) for node in loaded.nodes} == {Node}
    assert sorted(path.name for path in saved.iterdir()) == [MANIFEST, TENSORS]


def test_saving_again_replaces(saved):
    dataclasses.replace(example(), task="other", edges=()).save(saved)
    loaded = load_circuit(saved)
    assert (loaded.task, loaded.edges) == ("other", ())


def test_masks_are_one_on_the_nodes(saved):
    masks = load_circuit(saved).masks()
    found = {Node(site, int(i)) for site, mask in masks.items() for i in np.flatnonzero(mask)}
    assert found == set(example().nodes)
    assert all(mask.dtype == np.float32 and set(np.unique(mask)) <= {0, 1} for mask in masks.values())
    assert {site: len(mask) for site, mask in masks.items()} == {
        "0.mlp.act_in": 4,
        "0.mlp.post_act": 8,
        "0.mlp.resid_delta": 4,
    }


def test_a_node_prints_as_a_site_and_an_index():
    assert str(Node("1.mlp.post_act", 407)) == "1.mlp.post_act.407"


def test_it_loads_without_jax(saved):
    script = (
        "import sys\n"
        "from circuits_jax.circuits.circuit import load_circuit\n"
        f"circuit = load_circuit({str(saved)!r})\n"
        "assert len(circuit.edges) == 2 and circuit.masks()\n"
        "heavy = {'jax', 'flax', 'optax'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_missing_files(saved, tmp_path):
    fails(tmp_path / "nowhere", "nowhere", "No such file")
    (saved / TENSORS).unlink()
    fails(saved, TENSORS, "No such file")


@pytest.mark.parametrize("name", [MANIFEST, TENSORS])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_files_cut_short(saved, name, keep):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: int(keep * len(content))])
    fails(saved, name, "cut short")


def test_altered_arrays(saved):
    content = bytearray((saved / TENSORS).read_bytes())
    content[-1] ^= 1
    (saved / TENSORS).write_bytes(content)
    fails(saved, TENSORS, "altered")


def test_a_manifest_that_is_not_one(saved):
    for text, word in (("[]", "format"), ('{"format": "gguf"}', "format"), ("\x00\x01", "JSON")):
        (saved / MANIFEST).write_text(text)
        fails(saved, MANIFEST, word)
    (saved / MANIFEST).write_bytes(b"\xff\xfe{}")
    fails(saved, MANIFEST)


def test_an_unknown_version(saved):
    edit(saved, version=99)
    fails(saved, MANIFEST, "99")


@pytest.mark.parametrize(
    "key", ["task", "nodes", "bias_only", "calibration", "model", "tensors", "provenance"]
)
def test_a_manifest_that_lacks_something(saved, key):
    edit(saved, **{key: None})
    fails(saved, MANIFEST)


@pytest.mark.parametrize(
    "changes",
    [
        {"tensors": 5},
        {"tensors": {"file": 3, "sha256": "0"}},
        {"nodes": [["0.mlp.act_in"]]},
        {"nodes": [["0.mlp.act_in", 999]], "bias_only": [True]},
        {"nodes": [["9.mlp.act_in", 1]], "bias_only": [True]},
        {"bias_only": [True]},
        {"calibration": {"scale": 1}},
        {"model": "x"},
    ],
)
def test_a_manifest_that_does_not_fit(saved, changes):
    edit(saved, **changes)
    fails(saved)


def test_a_circuit_belongs_to_its_model_and_tokenizer():
    circuit = example()
    circuit.check_model("a" * 64, "b" * 64)
    for hashes, words in (
        (("c" * 64, "b" * 64), ("model", "aaaa", "cccc")),
        (("a" * 64, "d" * 64), ("tokenizer", "dddd")),
    ):
        with pytest.raises(CircuitError) as caught:
            circuit.check_model(*hashes)
        assert "\n" not in str(caught.value)
        assert all(word in str(caught.value) for word in words)
