"""Segments frames from files: several at a time, nothing twice, and what fails does not stop the rest."""

from __future__ import annotations

import contextlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from service.files.errors import FilesError, FrameFailed
from service.files.journal import Entry, Journal
from service.files.names import is_of_video, mask_name
from service.files.results import Writing, note, overlay, pixels_of, prepare_png
from service.files.sources import frames_of
from service.frames.masks import describe
from service.frames.patch import Patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from service.files.segmenters import Segmenter
    from service.files.sources import Content, Source

__all__ = ["Outcome", "Writing", "frames_in", "segment_all", "segment_one"]


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
        NotWritten: No more can be written.
    """
    work = _Work(journal, writing, on_frame)
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="robomask-segment")
    try:
        for name, frame in frames_in(sources, every):
            if name in journal.done:
                work.pass_by()
            elif isinstance(frame, FrameFailed):
                work.fail(name, frame)
            else:
                work.waiting.append((name, pool.submit(segment_one, name, frame, segmenter, writing)))
            while len(work.waiting) >= 2 * jobs:
                work.settle()
        while work.waiting:
            work.settle()
    finally:
        pool.shutdown(cancel_futures=True)  # waits for what is in work
        work.keep()
    return Outcome(work.new, work.before, work.failed)


class _Work:
    """Frames in work, in their order, and what has become of those before them.

    Args:
        journal: What is done.
        writing: What is written of each frame.
        on_frame: Told after every frame.

    Attributes:
        waiting: Names of frames, and what is going to be found in them.
        new: Frames that were segmented now.
        before: Frames that had been segmented before.
        failed: What could not be segmented, by name, and why.
    """

    def __init__(self, journal: Journal, writing: Writing, on_frame: Callable[[str | None], None]) -> None:
        self.waiting: deque[tuple[str, Future[Entry]]] = deque()
        self.new = self.before = 0
        self.failed: dict[str, str] = {}
        self._journal = journal
        self._writing = writing
        self._on_frame = on_frame

    def pass_by(self) -> None:
        """A frame had been segmented before."""
        self.before += 1
        self._on_frame(None)

    def fail(self, name: str, error: FrameFailed) -> None:
        """A frame cannot be segmented."""
        self.failed[name] = str(error)
        self._on_frame(f"{name}: {error}")

    def settle(self) -> None:
        """Wait for the frame that has been longest in work."""
        name, future = self.waiting.popleft()
        try:
            note(future.result(), self._journal, self._writing)
        except FrameFailed as error:
            self.fail(name, error)
            return
        self.new += 1
        self._on_frame(None)

    def keep(self) -> None:
        """Write down, of the frames that nobody waits for any more, those that are done."""
        with contextlib.suppress(FilesError, OSError):  # what has ended the work is told, not what comes of it
            for _, future in self.waiting:
                if not future.cancelled() and future.exception() is None:
                    with contextlib.suppress(FrameFailed):
                        note(future.result(), self._journal, self._writing)


def frames_in(sources: Sequence[Source], every: int) -> Iterator[tuple[str, Content | FrameFailed]]:
    """All frames; in the place of what cannot be read, the reason."""
    for source in sources:
        if source.fault is not None:
            yield source.name, FrameFailed(source.fault)
            continue
        try:
            yield from frames_of(source, every)
        except FrameFailed as error:
            yield source.name, error


def segment_one(name: str, frame: Content, segmenter: Segmenter, writing: Writing) -> Entry:
    """Segment a frame, prepare what is to be written of it, and say what was found, for `note`.

    Raises:
        FrameFailed: This one cannot be segmented.
        SegmenterFailed: None can be any more.
        NotWritten: What is to be written cannot be.
    """
    found = segmenter.segment(frame)
    if writing.masks is not None:
        prepare_png(writing.masks / mask_name(name), found.mask * np.uint8(255))
    if writing.overlays is not None:
        prepare_png(writing.overlays / mask_name(name), overlay(pixels_of(frame), found.mask))
    if writing.frames is not None and is_of_video(name):
        prepare_png(writing.frames / mask_name(name), pixels_of(frame))
    facts = describe(Patch.of(found.mask))
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
