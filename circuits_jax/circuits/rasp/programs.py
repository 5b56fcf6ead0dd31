"""The programs: what tracr is asked to compile, and what is asked of the compiled network.

Most are those of tracr's own library (Lindner et al. 2023, "Tracr: Compiled transformers as a laboratory for
interpretability").  Outputs are encoded as numbers.  Of an output that is one of several symbols, two
channels say the same of two answers, so that no single removal makes an answer wrong: there would be no core
to find
(docs/statistics.md, "Compiled programs").
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from circuits_jax.storage.errors import ConfigError

Token = str | int
Build = Callable[[Any, Any], Any]
"""(tracr's module `rasp`, its module `compiler.lib`) -> the RASP expression."""


@dataclasses.dataclass(frozen=True)
class RaspProgram:
    """A program, the inputs it is run on, and what is asked of it.

    Attributes:
      name: Of the program.
      asks: What it computes, for people.
      tokens: Its vocabulary.
      length: Tokens of an input; tracr's own beginning mark stands before them, at position 0.
      position: Where the output is read, from 1 to `length`.
      answers: The two output values that are asked about; inputs that give others are left out.
      build: The program.
      beside: The program that the same network computes on other channels.
      causal: Whether attention is causal.
      distinct: Whether the tokens of an input all differ.
      context: Positions of the network without the mark; None: as many as `length`.

    Raises:
      ConfigError: for an input longer than the context, or a position outside of the input.
    """

    name: str
    asks: str
    tokens: tuple[Token, ...]
    length: int
    position: int
    answers: tuple[float, float]
    build: Build
    beside: Build
    causal: bool = False
    distinct: bool = False
    context: int | None = None

    def __post_init__(self) -> None:
        check_fits(self.name, self.length + 1, self.positions + 1)
        if not 1 <= self.position <= self.length:
            raise ConfigError(
                f"the program {self.name} is read at position {self.position}; give one from 1 to "
                f"{self.length}"
            )

    @property
    def positions(self) -> int:
        """Positions of the network without the mark."""
        return self.length if self.context is None else self.context


def check_fits(name: str, tokens: int, context: int) -> None:
    """Raises ConfigError if an input of so many tokens, the mark included, is longer than the context."""
    if tokens > context:
        raise ConfigError(
            f"the program {name} reads {tokens} tokens, its beginning mark included, more than the context "
            f"of {context}; shorten its inputs or compile it for a longer context"
        )


def _number(rasp: Any, symbols: Any) -> Any:
    """Digits as numbers."""
    return rasp.numerical(rasp.Map(float, symbols).named("number"))


def _truth(rasp: Any, condition: Any) -> Any:
    """1 where a condition holds, else 0."""
    return rasp.numerical(rasp.Map(lambda holds: 1.0 if holds else 0.0, condition).named("truth"))


def _frac_prevs(token: Token) -> Build:
    return lambda rasp, lib: lib.make_frac_prevs((rasp.tokens == token).named("is_it"))


def _count_by_position(rasp: Any, lib: Any) -> Any:
    """A count whose queries are positions and not, as in tracr's library, tokens, which all ask the same."""
    is_x = rasp.Select(rasp.tokens, rasp.indices, lambda key, query: key == "x").named("is_x")
    return rasp.numerical(rasp.SelectorWidth(is_x).named("count_by_position"))


def _previous(rasp: Any, lib: Any) -> Any:
    return lib.shift_by(1, rasp.tokens)


def _previous_number(rasp: Any, lib: Any) -> Any:
    return _number(rasp, lib.shift_by(1, rasp.tokens))


def _sorted_number(rasp: Any, lib: Any) -> Any:
    return _number(rasp, lib.make_sort_unique(rasp.tokens, rasp.tokens))


def _reverse_by_position(rasp: Any, lib: Any) -> Any:
    """A reversal that measures the length by positions and not, as in tracr's library, by tokens."""
    every = rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.TRUE).named("every")
    opposite = (rasp.SelectorWidth(every).named("length") - rasp.indices - 1).named("opposite")
    across = rasp.Select(rasp.indices, opposite, rasp.Comparison.EQ).named("across")
    return _number(rasp, rasp.Aggregate(across, rasp.tokens).named("reverse"))


def _reverse(rasp: Any, lib: Any) -> Any:
    return lib.make_reverse(rasp.tokens)


def _histogram(rasp: Any, lib: Any) -> Any:
    return lib.make_hist()


_ALL = (
    RaspProgram(
        "frac_prevs", "the share of x among the tokens so far", ("x", "y", "z"), 5, 3, (2 / 3, 1 / 3),
        _frac_prevs("x"), _previous, causal=True,
    ),
    RaspProgram(
        "bracket_balance", "the share of open minus that of closed brackets so far", ("(", ")", "a"), 5, 4,
        (0.25, 0.0), lambda rasp, lib: lib.make_pair_balance(rasp.tokens, "(", ")"), _frac_prevs("a"),
        causal=True,
    ),
    RaspProgram(
        "balanced_brackets", "whether the brackets are balanced", ("(", ")", "a"), 4, 4, (1.0, 0.0),
        lambda rasp, lib: _truth(rasp, lib.make_shuffle_dyck(["()"])), _histogram,
    ),
    RaspProgram(
        "detect_pattern", "whether a b ends here", ("a", "b", "c"), 4, 3, (1.0, 0.0),
        lambda rasp, lib: _truth(rasp, lib.detect_pattern(rasp.tokens, "ab")), _frac_prevs("c"), causal=True,
    ),
    RaspProgram(
        "count", "how many tokens are x", ("w", "x", "y", "z"), 3, 3, (3.0, 2.0),
        lambda rasp, lib: rasp.numerical(lib.make_count(rasp.tokens, "x")), _reverse,
    ),
    RaspProgram(
        "count_by_position", "how many tokens are x", ("w", "x", "y", "z"), 3, 3, (3.0, 2.0),
        _count_by_position, _reverse,
    ),
    RaspProgram(
        "previous_token", "the number before this one", (1, 2, 3), 4, 3, (3.0, 1.0), _previous_number,
        _frac_prevs(2), causal=True,
    ),
    RaspProgram(
        "reverse", "the number as far from the end as this one is from the start", (1, 2, 3), 4, 2,
        (3.0, 1.0), _reverse_by_position, _histogram,
    ),
    RaspProgram(
        "sort", "the smallest number", (1, 2, 3, 4, 5), 3, 1, (2.0, 1.0), _sorted_number, _reverse,
        distinct=True,
    ),
    RaspProgram(
        "histogram", "how many tokens are the same as this one", ("v", "w", "x", "y", "z"), 3, 2, (3.0, 2.0),
        lambda rasp, lib: rasp.numerical(lib.make_hist()), _reverse,
    ),
)  # fmt: skip

PROGRAMS = {program.name: program for program in _ALL}
