"""Circuit size against loss over many models: section `frontier`."""

import ast
import dataclasses
import re
from collections.abc import Sequence

from circuits_jax.config.checks import check_confidence, check_not_negative, check_positive, check_seed
from circuits_jax.storage.errors import ConfigError

Value = str | int | float | bool | None
_ROW = re.compile(r"([^:/]+):(.*)", re.S)
_FRACTION = re.compile(r"(\d+)/([1-9]\d*)")


@dataclasses.dataclass(frozen=True)
class SeriesRow:
    """One row of `frontier.series`, read.

    Attributes:
      name: Of the series.
      sizes: {setting: value} of each size, such as {"model.d_model": 64}.
      varied: The settings in which sizes differ.
    """

    name: str
    sizes: tuple[dict[str, Value], ...]
    varied: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class FrontierConfig:
    """Which models are compared, and how (docs/frontier.md).

    Attributes:
      series: Rows "NAME: SETTING=VALUE SETTING=VALUE,VALUE,VALUE".  A series is models of several sizes; what
        has several values, which may be several settings, makes its sizes, one after another.  The other
        settings are those of the whole configuration.
      compare: Rows "LARGER / SMALLER", two series each: how many times larger are the circuits of the first?
        The first row is the headline.
      seeds: Of training; every model is trained with each, unless its row sets train.seed.
      learning_rates: Each series is tried with these at its middle size and first seed, and takes the one of
        lowest validation loss; empty leaves the rate as it is.
      confidence: Of the intervals over tasks.
      flops_per_second, bytes_per_second: What one machine does at such steps, for the plan: floating-point
        operations, and bytes of parameters, gradient and optimizer state.
      compile_seconds: What compiling takes for one model, for the plan.
      prune_factor: Time that pruning a task takes, as a multiple of its mask steps', for the plan.
      tasks_planned: Tasks that a model is taken to have learnt, for the plan.
      slots: Models that are trained at a time, for the plan's hours.
      chips: Devices that a model is trained on, for the plan's memory.
    """

    series: tuple[str, ...] = ()
    compare: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    learning_rates: tuple[float, ...] = ()
    confidence: float = 0.95
    flops_per_second: float = 6.5e10
    bytes_per_second: float = 1.6e9
    compile_seconds: float = 60.0
    prune_factor: float = 2.5
    tasks_planned: int = 10
    slots: int = 1
    chips: int = 1

    def __post_init__(self) -> None:
        for seed in self.seeds:
            check_seed("a seed of frontier.seeds", seed)
        for rate in self.learning_rates:
            check_positive("a rate of frontier.learning_rates", rate)
        for field in ("flops_per_second", "bytes_per_second", "prune_factor", "slots", "chips"):
            check_positive(f"frontier.{field}", getattr(self, field))
        for field in ("tasks_planned", "compile_seconds"):
            check_not_negative(f"frontier.{field}", getattr(self, field))
        check_confidence("frontier.confidence", self.confidence)
        for field in ("seeds", "learning_rates"):
            if twins := _twins(getattr(self, field)):
                raise ConfigError(f"frontier.{field} has {twins[0]} twice; leave one of them out")
        if not self.seeds:
            raise ConfigError("frontier.seeds is empty; give one at least")
        names = [row.name for row in self.rows]
        if twins := _twins(names):
            raise ConfigError(f"frontier.series has two rows called {twins[0]!r}; give one another name")
        for pair in self.pairs:
            if unknown := [name for name in pair if name not in names]:
                known = ", ".join(names) or "none"
                raise ConfigError(f"frontier.compare names the series {unknown[0]!r}; there are {known}")
            if pair[0] == pair[1]:
                raise ConfigError(f"frontier.compare divides the series {pair[0]!r} by itself; name two")
        if twins := _twins([" / ".join(pair) for pair in self.pairs]):
            raise ConfigError(f"frontier.compare has {twins[0]!r} twice; leave one of them out")

    @property
    def rows(self) -> tuple[SeriesRow, ...]:
        """The series, read.

        Raises:
          ConfigError: for a row that is none.
        """
        return tuple(_row(text) for text in self.series)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(larger, smaller) series of each comparison.

        Raises:
          ConfigError: for a row of `compare` that is none.
        """
        found = []
        for text in self.compare:
            names = tuple(part.strip() for part in text.split("/"))
            if len(names) != 2 or not all(names):
                raise ConfigError(f"frontier.compare has {text!r}; write LARGER / SMALLER, two series")
            found.append((names[0], names[1]))
        return tuple(found)


def _row(text: str) -> SeriesRow:
    """A row of `series`."""
    match = _ROW.fullmatch(text)
    if match is None or not match[1].strip():
        raise _refusal(text, "has no name before a colon")
    settings: dict[str, list[Value]] = {}
    for part in match[2].split():
        setting, equals, values = part.partition("=")
        if not equals or not setting or "" in values.split(","):
            raise _refusal(text, f"has {part!r}, which sets nothing")
        if setting in settings:
            raise _refusal(text, f"sets {setting} twice")
        settings[setting] = [_value(each) for each in values.split(",")]
    varied = {setting: len(values) for setting, values in settings.items() if len(values) > 1}
    if len(set(varied.values())) > 1:
        raise _refusal(text, f"gives {' and '.join(varied)} different numbers of values")
    count = max(varied.values(), default=1)
    sizes = tuple(
        {setting: values[i if len(values) > 1 else 0] for setting, values in settings.items()}
        for i in range(count)
    )
    return SeriesRow(match[1].strip(), sizes, tuple(varied))


def _value(text: str) -> Value:
    """A number, a fraction such as 1/32, true, false, none, or else the text itself."""
    if match := _FRACTION.fullmatch(text):
        return int(match[1]) / int(match[2])
    known: dict[str, Value] = {"true": True, "false": False, "none": None}
    if text.lower() in known:
        return known[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, int | float) else text


def _twins(values: Sequence[object]) -> list[object]:
    return [value for place, value in enumerate(values) if value in values[:place]]


def _refusal(text: str, what: str) -> ConfigError:
    return ConfigError(f"the row {text!r} of frontier.series {what}; write NAME: SETTING=VALUE,VALUE ...")
