"""The evaluation of bridges as one table of figures, ready for JSON."""

from collections.abc import Sequence

import numpy as np

from circuits_jax.bridges.evaluation import Evaluator, Joined, Route, every_route
from circuits_jax.bridges.model import DENSE, SPARSE
from circuits_jax.bridges.ridge import fit_ridge
from circuits_jax.storage.tables import Report, Row

# Direction -> the model that a hybrid begins in.
DIRECTIONS = {"dense to sparse": DENSE, "sparse to dense": SPARSE}


def bridge_report(
    joined: Joined, fitted: Sequence[np.ndarray], held: Sequence[np.ndarray], penalty: float
) -> Report:
    """Errors at the sites and every route, for trained bridges and for the two baselines.

    Args:
      joined: Two models and their bridges.
      fitted: Training batches, int [B, T + 1], that ridge bridges and means are taken from.
      held: Validation batches that all is judged on.
      penalty: Of the ridge.

    Returns:
      {"sites"; "whole": {model: [KL, CE]}; "errors": {"trained", "ridge": {"encode", "decode": {"nmse",
      "explained"}}}; "single": {direction: {"trained", "ridge", "mean": [[KL, CE], one a site]}}; "double":
      {model in which it begins and ends: [first place][second place] -> [KL, CE] or None}; "alternating":
      {model in which it begins: [KL, CE]}}.
    """
    evaluator = Evaluator(joined)
    sites = joined.bridge.sites
    ridge = fit_ridge(joined.bridge, evaluator.streams(fitted), penalty)
    trained = evaluator.routes(joined.bridges, held, every_route(len(sites)))
    # Each after the whole pass that it crosses from, which is then made once.
    places = [(), *((place,) for place in range(len(sites)))]
    single = [Route(start, each) for start in DIRECTIONS.values() for each in places]
    linear = evaluator.routes(ridge, held, single)
    ablated = evaluator.ablated(evaluator.means(fitted), held)
    return {
        "sites": list(sites),
        "whole": {start: _pair(trained[Route(start, ())]) for start in (DENSE, SPARSE)},
        "errors": {
            name: evaluator.site_errors(bridges, held)
            for name, bridges in (("trained", joined.bridges), ("ridge", ridge))
        },
        "single": {
            direction: {
                "trained": [_pair(trained[Route(start, (i,))]) for i in range(len(sites))],
                "ridge": [_pair(linear[Route(start, (i,))]) for i in range(len(sites))],
                # The model that takes over is the one whose site is ablated.
                "mean": [_pair(ablated[SPARSE if start == DENSE else DENSE, i]) for i in range(len(sites))],
            }
            for direction, start in DIRECTIONS.items()
        },
        "double": {
            start: [
                [_pair(trained[Route(start, (i, j))]) if j >= i else None for j in range(len(sites))]
                for i in range(len(sites))
            ]
            for start in (DENSE, SPARSE)
        },
        "alternating": {
            start: _pair(trained[Route(start, tuple(range(len(sites))))]) for start in (DENSE, SPARSE)
        },
    }


def site_rows(report: Report) -> list[Row]:
    """One row a site and direction."""
    rows = []
    for direction, name in (("dense to sparse", "encode"), ("sparse to dense", "decode")):
        for place, site in enumerate(report["sites"]):
            row: dict[str, str | float] = {"site": site, "direction": direction}
            for kind in ("trained", "ridge"):
                errors = report["errors"][kind][name]
                suffix = "" if kind == "trained" else " (ridge)"
                row[f"NMSE{suffix}"] = errors["nmse"][place]
                row[f"explained{suffix}"] = errors["explained"][place]
            for kind, suffix in (("trained", ""), ("ridge", " (ridge)"), ("mean", " (mean)")):
                row[f"KL{suffix}"], row[f"CE{suffix}"] = report["single"][direction][kind][place]
            rows.append(row)
    return rows


def _pair(values: np.ndarray) -> list[float]:
    return [float(x) for x in values]
