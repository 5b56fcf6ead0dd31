"""Circuits of others: `viz_data.pt` files written here word for word in the published schema."""

import dataclasses
import json
import os
import pickle
import zipfile

import jax
import numpy as np
import pytest

from circuits_jax import released
from circuits_jax.circuits.circuit import Calibration, Edge, Node, load_circuit
from circuits_jax.config import ModelConfig
from circuits_jax.model.model import Model
from circuits_jax.released.config import config_to_released
from circuits_jax.released.torch_files.read import read_torch_file
from circuits_jax.released.torch_files.write import write_torch_file
from circuits_jax.storage.errors import CheckpointError, CircuitError
from tests.released.models import random_params
from tests.released.torch_files.test_read import Evil, archive

CONFIG = ModelConfig(
    n_layer=1, d_model=8, n_ctx=6, vocab_size=11, d_head=4, n_head=2, d_mlp=12, position="add", bigram=False
)
KEPT = {
    "0.attn.act_in": [2, 5], "0.attn.q": [], "0.attn.k": [], "0.attn.v": [6], "0.attn.resid_delta": [1],
    "0.mlp.act_in": [7, 1], "0.mlp.post_act": [11], "0.mlp.resid_delta": [],
}  # fmt: skip
TOKENS = np.array([[3, 4, 5, 0], [3, 4, 6, 0], [3, 4, 5, 1], [3, 4, 6, 1]])


def f32(*rows):
    return np.array(rows, np.float32)


def published():
    """A circuit in the schema: the loss is 0.25 nats, and 0.4 with the circuit alone, both stored doubled."""
    weights = [
        [f32([0.0], [-2.0]), [2, 5], [6], ("0.attn.act_in", "0.attn.v")],
        [f32([3.0]), [6], [1], ("0.attn.v", "0.attn.resid_delta")],
        [f32([1.5], [0.5]), [7, 1], [11], ("0.mlp.act_in", "0.mlp.post_act")],
    ]
    deltas = [
        [f32([0.0], [0.2], [0.6]), [2, 5, "bias"], [6], ("0.attn.act_in", "0.attn.v")],
        [f32([0.4]), [6], [1], ("0.attn.v", "0.attn.resid_delta")],
        [f32([0.02], [-0.04]), [7, 1], [11], ("0.mlp.act_in", "0.mlp.post_act")],
    ]
    losses = {site: [] for site in KEPT} | {"0.attn.act_in": [0.8, 1.0], "0.attn.v": [f32(3.0)[0].item()]}
    losses |= {"0.attn.resid_delta": [2.0], "0.mlp.act_in": f32(0.8, 1.2), "0.mlp.post_act": [0.9]}
    item = (np.arange(4), f32(0.0, 0.5, 9.0, 1.0), 2)
    return {
        "circuit_data": {site: np.array(ids, np.int64) for site, ids in KEPT.items()}
        | {"prune_config": {"k_coef": 1e-4, "steps": 8}},
        "prune_config": {"k_coef": 1e-4, "steps": 8},
        "num_total_nodes": 68,
        "all_loss": [(0, 1.0), (1, 0.8)],
        "samples": {"0.mlp.post_act": {11: {q: [[item], [item, item]] for q in (0.001, 0.01, 0.1, 0.5)}}},
        "importances": {
            "loss": 0.5,
            "interv_loss": 0.8,
            "layer_interv_losses": {"0.mlp": 1.4, "0.attn": 0.8},
            "ch_interv_losses": losses,
            "pair_data": deltas,
            "pair_data_connections": weights,
            "task_samples": (TOKENS, {"0.mlp.post_act": {11: f32(*TOKENS) / 10}}),
            "beeg_model_config": config_to_released(CONFIG) | {"tokenizer_name": "tinypython_2k"},
        },
    }


def write(path, value):
    write_torch_file(path, value)
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "viz_data.pt", published())


def edges_of(circuit):
    return {(circuit.nodes[e.source], circuit.nodes[e.target]): e.weight for e in circuit.edges}


