"""A mask written as PNG is read by others as 0 and 255."""

import io

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
