"""The released network once more, in numpy and float32, straight from the state dict (docs/numerics.md).

Written without a look at `circuits_jax`: it is what the library's forward pass is compared with where
no recorded activations exist.
"""

import math
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "testdata" / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir())

F32 = np.float32
ERF = np.vectorize(math.erf, otypes=[np.float64])
DEFAULTS = {
    "rms_norm": False,
    "activation_type": "gelu",
    "residual_activation_type": "identity",
    "afrac": None,
    "afrac_loctypes": "attn_in,attn_out,mlp_in,mlp_out",
    "tied_unembed": True,
    "sink": False,
    "d_pos_emb": None,
}


def forward(config, state, tokens):
    """(logits [B, T, V], {hook: [B, T, width]}) of a released config and its state dict."""
    c = DEFAULTS | config
    w = {name: np.asarray(value, F32) for name, value in state.items()}
    hooks = {}
    length = tokens.shape[1]
    x = w["transformer.wte.weight"][tokens]
    positions = w["transformer.wpe.weight"][:length]
    if c["d_pos_emb"] is None:
        x, positions = x + positions, None
    for layer in range(c["n_layer"]):
        for half, short in ((1, "attn"), (2, "mlp")):
            hooks[f"{layer}.{'resid_in' if half == 1 else 'resid_mid'}"] = x
            name = f"transformer.h.{layer}."
            read = norm(c, w, f"{name}ln_{half}", x)
            if positions is not None:
                features = norm(c, w, f"{name}ln_p{half}", positions)
                features = np.broadcast_to(features, (*x.shape[:2], features.shape[1]))
                read = np.concatenate([read, features], -1)
            read = hooks[f"{layer}.{short}.act_in"] = topk(c, f"{short}_in", read)
            run = attention if half == 1 else mlp
            delta = topk(c, f"{short}_out", run(c, w, f"{name}{short}.", read, hooks, f"{layer}.{short}."))
            hooks[f"{layer}.{short}.resid_delta"] = delta
            x = x + delta
            x = np.maximum(x, 0) if c["residual_activation_type"] == "relu" else x
            x = topk(c, f"resid_post_{short}", x)
    hooks["final_resid"] = x
    unembed = w["transformer.wte.weight"] if c["tied_unembed"] else w["lm_head.weight"]
    logits = norm(c, w, "transformer.ln_f", x) @ unembed.T + w.get("final_logits_bias", F32(0))
    if c.get("enable_bigram_table"):
        logits = logits + w["bigram_table"][tokens]
    return logits, hooks


def attention(c, w, name, x, hooks, prefix):
    heads = c["n_head"]
    qkv = linear(w, name + "c_attn", x)
    q, k, v = (topk(c, f"attn_{n}", part) for n, part in zip("qkv", np.split(qkv, 3, -1), strict=True))
    hooks |= {prefix + "q": q, prefix + "k": k, prefix + "v": v}
    q, k, v = (each.reshape(*each.shape[:2], heads, -1).transpose(0, 2, 1, 3) for each in (q, k, v))
    scores = q @ k.transpose(0, 1, 3, 2) / F32(math.sqrt(q.shape[-1]))
    scores = np.where(np.tri(x.shape[1], dtype=bool), scores, -np.inf)
    slot = np.full((*scores.shape[:3], 1), -np.inf, F32)
    if c["sink"]:
        slot[...] = w[name + "attn_imp.sink_logit"][None, :, None, None]
    scores = np.concatenate([slot, scores], -1)
    mass = np.exp(scores - scores.max(-1, keepdims=True))
    y = (mass / mass.sum(-1, keepdims=True))[..., 1:] @ v
    y = hooks[prefix + "y"] = y.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1)
    return linear(w, name + "c_proj", y)


def mlp(c, w, name, x, hooks, prefix):
    h = linear(w, name + "c_fc", x)
    gelu = (h * (0.5 + 0.5 * ERF(h / math.sqrt(2)))).astype(F32)
    h = hooks[prefix + "post_act"] = topk(
        c, "mlp_neuron", np.maximum(h, 0) if c["activation_type"] == "relu" else gelu
    )
    return linear(w, name + "c_proj", h)


def linear(w, name, x):
    return x @ w[name + ".weight"].T + w.get(name + ".bias", F32(0))


def norm(c, w, name, x):
    if c["rms_norm"]:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + F32(2**-23)) * w[name + ".weight"]
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + F32(1e-5))
    return x * w[name + ".weight"] + w.get(name + ".bias", F32(0))


def topk(c, location, x):
    if c["afrac"] is None or location not in c["afrac_loctypes"].split(","):
        return x
    order = np.argsort(-np.abs(x), axis=-1, kind="stable")[..., : int(c["afrac"] * x.shape[-1])]
    kept = np.zeros_like(x)
    np.put_along_axis(kept, order, np.take_along_axis(x, order, -1), -1)
    return kept