def test_nodes_edges_and_losses(path):
    circuit = released.import_viz(path, "quotes").circuit
    assert circuit.task == "quotes"
    assert circuit.nodes == tuple(
        Node(f"0.{name}", i)
        for name, i in (
            ("attn.act_in", 2), ("attn.act_in", 5), ("attn.v", 6), ("attn.resid_delta", 1), ("mlp.act_in", 1),
            ("mlp.act_in", 7), ("mlp.post_act", 11),
        )
    )  # fmt: skip
    assert edges_of(circuit) == {
        (Node("0.attn.act_in", 5), Node("0.attn.v", 6)): -2.0,
        (Node("0.attn.v", 6), Node("0.attn.resid_delta", 1)): 3.0,
        (Node("0.mlp.act_in", 7), Node("0.mlp.post_act", 11)): 1.5,
        (Node("0.mlp.act_in", 1), Node("0.mlp.post_act", 11)): 0.5,
    }
    metrics = circuit.metrics
    assert (metrics["full/test/loss"], metrics["test/calibrated_loss"]) == (0.25, 0.4)
    assert (metrics["nodes"], metrics["edges"]) == (7, 4)
    masks = circuit.masks()
    assert masks["0.mlp.post_act"].shape == (12,) and masks["0.attn.act_in"].tolist() == [
        0,
        0,
        1,
        0,
        0,
        1,
        0,
        0,
    ]
    assert circuit.ablation == "zero" and not any(mean.any() for mean in circuit.means.values())


def test_deltas_are_halved_and_follow_their_nodes(path):
    circuit = released.import_viz(path, "quotes").circuit
    nodes = dict(zip(circuit.nodes, circuit.importance.node_deltas.tolist(), strict=True))
    expected = {("0.attn.act_in", 2): 0.0, ("0.attn.act_in", 5): 0.1, ("0.attn.v", 6): 1.1}
    expected |= {("0.mlp.act_in", 7): 0.0, ("0.mlp.act_in", 1): 0.2, ("0.mlp.post_act", 11): 0.05}
    for node, delta in expected.items():
        assert nodes[Node(*node)] == pytest.approx(delta, abs=1e-6)
    edges = dict(zip(edges_of(circuit), circuit.importance.edge_deltas.tolist(), strict=True))
    assert edges[Node("0.attn.act_in", 5), Node("0.attn.v", 6)] == pytest.approx(0.1)
    assert edges[Node("0.mlp.act_in", 1), Node("0.mlp.post_act", 11)] == pytest.approx(-0.02)
    assert circuit.importance.pairs == 2
    assert circuit.provenance["bias_deltas"] == [["0.attn.v", 6, pytest.approx(0.3)]]
    assert circuit.provenance["layer_deltas"] == {"0.mlp": pytest.approx(0.3), "0.attn": pytest.approx(0)}
    assert circuit.provenance["all_loss"] == [[0, 0.5], [1, 0.4]]
    assert circuit.provenance["prune_config"] == {"k_coef": 1e-4, "steps": 8}


def test_samples_and_prompts(path):
    data = released.import_viz(path, "quotes")
    lowest, highest = data.samples["0.mlp.post_act"][11][0.01]
    assert len(lowest) == 1 and len(highest) == 2
    assert (highest[0].tokens.tolist(), highest[0].peak) == ([0, 1, 2, 3], 2)
    assert highest[1].activations.tolist() == [0.0, 0.5, 9.0, 1.0]
    np.testing.assert_array_equal(data.task_tokens, TOKENS)
    np.testing.assert_array_equal(data.task_activations["0.mlp.post_act"][11], f32(*TOKENS) / 10)


def test_the_nested_version_means_the_same(path, tmp_path):
    value = published()
    for key in ("pair_data", "pair_data_connections"):
        entries = value["importances"][key]
        value["importances"][key] = [[], entries[:1], entries[1:]]  # a part may be empty
    nested = released.import_viz(write(tmp_path / "nested.pt", value), "quotes").circuit
    flat = released.import_viz(path, "quotes").circuit
    assert nested.edges == flat.edges
    np.testing.assert_array_equal(nested.importance.edge_deltas, flat.importance.edge_deltas)


def test_without_weights_the_edges_are_those_with_a_delta(tmp_path):
    value = published()
    value["importances"]["pair_data_connections"] = []
    circuit = released.import_viz(write(tmp_path / "x.pt", value), "quotes").circuit
    assert len(circuit.edges) == 4 and np.isnan([edge.weight for edge in circuit.edges]).all()


def test_nested_and_without_any_pair(tmp_path):
    value = published()
    value["importances"] |= {"pair_data": [[]], "pair_data_connections": [[]]}
    assert released.import_viz(write(tmp_path / "x.pt", value), "quotes").circuit.edges == ()


