"""The small layers of VideoGPT that differ from PyTorch's own: padding, normalisation, activation, positions.

Yan et al. 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers", https://arxiv.org/abs/2104.10157,
sections 3.1 and 3.2; the arithmetic and the parameter names are those of the public PyTorch version.

Axis letters: B batch, C channels, T time, H height, W width, D features (channel last), K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

Triple = tuple[int, int, int]
"""One number for each of time, height and width."""


def same_padding(kernel: int, stride: Triple) -> list[int]:
    """Zeros before and after each axis so that a convolution divides its size by `stride` exactly.

    An odd zero goes to the front. The order is that of `torch.nn.functional.pad`: the last axis first.

    >>> same_padding(4, (2, 1, 1))
    [2, 1, 2, 1, 1, 1]
    """
    padding = []
    for s in reversed(stride):
        total = kernel - s
        padding += [total - total // 2, total // 2]
    return padding


class SamePadConv3d(nn.Module):
    """3D convolution over zero-padded clips: [B, C_in, T, H, W] -> [B, C_out, T/s_t, H/s_h, W/s_w]."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: Triple = (1, 1, 1), *, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv3d(c_in, c_out, kernel, stride, bias=bias)
        self.padding = same_padding(kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Pad, then convolve."""
        y: Tensor = self.conv(functional.pad(x, self.padding))
        return y


class SamePadConvTranspose3d(nn.Module):
    """Its mirror: [B, C_in, T, H, W] -> [B, C_out, T*s_t, H*s_h, W*s_w], padded by the same rule."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: Triple = (1, 1, 1)) -> None:
        super().__init__()
        self.convt = nn.ConvTranspose3d(c_in, c_out, kernel, stride, padding=kernel - 1)
        self.padding = same_padding(kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Pad, then convolve."""
        y: Tensor = self.convt(functional.pad(x, self.padding))
        return y


class GELU2(nn.Module):
    """The sigmoid approximation of the GELU: x * sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return x * torch.sigmoid(1.702 * x)


def standardise(x: Tensor) -> Tensor:
    """Centre and scale the last axis, in float32.

    The published weights were trained with the epsilon beside the reciprocal square root, not under it; a vector
    without any variance therefore gives NaN.
    """
    centred = x.float() - x.float().mean(-1, keepdim=True)
    return centred * (1e-5 + torch.rsqrt(centred.square().mean(-1, keepdim=True)))


class LayerNorm(nn.Module):
    """Layer normalisation with a learnt gain and offset: [B, ..., D] -> [B, ..., D]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(dim))
        self.b = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, classes: Tensor | None = None) -> Tensor:
        """Normalise `x`; `classes` is there for the class-conditional form and is ignored."""
        del classes
        return (standardise(x) * self.g + self.b).to(x.dtype)


class ClassLayerNorm(nn.Module):
    """Layer normalisation whose gain and offset are looked up by class: [B, ..., D] -> [B, ..., D]."""

    def __init__(self, dim: int, n_classes: int) -> None:
        super().__init__()
        self.w = nn.Linear(n_classes, dim, bias=False)
        self.wb = nn.Linear(n_classes, dim, bias=False)
        nn.init.constant_(self.w.weight, n_classes**-0.5)

    def forward(self, x: Tensor, classes: Tensor | None) -> Tensor:
        """Normalise `x` by the one-hot `classes` [B, K].

        Raises:
            ValueError: There are no classes.
        """
        if classes is None:
            raise ValueError("a class-conditional model needs labels: expected one class for each clip, got none")
        one_for_each_clip = (len(x), *(1,) * (x.ndim - 2), -1)
        gain = 1 + self.w(classes).view(one_for_each_clip)
        offset = self.wb(classes).view(one_for_each_clip)
        normed: Tensor = standardise(x) * gain + offset
        return normed.to(x.dtype)


def layer_norm(dim: int, n_classes: int | None) -> LayerNorm | ClassLayerNorm:
    """The normalisation of a model with or without classes."""
    return LayerNorm(dim) if n_classes is None else ClassLayerNorm(dim, n_classes)


class BroadcastPositions(nn.Module):
    """Position embedding of a grid: each axis gives its own share of the features.

    Args:
        shape: Size of each axis of the grid.
        dim: Features D, shared out evenly between the axes.

    Raises:
        ValueError: `dim` cannot be shared out evenly.
    """

    def __init__(self, shape: tuple[int, ...], dim: int) -> None:
        super().__init__()
        if dim % len(shape):
            raise ValueError(
                f"a position embedding over {len(shape)} axes needs a multiple of that, got {dim} features"
            )
        self.shape = shape
        share = dim // len(shape)
        self.emb = nn.ParameterDict(
            {f"d_{axis}": nn.Parameter(0.01 * torch.randn(size, share)) for axis, size in enumerate(shape)}
        )

    def table(self) -> Tensor:
        """The embedding of every position: [*shape, D], the features of the first axis first."""
        shares = []
        for axis, size in enumerate(self.shape):
            along_its_axis = [1] * len(self.shape)
            along_its_axis[axis] = size
            rows = self.emb[f"d_{axis}"].view(*along_its_axis, -1)
            shares.append(rows.expand(*self.shape, -1))
        return torch.cat(shares, dim=-1)

    def at(self, index: int) -> Tensor:
        """The embedding of one position, counted in raster order: [D]."""
        shares: list[Tensor] = []
        for axis in reversed(range(len(self.shape))):
            index, place = divmod(index, self.shape[axis])
            shares.insert(0, self.emb[f"d_{axis}"][place])
        return torch.cat(shares)

    def forward(self, x: Tensor) -> Tensor:
        """Add it: [B, *shape, D] -> the same shape."""
        return x + self.table()


class RightShift(nn.Module):
    """Moves tokens one place on in raster order, so that position i sees only tokens before i."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.sos = nn.Parameter(0.02 * torch.randn(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H, W, D] -> the same shape: the learnt start vector first, the last token dropped."""
        tokens = x.flatten(1, -2)
        start = self.sos.to(x.dtype).expand(len(x), 1, -1)
        return torch.cat([start, tokens[:, :-1]], dim=1).view_as(x)
