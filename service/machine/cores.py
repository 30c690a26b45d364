"""How many cores this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["usable_cores"]

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(cpu_max: Path = CPU_MAX) -> int:
    """Cores that the scheduler grants: the affinity mask, cut down to a container's CPU limit if it has one.

    Args:
        cpu_max: Where control groups (version 2) say quota and period.
    """
    try:
        granted = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        granted = os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text().split()
        return max(1, min(granted, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or "max": no limit
        return granted
