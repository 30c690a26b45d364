"""Heads that turn latents into a mask; Maier and Mohankumar, "Video Prediction Models as General Visual Encoders".

Every head takes latents [B, H, W, D], channel last, and gives logits [B, 64, 64] with no ReLU after them; one also
takes what the frame encoder had at finer resolutions. Where the latents are vectors, fully connected layers work on one
position at a time, with weights that all positions share. Where they are the numbers of codes, one for each position
and time step, they see the whole grid, as the paper's did.

The paper's shapes are those of a 16x16x240 grid (frame encoder) and a 4x32x32 one (transformer); here they follow the
encoder's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from training.unet import StridedUNet, UNet
from training.videogpt.resnet import LATENT_DIM

if TYPE_CHECKING:
    from training.config import HeadName
    from training.videogpt.resnet import Levels

SIZE = 64
"""Height and width of a mask."""


class LatentGrid(NamedTuple):
    """What an encoder gives for each frame: [height, width, dim].

    Attributes:
        height: Positions.
        width: Positions.
        dim: Numbers at each position, those of all time steps.
        steps: Time steps.
        codes: Whether they are numbers of codes, scaled to [0, 1), and not features.
    """

    height: int
    width: int
    dim: int
    steps: int = 1
    codes: bool = False


class FullyConnected(nn.Module):
    """[B, H, W, D] -> [B, H, W, dim]."""

    def __init__(self, grid: LatentGrid, dim: int) -> None:
        super().__init__()
        self.shape = (grid.height, grid.width, dim)
        self.whole = grid.codes
        n = grid.height * grid.width if grid.codes else 1
        self.linear = nn.Linear(n * grid.dim, n * dim)

    def forward(self, latents: Tensor) -> Tensor:
        """Mix the numbers of each position, or of the whole grid."""
        if not self.whole:
            mixed: Tensor = self.linear(latents)
            return mixed
        everything: Tensor = self.linear(latents.flatten(1))
        return everything.view(-1, *self.shape)


class LinearProbe(nn.Module):
    """A linear layer to the pixels of each position's patch: what the latents say without any help."""

    def __init__(self, grid: LatentGrid) -> None:
        super().__init__()
        patch = SIZE // grid.height
        self.fc = FullyConnected(grid, patch * patch)
        self.patches = nn.PixelShuffle(patch)

    def forward(self, latents: Tensor) -> Tensor:
        """[B, H, W, D] -> logits [B, 64, 64]."""
        logits: Tensor = self.patches(self.fc(latents).movedim(-1, 1))
        return logits[:, 0]


class LightConvHead(nn.Module):
    """Fully connected to one number for each position and time step, 3x3 convolution, transposed convolution."""

    def __init__(self, grid: LatentGrid) -> None:
        super().__init__()
        patch = SIZE // grid.height
        self.fc = FullyConnected(grid, grid.steps)
        self.conv = nn.Conv2d(grid.steps, 1, 3, padding=1)
        self.up = nn.ConvTranspose2d(1, 1, patch, stride=patch)
        nn.init.constant_(self.conv.bias, 0.5)  # type: ignore[arg-type] # it has one; a lone channel must not start dead
        self.relu = nn.ReLU()

    def forward(self, latents: Tensor) -> Tensor:
        """[B, H, W, D] -> logits [B, 64, 64]."""
        x = self.relu(self.fc(latents)).movedim(-1, 1)
        logits: Tensor = self.up(self.relu(self.conv(x)))
        return logits[:, 0]


class HeavyConvHead(nn.Module):
    """Fully connected to 64x64, then a U-Net of strided convolutions."""

    def __init__(self, grid: LatentGrid) -> None:
        super().__init__()
        self.probe = LinearProbe(grid)
        self.relu = nn.ReLU()
        self.unet = StridedUNet()

    def forward(self, latents: Tensor) -> Tensor:
        """[B, H, W, D] -> logits [B, 64, 64]."""
        logits: Tensor = self.unet(self.relu(self.probe(latents)))
        return logits


class FcConvHead(nn.Module):
    """Fully connected to the latents' own shape, then the decoder of the attention head."""

    def __init__(self, grid: LatentGrid) -> None:
        super().__init__()
        self.fc = FullyConnected(grid, grid.dim)
        self.relu = nn.ReLU()
        self.decoder = ConvDecoder(grid.dim, grid.height)

    def forward(self, latents: Tensor) -> Tensor:
        """[B, H, W, D] -> logits [B, 64, 64]."""
        logits: Tensor = self.decoder(self.relu(self.fc(latents)))
        return logits


