"""Rules on tokens: which positions of prompts they select, the default ones, random ones, and a user's own.

Letters in shapes: N pairs, T tokens.
"""

import collections
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.config.checks import check_text
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage.errors import CircuitError, ConfigError

EdgeRule = Callable[[str, np.ndarray], np.ndarray | None]
"""(edge as "SOURCE -> TARGET", token ids of one prompt int [T]) -> bool [T], where the edge should act."""
Rules = Mapping[str, Iterable[int | str]] | EdgeRule
"""{edge as "SOURCE -> TARGET": token ids, or texts of tokens}, or a function."""

_GROWTH = 1.5  # of the sizes among which that of a default set is chosen
_TRIES = 50  # for a random set that is neither the reading itself nor there already


def edge_name(circuit: Circuit, edge: int) -> str:
    """The edge at a place in `Circuit.edges` as people write it: SOURCE -> TARGET."""
    source, target, _ = circuit.edges[edge]
    return f"{circuit.nodes[source]} -> {circuit.nodes[target]}"


def selected_ids(pairs: PairBatch, ids: Collection[int]) -> np.ndarray:
    """The positions of prompts whose token is one of `ids`, bool [N, 2, T]."""
    return np.isin(pairs.tokens, list(ids)) & pairs.within()[:, None]


def selected_by(pairs: PairBatch, rule: EdgeRule, edge: str) -> np.ndarray | None:
    """The positions of prompts that a function selects for an edge, bool [N, 2, T]; None if it has no rule.

    Raises:
      ConfigError: if it gives something else than one bool a token.
    """
    where = np.zeros(pairs.tokens.shape, bool)
    for (pair, role), end in np.ndenumerate(np.repeat(np.asarray(pairs.last)[:, None], 2, axis=1)):
        tokens = np.array(pairs.tokens[pair, role, : end + 1])
        found = rule(edge, tokens)
        if found is None:
            return None
        found = np.asarray(found)
        if found.shape != tokens.shape or found.dtype != bool:
            raise ConfigError(
                f"the rule for {edge} gave an array of {found.dtype} {list(found.shape)} for a prompt of "
                f"{len(tokens)} tokens; it must give one bool a token"
            )
        where[pair, role, : end + 1] = found
    return where


def coverage(pairs: PairBatch, where: np.ndarray) -> float:
    """The share of the prompts' tokens that `where`, bool [N, 2, T], selects."""
    return float(where.sum() / (2 * pairs.within().sum()))


def most_deviating(pairs: PairBatch, deviation: np.ndarray, limit: float) -> list[list[int]]:
    """Sets of token ids, each holding the one before: where a source deviates most from its mean.

    Ids are in the order of their mean deviation; the sets are the first 1, 2, 3, 5, 8, 12, ... of them, up to
    as many as select the share `limit` of the prompts' tokens.  The first is given in any case.

    Args:
      pairs: N training pairs.
      deviation: float [N, 2, T].
      limit: A share in (0, 1].
    """
    within = np.repeat(pairs.within()[:, None], 2, axis=1)
    ids, place = np.unique(pairs.tokens[within], return_inverse=True)
    counts = np.bincount(place)
    means = np.bincount(place, deviation[within].astype(np.float64)) / counts
    order = np.lexsort((ids, -means))
    covered = np.cumsum(counts[order]) / counts.sum()
    most, sizes = max(1, int((covered <= limit).sum())), [1]
    while sizes[-1] < most:
        sizes.append(min(most, int(np.ceil(sizes[-1] * _GROWTH))))
    return [ids[order[:size]].tolist() for size in sizes]


def most_frequent(pairs: PairBatch, where: np.ndarray) -> list[int]:
    """The token ids at the positions `where`, bool [N, 2, T], the most frequent first."""
    ids, counts = np.unique(pairs.tokens[where], return_counts=True)
    return ids[np.lexsort((ids, -counts))].tolist()


