"""A published circuit, imported, drawn and written back, against the facts in `tests/testdata/published`."""

import jax
import numpy as np
import pytest

from circuits_jax import released
from circuits_jax.circuits.circuit import load_circuit
from circuits_jax.model import sites
from circuits_jax.released.torch_files.read import read_torch_file
from circuits_jax.released.torch_files.write import write_torch_file
from circuits_jax.storage.errors import CircuitError
from circuits_jax.viewer.assembly import IndexRow, build_index
from tests.released.viz import published


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "viz_data.pt"
    write_torch_file(path, published.viz_data())
    return path


@pytest.fixture(scope="module")
def data(path):
    return released.import_viz(path, "single_double_quote")


def named(circuit):
    return [(node.site, node.index) for node in circuit.nodes]


def test_counts(data):
    circuit, value = data.circuit, published.viz_data()
    assert len(value["importances"]["pair_data"]) == 34  # as published
    assert len(circuit.nodes) == 64 and set(named(circuit)) == set(published.node_losses())
    assert len(circuit.edges) == 46
    assert sum(node.site == "final_resid" for node in circuit.nodes) == 4
    assert circuit.provenance["num_total_nodes"] == 136_192 == sum(len(m) for m in circuit.masks().values())
    assert circuit.provenance["is_kiter_bug_fixed"] is True
    assert circuit.provenance["prune_config"] == published.PRUNE


def test_losses_and_deltas(data):
    circuit = data.circuit
    assert circuit.metrics["full/test/loss"] == published.LOSS / 2
    assert circuit.metrics["test/calibrated_loss"] == published.ALONE / 2
    losses = published.node_losses()
    expected = [(losses[node] - published.ALONE) / 2 for node in named(circuit)]
    np.testing.assert_allclose(circuit.importance.node_deltas, expected, rtol=1e-6, atol=1e-9)
    deltas = published.edge_deltas()
    found = {
        (tuple(circuit.nodes[edge.source]), tuple(circuit.nodes[edge.target])): delta
        for edge, delta in zip(circuit.edges, circuit.importance.edge_deltas.tolist(), strict=True)
    }
    assert set(found) == set(deltas)
    assert all(found[ends] == pytest.approx(value / 2, rel=1e-6) for ends, value in deltas.items())


def test_a_layer_without_kept_nodes_costs_nothing(data):
    layers = data.circuit.provenance["layer_deltas"]
    assert set(layers) == set(published.LAYERS)
    for name in ("1.mlp", "4.mlp", "5.mlp", "6.mlp", "7.mlp", "8.mlp", "9.mlp", "10.mlp"):
        assert layers[name] == 0
        assert not any(node.site.startswith(name) for node in data.circuit.nodes)
    assert layers["0.mlp"] == pytest.approx((3.024932944497397 - published.ALONE) / 2)


def test_prompts_end_where_they_end(data):
    assert data.task_tokens.shape == (32, published.LENGTH)
    assert data.task_tokens[0, -2:].tolist() == [0, 0] and data.task_tokens[1].all()
    for activations in (data.task_activations, data.circuit_activations):
        assert activations["final_resid"][83].shape == (32, published.LENGTH)


def test_written_back_it_is_the_same(data, tmp_path):
    released.export_viz(data, tmp_path / "again.pt")
    again = released.import_viz(tmp_path / "again.pt", "single_double_quote")
    for field in ("nodes", "edges", "bias_only", "metrics", "model_config", "calibration"):
        assert getattr(again.circuit, field) == getattr(data.circuit, field)
    for field in ("node_deltas", "edge_deltas"):
        first, second = (getattr(each.circuit.importance, field) for each in (data, again))
        np.testing.assert_array_equal(first, second)
    both = [each.circuit.provenance for each in (data, again)]
    for name in ("layer_deltas", "loc_deltas"):
        assert both[1][name] == pytest.approx(both[0][name], abs=1e-15)
    assert {k: v for k, v in both[0].items() if k[-6:] != "deltas" and k != "imported"} == {
        k: v for k, v in both[1].items() if k[-6:] != "deltas" and k != "imported"
    }
    np.testing.assert_array_equal(again.task_tokens, data.task_tokens)
    for name in ("samples", "task_activations", "circuit_activations"):
        jax.tree.map(np.testing.assert_array_equal, getattr(again, name), getattr(data, name))
    raw, original = read_torch_file(tmp_path / "again.pt"), published.viz_data()
    for site, kept in original["circuit_data"].items():
        assert raw["circuit_data"][site].tolist() == kept.tolist()
        # The published order of a site's nodes is that of their indices.
        losses = original["importances"]["ch_interv_losses"][site]
        assert raw["importances"]["ch_interv_losses"][site] == pytest.approx(losses, rel=1e-6)
    assert raw["importances"]["layer_interv_losses"] == pytest.approx(published.LAYERS)
    assert set(raw) == set(original) and set(raw["importances"]) == set(original["importances"])