def test_the_circuit_file_keeps_it(path, tmp_path):
    circuit = released.import_viz(path, "quotes").circuit
    circuit.save(tmp_path / "saved")
    read = load_circuit(tmp_path / "saved")
    assert (read.nodes, read.edges, read.metrics) == (circuit.nodes, circuit.edges, circuit.metrics)
    np.testing.assert_array_equal(read.importance.node_deltas, circuit.importance.node_deltas)


def test_export_writes_the_schema_and_reads_back(path, tmp_path):
    data = released.import_viz(path, "quotes")
    again = tmp_path / "again.pt"
    released.export_viz(data, again)
    read = released.import_viz(again, "quotes")
    for field in ("nodes", "edges", "bias_only", "metrics", "model_config", "calibration"):
        assert getattr(read.circuit, field) == getattr(data.circuit, field)
    for field in ("node_deltas", "edge_deltas"):
        first, second = (getattr(each.circuit.importance, field) for each in (data, read))
        np.testing.assert_array_equal(first, second)
    jax.tree.map(np.testing.assert_array_equal, read.samples, data.samples)
    jax.tree.map(np.testing.assert_array_equal, read.task_activations, data.task_activations)
    assert read.circuit.provenance["layer_deltas"] == pytest.approx(data.circuit.provenance["layer_deltas"])
    raw, original = read_torch_file(again), published()
    assert set(raw) == set(original) and set(raw["importances"]) == set(original["importances"])
    for key in ("loss", "interv_loss", "layer_interv_losses"):
        assert raw["importances"][key] == pytest.approx(original["importances"][key])
    assert raw["all_loss"] == original["all_loss"] and raw["num_total_nodes"] == 68
    assert raw["circuit_data"]["0.mlp.act_in"].tolist() == [1, 7]
    # The visualizer takes whatever lies in circuit_data for tensors.
    assert {value.dtype for value in raw["circuit_data"].values()} == {np.dtype(np.int64)}
    assert raw["prune_config"] == original["prune_config"]
    losses = raw["importances"]["ch_interv_losses"]
    assert {site: len(values) for site, values in losses.items()} == {s: len(k) for s, k in KEPT.items()}
    assert losses["0.mlp.act_in"] == pytest.approx([1.2, 0.8])
    # The visualizer indexes the matrices of a half by their ends, as a tuple, and wants all of them.
    ends = [entry[-1] for entry in raw["importances"]["pair_data"]]
    assert all(type(each) is tuple for each in ends) and len(ends) == 6
    assert ("0.mlp.post_act", "0.mlp.resid_delta") in ends


def test_the_final_residual_stream(tmp_path):
    """It has nodes like the other locations: order, losses, masks, and back again."""
    value, importances = published(), published()["importances"]
    value["circuit_data"]["final_resid"] = np.array([6, 3])
    importances["ch_interv_losses"]["final_resid"] = [0.9, 1.0]
    importances["loc_interv_losses"] = {"final_resid": 0.5}
    value["num_total_nodes"] = 76
    ends = ("0.mlp.resid_delta", "final_resid")
    importances["pair_data"].append([f32([0.1, 0.2]), ["bias"], [6, 3], ends])
    importances["task_samples"][1]["final_resid"] = {3: f32(*TOKENS) / 10}
    value["samples"]["final_resid"] = {3: {0.5: [[], [(np.arange(4, dtype=np.int16), f32(1, 2, 3, 4), 1)]]}}
    data = released.import_viz(write(tmp_path / "x.pt", value | {"importances": importances}), "quotes")
    plain = released.import_viz(write(tmp_path / "plain.pt", published()), "quotes").circuit
    ends = Node("final_resid", 3), Node("final_resid", 6)
    assert (data.circuit.nodes, data.circuit.edges) == ((*plain.nodes, *ends), plain.edges)
    assert data.circuit.metrics["nodes"] == 9 and "final_resid" not in plain.means
    assert data.circuit.masks()["final_resid"].tolist() == [0, 0, 0, 1, 0, 0, 1, 0]
    np.testing.assert_allclose(data.circuit.importance.node_deltas[-2:], [0.1, 0.05], atol=1e-6)
    assert data.circuit.provenance["loc_deltas"] == {"final_resid": pytest.approx(-0.15)}
    assert data.circuit.provenance["bias_deltas"][-2:] == [
        ["final_resid", 6, pytest.approx(0.05)],
        ["final_resid", 3, pytest.approx(0.1)],
    ]
    sample = data.samples["final_resid"][3][0.5][1][0]
    assert (sample.tokens.dtype, sample.activations.dtype) == (np.int64, np.float32)
    raw = read_torch_file(released.export_viz(data, tmp_path / "again.pt"))
    assert raw["circuit_data"]["final_resid"].tolist() == [3, 6]
    assert list(raw["samples"]["final_resid"]) == [3] and raw["num_total_nodes"] == 76
    assert raw["importances"]["loc_interv_losses"] == {"final_resid": pytest.approx(0.5)}
    again = released.import_viz(tmp_path / "again.pt", "quotes").circuit
    assert (again.nodes, again.edges) == (data.circuit.nodes, data.circuit.edges)
    back = released.import_viz(released.export_viz(plain, tmp_path / "plain.pt"), "quotes").circuit
    assert back.nodes == plain.nodes and "final_resid" not in back.masks()


