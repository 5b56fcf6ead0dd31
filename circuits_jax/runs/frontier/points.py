"""The models of a frontier: which there are, where each lies, and that their losses can be compared."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from circuits_jax.config import Config, FrontierConfig, PruneConfig, from_dict, to_dict
from circuits_jax.config.conversion import set_values
from circuits_jax.config.frontier import SeriesRow
from circuits_jax.config.identity import identity
from circuits_jax.runs.listed_runs import CORPORA, ListedRun, folder_name, refuse_twins, tokens_of
from circuits_jax.storage.errors import ConfigError
from circuits_jax.training.workdir import RHYTHM, TRAINING_SECTIONS

MODELS, POINTS, TRIALS = "models", "points", "trials"  # folders of the workdir
RATE = "optimizer.learning_rate"
_SEED = "train.seed"
DENSE, SPARSE = "dense", "sparse"


@dataclasses.dataclass(frozen=True)
class FrontierPoint:
    """One model of the list.

    Attributes:
      series: Its series.
      size: Its size in the series, in words.
      seed: Of training.
      config: Its whole configuration, but for a rate that is tuned.
      rates: What its series' learning rate is chosen among; empty where it is given.
      workdir: Of the whole list.
    """

    series: str
    size: str
    seed: int
    config: Config
    rates: tuple[float, ...]
    workdir: Path

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.series}, {self.size}, seed {self.seed}"

    @property
    def kind(self) -> str:
        """DENSE if every weight is kept, else SPARSE."""
        return DENSE if self.config.sparsity.target == 1 else SPARSE

    @property
    def result(self) -> Path:
        """The file of what was measured."""
        return self.workdir / POINTS / f"{folder_name(self.name)}.json"

    @property
    def identity(self) -> str:
        """A digest of what decides the measured figures."""
        return _digest(self._training, identity(PruneConfig, to_dict(self.config.prune)), list(self.rates))

    def run(self, rate: float) -> ListedRun:
        """Its training with a learning rate."""
        optimizer = dataclasses.replace(self.config.optimizer, learning_rate=rate)
        config = dataclasses.replace(self.config, optimizer=optimizer)
        folder = self.workdir / MODELS / folder_name(f"{self.name} rate {rate:g}")
        return ListedRun(self.name, self.seed, config, folder)

    @property
    def chooses(self) -> bool:
        """Whether there are several rates to choose among."""
        return len(self.rates) > 1

    @property
    def given_rate(self) -> float:
        """The learning rate where there is none to choose: the list's only one, or the configuration's."""
        return self.rates[0] if self.rates else self.config.optimizer.learning_rate

    def trial(self, rate: float) -> tuple[Path, str]:
        """The file of how a learning rate did, and a digest of what decides that."""
        name = f"{folder_name(f'{self.name} rate {rate:g}')}.json"
        return self.workdir / TRIALS / name, _digest(self._training, rate)

    @property
    def _training(self) -> dict[str, Any]:
        whole = to_dict(self.config)
        found = {section: whole[section] for section in TRAINING_SECTIONS}
        found["train"] = {key: value for key, value in found["train"].items() if key not in RHYTHM}
        found["data"] = {key: value for key, value in found["data"].items() if key not in ("store", "hash")}
        if self.rates:
            del found["optimizer"]["learning_rate"]
        return found


def frontier_points(config: Config, workdir: Path) -> list[FrontierPoint]:
    """Every model that a configuration asks for, series by series, size by size, seed by seed.

    Args:
      config: With a section `frontier`; everything else is what models have in common.
      workdir: Of the whole list.

    Raises:
      ConfigError: for no series, an unknown setting, a value that cannot be used, two models that are the
        same, or models whose losses cannot be compared.
    """
    asked = config.frontier
    if not asked.series:
        raise ConfigError(
            "frontier.series is empty; name a configuration that has some, such as frontier_laptop"
        )
    plain = dataclasses.replace(config, frontier=FrontierConfig())
    if plain.data.store is None:
        store = dataclasses.replace(plain.data, store=str(workdir / CORPORA))
        plain = dataclasses.replace(plain, data=store)
    points = [point for row in asked.rows for point in _of_row(row, plain, asked, workdir)]
    refuse_twins([point.run(point.config.optimizer.learning_rate) for point in points], "frontier.series")
    _check_comparable(points)
    return points


def middle(points: Sequence[FrontierPoint]) -> FrontierPoint:
    """Of the points of one series, that of the middle size (of two, the first) and the first seed: on it the
    series' learning rate is chosen."""
    sizes = list(dict.fromkeys(point.size for point in points))
    return next(point for point in points if point.size == sizes[(len(sizes) - 1) // 2])


def _of_row(row: SeriesRow, plain: Config, asked: FrontierConfig, workdir: Path) -> list[FrontierPoint]:
    found = []
    for size in row.sizes:
        seeds = (plain.train.seed,) if _SEED in size else asked.seeds
        for seed in seeds:
            values = to_dict(plain)
            set_values(values, {_SEED: seed} | size)
            config = from_dict(Config, values)
            rates = () if RATE in size else asked.learning_rates
            name = _size_name(row, size, config)
            found.append(FrontierPoint(row.name, name, config.train.seed, config, rates, workdir))
    return found


def _size_name(row: SeriesRow, size: Mapping[str, Any], config: Config) -> str:
    """A size in words: the settings in which it differs from others."""
    varied = [setting for setting in row.varied if setting != _SEED]
    told = [f"{setting.rpartition('.')[2]} {_shown(size[setting])}" for setting in varied]
    return " ".join(told) or f"d_model {config.model.d_model}"


def _shown(value: Any) -> str:
    """A value; a small fraction as one."""
    if isinstance(value, float) and 0 < value < 1 and abs(1 / value - round(1 / value)) < 1e-6:
        return f"1/{round(1 / value)}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _check_comparable(points: Sequence[FrontierPoint]) -> None:
    """Raises ConfigError unless all models have one corpus, one tokenizer, equal tokens and one search."""
    first = points[0]
    for point in points[1:]:
        for what, ours, theirs in zip(_ALIKE, _alike(first.config), _alike(point.config), strict=True):
            if ours != theirs:
                raise ConfigError(
                    f"{first.name!r} and {point.name!r} cannot be compared: they have different {what}; give "
                    "all models the same"
                )


_ALIKE = (
    "corpora (section data)", "tokenizers (model.vocab_size)", "contexts (model.n_ctx)",
    "numbers of training tokens (train.steps x train.batch_size x model.n_ctx)",
    "validation windows (train.eval_batches x train.batch_size)", "searches for circuits (section prune)",
)  # fmt: skip


def _alike(config: Config) -> tuple[Any, ...]:
    """What must be the same for all models, in the order of _ALIKE."""
    return (
        config.data,
        config.model.vocab_size,
        config.model.n_ctx,
        tokens_of(config),
        config.train.eval_batches * config.train.batch_size,
        config.prune,
    )


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
