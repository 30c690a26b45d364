"""The network as it is served: bytes of pixels in, probabilities and latents out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from training.segmenter import Segmenter


class Served(NamedTuple):
    """The graph's outputs.

    Attributes:
        probability: float32 [N, 64, 64], the robot's probability.
        latents: float32 [N, 16, 16, 240], the frame encoder's features.
    """

    probability: Tensor
    latents: Tensor


class ServingGraph(nn.Module):
    """Wraps a trained segmenter so that normalisation and sigmoid are part of the graph."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, frames: Tensor) -> Served:
        """Frames uint8 [N, 64, 64, 3], RGB."""
        segmentation = self.segmenter(frames)
        return Served(torch.sigmoid(segmentation.logits), segmentation.latents)


def round_weights_to_half(module: nn.Module) -> None:
    """Round every matrix and kernel to the nearest float16, in place; arithmetic stays float32.

    The bundle stores these at half the size, and the network compared against it is this rounded one.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half().float())