def test_saved_it_is_the_same(data, tmp_path):
    data.circuit.save(tmp_path / "circuit")
    read = load_circuit(tmp_path / "circuit")
    assert (read.nodes, read.edges, read.provenance) == (
        data.circuit.nodes, data.circuit.edges, data.circuit.provenance
    )  # fmt: skip
    assert read.masks()["final_resid"].sum() == 4


def test_the_authors_means_are_taken(path, tmp_path):
    means = {
        site: np.linspace(0, 1, width, dtype=np.float32)[None]
        for site, width in sites.node_sites(published.CONFIG, final=True).items()
    }
    there = tmp_path / "csp_yolo1"
    folder = there / "single_double_quote" / "prune_v2" / "64"
    folder.mkdir(parents=True)
    circuit = folder / "viz_data.pt"
    circuit.write_bytes(path.read_bytes())
    write_torch_file(there / "mean_baseline_pretrain.pt", means)
    found = released.import_viz(circuit, "quotes").circuit
    assert found.ablation == "mean"
    np.testing.assert_array_equal(found.means["final_resid"], means["final_resid"][0])
    assert not found.means["3.attn.y"].any() and len(found.means["3.attn.y"]) == 1024
    given = released.import_viz(path, "quotes", means=there / "mean_baseline_pretrain.pt").circuit
    np.testing.assert_array_equal(given.means["0.mlp.post_act"], found.means["0.mlp.post_act"])
    for change, words in (
        ({"0.mlp.post_act": None}, r"no means of 0\.mlp\.post_act"),
        ({"0.mlp.post_act": np.zeros((4096, 2), np.float32)}, r"shape \[4096, 2\], not \[4096\]"),
        ({"0.mlp.post_act": np.full(4096, np.nan, np.float32)}, r"mean of 0\.mlp\.post_act holds NaN"),
    ):
        changed = {site: mean for site, mean in (means | change).items() if mean is not None}
        write_torch_file(there / "mean_baseline_pretrain.pt", changed)
        for given in (there / "mean_baseline_pretrain.pt", changed):
            with pytest.raises(CircuitError, match=words):
                released.import_viz(circuit, "quotes", means=given)
        with pytest.warns(UserWarning, match=words):  # nobody named the file that lies there
            assert released.import_viz(circuit, "quotes").circuit.ablation == "zero"


def test_unknown_keys_are_told_and_kept(tmp_path):
    value = published.viz_data()
    value |= {"new": {"a": [1, float("nan")]}, "large": np.zeros((200, 200), np.float32)}
    value["importances"]["odd"] = "text"
    write_torch_file(tmp_path / "viz_data.pt", value)
    with pytest.warns(UserWarning, match=r"unknown keys of a viz_data\.pt.*new, large, importances\.odd"):
        circuit = released.import_viz(tmp_path / "viz_data.pt", "quotes").circuit
    assert circuit.provenance["unknown"] == {
        "new": {"a": [1, None]}, "large": "an array of float32 [200, 200]", "importances.odd": "text"
    }  # fmt: skip


def test_unknown_settings_of_the_model_are_refused_unless_told_to_warn(tmp_path):
    value = published.viz_data()
    value["importances"]["beeg_model_config"] = published.BEEG | {"warp": 9}
    write_torch_file(tmp_path / "viz_data.pt", value)
    with pytest.raises(CircuitError, match="unknown config keys warp"):
        released.import_viz(tmp_path / "viz_data.pt", "quotes")
    with pytest.warns(UserWarning, match="warp"):
        assert len(released.import_viz(tmp_path / "viz_data.pt", "quotes", strict=False).circuit.nodes) == 64


def test_without_weights_the_edges_are_those_with_a_delta(tmp_path):
    value = published.viz_data()
    for entry in value["importances"]["pair_data_connections"]:
        entry[0] = []
    write_torch_file(tmp_path / "viz_data.pt", value)
    circuit = released.import_viz(tmp_path / "viz_data.pt", "quotes").circuit
    assert len(circuit.edges) == 46 and np.isnan([edge.weight for edge in circuit.edges]).all()


def test_the_page(data):
    """All nodes and edges are in it, those of the final residual stream too."""
    page = build_index("Published", [IndexRow("quotes", data.circuit, "", "page.html")])
    assert page.count('["final_resid",') == 4
