"""Routes, errors at sites and the closed-form baseline, each against another way to the same figure."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.bridges.dense_circuits import circuit_in_dense, circuit_places
from circuits_jax.bridges.evaluation import Evaluator, Joined, Route, every_route
from circuits_jax.bridges.hybrid import logits_from
from circuits_jax.bridges.model import DENSE, SPARSE, decode, encode, residuals
from circuits_jax.bridges.report import bridge_report, site_rows
from circuits_jax.bridges.ridge import Moments, fit_ridge, solve_ridge
from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import reference_activations
from circuits_jax.circuits.circuit import Calibration, Circuit
from circuits_jax.config import to_dict
from circuits_jax.model.model import Model
from circuits_jax.model.taps import replace
from tests.bridges.models import make, softmax
from tests.bridges.planted import itself, planted, prompts

pytestmark = pytest.mark.computes


@pytest.fixture(scope="module")
def setting():
    """(the evaluator of two random models, what made it, two batches)."""
    loss, params, frozen, windows = make()
    dense = Model(loss.bridge.dense, frozen["dense"])
    sparse = Model(loss.bridge.sparse, params["sparse"])
    joined = Joined(loss.bridge, dense, sparse, params["bridges"])
    more = jax.random.randint(jax.random.PRNGKey(7), windows.shape, 0, 20)
    return Evaluator(joined), loss, joined, [np.asarray(windows), np.asarray(more)]


@pytest.fixture(scope="module")
def report(setting):
    evaluator, _, joined, batches = setting
    return bridge_report(joined, batches, batches, 1e-4)


@pytest.mark.slow
def test_the_routes_are_all_those_of_two_crossings_and_the_two_of_all():
    routes = every_route(5)
    assert len(routes) == len(set(routes)) == 2 * (1 + 5 + 15 + 1)
    assert {Route(DENSE, ()), Route(SPARSE, (0, 4)), Route(DENSE, (0, 1, 2, 3, 4))} < set(routes)


def by_hand(loss, joined, tokens, route):
    """Logits of a route, one pass after another."""
    models = {
        DENSE: (loss.dense, joined.dense.params),
        SPARSE: (loss.sparse, joined.sparse.params),
    }
    side, sites = route.start, joined.bridge.sites
    logits, stream = residuals(*models[side], tokens)
    for place in route.crossings:
        if side == DENSE:
            value = encode(joined.bridge, joined.bridges, stream)[place]
        else:
            value = decode(joined.bridges, stream)[place]
        side = SPARSE if side == DENSE else DENSE
        model, params = models[side]
        logits, stream = residuals(model, params, tokens, replace({sites[place]: value}))
    return logits


@pytest.mark.slow
@pytest.mark.parametrize(
    "route",
    [(DENSE, (1,)), (SPARSE, (0,)), (DENSE, (0, 2)), (SPARSE, (1, 1)), (DENSE, (0, 1, 2))],
    ids=str,
)
def test_a_route_s_figures_are_those_of_the_passes_made_by_hand(setting, route):
    evaluator, loss, joined, batches = setting
    route = Route(*route)
    kl, ce = evaluator.routes(joined.bridges, batches[:1], [route])[route]
    windows = batches[0]
    p = softmax(loss.dense.apply(joined.dense.params, windows[:, :-1])[0])
    q = softmax(by_hand(loss, joined, jnp.asarray(windows[:, :-1]), route))
    assert kl == pytest.approx((p * np.log(p / q)).sum(-1).mean(), rel=1e-3)
    chosen = np.take_along_axis(q, windows[:, 1:, None], axis=-1)
    assert ce == pytest.approx(-np.log(chosen).mean(), rel=1e-3)


def test_the_report_s_table_has_a_row_a_site_and_direction(report):
    rows = site_rows(report)
    assert [row["site"] for row in rows[:3]] == ["0.resid_in", "0.resid_mid", "final_resid"]
    figures = [value for row in rows for value in row.values() if isinstance(value, float)]
    assert len(rows) == 6 and len(figures) == 6 * 10 and np.isfinite(figures).all()
    assert report["whole"]["dense"][0] == pytest.approx(0, abs=1e-5)
    double = report["double"]["dense"]
    assert [[cell is None for cell in row] for row in double] == [[j < i for j in range(3)] for i in range(3)]


def test_the_ridge_explains_more_than_random_bridges_where_it_is_fitted(report):
    for side in ("encode", "decode"):
        trained, ridge = (report["errors"][kind][side]["explained"] for kind in ("trained", "ridge"))
        assert all(a < b for a, b in zip(trained, ridge, strict=True))
    assert max(report["errors"]["ridge"]["decode"]["explained"]) <= 1 + 1e-6


def test_a_site_at_its_mean_explains_nothing_and_is_what_the_baseline_runs(setting):
    evaluator, loss, joined, batches = setting
    means = evaluator.means(batches)
    streams = [residuals(loss.dense, joined.dense.params, jnp.asarray(b[:, :-1]))[1] for b in batches]
    expected = np.mean([np.asarray(s).mean(axis=(1, 2)) for s in streams], axis=0)
    np.testing.assert_allclose(means[DENSE], expected, atol=1e-6)
    kl, _ = evaluator.ablated(means, batches[:1])[DENSE, 1]
    tokens = jnp.asarray(batches[0][:, :-1])
    value = jnp.broadcast_to(means[DENSE][1], (*tokens.shape, 8))
    q = softmax(logits_from(loss.dense, joined.dense.params, tokens, joined.bridge.sites[1], value))
    p = softmax(loss.dense.apply(joined.dense.params, tokens)[0])
    assert kl == pytest.approx((p * np.log(p / q)).sum(-1).mean(), rel=1e-3)
    # A decoder that always says the mean explains nothing.
    constant = jax.tree.map(jnp.zeros_like, dict(joined.bridges))
    constant["decoder"] = {**constant["decoder"], "bias": jnp.asarray(means[DENSE])}
    assert evaluator.site_errors(constant, batches)["decode"]["explained"] == pytest.approx([0] * 3, abs=1e-4)


def test_the_ridge_is_least_squares_with_rows_for_the_penalty():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)) + 2, rng.normal(size=(40, 3)) - 1
    moments = Moments(40.0, x.sum(0)[None], y.sum(0)[None], (x.T @ x)[None], (x.T @ y)[None])
    found = solve_ridge(moments, 0.3)
    centred, weight = x - x.mean(0), 0.3 * x.var(axis=0).mean()
    rows = np.concatenate([centred, np.sqrt(40 * weight) * np.eye(5)])
    targets = np.concatenate([y - y.mean(0), np.zeros((5, 3))])
    kernel = np.linalg.lstsq(rows, targets, rcond=None)[0]
    np.testing.assert_allclose(found["kernel"][0], kernel, rtol=1e-4)
    np.testing.assert_allclose(found["bias"][0], y.mean(0) - x.mean(0) @ kernel, rtol=1e-4)


def test_the_ridge_finds_a_linear_relation_and_bears_dead_channels():
    rng = np.random.default_rng(1)
    joined = itself()
    width = joined.bridge.dense.d_model
    kernel = rng.normal(size=(width, width))
    streams = []
    for _ in range(3):
        dense = rng.normal(size=(5, 2, 40, width)).astype(np.float32)
        dense[..., 7] = 0
        sparse = (dense @ kernel + 1).astype(np.float32)
        streams.append((jnp.asarray(dense), jnp.asarray(sparse), jnp.asarray(sparse)))
    found = fit_ridge(joined.bridge, streams, 1e-8)["encoder"]
    alive = np.arange(width) != 7
    np.testing.assert_allclose(found["kernel"][2][alive], kernel[alive], atol=1e-2)
    np.testing.assert_allclose(found["bias"], 1, atol=1e-2)


@pytest.mark.slow
def test_a_network_bridged_to_itself_loses_nothing_on_any_route():
    joined = itself()
    batches = list(planted().corpus[:2, :8])
    report = bridge_report(joined, batches, batches, 1e-6)
    cells = [cell[0] for start in report["double"].values() for row in start for cell in row if cell]
    cells += [each[0] for direction in report["single"].values() for each in direction["trained"]]
    assert max(cells) < 1e-5
    assert report["errors"]["trained"]["encode"]["nmse"] == pytest.approx([0] * 5, abs=1e-6)
    assert report["errors"]["trained"]["decode"]["explained"] == pytest.approx([1] * 5, abs=1e-6)
    means = [each[0] for direction in report["single"].values() for each in direction["mean"]]
    assert min(means) > 0.01


@pytest.fixture(scope="module")
def circuit():
    """The planted circuit, with its corpus means."""
    found = planted()
    means = reference_activations(found.model, found.corpus, "mean")
    return Circuit(
        task="quotes",
        nodes=found.nodes,
        edges=graph.edges_of(found.config, found.params, found.nodes),
        bias_only=(False,) * len(found.nodes),
        means={site: np.asarray(mean) for site, mean in means.items()},
        ablation="mean",
        embedding=(),
        unembedding=(),
        calibration=Calibration(1.0, 0.0),
        metrics={},
        model_config=to_dict(found.config),
        model_hash="",
        tokenizer_hash="",
        provenance={},
    )


@pytest.mark.slow
def test_a_planted_circuit_recovers_its_own_network(circuit):
    assert circuit_places(circuit, 5) == (1, 3)  # reads before layer 0's MLP, writes with layer 1's attention
    found = circuit_in_dense(itself(), circuit, prompts())
    assert (found["entry"], found["exit"]) == ("0.resid_mid", "1.resid_mid")
    rows = {row["run"]: row for row in found["rows"]}
    assert rows["dense model"]["accuracy"] == 1 and rows["dense model"]["share of loss"] == pytest.approx(1)
    for run in ("dense, circuit, dense", "circuit, dense", "dense, sparse model, dense"):
        assert rows[run]["share of loss"] > 0.9, run
    assert rows["dense, the site at its mean"]["share of loss"] < 0.5


def test_a_circuit_without_the_type_neuron_recovers_nothing(circuit):
    kept = tuple(node for node in circuit.nodes if node.site != "0.mlp.post_act")
    edges = graph.edges_of(planted().config, planted().params, kept)
    cut = dataclasses.replace(circuit, nodes=kept, edges=edges, bias_only=(False,) * len(kept))
    rows = {row["run"]: row for row in circuit_in_dense(itself(), cut, prompts())["rows"]}
    assert rows["dense, circuit, dense"]["share of loss"] < 0.2
