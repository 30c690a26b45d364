"""Which earlier tokens a token looks at under strided sparse attention.

Child et al. 2019, "Generating Long Sequences with Sparse Transformers", https://arxiv.org/abs/1904.10509, section 4.2,
in the block form of the public VideoGPT: tokens in raster order are cut into blocks of 32, a block looks at a few
blocks just before it and at those straight before it along an earlier axis (the same image row in earlier frames).

Both published priors were trained with it. The masks are dense: PyTorch's attention takes any mask, and the weights
do not depend on how the zeros are skipped.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BLOCK = 32
"""Tokens in a block."""

LOCAL_BLOCKS = 4
"""Blocks just before its own that a block looks at."""


def block_grid(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Grid of blocks over a grid of tokens.

    The fewest last axes that hold more than one block together become one axis of blocks.

    Raises:
        ValueError: The axes do not divide into blocks.

    >>> block_grid((4, 32, 32)), block_grid((4, 8, 8))
    ((4, 32), (4, 2))
    """
    kept = len(shape) - 1
    while kept > 0 and math.prod(shape[kept:]) <= BLOCK:
        kept -= 1
    merged = math.prod(shape[kept:])
    if merged % BLOCK:
        raise ValueError(f"sparse attention needs latents that divide into blocks of {BLOCK} tokens, got {shape}")
    return (*shape[:kept], merged // BLOCK)


def block_layout(shape: tuple[int, ...]) -> Tensor:
    """Bool [R, R] over blocks in raster order: true where the row's block looks at the column's."""
    grid = block_grid(shape)
    places = torch.cartesian_prod(*(torch.arange(size) for size in grid)).view(-1, len(grid))  # [R, axes]
    index = torch.arange(len(places))
    back = index[:, None] - index  # how many blocks the column is before the row
    local = back <= LOCAL_BLOCKS
    differs = places[:, None] != places  # [R, R, axes]
    strided = (differs.sum(-1) <= 1) & ~differs[..., -1]
    return (local | strided) & (back >= 0)


def token_mask(shape: tuple[int, ...]) -> Tensor:
    """Bool [L, L] over tokens in raster order, for attention: the block layout, and never a later token."""
    blocks = block_layout(shape)
    tokens = blocks.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return tokens.tril()
