"""P-values and corrections, in numpy and scipy (docs/statistics.md, "Tests")."""

import math
from collections.abc import Sequence

import numpy as np

LEVEL = 0.05


def draws_needed(tests: int) -> int:
    """The fewest random draws with which one of `tests` corrected together can be significant.

    The least p-value of D draws, 1 / (D + 1), is then below LEVEL / tests.
    """
    return math.floor(tests / LEVEL + 1e-9)


def rank_p(observed: float, draws: np.ndarray, tie: float = 0.0) -> float:
    """The share of `observed` and `draws`, together, that are not below `observed` by more than `tie`.

    Where all are drawn alike it is at most alpha with probability alpha at most, whatever their distribution.
    What is no number speaks against `observed`.

    Args:
      observed: What is ranked.
      draws: float [D], what it is ranked among.
      tie: Differences up to this say nothing, such as those of rounding.
    """
    below = np.asarray(draws, np.float64) < observed - tie
    return float((1 + (~below).sum()) / (1 + len(below)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected together (Holm 1979), in the order given.

    Rejecting those at most alpha rejects any true null with probability alpha at most.
    """
    p, count = np.asarray(p_values, np.float64), len(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (count - np.arange(count)))
    corrected = np.empty(count)
    corrected[order] = np.minimum(stepped, 1)
    return corrected.tolist()


def mean_p(values: np.ndarray, clusters: np.ndarray, expected: float) -> float:
    """Two-sided p-value of "the mean is `expected`", by Student's t over clusters.

    Where clusters do not differ at all, t is without bounds; then clusters are coins: 2 ** (1 - clusters).

    Args:
      values: float [N].
      clusters: int [N], such as the template of each pair; two or more different ones.
      expected: The mean under the null.
    """
    from scipy import stats  # only here: every command would start later

    values = np.asarray(values, np.float64) - expected
    _, cluster = np.unique(clusters, return_inverse=True)
    count, mean = int(cluster.max()) + 1, values.mean()
    sums = np.bincount(cluster, values - mean)
    error = math.sqrt(count / (count - 1) * float((sums**2).sum())) / len(values)
    if abs(mean) < 1e-12:
        return 1.0
    if error < 1e-12:
        return min(1.0, 2.0 ** (1 - count))
    return float(2 * stats.t.sf(abs(mean) / error, count - 1))


def independence_p(
    x: np.ndarray, y: np.ndarray, strata: np.ndarray, draws: int, rng: np.random.RandomState
) -> tuple[float, float]:
    """(HSIC, p-value) of "within a stratum, x and y are independent", by permutations within strata.

    HSIC (Gretton et al. 2005), of Gaussian kernels on ranks, sees dependence of any shape.

    Args:
      x, y: float [N].
      strata: int [N], such as the template of each pair.
      draws: Permutations.
      rng: Draws them.
    """
    ours, theirs = _kernel(x), _kernel(y)
    ours = ours - ours.mean(axis=0) - ours.mean(axis=1)[:, None] + ours.mean()
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]

    def shuffled() -> float:
        order = np.empty(len(strata), int)
        for group in groups:
            order[group] = rng.permutation(group)
        return float((ours * theirs[np.ix_(order, order)]).mean())

    observed = float((ours * theirs).mean())
    found = np.array([shuffled() for _ in range(draws)])
    # Equal up to rounding is equal: of constants nothing can be told.
    return observed, rank_p(observed, found, 1e-12)


def _kernel(values: np.ndarray) -> np.ndarray:
    """Gaussian kernel [N, N] of the ranks of `values`, as wide as the median distance."""
    from scipy import stats

    ranks = stats.rankdata(values)
    apart = np.abs(ranks[:, None] - ranks)
    width = np.median(apart[apart > 0]) if (apart > 0).any() else 1.0
    return np.exp(-((apart / width) ** 2) / 2)
