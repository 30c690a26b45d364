"""Do the network as published, its 2D collapse and the ONNX file say the same?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from export.graph import ServingGraph
from export.sessions import open_session
from export.to_onnx import ExportError
from training.segmenter import published_form

TOLERANCE = 1e-4
"""Largest allowed difference of a probability."""

BATCHES = (1, 2, 5)
"""Batch sizes at which the file is compared: the traced one, one, and one never seen."""


class Parity(NamedTuple):
    """Largest absolute differences over all compared frames.

    Attributes:
        collapsed: Probability, 2D collapse against the network as published, both in PyTorch.
        onnx: Probability, ONNX file against the network as published.
        onnx_latents: Latents, ONNX file against the network as published, as a share of the largest latent.
    """

    collapsed: float
    onnx: float
    onnx_latents: float


def compare(graph: ServingGraph, model: bytes, frames: np.ndarray) -> Parity:
    """Measure how far the three forms are apart.

    Args:
        graph: The trained network with its collapsed encoder, its weights as the file holds them.
        model: The content of the ONNX file.
        frames: uint8 [N, 64, 64, 3], N >= 1; all of them are compared, repeated to fill the largest batch.
    """
    session = open_session(model)
    published = ServingGraph(published_form(graph.segmenter)).eval()
    graph = graph.eval()
    worst = Parity(0.0, 0.0, 0.0)
    largest = max(BATCHES)
    rest = [frames[start : start + largest] for start in range(largest, len(frames), largest)]
    for batch in [*(np.resize(frames, (size, *frames.shape[1:])) for size in BATCHES), *rest]:
        with torch.inference_mode():
            reference, collapsed = published(torch.from_numpy(batch)), graph(torch.from_numpy(batch))
        probability, latents = session.run(["probability", "latents"], {"frames": batch})
        truth = reference.latents.numpy()
        found = Parity(
            collapsed=_gap(collapsed.probability.numpy(), reference.probability.numpy()),
            onnx=_gap(probability, reference.probability.numpy()),
            onnx_latents=_gap(latents, truth) / max(1e-12, float(np.abs(truth).max())),
        )
        worst = Parity(*map(max, worst, found))
    return worst


def require(parity: Parity) -> None:
    """Refuse an export whose forms disagree.

    Raises:
        ExportError: With the differences found.
    """
    if not max(parity) <= TOLERANCE:  # also true for NaN
        raise ExportError(
            f"expected PyTorch as published, its collapse and ONNX to agree to {TOLERANCE:g}, got {parity._asdict()}"
        )


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape:
        raise ExportError(f"expected outputs of shape {list(b.shape)}, the ONNX file gives {list(a.shape)}")
    return float(np.abs(a - b).max())
