"""The outlines of a mask as polygons, for annotation tools that read no run lengths.

Outlines follow the edges between pixels, so that what lies inside is the mask to the pixel. A polygon has no holes:
those of a mask are filled.

Axis letters: H height, W width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Edge(NamedTuple):
    """A side of a pixel of the mask: from the corner x, y one step dx, dy on, with the mask to its right."""

    x: int
    y: int
    dx: int
    dy: int


def polygons(mask: np.ndarray) -> list[list[int]]:
    """The outer outlines of a mask bool [H, W]: for each part of it x, y of every corner, clockwise.

    Pixels that touch by a corner alone are parts of their own.

    >>> polygons(np.array([[0, 1, 1], [0, 1, 0], [0, 0, 0]], bool))
    [[1, 0, 3, 0, 3, 1, 2, 1, 2, 2, 1, 2]]
    """
    left = dict.fromkeys(_edges(mask))  # in order
    outlines = []
    while left:
        outline = _follow(next(iter(left)), left)
        for edge in outline:
            del left[edge]
        if sum(edge.x * edge.dy - edge.y * edge.dx for edge in outline) > 0:  # twice its area; a hole's is negative
            before = [outline[-1], *outline[:-1]]
            corners = [edge for last, edge in zip(before, outline, strict=True) if last[2:] != edge[2:]]
            outlines.append([coordinate for edge in corners for coordinate in (edge.x, edge.y)])
    return outlines


def _edges(mask: np.ndarray) -> list[Edge]:
    """All edges between mask and rest, row by row."""
    padded = np.pad(mask, 1)
    sides = (
        (padded[:-2, 1:-1], 0, 0, 1, 0),  # nothing above: from the upper left corner rightwards
        (padded[1:-1, 2:], 1, 0, 0, 1),
        (padded[2:, 1:-1], 1, 1, -1, 0),
        (padded[1:-1, :-2], 0, 1, 0, -1),
    )
    return [
        Edge(x + right, y + down, dx, dy)
        for neighbour, right, down, dx, dy in sides
        for y, x in np.argwhere(mask & ~neighbour).tolist()
    ]


def _follow(first: Edge, edges: dict[Edge, None]) -> list[Edge]:
    """The edges of the outline that begins with one of them."""
    outline = [first]
    while True:
        x, y, dx, dy = outline[-1]
        # Where parts touch by a corner there are two ways on, and the one to the right stays with the same part.
        steps = ((-dy, dx), (dx, dy), (dy, -dx))
        edge = next(way for way in (Edge(x + dx, y + dy, *step) for step in steps) if way in edges)
        if edge == first:
            return outline
        outline.append(edge)
