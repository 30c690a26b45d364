"""Runs the second opinion of a trial: giving way, when no frame of a client waits, or not at all."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from service.errors import ModelFault
from service.machine.background import Aside
from service.versions.trial import compare

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

    from service.telemetry.metrics import Metrics
    from service.versions.slot import Slot
    from service.versions.trial import Trial
    from service.versions.watch import Seen

__all__ = ["Disagreement", "Shadow"]

_log = logging.getLogger(__name__)

_WAITING: Final = 64
_LOOK_AGAIN_S: Final = 0.002
_TIMED: Final = 4
"""Every so many frames both models run one after the other, so that their times are of the same moment."""


class Disagreement(NamedTuple):
    """A frame that two models have run: uint8 [64,64,3], float32 [64,64] of the one in service, and their IoU."""

    slot: Slot
    frame: NDArray[np.uint8]
    probability: NDArray[np.float32]
    stream: Hashable
    iou: float


class Shadow:
    """Watches answers on behalf of one trial and compares. Ends with `close`.

    Args:
        trial: The trial.
        metrics: Where it counts.
        busy: Whether frames of clients wait for the model.
        decide: Told once, from another thread, when the trial's gate has decided.
        tell: Told of every frame that was compared, from another thread.
        low: Whether its runs are to give way to everything else.
    """

    def __init__(
        self,
        trial: Trial,
        metrics: Metrics,
        *,
        busy: Callable[[], bool],
        decide: Callable[[Trial, str, str], None],
        tell: Callable[[Disagreement], None] | None,
        low: bool,
    ) -> None:
        self._trial = trial
        self._metrics = metrics
        self._busy = busy
        self._decide = decide
        self._tell = tell
        self._aside = Aside("robomask-shadow-aside", low=low, rests=False)
        # Without a lock of its own: the event loop must not wait for one that is held by a thread that gives way.
        self._waiting: queue.SimpleQueue[tuple[NDArray[np.uint8], NDArray[np.float32], Hashable] | None]
        self._waiting = queue.SimpleQueue()
        self._over = False
        self._runs = 0
        self._clock = time.thread_time if low else time.perf_counter
        self._thread = threading.Thread(target=self._work, name="robomask-shadow", daemon=True)
        self._thread.start()

    def answered(self, seen: Seen) -> None:
        """See `Watcher`: take frames whose second opinion is wanted."""
        trial = self._trial
        if trial.mode == "canary":
            if seen.slot is not trial.candidate:
                return
            trial.tally.answered += len(seen.frames)
        elif seen.slot is not trial.serving or not trial.takes(seen.stream):
            return
        for frame, probability in zip(seen.frames, seen.probability, strict=True):
            if self._waiting.qsize() < _WAITING:
                self._waiting.put((frame, probability, seen.stream))
            else:
                trial.tally.dropped += 1
                self._metrics.shadow_frames.labels("dropped").inc()

    def failed(self, slot: Slot, frames: int) -> None:
        """See `Watcher`: in a canary trial the candidate's failures are those of its answers."""
        if slot is self._trial.candidate:
            self._fail(frames)
            self._judge()

    def close(self) -> None:
        """End the thread, unless it is the one that asks."""
        self._over = True
        self._waiting.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._aside.close()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None and not self._over:
            while self._busy() and not self._over:
                time.sleep(_LOOK_AGAIN_S)
            if not self._over:
                self._run(*item)
                self._judge()

    def _run(self, frame: NDArray[np.uint8], answered: NDArray[np.float32], stream: Hashable) -> None:
        trial = self._trial
        is_shadow = trial.mode == "shadow"
        second = trial.candidate if is_shadow else trial.serving
        try:
            again, took_s = self._timed(second, frame)
        except ModelFault as error:
            if is_shadow:
                self._fail(1)
            _log.warning("version %d failed on a frame of a trial: %s", second.version, error)
            return
        serving, candidate = (answered, again) if is_shadow else (again, answered)
        if self._runs % _TIMED == 0:
            self._time_first(frame, took_s)
        self._runs += 1
        found = compare(
            serving,
            candidate,
            threshold=trial.serving.manifest.threshold,
            candidate_threshold=trial.candidate.manifest.threshold,
        )
        trial.tally.add(found)
        self._metrics.shadow_frames.labels("compared").inc()
        self._metrics.shadow_iou.observe(found.iou)
        self._metrics.compares(trial.tally)
        if self._tell is not None:
            self._tell(Disagreement(trial.serving, frame, serving, stream, found.iou))

    def _time_first(self, frame: NDArray[np.uint8], second_s: float) -> None:
        """Run the model that answered once more, to time it as the other was timed."""
        is_shadow = self._trial.mode == "shadow"
        try:
            _, first_s = self._timed(self._trial.serving if is_shadow else self._trial.candidate, frame)
        except ModelFault:
            return
        self._trial.tally.add_times(*((first_s, second_s) if is_shadow else (second_s, first_s)))

    def _timed(self, slot: Slot, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
        def run() -> tuple[NDArray[np.float32], float]:
            started = self._clock()
            probability = slot.engine.run(frame[np.newaxis], latents=False).probability[0]
            return probability, self._clock() - started

        return self._aside(run)

    def _fail(self, frames: int) -> None:
        self._trial.tally.failed += frames
        self._metrics.shadow_frames.labels("failed").inc(frames)

    def _judge(self) -> None:
        verdict = None if self._over else self._trial.verdict()
        if verdict is not None:
            self._over = True
            self._decide(self._trial, *verdict)
