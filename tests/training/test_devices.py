"""A run's devices are found again in its folder."""

import json

import jax
import pytest

from circuits_jax.config import MeshConfig
from circuits_jax.storage import filenames
from circuits_jax.training import devices
from circuits_jax.training.checkpoints import Checkpoints
from circuits_jax.training.mesh import meshes


def test_what_was_noted_is_found_again(tmp_path):
    assert devices.recorded_devices(tmp_path) is None
    devices.record_devices(tmp_path, 2, {"1": 30.0, "2": 20.0})
    assert devices.recorded_devices(tmp_path) == 2
    devices.record_devices(tmp_path, 4)
    note = json.loads((tmp_path / filenames.DEVICES).read_text())
    assert (note["devices"], note["milliseconds_of_a_step"]) == (4, {"1": 30.0, "2": 20.0})


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"devices": "2"}', '{"devices": 0}', "\xff"])
def test_a_note_that_cannot_be_read_is_none(tmp_path, text):
    (tmp_path / filenames.DEVICES).write_text(text, "latin-1")
    assert devices.recorded_devices(tmp_path) is None


def test_devices_of_another_kind_are_not_those_of_a_cpu(tmp_path):
    (tmp_path / filenames.DEVICES).write_text('{"platform": "gpu", "devices": 8, "processes": 1}')
    assert devices.recorded_devices(tmp_path) is None


@pytest.mark.parametrize("axes", [{"data": 8}, {"data": 2, "fsdp": 2, "model": 2}])
def test_runs_of_before_there_was_a_note_say_it_in_their_checkpoints(tmp_path, axes):
    whole = meshes.replicated(meshes.make_mesh(MeshConfig(**axes)))
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (4, 12):
        checkpoints.save(step, {"a": jax.device_put(jax.numpy.arange(8.0), whole)})
    checkpoints.close()
    assert devices.has_checkpoints(tmp_path)
    assert devices.recorded_devices(tmp_path) == 8
    (tmp_path / "checkpoints/12/state/_sharding").write_text("{")
    assert devices.recorded_devices(tmp_path) is None
