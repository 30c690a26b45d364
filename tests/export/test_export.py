"""From a run folder to a bundle, with a small encoder."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.commands.evaluate import main as evaluate_command
from export.commands.export import main as export_command
from export.golden_frames import golden_frames
from export.graph import ServingGraph, round_weights_to_half
from export.parity import compare, require
from export.sessions import open_session
from export.to_onnx import ExportError, to_onnx
from service.contract import open_bundle
from training.config import DataConfig, ModelConfig, TrainConfig
from training.data.frames import FrameSet
from training.run import load_segmenter, write_run
from training.segmenter import build_segmenter
from training.trainer import predict


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, toys: FrameSet) -> Path:
    file = tmp_path_factory.mktemp("data") / "toys.npz"
    np.savez(file, frames=toys.frames, masks=toys.masks, scene=toys.scene, quality=np.arange(len(toys)) % 2)
    return file


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A run folder as `robomask train` leaves it, its weights random."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(3)
    config = TrainConfig(out=folder, data=DataConfig(train=(data,)), model=ModelConfig(layers=(1, 1, 1, 1)), seed=3)
    record = {
        "split": {"train": ["toy0"], "val": ["toy1"]},
        "frames": {"train": 4, "val": 4},
        "data": [{"name": data.name, "sha256": "0" * 64}],
        "code_revision": "abc",
    }
    write_run(folder, build_segmenter(config.model.layers), config, record)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, run: Path, data: Path) -> Path:
    models = tmp_path_factory.mktemp("models")
    arguments = [str(run), "--models", str(models), "--name", "toy", "--data", str(data), "--split", "all"]
    assert export_command(arguments) == 0
    return models / "toy" / "1"


def test_a_bundle_is_whole_and_says_where_it_comes_from(bundle: Path, data: Path) -> None:
    manifest = open_bundle(bundle).manifest
    assert manifest.lineage.seed == 3
    assert manifest.lineage.code_revision == "abc"
    assert "--seed 3" in manifest.lineage.command
    measured = {"iou_mean", "iou_sd", "iou_p5", "iou_lowest", "iou_dataset", "iou_with_fp32"}
    assert {m.name for m in manifest.metrics if not m.name.endswith("_by_quality")} == measured
    assert str(data.parent) not in (bundle / "manifest.json").read_text() + (bundle / "card.md").read_text()


def test_its_scores_are_given_for_each_quality_of_picture_too(bundle: Path, toys: FrameSet) -> None:
    metrics = {(m.name, m.split): m for m in open_bundle(bundle).manifest.metrics if m.precision == "fp32"}
    mean = metrics["iou_mean", "all"]
    parts = [metrics["iou_mean_by_quality", f"all, quality {quality}"] for quality in (0, 1)]
    assert sum(part.value * part.n for part in parts) / len(toys) == pytest.approx(mean.value)
    assert (
        f"| iou_mean_by_quality | {parts[0].value:.4f} | toys.npz, all, quality 0 |" in (bundle / "card.md").read_text()
    )


def test_the_bundles_tensors_are_those_of_the_contract(bundle: Path) -> None:
    session = open_session(open_bundle(bundle).model("fp32"))
    (frames,), (probability, latents) = session.get_inputs(), session.get_outputs()
    assert (frames.name, frames.type, frames.shape[1:]) == ("frames", "tensor(uint8)", [64, 64, 3])
    assert (probability.name, probability.type, probability.shape[1:]) == ("probability", "tensor(float)", [64, 64])
    assert (latents.name, latents.type, latents.shape[1:]) == ("latents", "tensor(float)", [16, 16, 240])
    assert all(isinstance(tensor.shape[0], str) for tensor in (frames, probability, latents))


def test_the_bundle_says_what_pytorch_says(bundle: Path, run: Path, toys: FrameSet) -> None:
    session = open_session(open_bundle(bundle).model("fp32"))
    segmenter = load_segmenter(run)
    round_weights_to_half(segmenter)
    probability = session.run(["probability"], {"frames": toys.frames[:7]})[0]
    np.testing.assert_allclose(probability, predict(segmenter, toys.frames[:7]), atol=1e-4)


def test_large_weights_are_stored_as_half(bundle: Path) -> None:
    model = onnx.load_from_string(open_bundle(bundle).model("fp32"))
    large = [t for t in model.graph.initializer if np.prod(t.dims) >= 4096]
    assert large
    assert all(t.data_type == onnx.TensorProto.FLOAT16 for t in large)


def test_the_published_form_its_collapse_and_onnx_agree(run: Path) -> None:
    segmenter = load_segmenter(run)
    round_weights_to_half(segmenter)
    graph = ServingGraph(segmenter)
    parity = compare(graph, to_onnx(graph), golden_frames())
    assert max(parity) < 1e-4
    require(parity)


def test_an_export_whose_weights_differ_is_refused(run: Path) -> None:
    segmenter = load_segmenter(run)
    round_weights_to_half(segmenter)
    content = to_onnx(ServingGraph(segmenter))
    with torch.no_grad():
        next(segmenter.head.parameters()).add_(0.5)
        segmenter.encoder.group1.start_block.conv1.weight.mul_(-1)
    parity = compare(ServingGraph(segmenter), content, golden_frames())
    with pytest.raises(ExportError, match=r"agree to 0\.0001"):
        require(parity)


def test_run_and_bundle_get_the_same_score(
    bundle: Path, run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = []
    for model in (run, bundle):
        assert evaluate_command([str(model), "--data", str(data), "--picture", str(tmp_path / "p.png")]) == 0
        scores.append(json.loads(capsys.readouterr().out)["iou"])
    assert scores[0]["mean"] == pytest.approx(scores[1]["mean"], abs=0.005)
    assert (tmp_path / "p.png").stat().st_size > 0


def test_exporting_again_makes_the_next_version(bundle: Path, run: Path) -> None:
    arguments = [str(run), "--models", str(bundle.parents[1]), "--name", "toy", "--precisions", "fp32"]
    assert export_command(arguments) == 0
    assert open_bundle(bundle.parent / "2").manifest.version == 2


def test_an_unfinished_run_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfinished = shutil.copytree(run, tmp_path / "unfinished")
    (unfinished / "run.json").unlink()
    assert export_command([str(unfinished), "--models", str(tmp_path / "models")]) == 1
    assert "has `robomask train` ended" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_run_with_a_head_that_bundles_do_not_hold_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "probe")
    record = json.loads((run / "run.json").read_text())
    record["config"]["model"]["head"] = "linear"
    (tmp_path / "probe" / "run.json").write_text(json.dumps(record))
    assert export_command([str(tmp_path / "probe"), "--models", str(tmp_path / "models")]) == 1
    assert "attention-skips, which bundles hold, found head linear" in capsys.readouterr().err


def test_a_split_that_nobody_marked_is_refused(bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_command([str(bundle), "--data", str(data), "--split", "test"]) == 1
    assert "'test'" in capsys.readouterr().err


def test_golden_frames_depend_on_the_seed_alone() -> None:
    assert np.array_equal(golden_frames(), golden_frames())
    assert not np.array_equal(golden_frames(0), golden_frames(1))


def test_frames_that_a_model_has_learned_from_do_not_tell_how_good_it_is(
    run: Path, data: Path, toys: FrameSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learned = shutil.copytree(run, tmp_path / "run")
    record = json.loads((learned / "run.json").read_text())
    record["config"]["data"]["split"] = "all"
    record["data"][0]["sha256"] = toys.sha256()
    (learned / "run.json").write_text(json.dumps(record))
    other = tmp_path / "other.npz"
    frames = np.concatenate([toys.frames[:4], 255 - toys.frames[4:8]])
    np.savez(other, frames=frames, masks=toys.masks[:8], scene=["known"] * 4 + ["new"] * 4)
    arguments = ["--models", str(tmp_path), "--precisions", "fp32", "--split", "all", "--data"]
    assert export_command([str(learned), *arguments, str(data)]) == 0
    assert "24 of 24 frames are of scenes that the model" in caplog.text
    assert "there are no new scores" in caplog.text
    assert open_bundle(tmp_path / "robot-arm/1").manifest.metrics == ()
    assert export_command([str(learned), *arguments, str(other)]) == 0
    assert {metric.n for metric in open_bundle(tmp_path / "robot-arm/2").manifest.metrics} == {4}
    assert "measured on the other 4" in caplog.text


def test_the_card_of_a_bundle_exported_again_has_its_new_name_scores_and_credit(
    toy_bundle: Path, toys: FrameSet, tmp_path: Path
) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, frames=255 - toys.frames, masks=toys.masks, scene=toys.scene)
    arguments = ["--models", str(tmp_path), "--precisions", "fp32", "--split", "all", "--data", str(other)]
    arguments += ["--name", "left-arm", "--credit", "Frames: somebody, CC0."]
    assert export_command([str(toy_bundle), *arguments]) == 0
    made = open_bundle(tmp_path / "left-arm/1")
    card = made.read("card.md").decode()
    (mean,) = (metric for metric in made.manifest.metrics if metric.name == "iou_mean")
    assert card.startswith("# left-arm\n")
    assert f"| iou_mean | {mean.value:.4f} | other.npz, all | {len(toys)} |" in card
    assert "toys.npz, all" not in card
    assert "Frames: somebody, CC0." in card
    assert card.index("## How well it does") < card.index("## What it is for") < card.index("## How it was made")


def test_a_registry_that_cannot_be_had_stops_an_export_before_anything_is_published(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--models", str(tmp_path), "--precisions", "fp32", "--mlflow", "nonsense://nowhere"]
    assert export_command([str(run), *arguments]) == 1
    said = capsys.readouterr().err
    assert "mlflow: expected" in said
    assert "--log.mlflow" not in said
    assert not list(tmp_path.iterdir())


def test_a_score_on_frames_learned_from_is_not_told_without_saying_so(
    toy_run: Path, toy_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate_command([str(toy_run), "--data", str(toy_file)]) == 0
    assert "16 of the 24 frames are of scenes that the model has learned from" in capsys.readouterr().err
    assert evaluate_command([str(toy_run), "--data", str(toy_file), "--split", "val"]) == 0
    assert "learned from" not in capsys.readouterr().err
