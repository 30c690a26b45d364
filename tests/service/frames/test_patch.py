"""A mask of which only a rectangle is kept is the mask."""

import numpy as np
import pytest
from numpy.typing import NDArray

from service.frames.patch import Patch

BLOCK = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)


@pytest.mark.parametrize("inside", [BLOCK, np.asfortranarray(BLOCK), BLOCK[::-1], BLOCK[:0, :0], BLOCK[:1]])
def test_what_lies_outside_the_rectangle_is_no_robot(inside: NDArray[np.uint8]) -> None:
    patch = Patch(inside, left=4, top=1, width=8, height=5)
    expected = np.zeros((5, 8), np.uint8)
    expected[1 : 1 + inside.shape[0], 4 : 4 + inside.shape[1]] = inside
    np.testing.assert_array_equal(patch.whole(), expected)
    assert patch.area == expected.sum()
    assert patch.area_ratio == expected.mean()


@pytest.mark.parametrize("inside", [BLOCK, np.asfortranarray(BLOCK)])
def test_a_rectangle_may_be_all_of_it(inside: NDArray[np.uint8]) -> None:
    patch = Patch.of(inside)
    assert patch.whole().flags.c_contiguous
    np.testing.assert_array_equal(patch.whole(), BLOCK)
    assert (patch.area, patch.area_ratio) == (4, 4 / 6)


def test_pasting_in_another_ink_leaves_the_patch_as_it_was() -> None:
    patch = Patch(BLOCK.copy(), left=1, top=0, width=4, height=2)
    onto = np.zeros((2, 4), np.uint8)
    patch.paste(onto, ink=255)
    np.testing.assert_array_equal(onto, [[0, 0, 255, 255], [0, 255, 0, 255]])
    np.testing.assert_array_equal(patch.inside, BLOCK)
