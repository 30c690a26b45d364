"""What a run starts from: a bundle is as good as the run that it was made of."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from export.pack import pack
from training.commands.train import main
from training.config import ModelConfig
from training.data.frames import FrameSet
from training.run import RunError, load_segmenter, read_run
from training.start import bundle_network, read_start, start_of
from training.trainer import predict

SMALL = ModelConfig(layers=(1, 1, 1, 1))
TINY = ("--model.layers", "1", "1", "1", "1", "--epochs", "1", "--steps-per-epoch", "1", "--batch-size", "2")


def test_a_bundle_gives_back_the_network_that_it_was_made_of(toy_bundle: Path, toy_run: Path, toys: FrameSet) -> None:
    start = start_of(SMALL.model_copy(update={"init": toy_bundle}))
    expected = predict(load_segmenter(toy_run), toys.frames[:2])
    np.testing.assert_allclose(predict(start.segmenter, toys.frames[:2]), expected, atol=5e-3)
    sha256 = hashlib.sha256((toy_bundle / "manifest.json").read_bytes()).hexdigest()
    assert start.parent == {"kind": "bundle", "name": "toy", "version": 1, "sha256": sha256}
    assert bundle_network(toy_bundle) == ((1, 1, 1, 1), "attention-conv")


def test_another_head_can_start_on_the_encoder_of_a_bundle(toy_bundle: Path, toy_file: Path, tmp_path: Path) -> None:
    start = start_of(SMALL.model_copy(update={"pretrained": toy_bundle, "head": "linear"}))
    bundled = read_start(toy_bundle, SMALL).segmenter
    for name, weight in bundled.encoder.state_dict().items():
        torch.testing.assert_close(start.segmenter.encoder.state_dict()[name], weight)
    assert start.parent is None
    out = tmp_path / "next"
    data = ["--out", str(out), "--data.train", str(toy_file), "--model.pretrained", str(toy_bundle)]
    assert main([*data, "--model.head", "linear", *TINY]) == 0
    sha256 = hashlib.sha256((toy_bundle / "manifest.json").read_bytes()).hexdigest()
    assert read_run(out).record["pretrained"] == {"name": "1", "sha256": sha256}


def test_a_bundle_with_skips_gives_them_back(toy_file: Path, toys: FrameSet, tmp_path: Path) -> None:
    run = tmp_path / "run"
    data = ["--out", str(run), "--data.train", str(toy_file), "--precision", "32-true"]
    assert main([*data, "--model.head", "attention-skips", *TINY]) == 0
    bundle = pack(run, tmp_path / "models", name="skips", precisions=["fp32"]).folder
    assert bundle_network(bundle) == ((1, 1, 1, 1), "attention-skips")
    with pytest.raises(RunError, match=r"--model\.head attention-skips"):
        read_start(bundle, SMALL)
    start = read_start(bundle, SMALL.model_copy(update={"head": "attention-skips"}))
    expected = predict(load_segmenter(run), toys.frames[:2])
    np.testing.assert_allclose(predict(start.segmenter, toys.frames[:2]), expected, atol=5e-3)


@pytest.mark.parametrize("kind", ["bundle", "run"])
def test_a_run_goes_on_from_either_and_its_record_says_from_which(
    toy_bundle: Path, toy_run: Path, toy_file: Path, tmp_path: Path, kind: str
) -> None:
    start = {"bundle": toy_bundle, "run": toy_run}[kind]
    out = tmp_path / "next"
    assert main(["--out", str(out), "--data.train", str(toy_file), "--init", str(start), *TINY]) == 0
    parent = read_run(out).record["parent"]
    assert parent == read_start(start, SMALL).parent
    assert (parent["kind"], len(parent["sha256"])) == (kind, 64)


def test_what_is_neither_is_refused_with_what_was_expected(
    toy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--out", str(tmp_path / "next"), "--data.train", str(toy_file)]
    assert main([*arguments, "--init", str(toy_file.parent), *TINY]) == 1
    assert "expected a finished run (with run.json) or a bundle (with manifest.json)" in capsys.readouterr().err


def test_a_bundle_of_another_size_is_refused_with_its_size(toy_bundle: Path) -> None:
    with pytest.raises(RunError, match=r"--model\.layers 1 1 1 1"):
        read_start(toy_bundle, ModelConfig())


def test_a_bundle_for_another_network_is_refused_with_the_one_it_holds(toy_bundle: Path) -> None:
    with pytest.raises(RunError, match="holds the encoder frame-encoder and the head attention-conv"):
        read_start(toy_bundle, ModelConfig(layers=(1, 1, 1, 1), head="linear"))


def test_a_damaged_bundle_is_refused(toy_bundle: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(toy_bundle, tmp_path / "toy/1")
    model = damaged / "model.fp32.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    with pytest.raises(RunError, match="changed or damaged"):
        read_start(damaged, SMALL)


@pytest.mark.parametrize("name", ["", "../1/model.fp32.onnx", "absent.onnx"])
def test_a_manifest_that_names_no_file_of_its_own_is_refused(toy_bundle: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(toy_bundle, tmp_path / "toy/1")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["precisions"] = {"fp32": name} if name else {}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="expected a bundle with an fp32 model"):
        read_start(folder, SMALL)
