"""Probabilities -> masks, and what is said of a mask: run lengths, area, box, confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict

import numpy as np
from pycocotools import mask as coco

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from service.frames.patch import Patch

__all__ = [
    "MaskFacts",
    "RunLengths",
    "Verdict",
    "confidence",
    "decide",
    "describe",
    "judge",
    "judge_frames",
    "least",
    "mask_confidence",
]

_LEAST: Final = float(np.finfo(np.float32).tiny)


class RunLengths(TypedDict):
    """COCO's compressed run lengths: [height, width] and the counts as text."""

    size: list[int]
    counts: str


class MaskFacts(NamedTuple):
    """A mask and its measures, in pixels of the mask.

    Attributes:
        mask: COCO run lengths.
        area: Number of robot pixels.
        bbox: Left, top, width and height of the box around them; zeros if there are none.
    """

    mask: RunLengths
    area: int
    bbox: tuple[int, int, int, int]


def least(threshold: float) -> float:
    """The least probability that counts as robot: the threshold, but never 0."""
    return max(threshold, _LEAST)


def decide(probability: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    """Probabilities -> 0 or 1, in the same shape and memory order: 1 is robot.

    A pixel is robot from the threshold on; a probability of 0 never is, not even at a threshold of 0.

    >>> decide(np.array([[0.0, 0.5, 0.9]], np.float32), 0.5)
    array([[0, 1, 1]], dtype=uint8)
    """
    return (probability >= least(threshold)).view(np.uint8)


class Verdict(NamedTuple):
    """What the model says of its own pixels, in one look.

    Attributes:
        robot: Which are robot: bool, in the shape of the probabilities.
        area: How many are.
        confidence: How sure the model is, as `confidence` has it.
    """

    robot: NDArray[np.bool_]
    area: int
    confidence: float


def judge(probability: NDArray[np.float32], threshold: float) -> Verdict:
    """What is robot in probabilities [H,W], how many pixels of it, and how sure the model is."""
    return judge_frames(probability[np.newaxis], threshold)[0]


def judge_frames(probability: NDArray[np.float32], threshold: float) -> list[Verdict]:
    """The same for several frames: probabilities [N,H,W]."""
    count = len(probability)
    robot = probability >= least(threshold)
    sums = np.add.reduce(probability.reshape(count, -1), axis=1, where=robot.reshape(count, -1)).tolist()
    verdicts = []
    for index in range(count):
        area = int(np.count_nonzero(robot[index]))
        sure = sums[index] / area if area else 1.0 - float(probability[index].max())
        verdicts.append(Verdict(robot[index], area, sure))
    return verdicts


def confidence(probability: NDArray[np.float32], threshold: float) -> float:
    """How sure the model is of what it says: 0..1.

    The mean probability of the pixels that it calls robot; where it sees none, how sure it is of that: one minus the
    highest probability. Taken over the model's own 64x64 pixels, so a frame's size makes no difference.

    >>> round(confidence(np.array([[0.1, 0.7, 0.9]], np.float32), 0.5), 3)
    0.8
    >>> round(confidence(np.array([[0.1, 0.2]], np.float32), 0.5), 3)
    0.8
    """
    return judge(probability, threshold).confidence


def mask_confidence(
    verdict: Verdict,
    cells: NDArray[np.float32],
    pixels: Callable[[], NDArray[np.float32]],
    threshold: float,
    *,
    present: bool,
) -> float:
    """How sure the model is of a mask that was made of its own 64x64 pixels: 0..1.

    Nearly always as sure as of those. But robot may be so small that no pixel of the mask is, where the frame has other
    pixels; and what only pads the frame may make some at its edge.

    Args:
        verdict: What it says of its own pixels.
        cells: Its probabilities, of those of its pixels that show some of the frame.
        pixels: Brings them to the mask's size; called only where mask and verdict differ.
        threshold: From which probability a pixel is robot.
        present: Whether the mask has robot.

    >>> cells = np.array([[0.1, 0.9]], np.float32)
    >>> [round(mask_confidence(judge(cells, 0.5), cells, cells.copy, 0.5, present=p), 3) for p in (True, False)]
    [0.9, 0.1]
    """
    if present == (verdict.area > 0):
        return verdict.confidence
    return judge(pixels(), threshold).confidence if present else 1.0 - float(cells.max())


def describe(mask: Patch) -> MaskFacts:
    """Run lengths, area and box of a mask.

    >>> from service.frames.patch import Patch
    >>> describe(Patch.of(np.array([[0, 1], [0, 1]], np.uint8)))
    MaskFacts(mask={'size': [2, 2], 'counts': '22'}, area=2, bbox=(1, 0, 1, 2))
    """
    runs = coco.encode(np.asfortranarray(mask.inside)) if mask.is_whole else _runs_of_part(mask)
    left, top, width, height = map(int, coco.toBbox(runs).tolist())
    lengths = RunLengths(size=[mask.height, mask.width], counts=runs["counts"].decode("ascii"))
    return MaskFacts(lengths, int(coco.area(runs)), (left, top, width, height))


def _runs_of_part(mask: Patch) -> Any:
    """Run lengths of a mask of which only a part may be robot: from where it changes, not from every pixel."""
    height, width = mask.inside.shape
    framed = np.zeros((height + 2, width), np.uint8)
    framed[1:-1] = mask.inside
    row, column = np.divmod(np.flatnonzero(framed[1:] != framed[:-1]), max(1, width))
    places, times = np.unique((mask.left + column) * mask.height + mask.top + row, return_counts=True)
    edges = places[times == 1]  # where robot ends with one column and goes on with the next, there is none
    counts = np.diff(edges, prepend=0, append=mask.height * mask.width)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return coco.frPyObjects({"size": [mask.height, mask.width], "counts": counts.tolist()}, mask.height, mask.width)
