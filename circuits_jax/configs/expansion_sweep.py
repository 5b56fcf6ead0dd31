"""The expansion sweep: models of 8 layers and d_model 256 E, by the number of weights they may keep.

Gao et al. 2025, the trade of capability against interpretability as models widen (the released
csp_sweep1_{E}x_{N}Mnonzero_afrac{F}, of 8 layers and d_head 16): at equal nonzeros a wider model is a sparser
one. All other settings are those of paper_8x1024, so each has 2,000,011,264 tokens. The floor j = 4
binds nowhere. AbsTopK stays at F = 1/4; the released ones go from 1/8 to 1, which switches it off
(--config.model.activation_fraction=F). Those who loaded released ones report that they have no sinks
(--config.model.attention_sink=False), and that there is an E = 16, too. E = 1 with 7.4M nonzeros is dense
(dense_baselines:0 with AbsTopK).

    index  expansion    parameters      nonzeros    weights
        0          1    11,557,248       924,962    1 in 8.0
        1          1    11,557,248     1,849,966    1 in 4.0
        2          1    11,557,248     3,699,950    1 in 2.0
        3          2    31,503,104       924,968   1 in 29.5
        4          2    31,503,104     1,849,962   1 in 14.8
        5          2    31,503,104     3,699,966    1 in 7.4
        6          2    31,503,104     7,399,974    1 in 3.7
        7          2    31,503,104    14,799,972    1 in 1.8
        8          4   109,143,552       924,990  1 in 113.4
        9          4   109,143,552     1,849,996   1 in 56.7
       10          4   109,143,552     3,699,992   1 in 28.4
       11          4   109,143,552     7,399,984   1 in 14.2
       12          4   109,143,552    14,799,984    1 in 7.1
       13          8   415,419,392       924,966  1 in 444.5
       14          8   415,419,392     1,849,972  1 in 222.3
       15          8   415,419,392     3,699,970  1 in 111.1
       16          8   415,419,392     7,399,966   1 in 55.6
       17          8   415,419,392    14,799,972   1 in 27.8

GB a chip of the widest (E = 8), batch and state split over all chips: parameters, moments and gradient
(state); what the backward pass keeps, as the plan of a run estimates it:

    machine  chips  mesh.accumulate  state  activations  memory
    v4-8         4                1    1.7          4.0      32
    v5e-16      16                1    0.4          1.0      16
    H100         1                1    6.6         15.8      80

An array job over the indices (launch/ has SLURM, GKE and one GPU box), each of them being

    python -m circuits_jax pretrain --config=expansion_sweep:0 --workdir=runs/sweep/0

For a laptop's CPU: --config=expansion_sweep:0,runlocal.
"""

from ml_collections import ConfigDict

from circuits_jax.config import Config
from circuits_jax.configs.paper import paper
from circuits_jax.configs.variants import element

EXPANSIONS = (1, 2, 4, 8)
NONZEROS = (925_000, 1_850_000, 3_700_000, 7_400_000, 14_800_000)


def sparse_entries(d_model: int) -> int:
    """Entries of eight layers of `d_model`, its embeddings and its biases: what can be zero."""
    return 8 * (12 * d_model**2 + 9 * d_model) + 2 * 2048 * d_model


def _configs() -> tuple[Config, ...]:
    """By width, then by nonzeros; a width with fewer entries than nonzeros is left out."""
    grid = ((256 * expansion, nonzeros) for expansion in EXPANSIONS for nonzeros in NONZEROS)
    targets = ((d_model, nonzeros / sparse_entries(d_model)) for d_model, nonzeros in grid)
    return tuple(paper(d_model, target) for d_model, target in targets if target < 1)


CONFIGS = _configs()


def get_config(variant: str) -> ConfigDict:
    """One element, for --config=FILE:INDEX[,runlocal]."""
    return element(CONFIGS, variant)
