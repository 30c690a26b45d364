"""The whole network: a frame goes in, mask logits and latents come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from training.encoders import Pixels, PriorEncoder
from training.heads import AttentionSkipsHead, LatentGrid, build_head
from training.videogpt.configuration import frame_encoder_shape
from training.videogpt.resnet import LATENT_DIM, LAYERS, CollapsedFrameEncoder, FrameEncoder, Levels, collapse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.config import EncoderName, HeadName, LatentsName
    from training.videogpt.prior import Prior


FRAME_ENCODER_GRID = LatentGrid(16, 16, LATENT_DIM)


class Segmentation(NamedTuple):
    """What the network says of a batch of frames.

    Attributes:
        logits: float [B, 64, 64]; the robot's probability is their sigmoid.
        latents: float [B, H, W, D], the encoder's output; the frame encoder's is [B, 16, 16, 240], non-negative.
    """

    logits: Tensor
    latents: Tensor


def normalise(frames: Tensor) -> Tensor:
    """Pixels uint8 [B, 64, 64, 3] in 0..255 -> float32 [B, 3, 64, 64] in [-0.5, 0.5], as VideoGPT was trained."""
    return frames.movedim(-1, 1).float() / 255 - 0.5


class Segmenter(nn.Module):
    """Encoder and head, for single frames uint8 [B, 64, 64, 3].

    Args:
        encoder: Frames [B, 3, 64, 64] in [-0.5, 0.5] to latents, channel last.
        head: Latents to logits [B, 64, 64]; one with skips takes the frame encoder's `Levels`.
        frozen: Whether the encoder stays as it is while the head trains.
        frozen_groups: Those of the frame encoder's groups of residual blocks, from 1, that stay as they are.
    """

    def __init__(
        self, encoder: nn.Module, head: nn.Module, *, frozen: bool = False, frozen_groups: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.frozen = frozen
        if frozen:
            encoder.requires_grad_(requires_grad=False)
        for group in frozen_groups:
            encoder.get_submodule(f"group{group}").requires_grad_(requires_grad=False)

    def forward(self, frames: Tensor) -> Segmentation:
        """Segment a batch of frames."""
        pixels = normalise(frames)
        if isinstance(self.head, AttentionSkipsHead):
            levels: Levels = self.encoder.levels(pixels)  # type: ignore[operator] # `build_segmenter` pairs the two
            return Segmentation(self.head(levels), levels.latents)
        latents: Tensor = self.encoder(pixels)
        return Segmentation(self.head(latents), latents)


class _OneFrameClip(nn.Module):
    """Gives a published encoder its clip of one frame and takes the time axis off again."""

    def __init__(self, encoder: FrameEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, H/4, W/4, dim]."""
        return self.levels(x).latents

    def levels(self, x: Tensor) -> Levels:
        """[B, 3, H, W] -> its levels as those of the collapsed form."""
        fine, middle, latents = self.encoder.levels(x[:, :, None])
        return Levels(fine[:, :, 0], middle[:, :, 0], latents[:, 0])


def build_segmenter(
    layers: Sequence[int] = LAYERS,
    *,
    encoder: EncoderName = "frame-encoder",
    head: HeadName = "attention-conv",
    frozen: bool = False,
    frozen_groups: Sequence[int] = (),
    prior: Prior | None = None,
    latents: LatentsName = "expected",
    draw: int = 0,
    width: int = 24,
) -> Segmenter:
    """A new network: random weights, but for the transformer's.

    Args:
        layers: Blocks of the four groups of the frame encoder, which is built collapsed to 2D.
        encoder: Which encoder.
        head: Which head.
        frozen: Whether the encoder stays as it is; the transformer always does.
        frozen_groups: Those of the frame encoder's groups that stay as they are.
        prior: What the transformer encoder wraps.
        latents: What the transformer encoder gives.
        draw: Which draw of its sampled codes.
        width: Channels of the U-Net's first level.

    Raises:
        ValueError: Parts that do not fit together.
    """
    if encoder == "none":
        return Segmenter(Pixels(), build_head(head, Pixels.grid, width=width))
    if encoder == "transformer":
        if prior is None:
            raise ValueError("expected a prior for the transformer encoder, got none")
        whole = PriorEncoder(prior, latents, draw)
        return Segmenter(whole, build_head(head, whole.grid), frozen=True)
    return Segmenter(
        CollapsedFrameEncoder(layers), build_head(head, FRAME_ENCODER_GRID), frozen=frozen, frozen_groups=frozen_groups
    )


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
