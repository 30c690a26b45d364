"""The model in the repository: what it is made of, and how well it does on real frames where they are at hand."""

import os
from pathlib import Path

import numpy as np
import pytest

from export.evaluate import bundle_masks
from export.golden_frames import golden_frames
from export.graph import ServingGraph
from export.parity import compare, require
from service.contract import Bundle, open_bundle, versions
from training.data.readers import read_frames
from training.from_onnx import segmenter_from_onnx
from training.scores import score

MODELS = Path(__file__).parents[1] / "models"
REAL = Path(os.environ.get("ROBOMASK_LABELLED") or Path(__file__).parents[2] / "shared/bair/labelled.npz")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(MODELS / "robot-arm" / str(versions(MODELS, "robot-arm")[-1]))


def test_published_pytorch_its_collapse_and_the_shipped_onnx_agree(bundle: Bundle) -> None:
    content = bundle.model("fp32")
    parity = compare(ServingGraph(segmenter_from_onnx(content)), content, golden_frames(seed=5))
    require(parity)
    assert max(parity) < 1e-4


@pytest.mark.skipif(not REAL.is_file(), reason=f"no labelled real frames at {REAL} (set ROBOMASK_LABELLED)")
def test_its_score_on_held_out_scenes_is_what_its_manifest_says(bundle: Bundle) -> None:
    frames = read_frames(REAL)
    held_out = frames.take(frames.split == "val")
    found = score(bundle_masks(bundle.folder, held_out.frames), held_out.masks)
    stated = {metric.name: metric.value for metric in bundle.manifest.metrics if metric.precision == "fp32"}
    assert found.mean >= 0.88
    assert found.mean == pytest.approx(stated["iou_mean"], abs=0.002)


def test_it_finds_the_drawn_arms_and_no_robot_in_the_empty_bin(bundle: Bundle) -> None:
    masks = bundle_masks(bundle.folder, golden_frames())
    share = masks.mean((1, 2))
    assert (share[:2] > 0.04).all()
    assert share[2] < 0.01
    assert not np.isnan(share).any()
