"""How many cores this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["usable_cores"]

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Cores that the scheduler grants: the affinity mask, cut down to a container's CPU limit if it has one.

    Args:
        cgroup: Where control groups say quota and period: in `cpu.max`, or, of version 1, in two files below `cpu`.
    """
    try:
        granted = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        granted = os.cpu_count() or 1
    quota, period = _limit(cgroup)
    return granted if quota <= 0 or period <= 0 else max(1, min(granted, math.ceil(quota / period)))


def _limit(cgroup: Path) -> tuple[int, int]:
    """Quota and period in microseconds; a quota of -1 for none."""
    for places in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((cgroup / place).read_text() for place in places).split()
            return int(quota), int(period)
        except (OSError, ValueError):  # none of this version, or "max"
            continue
    return -1, 0
