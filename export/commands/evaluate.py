"""`robomask evaluate`: IoU of a run, a bundle or a running service on a data set, as JSON and as a picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import CliApp, CliPositionalArg, SettingsConfigDict

from export.cross_validate import cross_validate
from export.evaluate import EvaluationError, evaluate
from export.learned import learned_by, unseen
from export.lineage import lineage_of
from service.contract import MANIFEST, BundleInvalid, Precision, read_manifest
from training.config import Config
from training.data.readers import DatasetError, read_frames
from training.pictures import prediction_panel
from training.run import RECORD, RunError, read_run
from training.scores import score_by_quality

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from training.data.frames import FrameSet


ALL = "all"


class EvaluateConfig(Config):
    """Measure the IoU of a run folder, a bundle or a running service; the result is printed as JSON.

    Several run folders are taken as the folds of a cross-validation: every frame is measured with the run that held its
    scene out.
    """

    model_config = SettingsConfigDict(cli_prog_name="robomask evaluate")

    model: CliPositionalArg[list[str]] = Field(
        min_length=1,
        description="run folder, bundle folder, or http://host:port of a service; or the runs of all folds",
    )
    data: Path = Field(description="labelled frames: .npz, folder of shards, or folder with COCO annotations")
    split: str = Field(ALL, description="only frames that the data set marks so (train, val, ...), or all")
    precision: Precision | None = Field(
        None, description="which of a bundle's models; by default the one it recommends"
    )
    picture: Path | None = Field(
        None, description="PNG to write: frames and masks, worst first; green both, red too much, blue missed"
    )


def select(frames: FrameSet, split: str) -> FrameSet:
    """The frames of a split, or all of them.

    Raises:
        DatasetError: The data set marks none so.
    """
    if split == ALL:
        return frames
    chosen = frames.split == split
    if not chosen.any():
        raise DatasetError(
            f"expected frames marked {split!r}, the data set marks {sorted(set(frames.split.tolist()) - {''})}"
        )
    return frames.take(chosen)


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(EvaluateConfig, cli_args=argv)
    try:
        data = read_frames(config.data)
        frames = select(data, config.split)
        if len(config.model) > 1:
            return _folds(config, frames)
        result = evaluate(config.model[0], frames, config.precision)
    except (DatasetError, RunError, EvaluationError, BundleInvalid) as error:
        print(f"robomask evaluate: {error}", file=sys.stderr)
        return 1
    _remark_known(Path(config.model[0]), frames, {config.data: data})
    _save_picture(config.picture, frames, result.masks)
    report = {
        "model": config.model[0],
        "data": config.data.name,
        "split": config.split,
        "iou": result.score._asdict(),
        **_by_quality(frames, result.masks),
        **({"answered": result.answered} if result.answered else {}),
    }
    print(json.dumps(report, indent=2))
    return 0


def _remark_known(folder: Path, frames: FrameSet, sets: Mapping[Path, FrameSet]) -> None:
    """Say how many of the frames are of scenes that the model is known to have learned from."""
    if (folder / MANIFEST).is_file():
        lineage = read_manifest((folder / MANIFEST).read_bytes(), str(folder)).lineage
    elif (folder / RECORD).is_file():
        lineage = lineage_of(read_run(folder))
    else:
        return
    learned = learned_by(lineage, sets)
    known = len(frames) - len(unseen(frames, [learned]))
    if known:
        print(
            f"robomask evaluate: {known} of the {len(frames)} frames {'are' if learned.known else 'may be'} of scenes "
            "that the model has learned from: the score is not one of scenes never seen",
            file=sys.stderr,
        )


def _save_picture(path: Path | None, frames: FrameSet, masks: np.ndarray) -> None:
    """Write the picture, if one is wanted, and say where it is; the scores are told whether that works or not."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prediction_panel(frames.frames, masks, frames.masks).save(path)
    except (OSError, ValueError) as error:  # Pillow's, of endings that it does not know
        print(f"robomask evaluate: {path}: expected to write a picture, got: {error}", file=sys.stderr)
    else:
        print(f"{path}: frames and masks, worst first", file=sys.stderr)


def _by_quality(frames: FrameSet, masks: np.ndarray) -> dict[str, dict[str, dict[str, float]]]:
    """The scores of each kind of picture, if there are several."""
    scores = score_by_quality(masks, frames.masks, frames.qualities)
    return {"iou_by_quality": {kind: found._asdict() for kind, found in scores.items()}} if scores else {}


def _folds(config: EvaluateConfig, frames: FrameSet) -> int:
    """Measure the runs of a cross-validation together."""
    if config.precision is not None:
        raise EvaluationError("expected no precision with several models, which are run folders")
    result = cross_validate([Path(model) for model in config.model], frames)
    measured = frames.take(result.measured)
    _save_picture(config.picture, measured, result.masks)
    report = {
        "models": config.model,
        "data": config.data.name,
        "iou": result.score._asdict(),
        **_by_quality(measured, result.masks),
        "folds": [fold._asdict() for fold in result.folds],
        "never_held_out": int((~result.measured).sum()),
    }
    print(json.dumps(report, indent=2))
    return 0
