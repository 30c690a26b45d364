"""A candidate beside the model in service: which streams it gets, how it compares, and when that is decided.

In a shadow trial the model in service answers, and the candidate runs a share of the streams again, off the way to the
answer. In a canary trial the candidate answers that share, and the model in service runs it again.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import deque
from typing import TYPE_CHECKING, Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.frames.masks import confidence, decide

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from service.versions.slot import Slot

__all__ = ["Comparison", "Gate", "Mode", "Tally", "Trial", "TrialNote", "compare", "read_gate", "share_of"]

Mode = Literal["shadow", "canary"]

_TIMES: Final = 512


class Gate(BaseModel):
    """When a candidate takes over by itself: after so many frames, if it keeps to every bound that is set.

    Attributes:
        frames: Frames after which it is decided.
        min_iou: Least mean IoU of its masks with those of the model in service.
        max_latency_ratio: Most that its median run may take, as a multiple of that of the model in service.
        max_error_rate: Largest share of frames on which it may fail; one frame more ends the trial at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    frames: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    min_iou: Annotated[float, Field(ge=0, le=1)] | None = None
    max_latency_ratio: Annotated[float, Field(gt=0)] | None = None
    max_error_rate: Annotated[float, Field(ge=0, le=1)] = 0.0


def read_gate(text: str) -> Gate:
    """Read a gate as people write it in a setting.

    >>> read_gate("frames=200, min_iou=0.9").frames
    200

    Raises:
        ValueError: It is none.
    """
    try:
        if text.lstrip().startswith("{"):
            return Gate.model_validate_json(text)
        pairs = [part.partition("=") for part in text.replace(",", " ").split()]
        return Gate.model_validate({name: value for name, _, value in pairs})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors(include_url=False))
        raise ValueError(
            f"expected some of frames=N, min_iou=R, max_latency_ratio=R, max_error_rate=R, got {text!r}: {faults}"
        ) from error


class Comparison(BaseModel):
    """One frame as two models see it; differences are the candidate's value less the other's.

    Attributes:
        iou: Intersection over union of both masks; 1 if both are empty.
        area: Difference of the share of the frame that is robot.
        confidence: Difference of confidence.
    """

    iou: float
    area: float
    confidence: float


def compare(
    serving: NDArray[np.float32], candidate: NDArray[np.float32], *, threshold: float, candidate_threshold: float
) -> Comparison:
    """Compare the probabilities [64,64] that two models give for one frame, each at a threshold of its own.

    >>> one, other = np.array([[0.9, 0.9]], np.float32), np.array([[0.9, 0.1]], np.float32)
    >>> compare(one, other, threshold=0.5, candidate_threshold=0.5).iou
    0.5
    """
    ours, theirs = decide(serving, threshold).view(np.bool_), decide(candidate, candidate_threshold).view(np.bool_)
    union = int(np.count_nonzero(ours | theirs))
    return Comparison(
        iou=int(np.count_nonzero(ours & theirs)) / union if union else 1.0,
        area=(int(np.count_nonzero(theirs)) - int(np.count_nonzero(ours))) / ours.size,
        confidence=confidence(candidate, candidate_threshold) - confidence(serving, threshold),
    )


def share_of(version: int, key: Hashable) -> float:
    """Where a stream stands between 0 and 1: always at the same place for one candidate, elsewhere for another.

    >>> share_of(2, b"arm-7") == share_of(2, b"arm-7"), 0 <= share_of(2, b"arm-7") < 1
    (True, True)
    """
    text = key if isinstance(key, bytes) else repr(key).encode()
    digest = hashlib.blake2b(text, digest_size=8, salt=version.to_bytes(16)).digest()
    return int.from_bytes(digest) / 2**64


