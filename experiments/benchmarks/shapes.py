"""The sizes that benchmarks are run at, and the random tokens that they are run on."""

import numpy as np

# Layers, d_model, context, batch.
SIZES = {"quickstart": (2, 128, 128, 8), "S": (2, 256, 128, 16), "M": (4, 512, 256, 8)}
# Of the sparse model that bridges are trained with; the dense one differs in width.
BRIDGED, DENSE_WIDTH = (2, 256, 128, 8), 128
PAIRS, PROMPT = 64, 24  # pairs of a pruning step, tokens of a prompt
VOCABULARY, KEPT, FLOOR = 2048, 1 / 32, 4


def random_tokens(*shape: int) -> np.ndarray:
    """Random tokens, int32 [*shape]; always the same."""
    return np.random.default_rng(0).integers(0, VOCABULARY, shape).astype(np.int32)


def random_pairs(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Random prompts, int32 [PAIRS, 2, length], and the right token of each, int32 [PAIRS, 2]."""
    return random_tokens(PAIRS, 2, length), np.tile(np.int32([3, 4]), (PAIRS, 1))
