"""3x3 convolutions by Winograd's minimal filtering, F(4x4, 3x3): a quarter of the multiplications.

Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4. A picture is cut into tiles of 4x4
outputs, which hear from 6x6 inputs; in coordinates of their own, the points, tile and kernel are multiplied number by
number. Everything below is a matrix product: to the points, over the channels at each of the 36 points, and back.

The points are the values at which the two polynomials of an axis are evaluated. 0, +-5/8 and +-3/2 keep the error at
9e-7 of the output's spread (256 channels, float32), where direct sums leave 6e-7 and the usual 0, +-1, +-2 leave 2e-6.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

TILE = 4
"""Outputs of a tile along one axis; height and width must be multiples of it."""

POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)
"""Where the polynomials of an axis are evaluated, beside infinity."""

_INPUTS = TILE + 2
_CHUNK = 1 << 18
"""Numbers of an input that are worked on at a time: their tiles, 2.25 times as many, stay in the cache."""


class Transforms(NamedTuple):
    """From one axis of a tile to points and back.

    Attributes:
        of_input: float32 [6, 6], from the inputs of a tile to points.
        of_kernel: float32 [6, 3], from the taps.
        of_output: float32 [4, 6], from points to the outputs.
    """

    of_input: Tensor
    of_kernel: Tensor
    of_output: Tensor


@functools.cache
def transforms() -> Transforms:
    """The three matrices, by Cook and Toom's construction from `POINTS`."""
    n = _INPUTS
    of_output, of_kernel, of_input = np.zeros((TILE, n)), np.zeros((n, 3)), np.zeros((n, n))
    for i, point in enumerate(POINTS):
        others = [other for other in POINTS if other != point]
        of_output[:, i] = point ** np.arange(TILE)
        of_kernel[i] = point ** np.arange(3) / np.prod([point - other for other in others])
        of_input[i, : n - 1] = np.poly(others)[::-1]
    of_output[-1, -1] = of_kernel[-1, -1] = 1  # the point at infinity: the highest coefficient
    of_input[-1] = np.poly(POINTS)[::-1]
    return Transforms(*[torch.from_numpy(matrix).float() for matrix in (of_input, of_kernel, of_output)])


class _Scratch:
    """Memory that one call takes again for every chunk: fresh pages cost more than what is computed in them."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Memory of this shape, with whatever is in it, until the same name is taken again."""
        n = math.prod(shape)
        if name not in self._held or self._held[name].numel() < n:
            self._held[name] = self._like.new_empty(n)
        return self._held[name][:n].view(shape)

    def both_axes(self, name: str, matrix: Tensor, tiles: Tensor) -> Tensor:
        """Apply [b, a] to both axes of tiles, [a * a, n] -> [b * b, n]."""
        (b, a), n = matrix.shape, tiles.shape[1]
        rows = torch.mm(matrix, tiles.view(a, -1), out=self.take("rows", b, a * n)).view(b, a, n)
        return torch.bmm(matrix.expand(b, b, a), rows, out=self.take(name, b, b, n)).view(b * b, n)


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve with stride 1 and padding 1.

    Args:
        x: float32 [B, C, H, W], H and W multiples of 4; quick if its channels are last in memory.
        kernel: float32 [O, C, 3, 3].

    Returns:
        [B, O, H, W], channels last in memory.
    """
    (batch, c_in, height, width), c_out = x.shape, kernel.shape[0]
    scratch = _Scratch(x)
    points = _kernel_points(kernel)
    out = x.new_empty(batch, height, width, c_out)
    for chunk, tiles in _chunks(x, scratch):
        inputs = tiles.view(36, -1, c_in)
        products = torch.bmm(inputs, points, out=scratch.take("products", 36, inputs.shape[1], c_out))
        outputs = scratch.both_axes("outputs", transforms().of_output, products.view(36, -1))
        target = _as_tiles(out[chunk])
        target.copy_(outputs.view(target.shape))
    return out.permute(0, 3, 1, 2)


def gradients(
    x: Tensor, kernel: Tensor, grad: Tensor, *, of_input: bool, of_kernel: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of `convolve`: every step of it, transposed.

    Args:
        x: [B, C, H, W], what was convolved.
        kernel: [O, C, 3, 3], with what.
        grad: [B, O, H, W], gradient of the output.
        of_input: Whether the gradient of `x` is wanted.
        of_kernel: Whether that of `kernel` is.

    Returns:
        Gradients of `x`, [B, C, H, W], and of `kernel`, [O, C, 3, 3]; none where not wanted.
    """
    (batch, c_in, height, width), c_out = x.shape, kernel.shape[0]
    scratch = _Scratch(x)
    back = Transforms(*[matrix.t().contiguous() for matrix in transforms()])
    mirrored = _kernel_points(kernel).transpose(1, 2)
    on_points = x.new_empty(36, c_in, c_out) if of_kernel else None
    of_pixels = x.new_empty(batch, height, width, c_in) if of_input else None
    grads = grad.permute(0, 2, 3, 1)
    for chunk, tiles in _chunks(x, scratch):
        of_tiles = _as_tiles(grads[chunk])
        outputs = scratch.take("outputs", *of_tiles.shape).copy_(of_tiles)
        products = scratch.both_axes("products", back.of_output, outputs.view(TILE * TILE, -1)).view(36, -1, c_out)
        if on_points is not None:
            on_points.baddbmm_(tiles.view(36, -1, c_in).transpose(1, 2), products, beta=int(chunk.start > 0))
        if of_pixels is not None:
            on_tiles = torch.bmm(products, mirrored, out=scratch.take("inputs", 36, products.shape[1], c_in))
            inputs = scratch.both_axes("points", back.of_input, on_tiles.view(36, -1))
            target = of_pixels[chunk]
            padded = scratch.take("padded", len(target), height + 2, width + 2, c_in).zero_()
            _add_tiles(padded, inputs)
            target.copy_(padded[:, 1:-1, 1:-1])
    taps = None if on_points is None else scratch.both_axes("taps", back.of_kernel, on_points.view(36, -1))
    return (
        None if of_pixels is None else of_pixels.permute(0, 3, 1, 2),
        None if taps is None else taps.view(3, 3, c_in, c_out).permute(3, 2, 0, 1),
    )


