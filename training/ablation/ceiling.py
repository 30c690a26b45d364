"""What a head can draw at best: the light convolutional one has a single number left for each position of its grid.

    python -m training.ablation.ceiling --data real.npz

Its transposed convolution turns that number into a patch of pixels, each with a weight of its own. So what a patch can
show is a sequence of patterns in which pixels are added one after the other, the same for all patches; how far, the
number says. The best such sequence is looked for here with the labels at hand: no encoder can do better.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from training.data.readers import DatasetError, read_frames
from training.scores import per_image_iou

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["ceiling"]

_SWAPS: Final = 400
_STARTS: Final = 3


def ceiling(masks: NDArray[np.uint8], side: int, seed: int = 0) -> tuple[float, float]:
    """The best mean IoU of masks drawn in patches, if each is all or nothing, and if one number says how much of it.

    Args:
        masks: [N,H,W] of 0 and 1.
        side: Pixels of a patch along each edge; divides H and W.
        seed: Of the search for the order in which pixels are added, which may miss the very best.
    """
    patches = _cut(masks != 0, side)
    area = patches.sum(1)
    mixed = (area > 0) & (area < side * side)
    order = _best_order(patches[mixed], np.random.default_rng(seed))
    level = np.where(area == side * side, side * side, 0)
    level[mixed] = _errors(patches[mixed], order).argmin(1)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    blocks = np.repeat(area[:, None] * 2 >= side * side, side * side, 1)
    numbers = rank < level[:, None]
    all_or_nothing, one_number = (
        float(per_image_iou(_join(drawn, masks.shape, side), masks).mean()) for drawn in (blocks, numbers)
    )
    return all_or_nothing, one_number


def _best_order(patches: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.intp]:
    """The order in which pixels are added that leaves least wrong, by swapping pairs for as long as that helps."""
    found: list[tuple[int, NDArray[np.intp]]] = []
    for _ in range(_STARTS):
        order = rng.permutation(patches.shape[1])
        wrong = int(_errors(patches, order).min(1).sum())
        for _ in range(_SWAPS):
            one, other = rng.integers(0, order.size, 2)
            tried = order.copy()
            tried[[one, other]] = tried[[other, one]]
            now_wrong = int(_errors(patches, tried).min(1).sum())
            if now_wrong <= wrong:
                order, wrong = tried, now_wrong
        found.append((wrong, order))
    return min(found, key=lambda one: one[0])[1]


def _errors(patches: NDArray[np.bool_], order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Wrong pixels of every patch if so many of this order, from none to all, are drawn: [N, pixels + 1]."""
    hits = np.pad(patches[:, order].cumsum(1), ((0, 0), (1, 0)))
    drawn: NDArray[np.intp] = np.arange(order.size + 1)
    errors: NDArray[np.intp] = (drawn - hits) + (hits[:, -1:] - hits)
    return errors


def _cut(masks: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """[N,H,W] -> patches [N * H/side * W/side, side * side]."""
    n, height, width = masks.shape
    return masks.reshape(n, height // side, side, width // side, side).swapaxes(2, 3).reshape(-1, side * side)


def _join(patches: NDArray[np.bool_], shape: tuple[int, ...], side: int) -> NDArray[np.bool_]:
    """What `_cut` does, undone."""
    n, height, width = shape
    return patches.reshape(n, height // side, width // side, side, side).swapaxes(2, 3).reshape(shape)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.ablation.ceiling", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a labelled data set")
    parser.add_argument("--sides", type=int, nargs="+", default=[4, 2], help="pixels of a patch along each edge")
    options = parser.parse_args(argv)
    try:
        masks = read_frames(options.data).masks
    except DatasetError as error:
        print(f"ceiling: {error}", file=sys.stderr)
        return 1
    print("| grid | patches all or nothing | one number for each patch |\n|---|---|---|")
    for side in options.sides:
        blocks, numbers = ceiling(masks, side)
        print(f"| {masks.shape[1] // side}x{masks.shape[2] // side} | {blocks:.3f} | {numbers:.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
