"""How well bridges bridge: errors at each site, and the hybrid passes of every route.

See docs/method.md, "Bridges".

A *route* begins in one model and crosses to the other at the sites it names, in order: ("dense", (1, 3)) is
dense below site 1, sparse between sites 1 and 3, dense above.

Letters in shapes: S bridge sites, B batch, T tokens, V vocabulary.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.bridges.hybrid import enter
from circuits_jax.bridges.losses import kl, make_teacher, nmse
from circuits_jax.bridges.model import (
    DENSE,
    SPARSE,
    Bridge,
    BridgeParams,
    at_site,
    decode,
    encode,
    encoder_target,
    residuals,
)
from circuits_jax.model.model import Model
from circuits_jax.model.transformer import Params
from circuits_jax.training.step import token_losses

KINDS = ("trained", "ridge", "mean")
Scores = dict[Any, np.ndarray]  # route -> (KL from the dense model, cross-entropy), both in nats


class Route(NamedTuple):
    """Where a hybrid pass begins, and the places of the sites at which it crosses, in order."""

    start: str
    crossings: tuple[int, ...]


class Pass(NamedTuple):
    """What a pass of one model gave: logits [B, T, V], residuals at the bridge sites [S, B, T, width]."""

    logits: jax.Array
    stream: jax.Array


@dataclasses.dataclass(frozen=True)
class Joined:
    """Two models and their bridges.

    Attributes:
      bridge: How they are joined.
      dense, sparse: The models.
      bridges: The bridges' parameters.
    """

    bridge: Bridge
    dense: Model
    sparse: Model
    bridges: BridgeParams


def every_route(count: int) -> list[Route]:
    """All routes of no, one and two crossings of `count` sites, and those that cross at every site."""
    routes = []
    for start in (DENSE, SPARSE):
        routes.append(Route(start, ()))
        for first in range(count):
            routes.append(Route(start, (first,)))
            routes += [Route(start, (first, second)) for second in range(first, count)]
        if count > 2:
            routes.append(Route(start, tuple(range(count))))
    return routes


class Evaluator:
    """The compiled passes of two models and their bridges; a crossing's place is data, so that each model's
    pass is compiled twice at most.
    """

    def __init__(self, joined: Joined):
        self.joined = joined
        bridge = joined.bridge
        self._models = {DENSE: joined.dense.network, SPARSE: joined.sparse.network}
        self._params = {DENSE: joined.dense.device_params, SPARSE: joined.sparse.device_params}
        self._whole = {side: jax.jit(self._plain(side)) for side in self._models}
        self._above = {side: jax.jit(self._crossed(side)) for side in self._models}
        self._entered = {side: jax.jit(self._filled(side)) for side in self._models}
        self._errors = jax.jit(self._site_errors)
        self._score = jax.jit(_score)
        self._target = jax.jit(lambda stream: encoder_target(bridge, stream))

    def whole(self, side: str, tokens: jax.Array) -> Pass:
        """One model's own pass."""
        return self._whole[side](self._params[side], tokens)

    def cross(self, side: str, bridges: BridgeParams, tokens: jax.Array, other: Pass, place: int) -> Pass:
        """The pass of model `side` that takes the other's residual over at site number `place`."""
        return self._above[side](self._params[side], bridges, tokens, other.stream, place)

    def filled(self, side: str, tokens: jax.Array, value: jax.Array, place: int) -> Pass:
        """The pass of model `side` with `value` [width] at every position of site number `place`."""
        return self._entered[side](self._params[side], tokens, value, place)

    def streams(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[jax.Array, jax.Array, jax.Array]]:
        """Of each batch int [B, T + 1]: the dense residuals, the sparse ones and the encoders' target."""
        for windows in batches:
            tokens = jnp.asarray(windows[:, :-1])
            sparse = self.whole(SPARSE, tokens).stream
            yield self.whole(DENSE, tokens).stream, sparse, self._target(sparse)

    def means(self, batches: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """Mean residuals of each model, float32 [S, width]."""
        sums = [
            (np.asarray(dense.mean(axis=(1, 2))), np.asarray(sparse.mean(axis=(1, 2))))
            for dense, sparse, _ in self.streams(batches)
        ]
        dense, sparse = (np.mean(each, axis=0) for each in zip(*sums, strict=True))
        return {DENSE: dense, SPARSE: sparse}

    def site_errors(
        self, bridges: BridgeParams, batches: Iterable[np.ndarray]
    ) -> dict[str, dict[str, list[float]]]:
        """{"encode", "decode": {"nmse" and "explained", one figure a site}}.

        "nmse" is the loss' own, averaged over batches; "explained" is 1 - squared error / squared deviation
        from the mean, over all tokens together.
        """
        found = [jax.device_get(self._errors(bridges, *streams)) for streams in self.streams(batches)]
        table = {}
        for name in found[0]:
            ratio, error, square, total, count = (
                np.sum([each[name][i] for each in found], axis=0, dtype=np.float64) for i in range(5)
            )
            deviation = square - np.sum(total**2, axis=-1) / count
            table[name] = {
                "nmse": (ratio / len(found)).tolist(),
                "explained": (1 - error / np.maximum(deviation, 1e-30)).tolist(),
            }
        return table

    def routes(self, bridges: BridgeParams, batches: Sequence[np.ndarray], routes: Sequence[Route]) -> Scores:
        """{route: (KL, CE)}, averaged over all tokens."""
        return _averaged(self._routes(bridges, windows, routes) for windows in batches)

    def ablated(self, means: dict[str, np.ndarray], batches: Sequence[np.ndarray]) -> Scores:
        """{(model, place): (KL, CE)} of each model with its residual held at its mean at one site."""
        return _averaged(self._ablated(means, windows) for windows in batches)

    def _routes(self, bridges: BridgeParams, windows: np.ndarray, routes: Sequence[Route]) -> Scores:
        windows = jnp.asarray(windows)
        tokens = windows[:, :-1]
        dense = self.whole(DENSE, tokens).logits
        passes: dict[Route, Pass] = {}
        scores = {}
        for route in routes:
            # Only passes that this route goes on from stay: one is as large as all residuals of a batch.
            passes = {there: each for there, each in passes.items() if _begins(route, there)}
            passes[route] = self._follow(route, passes, bridges, tokens)
            scores[route] = np.asarray(self._score(dense, passes[route].logits, windows))
        return scores

    def _follow(
        self, route: Route, passes: Mapping[Route, Pass], bridges: BridgeParams, tokens: jax.Array
    ) -> Pass:
        """The route's last pass, from the longest of `passes` that it begins with."""
        known = max(passes, key=lambda there: len(there.crossings), default=None)
        made = self.whole(route.start, tokens) if known is None else passes[known]
        for number in range(0 if known is None else len(known.crossings), len(route.crossings)):
            side = _side(Route(route.start, route.crossings[: number + 1]))
            made = self.cross(side, bridges, tokens, made, route.crossings[number])
        return made

    def _ablated(self, means: dict[str, np.ndarray], windows: np.ndarray) -> Scores:
        windows = jnp.asarray(windows)
        tokens = windows[:, :-1]
        dense = self.whole(DENSE, tokens).logits
        return {
            (side, place): np.asarray(
                self._score(dense, self.filled(side, tokens, value, place).logits, windows)
            )
            for side, values in means.items()
            for place, value in enumerate(values)
        }

    def _plain(self, side: str) -> Callable[..., Pass]:
        model = self._models[side]
        return lambda params, tokens: Pass(*residuals(model, params, tokens))

    def _crossed(self, side: str) -> Callable[..., Pass]:
        bridge, model = self.joined.bridge, self._models[side]

        def crossed(
            params: Params, bridges: BridgeParams, tokens: jax.Array, stream: jax.Array, place: int
        ) -> Pass:
            here, value = at_site(bridges, place), jax.lax.dynamic_slice_in_dim(stream, place, 1)
            value = encode(bridge, here, value) if side == SPARSE else decode(here, value)
            return Pass(*residuals(model, params, tokens, enter(bridge.sites, place, value[0])))

        return crossed

    def _filled(self, side: str) -> Callable[..., Pass]:
        bridge, model = self.joined.bridge, self._models[side]
        return lambda params, tokens, value, place: Pass(
            *residuals(model, params, tokens, enter(bridge.sites, place, value))
        )

    def _site_errors(
        self, bridges: BridgeParams, dense: jax.Array, sparse: jax.Array, target: jax.Array
    ) -> Any:
        pairs = {
            "encode": (encode(self.joined.bridge, bridges, dense), target),
            "decode": (decode(bridges, sparse), dense),
        }
        return {
            name: (
                nmse(made, wanted),
                jnp.sum((made - wanted) ** 2, axis=(1, 2, 3)),
                jnp.sum(wanted**2, axis=(1, 2, 3)),
                jnp.sum(wanted, axis=(1, 2)),
                jnp.full((), wanted.shape[1] * wanted.shape[2]),
            )
            for name, (made, wanted) in pairs.items()
        }


def _begins(route: Route, there: Route) -> bool:
    """Whether `route` begins with all of `there`."""
    return there.start == route.start and there.crossings == route.crossings[: len(there.crossings)]


def _side(route: Route) -> str:
    """The model in which a route ends."""
    other = {DENSE: SPARSE, SPARSE: DENSE}
    return route.start if len(route.crossings) % 2 == 0 else other[route.start]


def _score(dense: jax.Array, logits: jax.Array, windows: jax.Array) -> jax.Array:
    return jnp.stack([kl(make_teacher(dense), logits).mean(), token_losses(logits, windows[:, 1:]).mean()])


def _averaged(batches: Iterable[Scores]) -> Scores:
    found = list(batches)
    return {key: np.mean([each[key] for each in found], axis=0) for key in found[0]}