def _kernel_points(kernel: Tensor) -> Tensor:
    """Kernels [O, C, 3, 3] -> [36, C, O]."""
    c_out, c_in = kernel.shape[:2]
    taps = kernel.permute(2, 3, 1, 0).reshape(9, -1)
    return _Scratch(kernel).both_axes("points", transforms().of_kernel, taps).view(36, c_in, c_out)


def _chunks(x: Tensor, scratch: _Scratch) -> Iterator[tuple[slice, Tensor]]:
    """Some pictures at a time: which of [B, C, H, W], and their points [36, pictures * tiles * C]."""
    batch, channels, height, width = x.shape
    size = max(1, _CHUNK // x[0].numel())
    pixels = x.permute(0, 2, 3, 1)
    padded = x.new_zeros(size, height + 2, width + 2, channels)
    for start in range(0, batch, size):
        chunk = slice(start, min(start + size, batch))
        part = padded[: chunk.stop - start]
        part[:, 1:-1, 1:-1].copy_(pixels[chunk])
        views = _overlapping(part)
        inputs = scratch.take("inputs", *views.shape).copy_(views)
        yield chunk, scratch.both_axes("tiles", transforms().of_input, inputs.view(36, -1))


def _overlapping(padded: Tensor) -> Tensor:
    """Pictures [n, H + 2, W + 2, C] as the inputs of tiles [6, 6, n, H / 4, W / 4, C], a view."""
    n, rows, columns, channels = padded.shape
    of_picture, of_row, of_column, _ = padded.stride()
    return padded.as_strided(
        (_INPUTS, _INPUTS, n, rows // TILE, columns // TILE, channels),
        (of_row, of_column, of_picture, TILE * of_row, TILE * of_column, 1),
        padded.storage_offset(),
    )


def _add_tiles(padded: Tensor, inputs: Tensor) -> None:
    """Add the inputs of tiles [36, n * H / 4 * W / 4 * C] to pictures [n, H + 2, W + 2, C], in place."""
    views = _overlapping(padded)
    tiles = inputs.view(views.shape)
    for row in range(_INPUTS):  # within one place of the tiles nothing overlaps
        for column in range(_INPUTS):
            views[row, column] += tiles[row, column]


def _as_tiles(pixels: Tensor) -> Tensor:
    """Pictures [n, H, W, C] as tiles [4, 4, n, H / 4, W / 4, C], a view if they are contiguous."""
    n, height, width, channels = pixels.shape
    return pixels.view(n, height // TILE, TILE, width // TILE, TILE, channels).permute(2, 4, 0, 1, 3, 5)
