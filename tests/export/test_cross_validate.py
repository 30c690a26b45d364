"""A cross-validation's runs, measured together."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from export.commands.evaluate import main
from training.config import DataConfig, ModelConfig, TrainConfig
from training.data.frames import FrameSet
from training.run import load_segmenter, write_run
from training.scores import per_image_iou
from training.segmenter import build_segmenter
from training.trainer import predict


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, toys: FrameSet) -> Path:
    file = tmp_path_factory.mktemp("data") / "toys.npz"
    np.savez(file, frames=toys.frames, masks=toys.masks, scene=toys.scene)
    return file


def run_that_held_out(folder: Path, data: Path, seed: int, *scenes: str, **record: object) -> Path:
    folder.mkdir()
    torch.manual_seed(seed)
    config = TrainConfig(out=folder, data=DataConfig(train=(data,)), model=ModelConfig(layers=(1, 1, 1, 1)))
    split = {"train": [], "val": list(scenes)}
    write_run(folder, build_segmenter(config.model.layers), config, {"split": split, **record})
    return folder


def test_every_frame_is_measured_by_the_run_that_held_its_scene_out_at_its_own_threshold(
    tmp_path: Path, data: Path, toys: FrameSet, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run_that_held_out(tmp_path / "f0", data, 1, "toy0", "toy3")
    other = run_that_held_out(tmp_path / "f1", data, 2, "toy1", "toy2", "toy4", threshold=0.52)
    assert main([str(one), str(other), "--data", str(data), "--picture", str(tmp_path / "p.png")]) == 0
    report = json.loads(capsys.readouterr().out)
    ious = []
    for folder, scenes, threshold in ((one, ["toy0", "toy3"], 0.5), (other, ["toy1", "toy2", "toy4"], 0.52)):
        held = toys.take(np.isin(toys.scene, scenes))
        ious.append(per_image_iou(predict(load_segmenter(folder), held.frames) >= threshold, held.masks))
    assert report["iou"]["mean"] == pytest.approx(np.concatenate(ious).mean())
    assert [fold["mean"] for fold in report["folds"]] == pytest.approx([iou.mean() for iou in ious])
    assert (report["iou"]["n"], report["never_held_out"]) == (20, 4)
    assert (tmp_path / "p.png").is_file()


def test_folds_that_overlap_or_belong_to_other_data_are_refused(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run_that_held_out(tmp_path / "f0", data, 1, "toy0", "toy3")
    other = run_that_held_out(tmp_path / "f1", data, 1, "toy3", "toy4")
    assert main([str(one), str(other), "--data", str(data)]) == 1
    assert "found toy3: give each fold once" in capsys.readouterr().err
    foreign = run_that_held_out(tmp_path / "f2", data, 1, "elsewhere")
    assert main([str(one), str(foreign), "--data", str(data)]) == 1
    assert "it held out none" in capsys.readouterr().err