class LatentAttention(nn.Module):
    """Self-attention over all positions, pre-normalised and residual: [B, H, W, C] -> the same shape.

    The paper names 8 heads and no more; the residual path and the norm are ours, so that the convolutions still see
    the encoder's own features where attention adds nothing.
    """

    def __init__(self, dim: int = LATENT_DIM, heads: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, latents: Tensor) -> Tensor:
        """Let every latent look at all others of its frame."""
        tokens = self.norm(latents).flatten(1, 2)  # [B, H*W, C]
        mixed: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return latents + mixed.view_as(latents)


class ConvDecoder(nn.Module):
    """Transposed 3x3 convolutions that double the resolution up to 64, then a 3x3 convolution to one channel."""

    def __init__(self, dim: int = LATENT_DIM, side: int = 16) -> None:
        super().__init__()
        widths = (128, 32)[-round(math.log2(SIZE / side)) :]  # 16 -> 32 -> 64, or 32 -> 64
        layers: list[nn.Module] = []
        for c_in, c_out in zip((dim, *widths), widths, strict=False):
            layers += [nn.ConvTranspose2d(c_in, c_out, 3, stride=2, padding=1, output_padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, latents: Tensor) -> Tensor:
        """[B, H, W, C] -> logits [B, 64, 64]."""
        logits: Tensor = self.layers(latents.movedim(-1, 1))
        return logits[:, 0]


class AttentionConvHead(nn.Module):
    """The paper's best head: attention first, then the light convolutional decoder."""

    def __init__(self, dim: int = LATENT_DIM, heads: int = 8, side: int = 16) -> None:
        super().__init__()
        self.attention = LatentAttention(dim, heads)
        self.decoder = ConvDecoder(dim, side)

    def forward(self, latents: Tensor) -> Tensor:
        """[B, H, W, C] -> logits [B, 64, 64]."""
        logits: Tensor = self.decoder(self.attention(latents))
        return logits


class SkipLevel(nn.Module):
    """Doubles the resolution and adds what the encoder had there: [B, C_in, H, W] -> [B, C_out, 2H, 2W], rectified.

    Args:
        c_in: Channels from below.
        c_skip: Channels of the encoder's group at the doubled resolution.
        c_out: Channels given on.
    """

    def __init__(self, c_in: int, c_skip: int, c_out: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(c_in, c_out, 3, stride=2, padding=1, output_padding=1)
        self.lateral = nn.Conv2d(c_skip, c_out, 1)
        self.mix = nn.Conv2d(c_out, c_out, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """`x` [B, C_in, H, W] from below and `skip` [B, C_skip, 2H, 2W] from the encoder."""
        mixed: Tensor = self.mix(torch.relu(self.enlarge(x)) + self.lateral(skip))
        return torch.relu(mixed)


class AttentionSkipsHead(nn.Module):
    """The paper's best head, with skips: its decoder also sees the frame encoder at 32x32 and 64x64.

    A latent covers 4x4 pixels; where exactly a finger ends inside them, the encoder's first groups know best. Sums and
    not stacks, as in Lin et al. 2017, "Feature Pyramid Networks for Object Detection": cheaper, and the same kernels.
    """

    def __init__(self, dim: int = LATENT_DIM, heads: int = 8) -> None:
        super().__init__()
        self.attention = LatentAttention(dim, heads)
        self.middle = SkipLevel(dim, 128, 96)
        self.fine = SkipLevel(96, 64, 48)
        self.out = nn.Conv2d(48, 1, 3, padding=1)

    def forward(self, levels: Levels) -> Tensor:
        """What the frame encoder made of B frames of 64x64 -> logits [B, 64, 64]."""
        x = self.attention(levels.latents).movedim(-1, 1)
        logits: Tensor = self.out(self.fine(self.middle(x, levels.middle), levels.fine))
        return logits[:, 0]


def build_head(name: HeadName, grid: LatentGrid, *, width: int = 24) -> nn.Module:
    """A new head for an encoder's latents; `width` is the U-Net's.

    Raises:
        ValueError: Latents that the head cannot take.
    """
    if grid.height != grid.width or grid.height not in (16, 32, 64):
        raise ValueError(f"expected a square grid of 16, 32 or 64 positions a side, got {grid.height}x{grid.width}")
    if name == "unet":
        return UNet(grid.dim, width)
    if name == "attention-conv":
        if grid.codes:
            raise ValueError("attention wants features at each position: expected latents expected or hidden")
        heads = next(n for n in range(8, 0, -1) if grid.dim % n == 0)
        return AttentionConvHead(grid.dim, heads, grid.height)
    if name == "attention-skips":
        if grid.dim != LATENT_DIM or grid.height != 16:
            raise ValueError(f"attention-skips reads inside the frame encoder: expected its grid, got {grid}")
        return AttentionSkipsHead()
    kinds = {"linear": LinearProbe, "conv": LightConvHead, "heavy-conv": HeavyConvHead, "fc-conv": FcConvHead}
    return kinds[name](grid)
