"""Masks of frames of which most is not robot: only the rectangle that may hold any is there to be worked on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Patch"]


class Patch(NamedTuple):
    """A mask [height,width] that is 0 outside a rectangle.

    Attributes:
        inside: The rectangle: uint8 [h,w] of 0 and 1, in either memory order; of no pixels if none is robot.
        left: Where it begins, in pixels of the mask.
        top: Where it begins, in pixels of the mask.
        width: Of the mask.
        height: Of the mask.
        known_area: How many pixels are robot, if whoever made it has counted them.
    """

    inside: NDArray[np.uint8]
    left: int
    top: int
    width: int
    height: int
    known_area: int | None = None

    @classmethod
    def of(cls, mask: NDArray[np.uint8]) -> Patch:
        """A mask [height,width] of 0 and 1, of which any part may be robot."""
        height, width = mask.shape
        return cls(mask, 0, 0, width, height)

    @property
    def is_whole(self) -> bool:
        """Whether the rectangle is all of the mask."""
        return self.inside.shape == (self.height, self.width)

    @property
    def area(self) -> int:
        """How many pixels are robot."""
        return self.known_area if self.known_area is not None else int(np.count_nonzero(self.inside.view(np.bool_)))

    @property
    def area_ratio(self) -> float:
        """Which share of the mask is robot.

        >>> Patch(np.ones((1, 2), np.uint8), left=3, top=0, width=5, height=2).area_ratio
        0.2
        """
        return self.area / (self.width * self.height)

    def whole(self) -> NDArray[np.uint8]:
        """All of the mask: uint8 [height,width] of 0 and 1, row-major; perhaps the very memory of `inside`.

        >>> Patch(np.ones((1, 2), np.uint8), left=3, top=0, width=5, height=2).whole()
        array([[0, 0, 0, 1, 1],
               [0, 0, 0, 0, 0]], dtype=uint8)
        """
        if self.is_whole:
            return np.ascontiguousarray(self.inside)
        mask = np.zeros((self.height, self.width), np.uint8)
        self.paste(mask)
        return mask

    def paste(self, onto: NDArray[np.uint8], ink: int = 1) -> None:
        """Write what is inside, 0 and `ink`, where it belongs on [height,width] of zeros."""
        height, width = self.inside.shape
        # scaled first: numpy takes twice as long to scale from rows to rows that lie apart
        inside = self.inside if ink == 1 else self.inside * np.uint8(ink)
        onto[self.top : self.top + height, self.left : self.left + width] = inside
