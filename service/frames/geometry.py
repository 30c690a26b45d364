"""Frames of any size -> the model's 64x64, and masks back onto the very pixels they came from.

The model sees a *window*: a rectangle in the frame's plane, in frame pixels, that 64x64 cells divide evenly.

    stretch   the whole frame, so cells are not square when the frame is not
    pad       the smallest square around the frame; what lies outside the frame is grey
    crop      the largest square inside the frame; what lies outside the window is never robot

Both ways use the one window, and coordinates are those of pixel edges: pixel i covers [i, i+1], its centre is i + 1/2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np
from PIL import Image

from service.contract import FRAME_SIZE
from service.frames.average import area_average, averages
from service.frames.enlarge import enlarged_mask
from service.frames.patch import Patch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.frames.decode import Picture

__all__ = ["Fit", "Window", "restore", "restore_mask", "shrink", "visible_cells", "window_of"]

Fit = Literal["stretch", "pad", "crop"]

_GREY: Final = 128
_BILINEAR: Final = Image.Resampling.BILINEAR


class Window(NamedTuple):
    """The rectangle that the model sees, in frame pixels; it may reach beyond the frame."""

    left: int
    top: int
    width: int
    height: int

    def visible(self, width: int, height: int) -> Window:
        """The part of the window that lies on a frame of this size."""
        left, top = max(0, self.left), max(0, self.top)
        right, bottom = min(width, self.left + self.width), min(height, self.top + self.height)
        return Window(left, top, right - left, bottom - top)

    def cells(self, part: Window) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of a part of the window, in the model's cells, 0..64."""
        left, top = part.left - self.left, part.top - self.top
        return (  # divided last, so that what is a whole number comes out as one
            left * FRAME_SIZE / self.width,
            top * FRAME_SIZE / self.height,
            (left + part.width) * FRAME_SIZE / self.width,
            (top + part.height) * FRAME_SIZE / self.height,
        )


def window_of(width: int, height: int, fit: Fit) -> Window:
    """The window for a frame of this size.

    >>> window_of(5, 3, "stretch"), window_of(5, 3, "pad"), window_of(5, 3, "crop")
    (Window(left=0, top=0, width=5, height=3), Window(left=0, top=-1, width=5, height=5), \
Window(left=1, top=0, width=3, height=3))
    """
    if fit == "stretch":
        return Window(0, 0, width, height)
    side = max(width, height) if fit == "pad" else min(width, height)
    return Window(_half(width - side), _half(height - side), side, side)


def visible_cells(width: int, height: int, fit: Fit) -> tuple[slice, slice]:
    """Rows and columns of the model's cells that show any of the frame; all of them unless it is padded.

    >>> visible_cells(600, 450, "pad")
    (slice(8, 56, None), slice(0, 64, None))
    """
    window = window_of(width, height, fit)
    left, top, right, bottom = window.cells(window.visible(width, height))
    return slice(math.floor(top), math.ceil(bottom)), slice(math.floor(left), math.ceil(right))


def shrink(picture: Picture, fit: Fit) -> NDArray[np.uint8]:
    """Area-average a picture to what the model sees: uint8 [64,64,3] RGB.

    Where it has fewer pixels than the model has cells, pixels are interpolated between first.

    Args:
        picture: Its image may be smaller than its stated size by an integer factor.
        fit: How a frame that is not square becomes one.
    """
    image = picture.image
    if image.size == (FRAME_SIZE, FRAME_SIZE):
        # np.asarray would ask Pillow for more than its bytes
        return np.frombuffer(image.tobytes(), np.uint8).reshape(FRAME_SIZE, FRAME_SIZE, 3)
    left, top, width, height = window_of(*image.size, fit)
    return area_average(image, (left, top, left + width, top + height), _GREY)


