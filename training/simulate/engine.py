"""MuJoCo, told before it is first imported to render without a display and without threads of its own."""

from __future__ import annotations

import os
import sys

if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
    # Mesa's software rasteriser then draws in the calling thread: fastest when there is a process a core.
    os.environ.setdefault("LP_NUM_THREADS", "0")

import mujoco

__all__ = ["mujoco"]
