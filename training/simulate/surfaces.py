"""What can be seen, which geoms are drawn, and how large the bin is."""

from __future__ import annotations

from enum import IntEnum

BIN_WIDTH, BIN_DEPTH = 0.50, 0.594
"""Metres of the bin's floor."""

SHOWN, COLLIDER = 1, 3
"""Groups of geoms: only `SHOWN` is drawn."""


class Surface(IntEnum):
    """What a pixel shows; geoms are named `<surface>/<number>`."""

    OUTSIDE = 0
    FLOOR = 1
    NEAR = 2
    LEFT = 3
    RIGHT = 4
    BACK = 5
    PLATE = 6
    TOY = 7
    ROBOT = 8
