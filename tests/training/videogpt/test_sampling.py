"""Sampling: the published clips, and code by code the same as all at once."""

import re
from collections.abc import Callable
from typing import Any

import golden
import pytest
import torch
from test_prior import conditions, model_of
from torch import Tensor
from torch.testing import assert_close

from training.videogpt.prior import Prior
from training.videogpt.sampling import CodeByCode, sample


@pytest.mark.parametrize("name", golden.cases("gpt", but_not="gpt_full"))
def test_samples_equal_the_published_ones(name: str) -> None:
    case = golden.load(name)
    model, given = model_of(name), conditions(name)
    seed = int(re.search(r"manual_seed\((\d+)\)", case.entry["sample"])[1])
    expected = case["out/sample_codes_seeded"]

    torch.manual_seed(seed)
    walk, logits, drawn = CodeByCode(model, len(expected), **given), [], []
    for i in range(walk.length):
        logits.append(walk.step(expected.flatten(1)[:, i - 1] if i else None))
        drawn.append(torch.multinomial(logits[-1].softmax(-1), 1)[:, 0])
    # stored in half precision
    assert_close(torch.stack(logits, 1), case["out/sample_logits"], atol=5e-3, rtol=1e-3)
    ties = torch.stack(drawn, 1).view_as(expected) != expected  # draws that the last digit of a logit decides
    assert ties.float().mean() < 2e-3

    torch.manual_seed(seed)
    samples = sample(model, len(expected), **given)
    if not ties.any():
        assert torch.equal(samples.codes, expected)
        assert_close(samples.video, case["out/sample_video"], atol=1e-4, rtol=0)
    video = model.decode(expected).clamp(-0.5, 0.5) + 0.5
    assert_close(video, case["out/sample_video"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("attn_type", ["full", "sparse"])
@pytest.mark.parametrize("n_cond_frames", [0, 1, 2])
@pytest.mark.parametrize("class_cond_dim", [None, 5])
def test_code_by_code_gives_the_logits_of_all_at_once(
    tiny_prior: Callable[..., Prior], clips: Tensor, attn_type: str, n_cond_frames: int, class_cond_dim: int | None
) -> None:
    prior = tiny_prior(attn_type=attn_type, n_cond_frames=n_cond_frames, class_cond_dim=class_cond_dim).eval()
    codes = torch.randint(16, (3, 2, 8, 8))
    given: dict[str, Any] = {
        "frames": clips[:, :, :n_cond_frames] if n_cond_frames else None,
        "labels": torch.tensor([0, 4, 4]) if class_cond_dim else None,
    }
    walk = CodeByCode(prior, 3, **given)
    steps = [walk.step(codes.flatten(1)[:, i - 1] if i else None) for i in range(walk.length)]
    with torch.inference_mode():
        together = prior(codes, **given).logits
    assert_close(torch.stack(steps, 1).view_as(together), together, atol=2e-5, rtol=1e-5)


def test_a_generator_makes_samples_repeatable_and_leaves_the_global_one_alone(
    tiny_prior: Callable[..., Prior], clips: Tensor
) -> None:
    prior = tiny_prior().eval()
    state = torch.get_rng_state()
    first, second = (
        sample(prior, 3, frames=clips[:, :, :1], generator=torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert torch.equal(first.codes, second.codes)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.video.shape == clips.shape
    assert 0 <= first.video.min() <= first.video.max() <= 1
    assert first.codes.shape == (3, 2, 8, 8)


def test_sampling_a_single_clip_keeps_its_batch_axis(tiny_prior: Callable[..., Prior]) -> None:
    assert sample(tiny_prior(n_cond_frames=0).eval(), 1).codes.shape == (1, 2, 8, 8)


def test_a_prior_in_training_mode_is_refused(tiny_prior: Callable[..., Prior]) -> None:
    with pytest.raises(ValueError, match="eval"):
        sample(tiny_prior(n_cond_frames=0).train(), 1)


def test_every_clip_needs_its_own_condition(tiny_prior: Callable[..., Prior], clips: Tensor) -> None:
    with pytest.raises(ValueError, match="each of 2 clips, got 3"):
        sample(tiny_prior().eval(), 2, frames=clips[:, :, :1])


def test_steps_come_in_order(tiny_prior: Callable[..., Prior]) -> None:
    walk = CodeByCode(tiny_prior(n_cond_frames=0).eval(), 1)
    with pytest.raises(ValueError, match="no code before the first"):
        walk.step(torch.zeros(1, dtype=torch.int64))
    walk.step(None)
    with pytest.raises(ValueError, match="one before each other"):
        walk.step(None)


def test_a_low_temperature_draws_the_likeliest_codes(tiny_prior: Callable[..., Prior], clips: Tensor) -> None:
    prior = tiny_prior(attn_type="full", n_cond_frames=1, class_cond_dim=None).eval()
    torch.nn.init.normal_(prior.fc_out.weight)
    frames = clips[:, :, :1]
    codes = sample(prior, len(frames), frames=frames, temperature=1e-4).codes
    with torch.inference_mode():
        assert torch.equal(codes, prior(codes, frames=frames).logits.argmax(-1))
    with pytest.raises(ValueError, match="temperature"):
        sample(prior, len(frames), frames=frames, temperature=0)
