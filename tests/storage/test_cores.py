"""Cores are those that the process may use."""

import os

import pytest

from circuits_jax.storage.cores import usable_cores


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
    assert usable_cores(system(tmp_path, groups, files)) == cores


def test_cores_are_those_of_the_affinity(tmp_path, affinity):
    affinity(3)
    assert usable_cores(tmp_path) == 3  # where there are no control groups, too
    assert usable_cores(system(tmp_path, "0::/\n", {"cpu.max": "500000 100000"})) == 3


def test_where_the_affinity_is_not_told_the_machine_s_cores_count(tmp_path, monkeypatch):
    def refuse(pid):
        raise PermissionError("seccomp")

    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(os, "sched_getaffinity", refuse, raising=False)
    assert usable_cores(tmp_path) == 6
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores(tmp_path) == 6