def test_a_circuit_of_ours_has_a_loss_to_plot(path, tmp_path):
    circuit = released.import_viz(path, "quotes").circuit
    circuit = dataclasses.replace(circuit, provenance={"prune": {"steps": 8}})
    raw = read_torch_file(released.export_viz(circuit, tmp_path / "x.pt"))
    assert raw["all_loss"] == [(0, 0.8)] and raw["prune_config"] == {"steps": 8}
    assert raw["num_total_nodes"] == 68


def test_settings_that_refer_to_one_another(tmp_path):
    """2 ** 60 values if written out, or a list that holds itself: one line, in no time."""
    doubled = b"]q\0" + b"h\0\x86q\0" * 60
    for settings in (doubled, b"]q\0h\0a"):
        value = published()
        del value["circuit_data"]["prune_config"], value["prune_config"]
        path = write(tmp_path / "x.pt", value)
        with zipfile.ZipFile(path) as file:
            members = {name: file.read(name) for name in file.namelist()}
        program = members["x/data.pkl"]
        assert program.endswith(b"u.")
        members["x/data.pkl"] = program[:-2] + b"X\x0c\0\0\0prune_config" + settings + b"u."
        with zipfile.ZipFile(path, "w") as file:
            for name, content in members.items():
                file.writestr(name, content)
        with pytest.raises(CircuitError, match="more than 10000 values|schema") as error:
            released.import_viz(path, "quotes")
        assert "\n" not in str(error.value)


def test_a_circuit_without_deltas(path, tmp_path):
    circuit = dataclasses.replace(released.import_viz(path, "quotes").circuit, importance=None)
    read = released.import_viz(released.export_viz(circuit, tmp_path / "x.pt"), "quotes").circuit
    assert read.importance is None and read.edges == circuit.edges and read.metrics == circuit.metrics


def test_with_its_model(path):
    params = random_params(CONFIG)
    params["h_0"]["attn"]["c_attn"]["kernel"][:, 16 + 6] = 0  # nothing is read into v channel 6
    params["h_0"]["attn"]["sink"][:] = 0
    model = Model(dataclasses.replace(CONFIG, attention_sink=True), params)
    circuit = released.import_viz(path, "quotes", model).circuit
    said = dict(zip(circuit.nodes, circuit.bias_only, strict=True))
    assert said[Node("0.attn.v", 6)] and not said[Node("0.mlp.post_act", 11)]
    assert {entry.channel for entry in circuit.embedding} == {1, 2, 5, 7}
    assert len(circuit.model_hash) == 64
    other = dataclasses.replace(CONFIG, vocab_size=12, n_head=4, d_mlp=None)
    with pytest.raises(CircuitError, match="heads 2 and 4, neurons 12 and 32, vocab_size 11 and 12"):
        released.import_viz(path, "quotes", dataclasses.replace(model, config=other))


def test_a_node_whose_edges_are_all_cut_holds_a_constant(path):
    """The file has no edge into attn.k 3, though the model has weights there."""
    value = published()
    value["circuit_data"]["0.attn.k"] = np.array([3])
    value["importances"]["ch_interv_losses"]["0.attn.k"] = [0.8]
    params = random_params(CONFIG)
    model = Model(CONFIG, params)
    circuit = released.import_viz(write(path, value), "quotes", model).circuit
    said = dict(zip(circuit.nodes, circuit.bias_only, strict=True))
    assert said[Node("0.attn.k", 3)] and not said[Node("0.attn.v", 6)]


