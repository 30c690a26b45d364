"""Attention: the published numbers, and the mask of sparse attention by its definition."""

import math

import golden
import pytest
import torch
from torch.testing import assert_close

from training.videogpt.attention import AxialBlock, MultiHeadAttention
from training.videogpt.sparsity import BLOCK, LOCAL_BLOCKS, block_grid, block_layout, token_mask
from training.videogpt.vqvae import HEADS

TOLERANCE = {"atol": 2e-5, "rtol": 1e-5}

unit_ops = pytest.mark.parametrize("name", golden.cases("unit_ops"))


@unit_ops
def test_attention_to_another_width_equals_the_published_one_for_one_number_of_heads(name: str) -> None:
    case = golden.load(name)
    queries, seen, expected = (case[f"cross_attention/{key}"] for key in ("q", "kv", "out"))
    fitting = []
    for heads in range(1, 9):  # the number of heads does not show in the shapes
        if queries.shape[-1] % heads == seen.shape[-1] % heads == 0:
            attention = MultiHeadAttention(queries.shape[-1], seen.shape[-1], heads)
            attention.load_state_dict(case.group("cross_attention/sd/"))
            got = attention(queries.flatten(1, -2), seen.flatten(1, -2)).view_as(expected)
            fitting += [heads] if torch.allclose(got, expected, **TOLERANCE) else []
    assert len(fitting) == 1


@unit_ops
def test_axial_block_equals_the_published_one(name: str) -> None:
    case = golden.load(name)
    block = AxialBlock(case["axial_block/in"].shape[1], HEADS)
    block.load_state_dict(case.group("axial_block/sd/"))
    assert_close(block(case["axial_block/in"]), case["axial_block/out"], **TOLERANCE)


@unit_ops
def test_block_layouts_equal_the_published_ones(name: str) -> None:
    layouts = golden.load(name).group("sparse_layout/")
    assert layouts
    for shape, expected in layouts.items():
        assert torch.equal(block_layout(tuple(int(size) for size in shape.split("x"))), expected), shape


def looks_at(query: int, key: int, shape: tuple[int, ...]) -> bool:
    """The definition, for one pair of tokens."""
    grid = block_grid(shape)
    row, column = query // BLOCK, key // BLOCK
    if key > query:
        return False
    if row - column <= LOCAL_BLOCKS:
        return True
    differing = [
        axis
        for axis in range(len(grid))
        if (row // math.prod(grid[axis + 1 :])) % grid[axis] != (column // math.prod(grid[axis + 1 :])) % grid[axis]
    ]
    return len(differing) == 1 and differing[0] != len(grid) - 1


@pytest.mark.parametrize("shape", [(4, 8, 32), (3, 3, 64), (8, 16, 8), (32,), (2, 4, 4)])
def test_token_mask_equals_the_definition(shape: tuple[int, ...]) -> None:
    length = math.prod(shape)
    mask = token_mask(shape)
    assert mask.shape == (length, length)
    for query in range(0, length, 7):
        assert mask[query].tolist() == [looks_at(query, key, shape) for key in range(length)]


def test_every_token_looks_at_itself() -> None:
    assert token_mask((4, 16, 16)).diagonal().all()


def test_latents_that_do_not_divide_into_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="blocks of 32"):
        block_grid((8, 6, 6))


def test_tokens_one_by_one_attend_as_they_do_together() -> None:
    attention = MultiHeadAttention(12, 12, 3)
    x = torch.randn(2, 5, 12)
    together = attention(x, x, causal=True)
    for i in range(5):
        assert_close(attention(x[:, i : i + 1], x[:, : i + 1]), together[:, i : i + 1])
