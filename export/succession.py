"""May a new model take the place of the one in service? Both are measured on the same frames, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from export.fresh import fresh_frames
from export.learned import learned_by, unseen
from export.sessions import open_session, probabilities
from export.to_onnx import ExportError
from service.contract import Comparison
from training.data.splits import held_out_of
from training.scores import per_image_iou

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from export.precisions import Exported
    from export.predecessor import Predecessor
    from export.sources import Source
    from service.contract import Ancestor, Precision
    from training.data.frames import FrameSet

TOLERANCE = 0.002
"""How much worse a new model may be, mean IoU: less than one frame in fifty can show."""


class WorseModel(ExportError):  # noqa: N818 - the name says what is wrong
    """A model that is worse than the one in service; nothing was published.

    Attributes:
        comparison: With all figures.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        super().__init__(
            f"expected a mean IoU of at least {comparison.iou_before:.4f} less {comparison.tolerance:g}, got "
            f"{comparison.iou:.4f}: {sentence(comparison)}; nothing is published: train longer or on more frames, or "
            "allow more with --gate-tolerance"
        )


@dataclass(frozen=True)
class Gate:
    """What a new model has to stand up to.

    Attributes:
        predecessor: The model in service.
        tolerance: How much lower the new one's mean IoU may be.
        data: A data set to measure both on: its frames marked `val`, or all if none are. None for the frames that the
            new one's run has held out.
        data_path: Where they are from.
    """

    predecessor: Predecessor
    tolerance: float = TOLERANCE
    data: FrameSet | None = None
    data_path: Path | None = None


class Ground(NamedTuple):
    """What both models are measured on.

    Attributes:
        frames: Frames of scenes from which neither has learned, as far as that is known; at least one.
        name: The data set.
        left_out: Its frames that are not among them.
        data_known: Whether it is known what both have learned from.
    """

    frames: FrameSet
    name: str
    left_out: int
    data_known: bool


def common_ground(gate: Gate, source: Source) -> Ground:
    """Frames that neither the new model, nor what it started from, nor the one in service has learned from.

    Raises:
        ExportError: There are none.
        DatasetError: The new model's data are not what they were.
    """
    sets = source.data_sets()
    if gate.data is not None and gate.data_path is not None:
        sets = sets if gate.data_path in sets else {**sets, gate.data_path: gate.data}
        frames, name = held_out_of(gate.data), gate.data_path.name
    else:
        frames, name = source.held_out(), ", ".join(path.name for path in sets) + " held out"
    before = gate.predecessor
    theirs = [learned_by(lineage, sets) for lineage in (before.lineage, *before.ancestry.lineages)]
    ours, ours_known = fresh_frames(source, frames, sets)
    fresh = unseen(ours, theirs)
    if not len(fresh):
        raise ExportError(
            f"expected frames that neither model has learned from, all {len(frames)} of {name} are of scenes that one "
            "of them has: name others with --gate-data"
        )
    known = ours_known and before.ancestry.whole and all(one.known for one in theirs)
    return Ground(fresh, name, len(frames) - len(fresh), known)


def require_no_worse(
    gate: Gate, ground: Ground, made: Mapping[Precision, Exported], *, threshold: float, beside: Mapping[str, bytes]
) -> Comparison:
    """Measure both models and refuse the new one if it is worse by more than the tolerance.

    Args:
        gate: The model in service.
        ground: The frames.
        made: The new model's files. The one of the precision that is in service is measured, or fp32.
        threshold: The new model's.
        beside: Files in which those may keep weights, by name.

    Raises:
        WorseModel: It is worse.
        EvaluationError: The model in service does not answer.
    """
    precision: Precision = gate.predecessor.precision if gate.predecessor.precision in made else "fp32"
    session = open_session(made[precision].content, beside if precision == "fp16" else None)
    comparison = compare_masks(
        probabilities(session, ground.frames.frames, "gate") >= threshold,
        gate.predecessor.masks(ground.frames.frames),
        ground.frames.masks,
        against=gate.predecessor.identity,
        data=ground.name,
        left_out=ground.left_out,
        data_known=ground.data_known,
        precision=precision,
        tolerance=gate.tolerance,
    )
    if comparison.iou < comparison.iou_before - comparison.tolerance:
        raise WorseModel(comparison)
    return comparison


def compare_masks(
    masks: np.ndarray,
    before: np.ndarray,
    truth: np.ndarray,
    *,
    against: Ancestor,
    data: str,
    left_out: int,
    data_known: bool,
    precision: Precision,
    tolerance: float,
) -> Comparison:
    """Compare the masks bool [N,64,64] of two models with the labels uint8 [N,64,64] of the same frames; N >= 1."""
    iou, iou_before = per_image_iou(masks, truth), per_image_iou(before, truth)
    difference = iou - iou_before
    n = len(difference)
    return Comparison(
        against=against,
        data=data,
        n=n,
        left_out=left_out,
        other_data_known=data_known,
        precision=precision,
        iou=float(iou.mean()),
        iou_before=float(iou_before.mean()),
        standard_error=float(difference.std(ddof=1) / n**0.5) if n > 1 else 0.0,
        better=int((difference > 0).sum()),
        worse=int((difference < 0).sum()),
        tolerance=tolerance,
    )


def sentence(found: Comparison) -> str:
    """What was found, in words."""
    left = f", {found.left_out} left out that one of the models has learned from" if found.left_out else ""
    unknown = "" if found.other_data_known else "; what one of the models has learned from is not known"
    return (
        f"{found.iou:.4f} against {found.iou_before:.4f} of {found.against.name} version {found.against.version} "
        f"(difference {found.iou - found.iou_before:+.4f}, standard error {found.standard_error:.4f}) on the same "
        f"{found.n} frames of {found.data}{left}; better on {found.better}, worse on {found.worse}{unknown}"
    )