def change(key, new):
    def apply(value):
        value["importances"][key] = new(value["importances"][key])

    return apply


@pytest.mark.parametrize(
    ("apply", "words"),
    [
        (lambda v: v.pop("circuit_data"), "not of the viz_data.pt schema.*circuit_data"),
        (lambda v: v.pop("importances"), "not of the viz_data.pt schema"),
        (change("interv_loss", lambda x: "much"), "not of the viz_data.pt schema"),
        (change("beeg_model_config", lambda x: x | {"warp": 9}), "unknown config keys warp"),
        (lambda v: v["circuit_data"].update({"9.attn.q": np.array([1])}), r"names 9\.attn\.q"),
        (lambda v: v["circuit_data"].update({"0.attn.q": np.array([8])}), r"keeps at 0\.attn\.q.*below 8"),
        (lambda v: v["circuit_data"].update({"0.attn.q": np.array([1, 1])}), "no different indices"),
        (
            lambda v: v["circuit_data"].update({"0.attn.v": np.array([5])}),
            r"0\.attn\.v\.6, which",
        ),
        (change("ch_interv_losses", lambda x: x | {"0.attn.v": [1.0, 2.0]}), r"2 values at 0\.attn\.v"),
        (
            change("pair_data", lambda x: [[np.zeros((2, 2), np.float32), *x[0][1:]]]),
            r"\[2, 2\], but joins",
        ),
    ],
)
def test_files_that_do_not_fit_together(apply, words, tmp_path):
    value = published()
    apply(value)
    path = write(tmp_path / "x.pt", value)
    with pytest.raises(CircuitError, match=words) as error:
        released.import_viz(path, "quotes")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_settings_beside_the_node_sites(tmp_path):
    """Names that are no places in a network are kept, and told unless they are known."""
    value = published()
    value["circuit_data"] |= {"k": 64, "is_kiter_bug_fixed": True}
    with pytest.warns(UserWarning, match=r"unknown keys.*: circuit_data\.k$"):
        circuit = released.import_viz(write(tmp_path / "x.pt", value), "quotes").circuit
    assert circuit.provenance["unknown"] == {"circuit_data.k": 64}
    assert circuit.provenance["is_kiter_bug_fixed"] is True


@pytest.mark.parametrize("key", ["task_samples", "task_samples_circuit"])
@pytest.mark.parametrize("prompts", [TOKENS, (TOKENS,), [TOKENS], (TOKENS, None), (TOKENS, {}), None, ()])
def test_prompts_with_and_without_activations(key, prompts, tmp_path):
    value = published()
    value["importances"][key] = prompts
    data = released.import_viz(write(tmp_path / "x.pt", value), "quotes")
    there = key == "task_samples_circuit" or prompts is not None and len(prompts) > 0
    np.testing.assert_array_equal(data.task_tokens, TOKENS if there else np.zeros((0, 0)))
    assert not data.circuit_activations and data.circuit.importance.pairs == 2 * there
    again = released.import_viz(released.export_viz(data, tmp_path / "again.pt"), "quotes")
    np.testing.assert_array_equal(again.task_tokens, data.task_tokens)


def tensors(value):
    """The same losses as tensors of one value each."""
    one = lambda x: f32(x) if isinstance(x, (int, float)) else x  # noqa: E731
    importances = value["importances"]
    importances |= {key: one(importances[key]) for key in ("loss", "interv_loss")}
    importances["layer_interv_losses"] = {k: one(x) for k, x in importances["layer_interv_losses"].items()}
    importances["ch_interv_losses"] = {
        site: [one(float(x)) for x in losses] for site, losses in importances["ch_interv_losses"].items()
    }
    value |= {"num_total_nodes": np.array([68]), "all_loss": [(n, one(x)) for n, x in value["all_loss"]]}


def nothing_known(value):
    value |= {"num_total_nodes": None, "samples": None, "all_loss": None}
    del value["importances"]["task_samples"], value["importances"]["layer_interv_losses"]


def nothing_there(value):
    for key in ("num_total_nodes", "samples", "all_loss"):
        del value[key]


