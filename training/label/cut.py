"""Cuts a picture in two where evidence and edges say so.

Boykov and Jolly 2001, "Interactive Graph Cuts for Optimal Boundary and Region Segmentation of Objects in N-D Images".
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

SCALE = 100
"""Energies become whole numbers in units of 1 / SCALE."""


def cut(log_ratio: np.ndarray, frame: np.ndarray, smooth: float) -> np.ndarray:
    """The mask of least energy: what pixels say for themselves, and a price for neighbours that differ.

    Args:
        log_ratio: float [H, W], positive where a pixel on its own belongs to the mask.
        frame: uint8 [H, W, 3]; neighbours that look alike pay more to differ.
        smooth: The highest price.

    Returns:
        bool [H, W].
    """
    height, width = log_ratio.shape
    node = np.arange(height * width).reshape(height, width)
    source, sink = height * width, height * width + 1
    colour = frame.astype(np.float32)
    heads, tails, prices = [], [], []
    steps = [
        (node[:, :-1], node[:, 1:], ((colour[:, :-1] - colour[:, 1:]) ** 2).sum(-1)),
        (node[:-1], node[1:], ((colour[:-1] - colour[1:]) ** 2).sum(-1)),
    ]
    spread = 2 * float(np.mean(np.concatenate([d.ravel() for _, _, d in steps]))) + 1e-6
    for a, b, distance in steps:
        price = smooth * (0.15 + 0.85 * np.exp(-distance / spread))
        heads += [a.ravel(), b.ravel()]
        tails += [b.ravel(), a.ravel()]
        prices += [price.ravel(), price.ravel()]
    flat = log_ratio.ravel()
    for chosen, from_source in ((flat > 0, True), (flat < 0, False)):
        own = node.ravel()[chosen]
        other = np.full(len(own), source if from_source else sink)
        heads.append(other if from_source else own)
        tails.append(own if from_source else other)
        prices.append(np.abs(flat[chosen]))
    capacity = np.rint(np.concatenate(prices) * SCALE).astype(np.int32)
    size = height * width + 2
    graph = coo_matrix((capacity, (np.concatenate(heads), np.concatenate(tails))), (size, size)).tocsr()
    residual = graph - maximum_flow(graph, source, sink).flow
    residual.data[residual.data < 0] = 0
    residual.eliminate_zeros()
    reached = breadth_first_order(residual, source, return_predecessors=False)
    mask = np.zeros(size, bool)
    mask[reached] = True
    return mask[: height * width].reshape(height, width)
