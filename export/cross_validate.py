"""One score from the runs of a cross-validation: every frame by the run that held its scene out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from export.evaluate import EvaluationError
from training.run import load_segmenter, read_run
from training.scores import Score, score
from training.trainer import predict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.data.frames import FrameSet


class CrossValidation(NamedTuple):
    """What was found.

    Attributes:
        score: IoU over all frames that any run held out.
        folds: IoU of each run on the frames that it held out.
        measured: bool [N], which frames were held out.
        masks: bool [n, 64, 64] of those, as predicted.
    """

    score: Score
    folds: tuple[Score, ...]
    measured: np.ndarray
    masks: np.ndarray


def cross_validate(runs: Sequence[Path], frames: FrameSet) -> CrossValidation:
    """Predict every frame with the run that held its scene out, and score.

    Raises:
        RunError: A folder that holds no finished run.
        EvaluationError: Two runs that held out the same scene, or a run that held out none of these frames.
    """
    masks = np.zeros(frames.masks.shape, bool)
    measured = np.zeros(len(frames), bool)
    folds = []
    for folder in runs:
        run = read_run(folder)
        held = np.isin(frames.scene, run.record["split"]["val"])
        if not held.any():
            raise EvaluationError(f"{folder}: expected a run that held out scenes of this data set, it held out none")
        if (held & measured).any():
            twice = sorted(set(frames.scene[held & measured].tolist()))
            raise EvaluationError(
                f"{folder}: expected scenes that no run before it held out, found {', '.join(twice[:5])}: "
                "give each fold once"
            )
        masks[held] = predict(load_segmenter(folder), frames.frames[held]) >= run.threshold
        measured |= held
        folds.append(score(masks[held], frames.masks[held]))
    return CrossValidation(score(masks[measured], frames.masks[measured]), tuple(folds), measured, masks[measured])
