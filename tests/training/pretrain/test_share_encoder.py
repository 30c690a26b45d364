"""A small file of a frame encoder says of a frame what the encoder does."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.pretrain.share_encoder import main
from training.pretrain.weights import WeightsError, read_frame_encoder, write_small_encoder
from training.videogpt.resnet import FrameEncoder


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


def test_a_small_file_can_be_made_smaller_no_more(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "deep" / "second.safetensors"
    write_small_encoder(first, FrameEncoder((1, 1, 1, 1), 24))
    assert main([str(first), str(second)]) == 0
    before, after = load_file(first), load_file(second)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_no_frame_encoder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "frame_encoder.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="expected a safetensors file"):
        read_frame_encoder(tmp_path)
    assert main([str(tmp_path), str(tmp_path / "out.safetensors")]) == 1
    assert "expected a safetensors file" in capsys.readouterr().err
