"""The frame encoder: the 3D ResNet through which VideoGPT's prior sees its conditioning frame.

Yan et al. 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers", public PyTorch version, `resnet.*`.

The same tree of modules is built in two forms with the same parameter names:

* `FrameEncoder`, as published: 3D convolutions over clips of any length.
* `CollapsedFrameEncoder`: 2D convolutions over single frames. With one frame, zero padding leaves only the middle
  temporal slice of a 3x3x3 kernel anything to multiply, so the two agree exactly and the 2D form costs a third.

`collapse` and `expand` turn the parameters of one form into those of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from training.conv2d import Conv2d

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Conv = Callable[..., nn.Module]
    """`nn.Conv2d` or `nn.Conv3d`."""

LAYERS = (3, 4, 6, 3)
"""Residual blocks in each of the four groups: the ResNet-34 layout."""

LATENT_DIM = 240
"""Channels of the latents, as in the public `bair_gpt`."""

STRIDE = (1, 4, 4)
"""Total stride over time, height and width."""


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of every position: [B, C, ...] -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """Normalise, and rectify if asked to; the kernel keeps its statistics in float32 whatever the dtype of `x`."""
        normed: Tensor = self.norm(x.movedim(1, -1))
        if relu:
            normed = torch.relu_(normed)  # in place before the view below: after it, autograd would copy three times
        return normed.movedim(-1, 1)


class NormRelu(nn.Module):
    """Channel normalisation and, unless switched off, a ReLU."""

    def __init__(self, channels: int, *, relu: bool = True) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, ...] -> the same shape."""
        y: Tensor = self.norm(x, relu=self.relu)
        return y


