"""A compiled network run by numpy, tracr's own layers one by one, with a part of it at its mean."""

from collections.abc import Callable

import jax
import numpy as np

from circuits_jax.circuits.rasp import Network
from circuits_jax.model import parameters


def by_hand(net: Network) -> Callable[..., np.ndarray]:
    """A function that gives the logit differences of every input, float64 [inputs].

    It takes a node (site, i) that is at its mean of each position, an edge (source site, i, target site, j)
    that carries that mean, or None, and the share of an edge that is removed.
    """
    config = net.model.config
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), net.model.params)
    means: dict[str, np.ndarray] = {}

    def run(held: tuple | None = None, share: float = 1.0) -> np.ndarray:
        def site(name, x):
            if held is None:
                means[name] = x.mean(axis=0)
            elif held[0] == name and len(held) == 2:
                x = x.copy()
                x[..., held[1]] = means[name][..., held[1]]
            return x

        def linear(name, layer, source, carried, targets, x):
            weights = parameters.get(params, name, layer)
            y = x @ weights["kernel"] + weights["bias"]
            if held is not None and len(held) == 4 and held[0] == source and held[2] in targets:
                column = targets.index(held[2]) * (y.shape[-1] // len(targets)) + held[3]
                lost = x[..., held[1]] - means[carried][..., held[1]]
                y[..., column] -= share * lost * weights["kernel"][held[1], column]
            return y

        tokens = net.inputs
        x = params["wte"]["embedding"][tokens] + params["wpe"]["embedding"][: tokens.shape[1]]
        for layer in range(config.n_layer):
            read = site(f"{layer}.attn.act_in", x)
            names = [f"{layer}.attn.{part}" for part in "qkv"]
            qkv = linear(parameters.QKV, layer, f"{layer}.attn.act_in", f"{layer}.attn.act_in", names, read)
            q, k, v = (site(n, part) for n, part in zip(names, np.split(qkv, 3, axis=-1), strict=True))
            y = np.zeros_like(v)
            for head in range(config.heads):
                mine = slice(head * config.d_head, (head + 1) * config.d_head)
                scores = np.einsum("btd,bsd->bts", q[..., mine], k[..., mine]) / np.sqrt(config.d_head)
                if config.attention == "causal":
                    scores = np.where(np.tril(np.ones(scores.shape[1:], bool)), scores, -1e30)
                weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
                y[..., mine] = weights / weights.sum(axis=-1, keepdims=True) @ v[..., mine]
            y = site(f"{layer}.attn.y", y)
            out = [f"{layer}.attn.resid_delta"]
            x = x + site(out[0], linear(parameters.ATTENTION_OUT, layer, names[2], f"{layer}.attn.y", out, y))
            read = site(f"{layer}.mlp.act_in", x)
            hidden = [f"{layer}.mlp.post_act"]
            inner = linear(
                parameters.MLP_IN, layer, f"{layer}.mlp.act_in", f"{layer}.mlp.act_in", hidden, read
            )
            inner = site(hidden[0], np.maximum(inner, 0))
            out = [f"{layer}.mlp.resid_delta"]
            x = x + site(out[0], linear(parameters.MLP_OUT, layer, hidden[0], hidden[0], out, inner))
        logits = x @ params["lm_head"]["kernel"] + params["logits_bias"]
        first, second = (logits[:, net.compiled.position, token] for token in net.answers)
        return first - second

    run()  # the means
    return run
