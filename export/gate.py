"""May a model of fewer bits stand in for the fp32 one?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from export.to_onnx import ExportError
from training.scores import score

if TYPE_CHECKING:
    import numpy as np

    from service.contract import Precision

LARGEST_DROP = 0.005
"""How much mean IoU a precision may cost."""


class Verdict(NamedTuple):
    """How a precision compares with fp32 on the same frames.

    Attributes:
        precision: Which.
        agreement: Mean over frames of the IoU between its masks and fp32's.
        drop: What it costs: mean IoU with the labels, fp32's less its own; without labels 1 - `agreement`.
        labelled: Whether there were labels.
        n: Frames.
    """

    precision: Precision
    agreement: float
    drop: float
    labelled: bool
    n: int

    @property
    def passes(self) -> bool:
        """Whether it costs no more than it may."""
        return self.drop <= LARGEST_DROP


def judge(precision: Precision, masks: np.ndarray, reference: np.ndarray, truth: np.ndarray | None) -> Verdict:
    """Compare masks bool [N,64,64] of a precision with fp32's and, if there are labels, both with these."""
    agreement = score(masks, reference).mean
    drop = 1 - agreement if truth is None else score(reference, truth).mean - score(masks, truth).mean
    return Verdict(precision, agreement, drop, truth is not None, len(masks))


def require_close(verdict: Verdict) -> None:
    """Refuse a precision that costs too much.

    Raises:
        ExportError: With what it costs, and what to do.
    """
    if not verdict.passes:
        others = "IoU with the labels" if verdict.labelled else "IoU of its masks with those of fp32"
        raise ExportError(
            f"expected {verdict.precision} to cost at most {LARGEST_DROP} of the mean IoU, it costs "
            f"{verdict.drop:.4f} on {verdict.n} frames ({others}): calibrate on more frames of the kind that are "
            "served (--calibration), or leave it out (--precisions)"
        )