def random_sets(
    pairs: PairBatch, where: np.ndarray, count: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """The positions, bool [N, 2, T], that `count` random sets of token ids select, as many as `where` does.

    Ids of the prompts are taken in random order, each that still fits, then one more if that comes nearer to
    as many.  A set that selects the same positions as `where`, or as one before, is drawn again; where there
    are hardly as many others there are fewer sets.

    Args:
      pairs: N pairs.
      where: bool [N, 2, T], what a reading selects.
      count: How many sets.
      rng: Draws.
    """
    within = np.repeat(pairs.within()[:, None], 2, axis=1)
    ids, counts = np.unique(pairs.tokens[within], return_counts=True)
    wanted, found, seen = int(where.sum()), list[np.ndarray](), {np.asarray(where, bool).tobytes()}
    for _ in range(count):
        for _ in range(_TRIES):
            drawn = selected_ids(pairs, _near(ids, counts, wanted, rng))
            if drawn.tobytes() not in seen:
                found.append(drawn)
                seen.add(drawn.tobytes())
                break
    return found


def given_ids(
    circuit: Circuit, rules: Mapping[str, Iterable[int | str]], words: "Words"
) -> dict[int, list[int]]:
    """A user's rules as {place in `Circuit.edges`: token ids}.

    Raises:
      CircuitError: for an edge that the circuit has not.
      ConfigError: for an edge that is named twice, a token that is not known, or a rule without tokens.
    """
    places = {edge_name(circuit, edge): edge for edge in range(len(circuit.edges))}
    found: dict[int, list[int]] = {}
    for name, tokens in rules.items():
        source, arrow, target = str(name).partition("->")
        edge = places.get(f"{source.strip()} -> {target.strip()}")
        if not arrow or edge is None:
            example = f", such as '{next(iter(places))}'" if places else ""
            raise CircuitError(
                f"the circuit of {circuit.task} has no edge {str(name)!r}; name one of its {len(places)} as "
                f"'SOURCE -> TARGET'{example}"
            )
        if edge in found:
            raise ConfigError(f"the rules name the edge {name} twice; keep one of the two")
        if isinstance(tokens, str) or not isinstance(tokens, Iterable):
            raise ConfigError(f"the rule for {name} is {tokens!r}; it must be a list of token ids and texts")
        rule = f"the rule for {name}"
        found[edge] = list(dict.fromkeys(token for each in tokens for token in words.ids_of(each, rule)))
        if not found[edge]:
            raise ConfigError(f"the rule for {name} names no token, so that it selects nothing; name some")
    return found


class Words:
    """The tokens of a tokenizer by what they stand for.

    Args:
      tokenizer: Of the model.
      vocab_size: Token ids of the model.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int):
        self._tokenizer, self._size = tokenizer, vocab_size
        self._ids: dict[str, list[int]] = collections.defaultdict(list)
        for token, piece in enumerate(tokenizer.pieces(range(vocab_size))):
            self._ids[piece].append(token)

    def texts(self, ids: Sequence[int]) -> list[str]:
        """What tokens stand for, for display."""
        return self._tokenizer.pieces(ids)

    def ids_of(self, token: int | str, what: str) -> list[int]:
        """The ids that an id or a token's text names.

        Args:
          token: An id; or a text, as pages show it or as it stands in a prompt.
          what: Names it, for errors.

        Raises:
          ConfigError: if there is no such token.
        """
        if isinstance(token, str):
            if token in self._ids:
                return self._ids[token]
            check_text(f"a token of {what}", token)
            parts = self._tokenizer.encode(token)
            if len(parts) == 1:
                return parts
            pieces = ", ".join(repr(piece) for piece in self.texts(parts)) or "none"
            raise ConfigError(
                f"{what} names {token!r}, which is no token of this tokenizer, but these are: "
                f"{pieces}; name single tokens, by text or id"
            )
        if isinstance(token, bool) or not isinstance(token, int | np.integer):
            raise ConfigError(f"{what} names {token!r}; a token is an id or a text")
        if not 0 <= token < self._size:
            raise ConfigError(f"{what} names the id {token}; the model has 0 to {self._size - 1}")
        return [int(token)]


def _near(ids: np.ndarray, counts: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Random ones of `ids`, whose `counts` sum to about `wanted`."""
    chosen, missing, others = list[int](), wanted, list[int]()
    for place in rng.permutation(len(ids)):
        if counts[place] <= missing:
            chosen.append(place)
            missing -= counts[place]
        else:
            others.append(place)
    over = min(others, key=lambda place: counts[place], default=None)
    if over is not None and counts[over] < 2 * missing:
        chosen.append(over)
    return ids[np.array(chosen, int)]
