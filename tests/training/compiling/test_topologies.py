"""Names of slices, and what is told where one cannot be described."""

import importlib.util
import sys
import types

import pytest

from circuits_jax.storage.errors import ConfigError, UserError
from circuits_jax.training.compiling import topologies
from circuits_jax.training.compiling.chips import TPUS, chip_of
from circuits_jax.training.compiling.topologies import describe_devices, find_slice


@pytest.mark.parametrize(
    "name, chip, chips",
    [
        ("v5e:4x4", "v5e", 16),
        ("v6e:1x1", "v6e", 1),
        ("v4:2x2x4", "v4", 16),
        ("v5p:2x2x1", "v5p", 4),
        ("v5litepod-16", "v5e", 16),
        ("v6e-8", "v6e", 8),
        ("v4-32", "v4", 16),  # clouds count cores, of which it has two
        ("v5p-8", "v5p", 4),
    ],
)
def test_slices_by_their_names(name, chip, chips):
    found = find_slice(name)
    assert (found.chip.name, found.chips) == (chip, chips)
    assert find_slice(found.name) == found
    assert find_slice(name, 2).chips == 2 * chips


@pytest.mark.parametrize(
    "name", ["", "v5e", "v5e:3x3", "v7:2x2", "v5e:2x2x1", "v4:4x4", "v5litepod-3", "a b"]
)
def test_unknown_ones_name_the_known(name):
    with pytest.raises(ConfigError, match=r"no topology .*v4:1x1x1, 2x2x1.*v5e:1x1, 2x2") as error:
        find_slice(name)
    assert "\n" not in str(error.value)


def test_no_slices_are_refused():
    with pytest.raises(ConfigError, match="--num_slices is 0"):
        find_slice("v5e:2x2", 0)


def test_without_libtpu_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'circuits_jax\[tpu-compile\]'"):
        describe_devices(find_slice("v5e:2x2"))


@pytest.mark.parametrize(
    "said, told",
    [
        (
            "ABORTED: Internal error when accessing libtpu multi-process lockfile.\nRun rm.",
            "another process holds",
        ),
        ("The TPU is already in use by process with pid 5", "another process holds"),
        ("Unknown topology", "does not describe v5e:2x2"),
    ],
)
def test_what_libtpu_says_becomes_one_line(monkeypatch, said, told):
    def refuse(**options):
        assert options == {"platform": "tpu", "topology_name": "v5e:2x2"}
        raise RuntimeError(said)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(
        sys.modules, "jax.experimental.topologies", types.SimpleNamespace(get_topology_desc=refuse)
    )
    monkeypatch.setattr(
        "jax.experimental.topologies", sys.modules["jax.experimental.topologies"], raising=False
    )
    with pytest.raises(UserError, match=told) as error:
        describe_devices(find_slice("v5e:2x2"))
    assert "\n" not in str(error.value)


def test_chips_are_known_by_their_kinds():
    for kind, name in {
        "TPU v5 lite": "v5e",
        "TPU v5": "v5p",
        "TPU v5p": "v5p",
        "TPU v6 lite": "v6e",
        "TPU v4": "v4",
    }.items():
        assert chip_of(kind).name == name
    assert chip_of("cpu") is None
    assert set(topologies.KNOWN) == {chip.name for chip in TPUS}
    for chip in TPUS:  # a chip computes more than it can read, and reads more than it can send
        assert chip.flops / 100 > chip.memory_speed > chip.network_speed
