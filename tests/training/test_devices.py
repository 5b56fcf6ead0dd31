"""Cores are those that the process may use; a run's devices are found again in its folder."""

import json
import os

import jax
import pytest

from circuits_jax.config import MeshConfig
from circuits_jax.training import devices
from circuits_jax.training.checkpoints import Checkpoints
from circuits_jax.training.mesh import meshes


@pytest.fixture
def affinity(monkeypatch):
    """Sets how many cores the process may run on."""
    return lambda count: monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(count), raising=False)


def system(root, groups, files):
    """A file system with control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        (root / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / name).write_text(text)
    return root


V1 = "4:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n"


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),  # one and a half
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),  # half a core is one
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 16),  # more than there are
        ("0::/pod/job\n", {"pod/job/cpu.max": "max 100000", "pod/cpu.max": "500000 100000"}, 5),
        ("0::/outside/name\n", {"cpu.max": "200000 100000\n"}, 2),  # as seen from within a container
        (V1, {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "600000\n",
              "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n"}, 6),
        (V1, {"cpu/cpu.cfs_quota_us": "700000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 7),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        ("nonsense\n", {"cpu.max": "what\n"}, 16),
    ],
)  # fmt: skip
def test_cores_are_counted_within_the_container_s_limit(tmp_path, affinity, groups, files, cores):
    affinity(16)
    assert devices.usable_cores(system(tmp_path, groups, files)) == cores


def test_cores_are_those_of_the_affinity(tmp_path, affinity):
    affinity(3)
    assert devices.usable_cores(tmp_path) == 3  # where there are no control groups, too
    assert devices.usable_cores(system(tmp_path, "0::/\n", {"cpu.max": "500000 100000"})) == 3


def test_what_was_noted_is_found_again(tmp_path):
    assert devices.recorded_devices(tmp_path) is None
    devices.record_devices(tmp_path, 2, {"1": 30.0, "2": 20.0})
    assert devices.recorded_devices(tmp_path) == 2
    devices.record_devices(tmp_path, 4)
    note = json.loads((tmp_path / devices.RECORD).read_text())
    assert (note["devices"], note["milliseconds_of_a_step"]) == (4, {"1": 30.0, "2": 20.0})


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"devices": "2"}', '{"devices": 0}', "\xff"])
def test_a_note_that_cannot_be_read_is_none(tmp_path, text):
    (tmp_path / devices.RECORD).write_text(text, "latin-1")
    assert devices.recorded_devices(tmp_path) is None


def test_devices_of_another_kind_are_not_those_of_a_cpu(tmp_path):
    (tmp_path / devices.RECORD).write_text('{"platform": "gpu", "devices": 8, "processes": 1}')
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
