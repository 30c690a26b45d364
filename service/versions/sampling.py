"""Save hard frames with the masks proposed for them, as a data set that a person corrects and a run trains on.

A frame is hard if the model is unsure of it, if its mask is far from the last one of the same stream, or if two models
disagree on it. What is saved is what the model saw, 64x64 pixels, and never more of it than a budget allows.

    <folder>/<day>-<n>/annotations.json     COCO: one image for each frame with its `scene`, one proposal for each mask
    <folder>/<day>-<n>/frame_000001.png

Every file is written under another name first, so what is there is whole. A folder belongs to one process and one day.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import queue
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from PIL import Image

from service.contract import FRAME_SIZE
from service.frames.masks import describe, judge
from service.frames.patch import Patch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from pathlib import Path

    from numpy.typing import NDArray

    from service.versions.shadow import Disagreement
    from service.versions.slot import Slot
    from service.versions.watch import Seen

__all__ = ["Hardness", "Sampler"]

_log = logging.getLogger(__name__)

_WAITING: Final = 64
_STREAMS: Final = 1024
_JUMP_S: Final = 1.0
"""Longest time between two frames of a stream in which an arm cannot go far."""
_APART_S: Final = 5.0
"""Least time between two frames that are saved of one stream: what follows at once looks the same."""

Why = Literal["unsure", "jump", "disagreement"]


@dataclass(frozen=True)
class Hardness:
    """Which frames are saved, and how many.

    Attributes:
        confidence: Below it a frame is hard.
        iou: Below it, with the stream's last mask or the other model's, it is too.
        per_day: Most frames in a day (UTC).
        total: Most frames in all.
    """

    confidence: float
    iou: float
    per_day: int
    total: int


class _Hard(NamedTuple):
    slot: Slot
    frame: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    confidence: float
    stream: Hashable
    why: Why


@dataclass(slots=True)
class _Stream:
    moment_s: float
    mask: NDArray[np.bool_]
    saved_s: float


class Sampler:
    """Watches answers and saves the hard ones, on a thread of its own.

    Args:
        folder: Where data sets are made; it is made too.
        hardness: Which frames, and how many.
        saved: Told why a frame has been saved.
        wall: The time of now.
    """

    def __init__(
        self,
        folder: Path,
        hardness: Hardness,
        saved: Callable[[Why], None],
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._hardness = hardness
        self._saved = saved
        self._wall = wall
        self._streams: OrderedDict[Hashable, _Stream] = OrderedDict()
        self._total = sum(1 for _ in folder.glob("*/*.png"))
        self._place: Path | None = None
        self._day = ""
        self._troubled: str | None = None
        self._today = 0
        self._document: dict[str, Any] = {}
        self._waiting: queue.SimpleQueue[_Hard | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="robomask-sampling", daemon=True)
        self._thread.start()

    def answered(self, seen: Seen) -> None:
        """See `Watcher`."""
        threshold = seen.slot.manifest.threshold
        for index, (frame, probability) in enumerate(zip(seen.frames, seen.probability, strict=True)):
            robot, _, sure = judge(probability, threshold)
            camera = (seen.stream, index)  # several frames of one request are of several cameras
            jumped = self._is_jump(camera, seen.moment_s, robot)
            if sure < self._hardness.confidence or jumped:
                why: Why = "jump" if jumped else "unsure"
                hard = _Hard(seen.slot, frame, robot.view(np.uint8), sure, seen.stream, why)
                self._take(hard, camera, seen.moment_s)

    def failed(self, slot: Slot, frames: int) -> None:
        """See `Watcher`; there is no mask to propose."""

    def disagreed(self, found: Disagreement) -> None:
        """Take a frame that two models have run; from any thread."""
        if found.iou < self._hardness.iou and self._waiting.qsize() < _WAITING:
            threshold = found.slot.manifest.threshold
            robot, _, sure = judge(found.probability, threshold)
            mask = robot.view(np.uint8)
            self._waiting.put(_Hard(found.slot, found.frame, mask, sure, found.stream, "disagreement"))

    def close(self) -> None:
        """Save what waits, and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _is_jump(self, key: Hashable, moment_s: float, mask: NDArray[np.bool_]) -> bool:
        last = self._streams.get(key)
        if last is None:
            self._streams[key] = _Stream(moment_s, mask, -_APART_S)
            if len(self._streams) > _STREAMS:
                self._streams.popitem(last=False)
            return False
        self._streams.move_to_end(key)
        union = int(np.count_nonzero(mask | last.mask))
        iou = int(np.count_nonzero(mask & last.mask)) / union if union else 1.0
        is_soon = moment_s - last.moment_s < _JUMP_S
        last.moment_s, last.mask = moment_s, mask
        return is_soon and iou < self._hardness.iou

    def _take(self, hard: _Hard, camera: Hashable, moment_s: float) -> None:
        stream = self._streams.get(camera)
        if self._waiting.qsize() >= _WAITING or (stream is not None and moment_s - stream.saved_s < _APART_S):
            return
        if stream is not None:
            stream.saved_s = moment_s
        # The request's own arrays end with it; these are looked at later.
        self._waiting.put(hard._replace(frame=hard.frame.copy()))

    def _work(self) -> None:
        while (hard := self._waiting.get()) is not None:
            try:
                self._save(hard)
                if self._waiting.empty():
                    self._write_document()
            except OSError as error:
                self._begin_anew(error)
            del hard  # it holds a model
        with contextlib.suppress(OSError):  # it has been told of
            self._write_document()

    def _begin_anew(self, error: OSError) -> None:
        """Go on in another folder: this one has been moved away, or the disk is full for now. Told of once a day."""
        if self._troubled != self._day:
            self._troubled = self._day
            _log.error("a hard frame cannot be saved in %s: %s; the next one is tried", self._folder, error)
        if self._place is not None and not self._place.is_dir():
            self._place = None

    def _save(self, hard: _Hard) -> None:
        now = self._wall()
        self._begin(now.date().isoformat())
        if self._today >= self._hardness.per_day or self._total >= self._hardness.total or self._place is None:
            return
        images, annotations = self._document["images"], self._document["annotations"]
        number = len(images) + 1
        file = io.BytesIO()
        Image.fromarray(hard.frame).save(file, "PNG")
        name = f"frame_{number:06d}.png"
        _write(self._place / name, file.getvalue())
        mask = describe(Patch.of(hard.mask))
        images.append(
            {
                "id": number,
                "file_name": name,
                "width": FRAME_SIZE,
                "height": FRAME_SIZE,
                "scene": hard.stream.decode("latin-1") if isinstance(hard.stream, bytes) else self._day,
                "date_captured": now.isoformat(timespec="milliseconds"),
                "robomask": {
                    "why": hard.why,
                    "confidence": round(hard.confidence, 4),
                    "version": hard.slot.version,
                    "sha256": hard.slot.bundle.sha256,
                },
            }
        )
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "segmentation": mask.mask,
                "area": mask.area,
                "bbox": mask.bbox,
                "iscrowd": 1,  # what has run lengths instead of polygons, in COCO
                "proposal": True,
            }
        )
        self._today += 1
        self._total += 1
        self._saved(hard.why)

    def _begin(self, day: str) -> None:
        """Turn to another day, if it is one, and find a folder that is nobody else's."""
        if day != self._day:
            self._write_document()
            self._day, self._place = day, None
            self._today = sum(1 for _ in self._folder.glob(f"{day}-*/*.png"))
        if self._place is not None or self._today >= self._hardness.per_day or self._total >= self._hardness.total:
            return
        number = 1
        while self._place is None:
            place = self._folder / f"{day}-{number}"
            try:
                place.mkdir(parents=True)
            except FileExistsError:
                number += 1
            else:
                self._place = place
        self._document = {
            "info": {"description": "Frames that robomask found hard, with masks that it proposes", "date": day},
            "categories": [{"id": 1, "name": "robot"}],
            "images": [],
            "annotations": [],
        }

    def _write_document(self) -> None:
        if self._place is not None and self._document["images"]:
            _write(self._place / "annotations.json", json.dumps(self._document, indent=1).encode())


def _write(path: Path, content: bytes) -> None:
    """Write a file that is never seen half."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)  # noqa: PTH105 - the name of what it does
