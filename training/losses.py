"""Losses on mask logits. Each averages over images, as the score does, so that small arms count as much as large."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def jaccard_loss(logits: Tensor, masks: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the soft intersection over union, averaged over images.

    Args:
        logits: float [B, H, W].
        masks: float [B, H, W] in [0, 1].
        smooth: Pixels added to both areas; keeps empty masks defined.
    """
    p, y = torch.sigmoid(logits).flatten(1), masks.flatten(1)
    intersection = (p * y).sum(1)
    union = (p + y).sum(1) - intersection
    return (1 - (intersection + smooth) / (union + smooth)).mean()


def dice_loss(logits: Tensor, masks: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the soft Dice coefficient (twice the intersection over both areas), averaged over images."""
    p, y = torch.sigmoid(logits).flatten(1), masks.flatten(1)
    intersection = (p * y).sum(1)
    return (1 - (2 * intersection + smooth) / ((p + y).sum(1) + smooth)).mean()


def weighted_bce_loss(logits: Tensor, masks: Tensor, pos_weight: float) -> Tensor:
    """Cross-entropy averaged over pixels, robot pixels counted `pos_weight` times; shapes as above."""
    return F.binary_cross_entropy_with_logits(logits, masks, pos_weight=logits.new_tensor(pos_weight))


def mask_loss(logits: Tensor, masks: Tensor, *, jaccard: float, dice: float, bce: float, pos_weight: float) -> Tensor:
    """The weighted sum of the three losses, in float32.

    Args:
        logits: float [B, H, W].
        masks: 0/1 or float [B, H, W].
        jaccard: Weight of the Jaccard loss; a loss of weight 0 is not computed.
        dice: Weight of the Dice loss.
        bce: Weight of the cross-entropy.
        pos_weight: How many times robot pixels count in the cross-entropy.
    """
    logits, target = logits.float(), masks.float()
    loss = logits.new_zeros(())
    if jaccard:
        loss = loss + jaccard * jaccard_loss(logits, target)
    if dice:
        loss = loss + dice * dice_loss(logits, target)
    if bce:
        loss = loss + bce * weighted_bce_loss(logits, target, pos_weight)
    return loss
