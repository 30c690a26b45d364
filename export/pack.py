"""From a run folder or a bundle to a new bundle: export, compare, measure, describe, publish."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.card import Report
from export.fresh import fresh_frames
from export.precisions import FP32_FILE, Exported, Trial, chosen, export_fp16, export_fp32, export_int8
from export.sources import calibration_frames, read_source
from export.succession import common_ground, require_no_worse
from service.contract import Bundle, Golden, Metric, publish
from training.pictures import overlay, panel, prediction_panel
from training.scores import score, score_by_quality

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from PIL.Image import Image

    from export.sources import Source
    from export.succession import Gate
    from service.contract import Precision
    from training.data.frames import FrameSet

_log = logging.getLogger("export")

DEFAULT_NAME = "robot-arm"

GOLDEN_TOLERANCE = 5e-3
"""How far another machine's probabilities may be off on the golden frames: far more than a change of CPU or the
TensorFloat-32 of a GPU makes, far less than a wrong weight or a swapped colour channel."""

LARGEST_TOLERANCE = 0.5
"""Beyond it a self-test would say nothing."""

BY_QUALITY = "_by_quality"
"""How the names of scores end that are of one kind of picture only; which one, their `split` says."""


def pack(
    folder: Path,
    repository: Path,
    *,
    name: str | None = None,
    precisions: Collection[Precision] = ("fp32", "fp16", "int8"),
    calibration: FrameSet | None = None,
    data: FrameSet | None = None,
    held_out: FrameSet | None = None,
    data_name: str = "",
    split: str = "",
    credit: str = "",
    gate: Gate | None = None,
) -> Bundle:
    """Export a run, or a bundle once more, and publish it as the next version of a model.

    Args:
        folder: A finished run or a bundle.
        repository: The folder of models.
        name: The model's name; by default the bundle's own, or `robot-arm`.
        precisions: What to publish beside fp32.
        calibration: Frames to calibrate int8 on; by default those that a run was trained on, or those that `data`
            marks as training frames.
        data: The data set of which `held_out` is a part.
        held_out: Labelled frames to measure the exported files on, less those that the model is known to have learned
            from. If none are left, or without any, the card has no new scores, and precisions are compared by their
            masks on the calibration frames, or the golden ones.
        data_name: What to call `held_out` in the manifest.
        split: Which part of it they are.
        credit: A line of the card that names the data's authors and licence.
        gate: The model in service, which the new one may not be worse than.

    Raises:
        WorseModel: It is worse; nothing is published.
        ExportError: PyTorch and ONNX disagree, a precision costs too much IoU, or there is nothing to calibrate on;
            nothing is published.
        RunError: The run is not finished or cannot be read.
        BundleInvalid: A bundle breaks the contract.
    """
    source, own_name = read_source(folder, credit)
    name = name or own_name or DEFAULT_NAME
    wanted = chosen(precisions)
    frames = calibration_frames(source, calibration, data) if "int8" in wanted else None
    ground = None if gate is None else common_ground(gate, source)
    held_out = None if held_out is None else _fresh(source, held_out, data, data_name)
    trial = _trial(source, held_out, frames)
    fp32, parity = export_fp32(source.segmenter, trial, source.golden)
    made: dict[Precision, Exported] = {"fp32": fp32}
    if "fp16" in wanted:
        made["fp16"] = export_fp16(source.segmenter, fp32, trial, source.golden)
    if frames is not None:
        made["int8"] = export_int8(source.segmenter, fp32, trial, source.golden, frames)
    comparison = source.comparison
    if gate is not None and ground is not None:
        files = {FP32_FILE: fp32.content}
        comparison = require_no_worse(gate, ground, made, threshold=source.threshold, beside=files)
    metrics = [] if held_out is None else _metrics(made, held_out, trial.threshold, data_name, split)
    metrics = [*(metrics or source.metrics), *_agreements(made, data_name, split)]
    verdicts = [exported.verdict for exported in made.values() if exported.verdict]
    return publish(
        repository,
        name=name,
        precisions={precision: exported.content for precision, exported in made.items()},
        default_precision="fp32",
        threshold=source.threshold,
        golden=Golden(source.golden, fp32.golden, GOLDEN_TOLERANCE, tolerances(made)),
        metrics=metrics,
        lineage=source.lineage,
        card=source.write_card(Report(name, metrics, parity, verdicts, comparison, measured=held_out is not None)),
        comparison=comparison,
        example_png=_example(source, fp32, held_out),
    )


def tolerances(made: Mapping[Precision, Exported]) -> dict[Precision, float]:
    """How far each precision but fp32 may be off on the golden frames elsewhere.

    Twice what it is here and a little more: the sums of 8-bit and 16-bit products are rounded otherwise on other
    processors, and a pixel at the edge of the arm may turn.
    """
    reference = made["fp32"].golden
    off = {p: float(np.abs(exported.golden - reference).max()) for p, exported in made.items() if p != "fp32"}
    return {p: round(min(LARGEST_TOLERANCE, 2 * gap + 0.02), 3) for p, gap in off.items()}


def _fresh(source: Source, held_out: FrameSet, data: FrameSet | None, data_name: str) -> FrameSet | None:
    """What the model has not learned from, none if that is nothing; says so if something is left out."""
    sets = source.data_sets()
    if data is not None:
        sets = {**sets, Path(data_name): data}
    fresh = fresh_frames(source, held_out, sets).frames
    left_out = len(held_out) - len(fresh)
    if left_out:
        _log.warning(
            "%s: %d of %d frames are of scenes that the model, or one that it came from, has learned from: %s",
            *(data_name, left_out, len(held_out)),
            f"measured on the other {len(fresh)}" if len(fresh) else "nothing is measured, there are no new scores",
        )
    return fresh if len(fresh) else None


def _trial(source: Source, held_out: FrameSet | None, calibration: np.ndarray | None) -> Trial:
    if held_out is not None:
        return Trial(held_out.frames, held_out.masks, source.threshold)
    return Trial(source.golden if calibration is None else calibration, None, source.threshold)


def _metrics(
    made: Mapping[Precision, Exported], held_out: FrameSet, threshold: float, data: str, split: str
) -> list[Metric]:
    masks: dict[Precision, np.ndarray] = {p: exported.probability >= threshold for p, exported in made.items()}
    metrics = [
        Metric(name=f"iou_{key}", value=value, data=data, split=split, n=scores.n, precision=precision)
        for precision, scores in ((p, score(predicted, held_out.masks)) for p, predicted in masks.items())
        for key, value in scores._asdict().items()
        if key != "n"
    ]
    by_quality = score_by_quality(masks["fp32"], held_out.masks, held_out.qualities)
    return metrics + [
        Metric(name=name, value=value, data=data, split=f"{split}, quality {kind}", n=scores.n, precision="fp32")
        for kind, scores in by_quality.items()
        for name, value in ((f"iou_mean{BY_QUALITY}", scores.mean), (f"iou_sd{BY_QUALITY}", scores.sd))
    ]


def _agreements(made: Mapping[Precision, Exported], data: str, split: str) -> list[Metric]:
    return [
        Metric(
            name="iou_with_fp32",
            value=verdict.agreement,
            data=data if verdict.labelled else "calibration frames",
            split=split if verdict.labelled else None,
            n=verdict.n,
            precision=verdict.precision,
        )
        for verdict in (exported.verdict for exported in made.values())
        if verdict is not None
    ]


def _example(source: Source, fp32: Exported, held_out: FrameSet | None) -> bytes:
    if held_out is not None:
        masks = fp32.probability >= source.threshold
        return _png(prediction_panel(held_out.frames, masks, held_out.masks, pairs=12, columns=4))
    if source.example is not None:
        return source.example
    rows = [[f, overlay(f, p >= source.threshold)] for f, p in zip(source.golden, fp32.golden, strict=True)]
    return _png(panel(rows, scale=3))


def _png(picture: Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
