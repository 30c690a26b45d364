"""The network, its losses and its scores."""

import numpy as np
import pytest
import torch

from training.losses import jaccard_loss, weighted_bce_loss
from training.scores import per_image_iou, score
from training.segmenter import build_segmenter, normalise, published_form

SMALL = (1, 1, 1, 1)


def test_pixels_are_scaled_as_videogpt_was_trained() -> None:
    frames = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1).expand(1, 1, 2, 3)
    assert normalise(frames)[0, 0, 0].tolist() == [-0.5, 0.5]


def test_logits_and_latents_have_the_promised_shapes_and_every_parameter_learns() -> None:
    segmenter = build_segmenter(SMALL)
    segmentation = segmenter(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    assert segmentation.logits.shape == (2, 64, 64)
    assert segmentation.latents.shape == (2, 16, 16, 240)
    segmentation.logits.square().mean().backward()
    silent = [n for n, p in segmenter.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # Attention ignores a constant added to every key, and PyTorch keeps all three biases in one tensor.
    assert silent == []


def test_the_published_form_says_the_same() -> None:
    segmenter = build_segmenter(SMALL).eval()
    frames = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        collapsed, published = segmenter(frames), published_form(segmenter)(frames)
    torch.testing.assert_close(torch.sigmoid(collapsed.logits), torch.sigmoid(published.logits), atol=1e-4, rtol=0)
    torch.testing.assert_close(collapsed.latents, published.latents, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("loss", [jaccard_loss, lambda x, y: weighted_bce_loss(x, y, 3.0)])
def test_losses_vanish_for_the_truth_and_grow_with_error(loss: "type[torch.Tensor]") -> None:
    masks = torch.zeros(2, 8, 8)
    masks[0, :4] = 1
    sure = (masks * 2 - 1) * 30
    assert loss(sure, masks).item() == pytest.approx(0, abs=1e-5)
    assert loss(-sure, masks).item() > loss(torch.zeros_like(sure), masks).item() > 0.3


def test_iou_follows_its_definition() -> None:
    truth = np.zeros((3, 4, 4), bool)
    truth[0, :2], truth[1, 0, 0] = True, True
    predicted = np.zeros_like(truth)
    predicted[0, 1:3], predicted[1, 0, 0] = True, True
    assert per_image_iou(predicted, truth).tolist() == [pytest.approx(1 / 3), 1.0, 1.0]
    result = score(predicted, truth)
    assert result.mean == pytest.approx((1 / 3 + 2) / 3)
    assert result.dataset == pytest.approx(5 / 13)
    assert (result.lowest, result.n) == (pytest.approx(1 / 3), 3)
