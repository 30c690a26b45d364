"""IoU of a trained run, a bundle or a running service, measured the same way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from export.sessions import open_session
from service.client import Client, ClientError
from service.contract import MANIFEST, open_bundle
from training.run import RECORD, load_segmenter, read_run
from training.scores import Score, score
from training.trainer import predict

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.contract import Precision
    from training.data.frames import FrameSet

    Masks = Callable[[np.ndarray], np.ndarray]
    """Frames uint8 [N,64,64,3] -> masks bool [N,64,64]."""

BATCH = 8
_ANSWER_S = 60.0


class Evaluation(NamedTuple):
    """What was found.

    Attributes:
        score: IoU.
        masks: bool [N, 64, 64], as predicted.
        answered: How many frames each model has answered, by name and version, where a service was asked.
    """

    score: Score
    masks: np.ndarray
    answered: dict[str, int]


class EvaluationError(ValueError):
    """Something that cannot be evaluated; the message says what was expected and found."""


def evaluate(model: str, frames: FrameSet, precision: Precision | None = None) -> Evaluation:
    """Predict and score.

    Args:
        model: A run folder, a bundle folder, or the address of a service (`http://host:port`).
        frames: Labelled frames, at least one.
        precision: Which of a bundle's models; by default the one that it recommends.

    Raises:
        EvaluationError: Nothing there that can be evaluated, or a service that refuses.
    """
    answered: Counter[str] = Counter()
    masks = masks_of(model, precision, lambda by: answered.update([by]))(frames.frames)
    return Evaluation(score(masks, frames.masks), masks, dict(answered))


def masks_of(model: str, precision: Precision | None = None, answered: Callable[[str], None] = lambda _: None) -> Masks:
    """The function that predicts masks, whichever form the model has; a service's answers tell `answered` by which.

    Raises:
        EvaluationError: It has none of the known forms, or a precision was named and it is no bundle.
    """
    folder = Path(model)
    if (folder / MANIFEST).is_file():
        return lambda frames: bundle_masks(folder, frames, precision)
    if precision is not None:
        raise EvaluationError(f"{model}: expected a bundle, whose precision can be chosen, found something else")
    if model.startswith(("http://", "https://")):
        return lambda frames: service_masks(model, frames, answered=answered)
    if (folder / RECORD).is_file():
        segmenter, threshold = load_segmenter(folder), read_run(folder).threshold
        return lambda frames: predict(segmenter, frames) >= threshold
    raise EvaluationError(
        f"{model}: expected a run folder (with {RECORD}), a bundle (with {MANIFEST}) or an http address, found neither"
    )


def bundle_masks(folder: Path, frames: np.ndarray, precision: Precision | None = None) -> np.ndarray:
    """Masks bool [N,64,64] from a bundle on ONNX Runtime, at the bundle's threshold.

    Args:
        folder: The bundle.
        frames: uint8 [N,64,64,3].
        precision: Which of its models; by default the one that it recommends.
    """
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    precision = precision or manifest.default_precision
    session = open_session(bundle.model(precision), bundle.beside(precision))
    parts = [
        session.run(["probability"], {"frames": frames[i : i + BATCH]})[0]
        for i in tqdm(range(0, len(frames), BATCH), desc=f"{manifest.name} {manifest.version}", unit="batch")
    ]
    probability: np.ndarray = np.concatenate(parts)
    return probability >= manifest.threshold


def service_masks(
    address: str,
    frames: np.ndarray,
    sha256: str | None = None,
    answered: Callable[[str], None] = lambda _: None,
) -> np.ndarray:
    """Masks bool [N,64,64] from a running service, which is asked for one frame after the other.

    Args:
        address: The service's.
        frames: uint8 [N,64,64,3].
        sha256: The model that has to answer all of them; None for any.
        answered: Told name and version of the model of every answer.

    Raises:
        EvaluationError: The service does not answer, refuses a frame, or answers with another model.
    """
    masks = []
    try:
        with Client(address, timeout_s=_ANSWER_S) as client:
            for frame in tqdm(frames, desc=address, unit="frame"):
                found = client.segment(frame)
                by = found.model
                if sha256 not in {None, by.sha256}:
                    raise EvaluationError(
                        f"{address}: expected the model {sha256} to answer, {by.sha256} did: the model was changed "
                        "meanwhile, or a canary has a share of the streams; start again when that is over"
                    )
                answered(f"{by.name} {by.version}")
                masks.append(found.frames[0].mask)
    except ClientError as error:
        raise EvaluationError(f"{address}: expected a mask of every frame, got: {error}") from error
    return np.stack(masks)
