"""What the two processes share: places in memory for frames and predictions, and the messages that tell of them."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from service.contract import FRAMES, LATENTS, PROBABILITY
from service.engine.running import Prediction
from service.frames.masks import Verdict

if TYPE_CHECKING:
    import mmap
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["ANSWER", "ASK", "MOST_FRAMES", "PLACES", "READY", "Places"]

PLACES: Final = 2
"""Batches under way: while one is run, the next waits for it in the other process, and not for the event loop."""
MOST_FRAMES: Final = 16
"""In a batch."""
READY: Final = b"ready"
"""The first message, when the model is open; any other says why it is not."""
ASK: Final = struct.Struct("=HHH")
"""Run what is there: the place, how many frames, whether latents are wanted."""
ANSWER: Final = struct.Struct("=HHHdd")
"""It has been run: the same, with 0 or 1 for whether it went well as the third; when it began and ended.

Times are seconds of `time.perf_counter`, which all processes of a machine share where there are such processes.
"""


_ARRAYS: Final[tuple[tuple[type, tuple[int, ...]], ...]] = (
    (np.uint8, tuple(map(int, FRAMES.shape[1:]))),
    (np.float32, tuple(map(int, PROBABILITY.shape[1:]))),
    (np.float32, tuple(map(int, LATENTS.shape[1:]))),
    (np.bool_, tuple(map(int, PROBABILITY.shape[1:]))),
    (np.int32, ()),
    (np.float64, ()),
)


def _offsets() -> list[int]:
    """Where each of the arrays begins, and where the last one ends."""
    offsets = [0]
    for kind, shape in _ARRAYS:
        size = PLACES * MOST_FRAMES * math.prod(shape) * np.dtype(kind).itemsize
        offsets.append(offsets[-1] + -(-size // 4096) * 4096)
    return offsets


_OFFSETS: Final = _offsets()


def _array(memory: mmap.mmap, kind: type, shape: tuple[int, ...], offset: int) -> NDArray[Any]:
    flat: NDArray[Any] = np.frombuffer(memory, kind, PLACES * MOST_FRAMES * math.prod(shape), offset)
    return flat.reshape(PLACES, MOST_FRAMES, *shape)


class Places:
    """Memory for batches, as arrays.

    Args:
        memory: At least `Places.size()` bytes of shared memory.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        arrays = [_array(memory, kind, shape, offset) for (kind, shape), offset in zip(_ARRAYS, _OFFSETS, strict=False)]
        self._frames, self._probability, self._latents, self._robot, self._areas, self._confidences = arrays

    @staticmethod
    def size() -> int:
        """Bytes that all places take. What is never written takes none."""
        return _OFFSETS[-1]

    def put_frames(self, place: int, parts: Sequence[NDArray[np.uint8]]) -> int:
        """Write frames, each part [N,64,64,3], one after another; how many they are."""
        count = 0
        for part in parts:
            self._frames[place, count : count + len(part)] = part
            count += len(part)
        return count

    def frames(self, place: int, count: int) -> NDArray[np.uint8]:
        """The first frames that are there, [N,64,64,3]: the shared memory itself."""
        frames: NDArray[np.uint8] = self._frames[place, :count]
        return frames

    def put(self, place: int, prediction: Prediction) -> None:
        """Write what a model says of the frames."""
        count = len(prediction.probability)
        self._probability[place, :count] = prediction.probability
        if prediction.latents is not None:
            self._latents[place, :count] = prediction.latents
        for index, verdict in enumerate(prediction.verdicts):
            self._robot[place, index] = verdict.robot
            self._areas[place, index] = verdict.area
            self._confidences[place, index] = verdict.confidence

    def prediction(self, place: int, count: int, threshold: float, *, latents: bool) -> Prediction:
        """Read it, by the model's threshold. All of it is the caller's: the place may be used again."""
        robot = self._robot[place, :count].copy()
        verdicts = map(Verdict, robot, self._areas[place, :count].tolist(), self._confidences[place, :count].tolist())
        return Prediction(
            self._probability[place, :count].copy(),
            self._latents[place, :count].copy() if latents else None,
            threshold,
            list(verdicts),
        )