def restore(probability: NDArray[np.float32], width: int, height: int, fit: Fit) -> NDArray[np.float32]:
    """Bring the model's probabilities back to the frame: [64,64] -> [height,width], 0..1.

    Between centres of cells it is linear; where the frame has fewer pixels than cells, cells are averaged. Outside the
    window it is 0. The result is column-major, the order in which COCO's run lengths count.
    """
    if (width, height) == (FRAME_SIZE, FRAME_SIZE):
        return probability
    window = window_of(width, height, fit)
    part = window.visible(width, height)
    inside = _resample(probability, part.width, part.height, window.cells(part))
    if part == (0, 0, width, height):
        return inside
    whole = np.zeros((height, width), np.float32, order="F")
    whole[part.top : part.top + part.height, part.left : part.left + part.width] = inside
    return whole


def restore_mask(probability: NDArray[np.float32], threshold: float, width: int, height: int, fit: Fit) -> Patch:
    """What `restore` gives, decided: a mask of 1 where it reaches the threshold (more than 0), else 0.

    Only the rectangle is resampled outside of which nothing can reach it: what is interpolated or averaged lies between
    the cells that it is made of. Most frames are mostly not robot.

    Args:
        probability: The model's, [64,64].
        threshold: More than 0.
        width: Of the frame.
        height: Of the frame.
        fit: How the frame became the model's.
    """
    reach = probability >= threshold
    if (width, height) == (FRAME_SIZE, FRAME_SIZE):
        return Patch.of(reach.view(np.uint8))
    nothing = Patch(np.empty((0, 0), np.uint8), 0, 0, width, height)
    rows, columns = np.flatnonzero(reach.any(axis=1)), np.flatnonzero(reach.any(axis=0))
    if not rows.size:
        return nothing
    window = window_of(width, height, fit)
    seen = window.visible(width, height)
    across = (int(columns[0]), int(columns[-1]))
    down = (int(rows[0]), int(rows[-1]))
    left, right = _pixels(across, (window.left, window.width), (seen.left, seen.width))
    top, bottom = _pixels(down, (window.top, window.height), (seen.top, seen.height))
    if right <= left or bottom <= top:  # what reaches it is in the padding, out of the frame's sight
        return nothing
    part = Window(left, top, right - left, bottom - top)
    inside = _decided(probability, threshold, part, window.cells(part))
    return Patch(inside.view(np.uint8), left, top, width, height)


def _decided(
    probability: NDArray[np.float32], threshold: float, part: Window, box: tuple[float, float, float, float]
) -> NDArray[np.uint8] | NDArray[np.bool_]:
    """The part of a frame that shows the cells within `box`, resampled and decided: [height,width]."""
    left, top, right, bottom = box
    if part.width >= right - left and part.height >= bottom - top:
        mask = enlarged_mask(probability, threshold, part.width, part.height, box)
        if mask is not None:
            return mask
    return (_resample(probability.T, part.height, part.width, (top, left, bottom, right)) >= threshold).T


def _pixels(cells: tuple[int, int], window: tuple[int, int], seen: tuple[int, int]) -> tuple[int, int]:
    """The pixels, first and past the last, that some cells, from first to last, may have a part in.

    Along one side: where the window starts and its size, where what is seen of the frame starts and its size.
    """
    pixels_per_cell = window[1] / FRAME_SIZE
    low = math.floor(window[0] + (cells[0] - 1) * pixels_per_cell) - 1
    high = math.ceil(window[0] + (cells[1] + 2) * pixels_per_cell) + 1
    return max(seen[0], low), min(seen[0] + seen[1], high)


def _resample(
    values: NDArray[np.float32], width: int, height: int, box: tuple[float, float, float, float]
) -> NDArray[np.float32]:
    """[64,64] within box -> [height,width], column-major."""
    left, top, right, bottom = box
    if width < right - left:
        values, left, right = averages(values.T, left, right, width).T, 0, width
    if height < bottom - top:
        values, top, bottom = averages(values, top, bottom, height), 0, height
    image = Image.fromarray(np.ascontiguousarray(values.T))  # rows and columns swapped, and swapped back at the end
    return np.asarray(image.resize((height, width), _BILINEAR, box=(top, left, bottom, right))).T


def _half(difference: int) -> int:
    """Half of it, towards zero: what is left over goes to the right and the bottom."""
    return difference // 2 if difference >= 0 else -(-difference // 2)