class ResidualBlock(nn.Module):
    """Two 3-tap convolutions beside a shortcut.

    The branch is rectified once before it is added to the shortcut and once after, as in the public weights; the
    first block of a group projects its shortcut to the new width and stride.
    """

    def __init__(self, conv: Conv, c_in: int, c_out: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = conv(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bnr1 = NormRelu(c_out)
        self.conv2 = conv(c_out, c_out, 3, padding=1, bias=False)
        self.bnr2 = NormRelu(c_out)

    def shortcut(self, x: Tensor) -> Tensor:
        """What the branch is added to: [B, C_in, ...] -> [B, C_out, ...]."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, ...] -> [B, C_out, ...], non-negative."""
        branch = self.bnr2(self.conv2(self.bnr1(self.conv1(x))))
        return torch.relu_(branch + self.shortcut(x))


class StartBlock(ResidualBlock):
    """A residual block whose shortcut is a strided 1-tap convolution and a norm without ReLU."""

    def __init__(self, conv: Conv, c_in: int, c_out: int, stride: tuple[int, ...]) -> None:
        super().__init__(conv, c_in, c_out, stride)
        self.proj_conv = conv(c_in, c_out, 1, stride, bias=False)
        self.proj_bnr = NormRelu(c_out, relu=False)

    def shortcut(self, x: Tensor) -> Tensor:
        """Project to the block's width and stride."""
        y: Tensor = self.proj_bnr(self.proj_conv(x))
        return y


class Group(nn.Module):
    """One start block and `n_blocks - 1` plain ones of the same width."""

    def __init__(self, conv: Conv, c_in: int, c_out: int, n_blocks: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.start_block = StartBlock(conv, c_in, c_out, stride)
        unit = (1,) * len(stride)
        self.blocks = nn.Sequential(*[ResidualBlock(conv, c_out, c_out, unit) for _ in range(n_blocks - 1)])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, ...] -> [B, C_out, ...]."""
        y: Tensor = self.blocks(self.start_block(x))
        return y


def group_strides(stride: Sequence[int]) -> list[tuple[int, ...]]:
    """Stride of each of the four groups; the first keeps the resolution, each later one may halve an axis.

    Raises:
        ValueError: A total stride that three halvings cannot make.

    >>> group_strides((1, 4, 4))
    [(1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 1, 1)]
    """
    if any(s not in (1, 2, 4, 8) for s in stride):
        raise ValueError(f"a frame encoder halves each axis at most three times: expected 1, 2, 4 or 8, got {stride}")
    halvings = [s.bit_length() - 1 for s in stride]
    return [
        (1,) * len(halvings),
        *(tuple(2 if n > level else 1 for n in halvings) for level in range(3)),
    ]


class Levels(NamedTuple):
    """What the encoder makes of a frame at each of its resolutions, all >= 0.

    Attributes:
        fine: [B, 64 * width_multiplier, ..., H, W], after the first group.
        middle: [B, 128 * width_multiplier, ..., H/2, W/2], after the second.
        latents: [B, ..., H/4, W/4, dim], the output, channel last.
    """

    fine: Tensor
    middle: Tensor
    latents: Tensor


class _ResNet(nn.Module):
    """The tree of modules that both forms share; `conv` decides over how many axes it works."""

    def __init__(
        self,
        conv: Conv,
        layers: Sequence[int],
        dim: int,
        stride: Sequence[int],
        width_multiplier: int,
    ) -> None:
        super().__init__()
        widths = [64 * width_multiplier, 128 * width_multiplier, 256 * width_multiplier, dim]
        self.stem = nn.Sequential(conv(3, widths[0], 3, padding=1, bias=False), NormRelu(widths[0]))
        strides = group_strides(stride)
        inputs = [widths[0], *widths[:-1]]
        groups = [
            Group(conv, c_in, c_out, n_blocks, group_stride)
            for c_in, c_out, n_blocks, group_stride in zip(inputs, widths, layers, strides, strict=True)
        ]
        self.group1, self.group2, self.group3, self.group4 = groups

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, ...] -> [B, ..., dim], channel last."""
        return self.levels(x).latents

    def levels(self, x: Tensor) -> Levels:
        """[B, 3, ...] -> the output and what it was made of."""
        fine: Tensor = self.group1(self.stem(x))
        middle: Tensor = self.group2(fine)
        latents: Tensor = self.group4(self.group3(middle))
        return Levels(fine, middle, latents.movedim(1, -1))


class FrameEncoder(_ResNet):
    """The encoder as published: clips [B, 3, T, H, W] in [-0.5, 0.5] -> latents [B, T, H/4, W/4, dim] >= 0."""

    def __init__(
        self,
        layers: Sequence[int] = LAYERS,
        dim: int = LATENT_DIM,
        stride: Sequence[int] = STRIDE,
        width_multiplier: int = 1,
    ) -> None:
        super().__init__(nn.Conv3d, layers, dim, stride, width_multiplier)


class CollapsedFrameEncoder(_ResNet):
    """The encoder for single frames: [B, 3, H, W] in [-0.5, 0.5] -> latents [B, H/4, W/4, dim] >= 0."""

    def __init__(
        self,
        layers: Sequence[int] = LAYERS,
        dim: int = LATENT_DIM,
        stride: Sequence[int] = STRIDE[1:],
        width_multiplier: int = 1,
    ) -> None:
        super().__init__(Conv2d, layers, dim, stride, width_multiplier)
        self._shape = (tuple(layers), dim, (1, *stride), width_multiplier)
        self.load_state_dict(collapse(FrameEncoder(*self._shape).state_dict()))

    def published(self) -> FrameEncoder:
        """A copy of this encoder in the published form; what single frames never meet is zero."""
        encoder = FrameEncoder(*self._shape)
        encoder.load_state_dict(expand(self.state_dict()))
        return encoder


def collapse(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of `CollapsedFrameEncoder` from those of `FrameEncoder`: the middle temporal slice of each kernel.

    Exact for clips of one frame only. Tensors are copies.
    """
    return {
        name: (tensor[:, :, tensor.shape[2] // 2] if tensor.ndim == 5 else tensor).clone()
        for name, tensor in published.items()
    }


def expand(collapsed: Mapping[str, Tensor], outer: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Parameters of `FrameEncoder` from those of `CollapsedFrameEncoder`.

    Args:
        collapsed: Names to tensors of the 2D form.
        outer: A published state dict that gives the outer temporal slices, which single frames never meet and
            training on them never changes. Without it they are zero.

    Returns:
        New tensors; kernels gain a temporal axis of 3 (1 for projections) in third place.
    """
    published = {}
    for name, tensor in collapsed.items():
        if tensor.ndim != 4:
            published[name] = tensor.clone()
            continue
        taps = 3 if tensor.shape[-1] == 3 else 1
        kernel = tensor.new_zeros(*tensor.shape[:2], taps, *tensor.shape[2:]) if outer is None else outer[name].clone()
        kernel[:, :, taps // 2] = tensor
        published[name] = kernel
    return published
