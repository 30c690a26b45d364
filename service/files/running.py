"""Segments frames from files: several at a time, nothing twice, and what fails does not stop the rest."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from service.files.errors import FrameFailed
from service.files.journal import Entry, Journal
from service.files.names import mask_name
from service.files.results import overlay, pixels_of, write_png
from service.files.sources import frames_of
from service.frames.masks import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from service.files.segmenters import Segmenter
    from service.files.sources import Content, Source

__all__ = ["Outcome", "Writing", "frames_in", "segment_all", "segment_one"]


class Writing(NamedTuple):
    """What is written of each frame, and where; None for not at all."""

    masks: Path | None
    overlays: Path | None


class Outcome(NamedTuple):
    """What became of all.

    Attributes:
        new: Frames that were segmented now.
        before: Frames that had been segmented before.
        failed: What could not be segmented, by name, and why.
    """

    new: int
    before: int
    failed: dict[str, str]


def segment_all(
    sources: Sequence[Source],
    segmenter: Segmenter,
    journal: Journal,
    writing: Writing,
    *,
    every: int,
    jobs: int,
    on_frame: Callable[[str | None], None],
) -> Outcome:
    """Segment all frames that the journal does not say are done.

    Args:
        sources: Pictures and videos.
        segmenter: Segments them.
        journal: What is done.
        writing: What is written of each frame.
        every: Of a video every n-th frame.
        jobs: Frames in work at one time.
        on_frame: Told after every frame: None, or, in words, that it failed.

    Raises:
        SegmenterFailed: No frame can be segmented any more.
    """
    failed: dict[str, str] = {}
    new = before = 0
    waiting: deque[tuple[str, Future[Entry]]] = deque()

    def fail(name: str, error: FrameFailed) -> None:
        failed[name] = str(error)
        on_frame(f"{name}: {error}")

    def settle() -> None:
        nonlocal new
        name, future = waiting.popleft()
        try:
            journal.add(future.result())
        except FrameFailed as error:
            fail(name, error)
            return
        new += 1
        on_frame(None)

    pool = ThreadPoolExecutor(jobs, thread_name_prefix="robomask-segment")
    try:
        for name, frame in frames_in(sources, every):
            if name in journal.done:
                before += 1
                on_frame(None)
            elif isinstance(frame, FrameFailed):
                fail(name, frame)
            else:
                waiting.append((name, pool.submit(segment_one, name, frame, segmenter, writing)))
            while len(waiting) >= 2 * jobs:
                settle()
        while waiting:
            settle()
    finally:
        pool.shutdown(cancel_futures=True)
    return Outcome(new, before, failed)


def frames_in(sources: Sequence[Source], every: int) -> Iterator[tuple[str, Content | FrameFailed]]:
    """All frames; in the place of what cannot be read, the reason."""
    for source in sources:
        try:
            yield from frames_of(source, every)
        except FrameFailed as error:
            yield source.name, error


def segment_one(name: str, frame: Content, segmenter: Segmenter, writing: Writing) -> Entry:
    """Segment a frame, write what is to be written of it, and say what was found.

    Raises:
        FrameFailed: This one cannot be segmented.
        SegmenterFailed: None can be any more.
    """
    found = segmenter.segment(frame)
    if writing.masks is not None:
        write_png(writing.masks / mask_name(name), found.mask * np.uint8(255))
    if writing.overlays is not None:
        write_png(writing.overlays / mask_name(name), overlay(pixels_of(frame), found.mask))
    facts = describe(found.mask)
    height, width = found.mask.shape
    return Entry(
        name=name,
        size=(height, width),
        counts=facts.mask["counts"],
        area=facts.area,
        bbox=facts.bbox,
        confidence=found.confidence,
        model=found.model,
    )
