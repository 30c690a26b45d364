"""From a run folder to a published bundle: export, compare, measure, describe, publish."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.card import card
from export.golden_frames import golden_frames
from export.graph import ServingGraph, round_weights_to_half
from export.lineage import lineage_of
from export.parity import compare, open_session, require
from export.to_onnx import ExportError, to_onnx
from service.contract import Bundle, Golden, Metric, publish
from training.pictures import overlay, panel, prediction_panel
from training.run import load_segmenter, read_run
from training.scores import score

if TYPE_CHECKING:
    from PIL.Image import Image

    from training.data.frames import FrameSet

THRESHOLD = 0.5

GOLDEN_TOLERANCE = 5e-3
"""How far another machine's probabilities may be off on the golden frames: far more than a change of CPU or the
TensorFloat-32 of a GPU makes, far less than a wrong weight or a swapped colour channel."""


def pack(
    run_folder: Path,
    repository: Path,
    *,
    name: str,
    held_out: FrameSet | None = None,
    data_name: str = "",
    split: str = "",
    credit: str = "",
) -> Bundle:
    """Export a run and publish it as the next version of a model.

    Args:
        run_folder: A finished run.
        repository: The folder of models.
        name: The model's name.
        held_out: Labelled frames to measure the exported file on; without them the card has no scores.
        data_name: What to call `held_out` in the manifest.
        split: Which part of it they are.
        credit: A line of the card that names the data's authors and licence.

    Raises:
        ExportError: PyTorch and ONNX disagree; nothing is published.
        RunError: The run is not finished or cannot be read.
        BundleInvalid: The bundle breaks the contract.
    """
    run = read_run(run_folder)
    if run.config.model.encoder != "frame-encoder":
        raise ExportError(
            f"{run_folder}: expected a run with the frame encoder, whose latents a bundle promises, found encoder "
            f"{run.config.model.encoder}"
        )
    segmenter = load_segmenter(run_folder)
    round_weights_to_half(segmenter)
    graph = ServingGraph(segmenter).eval()
    golden = golden_frames()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        to_onnx(graph, file)
        content = file.read_bytes()
    frames = golden if held_out is None else np.concatenate([golden, held_out.frames[:8]])
    parity = compare(graph, content, frames)
    require(parity)
    session = open_session(content)
    expected = session.run(["probability"], {"frames": golden})[0]
    metrics: list[Metric] = []
    if held_out is None:
        picture = panel([[f, overlay(f, p >= THRESHOLD)] for f, p in zip(golden, expected, strict=True)], scale=3)
    else:
        masks = np.concatenate(
            [session.run(["probability"], {"frames": f[None]})[0] >= THRESHOLD for f in held_out.frames]
        )
        found = score(masks, held_out.masks)
        metrics = [
            Metric(name=f"iou_{key}", value=value, data=data_name, split=split, n=found.n, precision="fp32")
            for key, value in found._asdict().items()
            if key != "n"
        ]
        picture = prediction_panel(held_out.frames, masks, held_out.masks, pairs=12, columns=4)
    lineage = lineage_of(run)
    return publish(
        repository,
        name=name,
        precisions={"fp32": content},
        default_precision="fp32",
        threshold=THRESHOLD,
        golden=Golden(golden, expected, GOLDEN_TOLERANCE),
        metrics=metrics,
        lineage=lineage,
        card=card(name, run, lineage, metrics=metrics, parity=parity, credit=credit),
        example_png=_png(picture),
    )


def _png(picture: Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
