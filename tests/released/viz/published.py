"""The quote circuit of csp_yolo1 as a `viz_data.pt`, from the facts of it in `tests/testdata/published`."""

import csv
from pathlib import Path

import numpy as np

from circuits_jax.config import ModelConfig
from circuits_jax.model import sites
from circuits_jax.model.wiring import wires

FACTS = Path(__file__).parents[2] / "testdata" / "published"
CONFIG = ModelConfig(n_layer=12, d_model=1024, d_head=8, d_mlp=4096, n_ctx=1024, vocab_size=2048)
LOSS, ALONE = 0.001426331466063857, 0.006824841030396688
# Layers without kept nodes have the loss of the circuit.
LAYERS = {f"{layer}.{half}": ALONE for layer in range(12) for half in ("attn", "mlp")} | {
    "0.mlp": 3.024932944497397, "10.attn": 3.014032472011655, "9.attn": 1.1461646508338839,
    "11.mlp": 0.5675340497563052, "5.attn": 0.5717810695817651, "7.attn": 0.1461401015863927,
    "2.attn": 0.15385290665865395,
}  # fmt: skip
LENGTH, WIDTH = 17, 223
BEEG = {
    "n_layer": 12, "d_model": 1024, "d_mlp": 4096, "n_head": 128, "d_head": 8, "block_size": 1024,
    "vocab_size": 2048, "afrac": None, "afrac_loctypes": "attn_in,attn_out,mlp_in,mlp_out", "d_pos_emb": None,
    "sink": False, "bias": True, "ln_bias": True, "rms_norm": True, "tied_unembed": False,
    "enable_bigram_table": True, "learnable_bigram_table": True, "bigram_table_rank": None,
    "residual_activation_type": "identity", "activation_type": "gelu", "tokenizer_name": "tinypython_2k",
    "dropout": 0.0, "dropout_cat_pos_emb": False, "sinusoidal_cat_pos_emb": False, "expansion_factor": 4,
    "expansion_factor_mlp": 4, "pfrac": 0.0625, "flash": True, "rtopk": False, "afrac_approx": False,
    "debug_exact_topk": True, "debug_nans": False, "enable_sparse_kernels": False,
    "sparse_matmul_impl": "cuda", "grad_checkpointing": True, "n_embd": None, "ignore_dw_grad": False,
}  # fmt: skip
PRUNE = {
    "logk_coef": 0.1,
    "sq_k_coef": 0.0,
    "maxk_coef": 0.0,
    "k_coef": 1e-4,
    "lr": 3e-3,
    "wd": 1e-3,
    "epochs": 8,
}


def rows(name: str) -> list[list[str]]:
    with (FACTS / f"quotes_csp_yolo1_{name}.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


def node_losses() -> dict[tuple[str, int], float]:
    """{(site, index): the doubled loss without it}, as the file of facts lists them."""
    return {(name.split(":")[0], int(name.split(":")[1])): float(loss) for name, loss in rows("nodes")}


def edge_deltas() -> dict[tuple[tuple[str, int], tuple[str, int]], float]:
    """{(source, target): the doubled delta}."""
    split = lambda name: (name.split(":")[0], int(name.split(":")[1]))  # noqa: E731
    return {(split(source), split(target)): float(value) for source, target, value in rows("edges")}


def viz_data() -> dict:
    """The whole file, what the facts do not say (weights, prompts, samples) being made up."""
    widths = sites.node_sites(CONFIG, final=True)
    kept: dict[str, list[int]] = {site: [] for site in widths}
    losses: dict[str, list[float]] = {site: [] for site in widths}
    for (site, index), loss in node_losses().items():
        kept[site].append(index)
        losses[site].append(loss)
    deltas, weights = [], []
    for wire in wires(CONFIG.n_layer):
        sources, targets = kept[wire.source], kept[wire.target]
        if not sources and not targets:
            continue
        ends, matrix = (wire.source, wire.target), np.zeros((len(sources) + 1, len(targets)), np.float32)
        for (source, target), value in edge_deltas().items():
            if (source[0], target[0]) == ends:
                matrix[sources.index(source[1]), targets.index(target[1])] = value
        deltas.append([matrix, [*sources, "bias"], targets, ends])
        table = np.where(matrix, 2 * np.abs(matrix) + 1, 0).astype(np.float32)
        weights.append([table if table.size else [], [*sources, "bias"], targets, ends])
    tokens = np.zeros((32, WIDTH), np.int64)
    tokens[:, :LENGTH] = np.random.default_rng(0).integers(1, 2047, (32, LENGTH))
    tokens[::3, LENGTH - 2 :] = 0  # shorter ones
    acts = {site: {i: tokens.astype(np.float32) / 7 for i in ids} for site, ids in kept.items() if ids}
    item = (np.arange(1, 9), np.linspace(0, 1, 8, dtype=np.float32), 7)
    return {
        "circuit_data": {site: np.array(ids, np.int64) for site, ids in kept.items()},
        "prune_config": PRUNE,
        "num_total_nodes": 136_192,
        "is_kiter_bug_fixed": True,
        "all_loss": [(0, 0.5), (1, ALONE)],
        "samples": {s: {i: {0.01: [[item], [item]]} for i in ids} for s, ids in kept.items() if ids},
        "importances": {
            "loss": LOSS,
            "interv_loss": ALONE,
            "layer_interv_losses": LAYERS,
            "loc_interv_losses": {"final_resid": 0.9, "0.mlp.act_in": 2.5},
            "ch_interv_losses": losses,
            "pair_data": deltas,
            "pair_data_connections": weights,
            "task_samples": (tokens, acts),
            "task_samples_circuit": (tokens, acts),
            "beeg_model_config": BEEG,
        },
    }
