"""The whole network: a frame goes in, mask logits and latents come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from training.heads import AttentionConvHead
from training.videogpt.configuration import frame_encoder_shape
from training.videogpt.resnet import LAYERS, CollapsedFrameEncoder, FrameEncoder, collapse

if TYPE_CHECKING:
    from collections.abc import Sequence


class Segmentation(NamedTuple):
    """What the network says of a batch of frames.

    Attributes:
        logits: float [B, 64, 64]; the robot's probability is their sigmoid.
        latents: float [B, 16, 16, 240], the frame encoder's output, non-negative.
    """

    logits: Tensor
    latents: Tensor


def normalise(frames: Tensor) -> Tensor:
    """Pixels uint8 [B, 64, 64, 3] in 0..255 -> float32 [B, 3, 64, 64] in [-0.5, 0.5], as VideoGPT was trained."""
    return frames.movedim(-1, 1).float() / 255 - 0.5


class Segmenter(nn.Module):
    """Frame encoder and head, for single frames uint8 [B, 64, 64, 3]."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, frames: Tensor) -> Segmentation:
        """Segment a batch of frames."""
        latents: Tensor = self.encoder(normalise(frames))
        return Segmentation(self.head(latents), latents)


class _OneFrameClip(nn.Module):
    """Gives a published encoder its clip of one frame and takes the time axis off again."""

    def __init__(self, encoder: FrameEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, H/4, W/4, dim]."""
        latents: Tensor = self.encoder(x[:, :, None])
        return latents[:, 0]


def build_segmenter(layers: Sequence[int] = LAYERS) -> Segmenter:
    """A new network with random weights, its encoder collapsed to 2D; `layers` are the blocks of its four groups."""
    return Segmenter(CollapsedFrameEncoder(layers), AttentionConvHead())


def take_pretrained(segmenter: Segmenter, published: FrameEncoder) -> None:
    """Give the encoder of a segmenter the weights of a pretrained one, whose middle temporal slices are all it needs.

    Raises:
        TypeError: The segmenter has another kind of encoder.
        ValueError: The pretrained one has another size.
    """
    if not isinstance(segmenter.encoder, CollapsedFrameEncoder):
        raise TypeError(f"expected a collapsed frame encoder, got {type(segmenter.encoder).__name__}")
    weights = collapse(published.state_dict())
    expected = {name: tuple(tensor.shape) for name, tensor in segmenter.encoder.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if found != expected:
        layers, dim, width = frame_encoder_shape({n: tuple(t.shape) for n, t in published.state_dict().items()})
        raise ValueError(
            f"expected pretrained weights that fit model.layers, found an encoder of {list(layers)} blocks, {dim} "
            f"channels and width {width}: only model.layers can follow it"
        )
    segmenter.encoder.load_state_dict(weights)


def published_form(segmenter: Segmenter) -> Segmenter:
    """The same network with its encoder as published: 3D kernels and a time axis of one. Shares the head.

    Raises:
        TypeError: The encoder has no published form.
    """
    if not isinstance(segmenter.encoder, CollapsedFrameEncoder):
        raise TypeError(f"expected a collapsed frame encoder, got {type(segmenter.encoder).__name__}")
    encoder = _OneFrameClip(segmenter.encoder.published())
    return Segmenter(encoder, segmenter.head).train(segmenter.training)
