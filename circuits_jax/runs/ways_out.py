"""A training step that does not fit a chip: which settings would make it fit, by estimate."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from circuits_jax.config import Config
from circuits_jax.storage.errors import ConfigError
from circuits_jax.training.layout import make_layout
from circuits_jax.training.plan import activation_bytes, bytes_per_device
from circuits_jax.training.pretraining import pretraining

Settings = Mapping[str, Any]
MOST = 3
_PARTS = (2, 4, 8, 16, 32)


@dataclasses.dataclass(frozen=True)
class WayOut:
    """Settings to change.

    Attributes:
      settings: {"section.field": value}.
      bytes: Of one chip, by estimate.
    """

    settings: Settings
    bytes: float

    def __str__(self) -> str:
        return " ".join(f"--config.{name}={value}" for name, value in self.settings.items())


def with_settings(config: Config, settings: Settings) -> Config:
    """`config` with single settings changed, by "section.field"."""
    for name, value in settings.items():
        section, _, field = name.partition(".")
        changed = dataclasses.replace(getattr(config, section), **{field: value})
        config = dataclasses.replace(config, **{section: changed})
    return config


def estimated_items(config: Config, devices: Sequence[jax.Device]) -> dict[str, float]:
    """The largest items of a training step on one chip, bytes, by estimate.

    Raises:
      ConfigError: for a mesh or a batch that the devices cannot take.
    """
    layout = make_layout(pretraining(config), config, devices)
    ways = layout.mesh.size // layout.mesh.shape["model"]
    parameters = bytes_per_device(layout.shapes.params)
    return {
        "activations": activation_bytes(config, config.train.batch_size // ways // config.mesh.accumulate),
        "optimizer": bytes_per_device(layout.shapes.opt_state),
        "parameters": parameters,
        "gradients": parameters,
    }


def ways_out(config: Config, devices: Sequence[jax.Device], needed: float, limit: float) -> list[WayOut]:
    """Up to MOST changes, each by itself, those first that fit by estimate; of a kind the mildest that does.

    Args:
      config: That does not fit.
      devices: The chips.
      needed: Bytes of a chip that the compiler says it takes, which estimates are scaled by.
      limit: Bytes that there are.
    """
    scale = needed / sum(estimated_items(config, devices).values())
    found = []
    for kind in _kinds(config, len(devices)):
        estimates = list(_estimates(config, devices, kind, scale))
        fitting = [each for each in estimates if each.bytes <= limit]
        found += fitting[:1] or estimates[-1:]
    useful = [each for each in found if each.bytes < needed]
    return sorted(useful, key=lambda each: (each.bytes > limit, each.bytes if each.bytes > limit else 0))[
        :MOST
    ]


def _estimates(
    config: Config, devices: Sequence[jax.Device], kind: Sequence[Settings], scale: float
) -> Iterator[WayOut]:
    """What changes of one kind come to, as far as they are possible."""
    for settings in kind:
        try:
            items = estimated_items(with_settings(config, settings), devices)
        except ConfigError:
            continue
        yield WayOut(settings, scale * sum(items.values()))


def _kinds(config: Config, chips: int) -> list[list[Settings]]:
    """Changes by kind, of each kind the mildest first."""
    mesh, batch = config.mesh, config.train.batch_size
    kinds: list[list[Settings]] = [[{"mesh.accumulate": mesh.accumulate * parts} for parts in _PARTS]]
    if mesh.remat == "none":
        kinds.append([{"mesh.remat": "dots"}, {"mesh.remat": "blocks"}])
    if chips > 1 and mesh.fsdp == 1 and mesh.model == 1:
        kinds.append([{"mesh.data": 1, "mesh.fsdp": chips}])
    if config.model.dtype == "float32":
        kinds.append([{"model.dtype": "bfloat16"}])
    kinds.append([{"train.batch_size": batch // parts} for parts in _PARTS if batch % parts == 0])
    return kinds
