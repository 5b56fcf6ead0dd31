"""How many cores a process may use, which are often fewer than the machine has."""

import math
import os
from pathlib import Path

_WHOLE = Path("/")


def usable_cores(root: Path = _WHOLE) -> int:
    """Cores that this process may use, at least 1: by its affinity and by its container's limit.

    Args:
      root: Of the file system in which the container's limit is looked up.
    """
    try:
        affinity = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS has none, and a sandbox may not let a process ask
        affinity = os.cpu_count() or 1
    return max(1, int(min(affinity, _container_limit(root))))


def _container_limit(root: Path) -> float:
    """CPUs that control groups leave this process, infinite without a limit: the least of its own group's and
    of those around it, of version 2 and of version 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return math.inf
    limits = [math.inf]
    for line in lines:
        _, controllers, name = (line.split(":", 2) + ["", "", ""])[:3]
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        mounts = [""] if not controllers else ["cpu", controllers, ",".join(reversed(names))]
        for mount in mounts:
            top = root / "sys/fs/cgroup" / mount
            # Within a container the group's own name may be one that only the machine outside knows.
            groups = [top / name.strip("/"), *(top / name.strip("/")).parents]
            limits += [_limit(group) for group in groups if group == top or top in group.parents]
    return min(limits)


def _limit(group: Path) -> float:
    """CPUs' worth of time that one control group has."""
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((group / file).read_text("ascii") for file in files).split()[:2]
            if quota != "max" and int(quota) > 0:
                return int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return math.inf