@pytest.mark.parametrize(
    "apply",
    [
        tensors,
        nothing_known,
        nothing_there,
        change("ch_interv_losses", lambda x: x | {"final_resid": []}),
        lambda v: v["circuit_data"].update(final_resid=np.zeros(0, np.int64)),
        lambda v: v.update(all_loss=[1.0, 0.8]),
        lambda v: v.update(all_loss={0: 1.0, 1: 0.8}),
        lambda v: v.update(all_loss=f32(1.0, 0.8)),
    ],
)
def test_the_forms_that_files_have(path, apply, tmp_path):
    value, plain = published(), released.import_viz(path, "quotes").circuit
    apply(value)
    circuit = released.import_viz(write(tmp_path / "x.pt", value), "quotes").circuit
    assert (circuit.nodes, circuit.edges) == (plain.nodes, plain.edges)
    assert circuit.metrics == pytest.approx(plain.metrics)
    np.testing.assert_allclose(circuit.importance.node_deltas, plain.importance.node_deltas, atol=1e-7)
    assert circuit.provenance["num_total_nodes"] == 68
    trials = circuit.provenance["all_loss"]
    assert trials in ([], [[0, 0.5], [1, pytest.approx(0.4)]])
    again = released.import_viz(released.export_viz(circuit, tmp_path / "again.pt"), "quotes").circuit
    assert again.edges == circuit.edges


@pytest.mark.parametrize("loss", [f32(1, 2), None, "much", []])
def test_a_loss_that_is_no_number(loss, tmp_path):
    for key in ("loss", "interv_loss"):
        value = published()
        value["importances"][key] = loss
        with pytest.raises(CircuitError, match="schema") as error:
            released.import_viz(write(tmp_path / "x.pt", value), "quotes")
        assert "\n" not in str(error.value)


def test_what_is_not_known_is_null_in_json_and_nan_in_a_file(path, tmp_path):
    """A circuit of ours has no losses of layers; what was never measured may be any figure."""
    circuit = released.import_viz(path, "quotes").circuit
    figures = {name: x for name, x in circuit.metrics.items() if name in ("nodes", "edges")}
    unknown = {"layer_deltas": {"0.mlp": None}, "all_loss": [[0, None]]}
    for metrics in (circuit.metrics, figures):
        changed = dataclasses.replace(circuit, metrics=metrics, provenance=circuit.provenance | unknown)
        read = released.import_viz(released.export_viz(changed, tmp_path / "x.pt"), "quotes").circuit
        assert read.metrics == metrics and read.provenance["all_loss"] == [[0, None]]
        read.save(tmp_path / "saved")
        text = (tmp_path / "saved" / "circuit.json").read_text()
        assert json.loads(text, parse_constant=pytest.fail)["provenance"]["layer_deltas"]["0.mlp"] is None
        assert load_circuit(tmp_path / "saved").provenance == read.provenance
    nan = dataclasses.replace(
        circuit, metrics={"test/loss": float("nan")}, calibration=Calibration(np.nan, 1.0)
    )
    nan.save(tmp_path / "nan")
    read = load_circuit(tmp_path / "nan")
    assert np.isnan(read.metrics["test/loss"]) and np.isnan(read.calibration.scale)


def test_other_contents_and_code(tmp_path):
    for value in ({}, [], [{}], {"a": np.zeros(2, np.float32)}):
        with pytest.raises(CircuitError, match="viz_data.pt schema"):
            released.import_viz(write(tmp_path / "x.pt", value), "quotes")
    evil = pickle.dumps({"circuit_data": Evil(os.mkdir, str(tmp_path / "ran"))}, 2)
    with pytest.raises(CheckpointError, match="mkdir"):
        released.import_viz(archive(tmp_path / "x.pt", evil), "quotes")
    assert not (tmp_path / "ran").exists()


def test_edges_survive_in_order(path, tmp_path):
    """Deltas stay with their edges whatever the order of the entries."""
    value = published()
    for key in ("pair_data", "pair_data_connections"):
        value["importances"][key] = value["importances"][key][::-1]
    circuit = released.import_viz(write(tmp_path / "x.pt", value), "quotes").circuit
    place = circuit.edges.index(
        Edge(
            circuit.nodes.index(Node("0.attn.v", 6)), circuit.nodes.index(Node("0.attn.resid_delta", 1)), 3.0
        )
    )
    assert circuit.importance.edge_deltas[place] == pytest.approx(0.2)
