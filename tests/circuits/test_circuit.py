import dataclasses
import importlib.resources
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from circuits_jax.circuits.circuit import (
    MANIFEST,
    TENSORS,
    Calibration,
    Circuit,
    Edge,
    Entry,
    Importance,
    Node,
    load_circuit,
)
from circuits_jax.storage.errors import CircuitError
from circuits_jax.viewer.verdicts import verdict_words

# What the first release's `Circuit.save` wrote of this file's example.
VERSION_1 = Path(__file__).parents[1] / "testdata" / "circuit_v1"


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
            "0.attn.y": np.ones(4, np.float32),
        },
        ablation="mean",
        embedding=(Entry(5, 3, 0.25),),
        unembedding=(),
        calibration=Calibration(1.5, -0.1),
        metrics={"test/calibrated_loss": 0.125, "nodes": 3.0},
        model_config={"d_model": 4, "activation_locations": ["attn_in"]},
        model_hash="a" * 64,
        tokenizer_hash="b" * 64,
        provenance={"prune": {"steps": 3}, "met_target": True},
        importance=Importance(
            node_deltas=np.array([0.5, 0.25, -0.125], np.float32),
            edge_deltas=np.array([0.5, 0.0625], np.float32),
            attribution={"0.mlp.act_in": np.arange(4, dtype=np.float32)},
            exact={"0.mlp.act_in": np.array([0, np.nan, 2, np.nan], np.float32)},
            correlation={"nodes": 2.0, "pearson": 0.75, "spearman": 1.0},
            pairs=64,
        ),
    )


def schema():
    return json.loads(
        importlib.resources.files("circuits_jax.circuits").joinpath("circuit.schema.json").read_text()
    )


def valid(manifest):
    """Whether the manifest is as the schema in the package says."""
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema()).is_valid(manifest)


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
        if field.name not in ("means", "edges", "embedding", "importance"):
            assert getattr(loaded, field.name) == getattr(circuit, field.name), field.name
    for site, mean in circuit.means.items():
        np.testing.assert_array_equal(loaded.means[site], mean)
    assert set(loaded.means) == set(circuit.means)
    assert [edge[:2] for edge in loaded.edges] == [(0, 1), (1, 2)]
    assert [edge.weight for edge in loaded.edges] == [np.float32(0.1), -2.5]
    assert loaded.embedding == circuit.embedding
    assert {type(node) for node in loaded.nodes} == {Node}
    assert sorted(path.name for path in saved.iterdir()) == [MANIFEST, TENSORS]


