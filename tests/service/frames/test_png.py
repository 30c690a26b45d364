"""A mask written as PNG is read by others as 0 and 255."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from service.frames.patch import Patch
from service.frames.png import write_grey


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (7, 31), (480, 640)])
def test_every_pixel_comes_back(shape: tuple[int, int], order: str) -> None:
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = np.asarray((x * 3 + y) % 11 < 4, np.uint8, order=order)
    picture = Image.open(io.BytesIO(write_grey(Patch.of(mask))))
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), mask * 255)


def test_what_lies_outside_a_patch_is_black() -> None:
    patch = Patch(np.ones((3, 2), np.uint8), left=5, top=1, width=9, height=6)
    picture = np.asarray(Image.open(io.BytesIO(write_grey(patch))))
    assert np.array_equal(picture, patch.whole() * 255)


@pytest.mark.parametrize("top", [0, 1, 2, 700, 719])
@pytest.mark.parametrize("height", [0, 1, 20])
def test_lines_without_robot_are_black_however_many_there_are(top: int, height: int) -> None:
    inside = (np.indices((min(height, 720 - top), 300)).sum(axis=0) % 7 < 5).astype(np.uint8)
    patch = Patch(inside, left=980, top=top, width=1280, height=720)
    content = write_grey(patch)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), patch.whole() * 255)
    lines = zlib.decompress(content[content.index(b"IDAT") + 4 : -16])  # whose sum is right too
    assert len(lines) == 720 * 1281


@pytest.mark.parametrize("size", [(1, 1), (1, 4096), (16384, 1), (64, 64)])
def test_a_mask_without_robot_is_black(size: tuple[int, int]) -> None:
    width, height = size
    content = write_grey(Patch(np.empty((0, 0), np.uint8), 0, 0, width, height))
    picture = np.asarray(Image.open(io.BytesIO(content)))
    assert picture.shape == (height, width)
    assert not picture.any()
