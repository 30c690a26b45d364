"""Frame preprocessing: the published numbers, and the promises about sizes."""

import re

import golden
import pytest
import torch
from torch.testing import assert_close

from training.videogpt.preprocess import preprocess_clip


@pytest.mark.parametrize("name", golden.cases("unit_ops"))
def test_clips_equal_the_published_ones(name: str) -> None:
    outputs = golden.load(name).group("preprocess/out_CTHW_")
    clip = golden.load(name)["preprocess/in_THWC_uint8"]
    assert outputs
    for asked, expected in outputs.items():
        resolution, n_frames = re.fullmatch(r"res(\d+)(?:_seq(\d+))?", asked).groups()
        got = preprocess_clip(clip, int(resolution), int(n_frames) if n_frames else None)
        assert_close(got, expected, atol=2e-5, rtol=0)


def test_frames_of_the_right_size_keep_their_pixels() -> None:
    clip = torch.randint(256, (2, 64, 64, 3), dtype=torch.uint8)
    restored = ((preprocess_clip(clip, 64) + 0.5) * 255).round().to(torch.uint8)
    assert torch.equal(restored.permute(1, 2, 3, 0), clip)


@pytest.mark.parametrize("size", [(48, 70), (70, 48), (33, 33), (64, 200), (65, 64)])
def test_any_frame_becomes_square(size: tuple[int, int]) -> None:
    result = preprocess_clip(torch.full((1, *size, 3), 255, dtype=torch.uint8), 64)
    assert result.shape == (3, 1, 64, 64)
    assert_close(result, torch.full_like(result, 0.5))


def test_clips_that_are_no_clips_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[T, H, W, 3\]"):
        preprocess_clip(torch.zeros(3, 2, 8, 8, dtype=torch.uint8), 8)
    with pytest.raises(ValueError, match="at least 5 frames, got 2"):
        preprocess_clip(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), 8, 5)