def test_importance_is_loaded(saved):
    expected, found = example().importance, load_circuit(saved).importance
    for name in ("node_deltas", "edge_deltas"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("attribution", "exact"):
        assert set(getattr(found, name)) == {"0.mlp.act_in"}
        np.testing.assert_array_equal(
            getattr(found, name)["0.mlp.act_in"], getattr(expected, name)["0.mlp.act_in"]
        )
    assert (found.correlation, found.pairs) == (expected.correlation, 64)


def test_taus_are_loaded_where_they_are_kept(saved):
    assert load_circuit(saved).taus is None
    widths = {"0.mlp.act_in": 4, "0.mlp.post_act": 8, "0.mlp.resid_delta": 4}
    taus = {site: np.linspace(-1, 1, width, dtype=np.float32) for site, width in widths.items()}
    dataclasses.replace(example(), taus=taus).save(saved)
    found = load_circuit(saved).taus
    assert set(found) == set(taus)
    for site, tau in taus.items():
        np.testing.assert_array_equal(found[site], tau)


@pytest.mark.parametrize("width", [7, 9])
def test_taus_of_other_nodes_are_refused(saved, width):
    dataclasses.replace(example(), taus={"0.mlp.post_act": np.zeros(width)}).save(saved)
    fails(saved, "taus")


def test_a_circuit_without_importance(tmp_path):
    dataclasses.replace(example(), importance=None).save(tmp_path)
    assert load_circuit(tmp_path).importance is None
    assert valid(json.loads((tmp_path / MANIFEST).read_text()))


def test_version_1_still_loads():
    circuit, loaded = example(), load_circuit(VERSION_1)
    assert json.loads((VERSION_1 / MANIFEST).read_text())["version"] == 1
    for field in dataclasses.fields(Circuit):
        if field.name not in ("means", "edges", "importance"):
            assert getattr(loaded, field.name) == getattr(circuit, field.name), field.name
    assert loaded.importance is None
    assert set(loaded.masks()) == set(loaded.means) == set(circuit.means) - {"0.attn.y"}
    assert [edge[:2] for edge in loaded.edges] == [edge[:2] for edge in circuit.edges]


def test_figures_of_two_splits_have_the_names_of_today(saved):
    path = saved / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["metrics"] = {"heldout/loss": 1.0, "full/heldout/loss": 2.0, "train/loss": 3.0, "heldout": 4.0}
    path.write_text(json.dumps(manifest))
    assert load_circuit(saved).metrics == {
        "test/loss": 1.0, "full/test/loss": 2.0, "train/loss": 3.0, "heldout": 4.0
    }  # fmt: skip


def test_a_circuit_of_two_splits_says_that_it_needs_a_new_audit():
    circuit = example()
    for provenance, before in (
        ({"prune": {"steps": 3, "heldout_pairs": 8}}, True),
        ({"prune": {"steps": 3, "test_pairs": 8}, "pairs": ["a", "b", "c"]}, False),
        ({"prune": {"steps": 3, "test_pairs": 8}}, False),
        ({"prune": None, "pairs": None}, False),
        ({}, False),  # not cut by us
    ):
        cut = dataclasses.replace(circuit, provenance=provenance)
        assert cut.of_two_splits is before
        assert ("needs a new audit" in str(cut)) is before
        assert verdict_words(None, cut) == ("needs a new audit" if before else "not audited")
        assert verdict_words({"verdict": {"verdict": "faithful"}}, cut) == "faithful"


@pytest.mark.parametrize(
    ("made", "missed"), [({"met_target": False}, True), ({"met_target": True}, False), ({}, False)]
)
def test_a_circuit_that_misses_its_target_says_so_wherever_it_is_printed(made, missed):
    cut = dataclasses.replace(example(), provenance=made)
    assert ("misses its target" in repr(cut)) is missed
    assert ("<th>target</th><td>missed</td>" in cut._repr_html_()) is missed
    assert "given up" not in repr(cut)
    if missed:
        cut = dataclasses.replace(cut, provenance={**made, "given_up": True})
        assert "misses its target by so much that its search was given up" in repr(cut)


def test_a_version_1_file_saved_again_is_of_this_version(tmp_path):
    load_circuit(VERSION_1).save(tmp_path)
    assert json.loads((tmp_path / MANIFEST).read_text())["version"] == 2
    assert load_circuit(tmp_path).nodes == example().nodes


def test_manifests_are_as_the_schema_says(saved):
    for folder in (saved, VERSION_1):
        manifest = json.loads((folder / MANIFEST).read_text())
        assert valid(manifest)
        for key in manifest:
            assert not valid({k: v for k, v in manifest.items() if k != key}), key


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 3},
        {"format": "gguf"},
        {"nodes": [["0.final_resid", 1]]},
        {"nodes": [["0.attn.q", -1]]},
        {"nodes": [["0.attn.q", 1, 2]]},
        {"nodes": [["0.attn.q", 1], ["0.attn.q", 1]]},
        {"bias_only": [0]},
        {"ablation": "median"},
        {"calibration": {"scale": "1", "shift": 0}},
        {"metrics": {"loss": None}},
        {"importance": {"pairs": 0, "correlation": {"nodes": 0}}},
        {"importance": {"pairs": 1, "correlation": {"nodes": 9, "pearson": 2}}},
        {"tensors": {"file": "x", "sha256": "short"}},
        {"extra": 1},
    ],
)
def test_the_schema_refuses_what_is_wrong(saved, changes):
    manifest = json.loads((saved / MANIFEST).read_text())
    assert valid(manifest) and not valid({**manifest, **changes})


def test_saving_again_replaces(saved):
    dataclasses.replace(example(), task="other", edges=(), importance=None).save(saved)
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
        "assert len(circuit.edges) == 2 and circuit.masks() and len(circuit.importance.node_deltas) == 3\n"
        "heavy = {'jax', 'flax', 'optax', 'scipy', 'networkx', 'jsonschema'} & set(sys.modules)\n"
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
    "key", ["task", "nodes", "bias_only", "calibration", "model", "tensors", "provenance", "importance"]
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
        {"nodes": [["0.mlp.act_in", -1], ["0.mlp.post_act", 7], ["0.mlp.resid_delta", 1]]},
        {"nodes": [["0.mlp.act_in", True], ["0.mlp.post_act", 7], ["0.mlp.resid_delta", 1]]},
        {"nodes": [["0.mlp.act_in", 3], ["0.mlp.act_in", 3], ["0.mlp.resid_delta", 1]]},
        {"tensors": {"file": "a\0b", "sha256": "0"}},
        {"metrics": 5},
        *({"metrics": {"test/loss": value}} for value in ("x", [1], {}, True)),
        *({"model": {"config": {"d_head": value}, "hash": "a" * 64}} for value in (0, "16", 3.5, [1], -1)),
        {"model": {"config": [], "hash": "a" * 64}},
        {"bias_only": [True]},
        {"calibration": {"scale": 1}},
        {"calibration": []},
        *({"task": name} for name in ("../../../escaped", "a/b", "", ".hidden", "a\nb", "\ud800", 5)),
        {"tokenizer_hash": 5},
        {"ablation": ["mean"]},
        {"model": {"config": {}, "hash": None}},
        {"provenance": []},
        {"provenance": {"pairs": 5}},
        {"provenance": {"pairs": [5]}},
        *(
            {"provenance": {"prune": prune}}
            for prune in (5, {"tasks": 5}, {"tasks": [5]}, {"tasks": "all"}, {"test_pairs": "a"})
            + ({"seed": None}, {"seed": -1}, {"train_pairs": 1.5}, {"select_pairs": True})
        ),
        {"model": "x"},
        {"importance": {}},
        {"importance": 5},
        {
            "nodes": [["0.mlp.act_in", 3], ["0.mlp.post_act", 7]],
            "bias_only": [False, False],
            "importance": None,
        },
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