class Tally:
    """What a trial has found so far. Written by one thread, read by any.

    Attributes:
        compared: Frames that both models have run.
        failed: Frames that the candidate failed on.
        dropped: Frames that were to be run again but for which there was no time.
        answered: Frames that the candidate has answered.
    """

    def __init__(self) -> None:
        self.compared = 0
        self.failed = 0
        self.dropped = 0
        self.answered = 0
        self._iou = 0.0
        self._least_iou = math.inf
        self._area = 0.0
        self._confidence = 0.0
        self._candidate_s: deque[float] = deque(maxlen=_TIMES)
        self._serving_s: deque[float] = deque(maxlen=_TIMES)

    def add(self, found: Comparison) -> None:
        """Count a frame that both have run."""
        self.compared += 1
        self._iou += found.iou
        self._least_iou = min(self._least_iou, found.iou)
        self._area += found.area
        self._confidence += found.confidence

    def add_times(self, serving_s: float, candidate_s: float) -> None:
        """Count what both took for the same frame, one right after the other."""
        self._serving_s.append(serving_s)
        self._candidate_s.append(candidate_s)

    @property
    def mean_iou(self) -> float | None:
        """Mean over frames."""
        return self._iou / self.compared if self.compared else None

    @property
    def least_iou(self) -> float | None:
        """Of the frame on which they differ most."""
        return self._least_iou if self.compared else None

    @property
    def area_drift(self) -> float | None:
        """Mean difference of the share of a frame that is robot."""
        return self._area / self.compared if self.compared else None

    @property
    def confidence_drift(self) -> float | None:
        """Mean difference of confidence."""
        return self._confidence / self.compared if self.compared else None

    @property
    def latency_ratio(self) -> float | None:
        """Median time of the candidate's runs over that of the other's."""
        serving_s, candidate_s = list(self._serving_s), list(self._candidate_s)
        if not serving_s or not candidate_s:  # another thread may be between the two
            return None
        return statistics.median(candidate_s) / max(1e-9, statistics.median(serving_s))

    @property
    def error_rate(self) -> float:
        """Share of frames that the candidate failed on."""
        return self.failed / max(1, self.compared + self.failed)


class TrialNote(BaseModel):
    """A trial as `/models` tells it."""

    mode: Mode
    version: int
    against: int
    share: float
    promote_if: Gate | None
    compared: int
    answered: int
    failed: int
    dropped: int
    mean_iou: float | None
    least_iou: float | None
    area_drift: float | None
    confidence_drift: float | None
    latency_ratio: float | None


class Trial:
    """A candidate, the model in service that it is held against, and what has been found.

    Args:
        mode: Who answers the candidate's share.
        candidate: The model that is tried.
        serving: The model in service.
        share: Share of streams, above 0 and at most 1.
        gate: When the candidate takes over or is dropped by itself; None for never.
        by: Who began it, as the audit trail has it.
    """

    def __init__(self, mode: Mode, candidate: Slot, serving: Slot, *, share: float, gate: Gate | None, by: str) -> None:
        self.mode: Mode = mode
        self.candidate = candidate
        self.serving = serving
        self.share = share
        self.gate = gate
        self.by = by
        self.tally = Tally()

    def takes(self, key: Hashable) -> bool:
        """Whether a stream is among the candidate's."""
        return self.share >= 1 or share_of(self.candidate.version, key) < self.share

    def verdict(self) -> tuple[Literal["promoted", "rejected"], str] | None:
        """What the gate says, and why, if it can say yet."""
        gate, tally = self.gate, self.tally
        if gate is None:
            return None
        if tally.failed > gate.max_error_rate * max(gate.frames, tally.compared + tally.failed):
            return (
                "rejected",
                f"expected an error rate of at most {gate.max_error_rate:g}, {tally.failed} frames failed",
            )
        if tally.compared + tally.failed < gate.frames:
            return None
        iou, ratio = tally.mean_iou or 0.0, tally.latency_ratio
        if gate.min_iou is not None and iou < gate.min_iou:
            return "rejected", f"expected a mean IoU of at least {gate.min_iou:g}, got {iou:.4f}"
        if gate.max_latency_ratio is not None and ratio is not None and ratio > gate.max_latency_ratio:
            return "rejected", f"expected at most {gate.max_latency_ratio:g} times the latency, got {ratio:.2f}"
        shown = "unknown" if ratio is None else f"{ratio:.2f}"
        return "promoted", f"{tally.compared} frames, mean IoU {iou:.4f}, latency ratio {shown}, {tally.failed} failed"

    def note(self) -> TrialNote:
        """What is known so far."""
        tally = self.tally
        return TrialNote(
            mode=self.mode,
            version=self.candidate.version,
            against=self.serving.version,
            share=self.share,
            promote_if=self.gate,
            compared=tally.compared,
            answered=tally.answered,
            failed=tally.failed,
            dropped=tally.dropped,
            mean_iou=_rounded(tally.mean_iou),
            least_iou=_rounded(tally.least_iou),
            area_drift=_rounded(tally.area_drift),
            confidence_drift=_rounded(tally.confidence_drift),
            latency_ratio=_rounded(tally.latency_ratio),
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
