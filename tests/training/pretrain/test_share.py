"""A small folder of what pretraining has learnt says of clips and frames what the run does."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.pretrain.config import PriorRunConfig
from training.pretrain.held_out import main as held_out
from training.pretrain.share import main
from training.pretrain.trainer import pretrain_prior
from training.pretrain.weights import WeightsError, read_frame_encoder, read_prior, write_small_encoder
from training.videogpt.resnet import FrameEncoder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, prior_config: Callable[..., PriorRunConfig]) -> Path:
    config = prior_config(tmp_path_factory.mktemp("prior") / "run")
    pretrain_prior(config)
    return config.out


def test_what_single_frames_meet_is_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = FrameEncoder((2, 1, 1, 2), 24).eval()
    file = tmp_path / "small.safetensors"
    write_small_encoder(file, encoder)
    back = read_frame_encoder(file)
    frames = torch.rand(2, 3, 1, 16, 16) - 0.5
    with torch.inference_mode():
        torch.testing.assert_close(back(frames), encoder(frames), rtol=1e-2, atol=1e-2)
    elements = sum(parameter.numel() for parameter in encoder.parameters())
    assert file.stat().st_size < elements * 4 / 5


def test_a_shared_prior_knows_of_held_out_clips_what_the_run_does(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "deep" / "pretrained"
    assert main([str(run), str(shared)]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        str(shared / name) for name in ("prior.safetensors", "frame_encoder.safetensors")
    ]
    nats = []
    for folder in (run, shared):
        assert held_out([str(folder)]) == 0
        nats.append(float(capsys.readouterr().out.splitlines()[1].split()[2]))
    assert nats[1] == pytest.approx(nats[0], abs=0.02)


def test_what_was_shared_can_be_made_smaller_no_more(run: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main([str(run), str(first)]) == 0
    assert main([str(first), str(second)]) == 0
    for name in ("prior.safetensors", "frame_encoder.safetensors"):
        before, after = load_file(first / name), load_file(second / name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_shared_prior_needs_the_encoder_beside_it(run: Path, tmp_path: Path) -> None:
    assert main([str(run), str(tmp_path)]) == 0
    (tmp_path / "frame_encoder.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"expected frame_encoder\.safetensors"):
        read_prior(tmp_path)


def test_what_is_no_prior_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "frame_encoder.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="expected a safetensors file"):
        read_frame_encoder(tmp_path)
    shutil.copyfile(tmp_path / "frame_encoder.safetensors", tmp_path / "prior.safetensors")
    assert main([str(tmp_path), str(tmp_path / "out")]) == 1
    assert "in it, found" in capsys.readouterr().err
