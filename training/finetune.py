"""Finetuning: the Lightning module that trains an encoder and a head on frames with masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from training.losses import mask_loss
from training.schedule import lr_ratio
from training.scores import score

if TYPE_CHECKING:
    from training.config import OptimConfig
    from training.segmenter import Segmentation, Segmenter

Batch = list[Tensor]
"""Frames uint8 [B, 64, 64, 3] and masks uint8 [B, 64, 64] in {0, 1}."""


class Finetune(lightning.LightningModule):
    """Optimises a segmenter; validates by the mean per-image IoU at probability 0.5."""

    def __init__(self, segmenter: Segmenter, optim: OptimConfig, steps: int) -> None:
        super().__init__()
        self.segmenter = segmenter
        for part in (segmenter.encoder, segmenter.head):
            # Channels last: what the norms read, and the faster layout for convolutions in 2D.
            if all(p.ndim <= 4 for p in part.parameters()):
                part.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # not in torch's stubs
        self.optim = optim
        self.steps = steps
        self._predicted: list[np.ndarray] = []
        self._truth: list[np.ndarray] = []

    def forward(self, frames: Tensor) -> Segmentation:
        """Segment frames uint8 [B, 64, 64, 3]."""
        segmentation: Segmentation = self.segmenter(frames)
        return segmentation

    def loss(self, logits: Tensor, masks: Tensor) -> Tensor:
        """The configured sum of losses, in float32."""
        return loss_of(self.optim, logits, masks)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One batch of augmented frames."""
        frames, masks = batch
        loss = self.loss(self(frames).logits, masks)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """One batch of frames as they are."""
        frames, masks = batch
        logits = self(frames).logits.float()
        self.log("val_loss", self.loss(logits, masks), on_epoch=True, batch_size=len(frames), sync_dist=True)
        self._predicted.append((logits > 0).cpu().numpy())
        self._truth.append(masks.cpu().numpy())

    def on_validation_epoch_end(self) -> None:
        """Score the whole validation set at once: a mean of batch means would weigh images unequally."""
        result = score(np.concatenate(self._predicted), np.concatenate(self._truth))
        self.log("val_iou", result.mean, prog_bar=True, sync_dist=True)
        self.log("val_iou_p5", result.p5, sync_dist=True)
        self._predicted, self._truth = [], []

    def configure_optimizers(self) -> Any:
        """The configured optimiser and its schedule, a pure function of the step."""
        ratio = self.optim.encoder_lr_ratio
        parts: list[tuple[nn.Module, float]] = (
            [(self.segmenter, 1.0)] if ratio == 1 else [(self.segmenter.encoder, ratio), (self.segmenter.head, 1.0)]
        )
        optimizer, schedule = make_optimizer(parts, self.optim, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def loss_of(optim: OptimConfig, logits: Tensor, masks: Tensor) -> Tensor:
    """The sum of losses that a configuration asks for: logits [B, H, W] and masks [B, H, W] to a scalar."""
    return mask_loss(
        logits,
        masks,
        jaccard=optim.jaccard_weight,
        dice=optim.dice_weight,
        bce=optim.bce_weight,
        pos_weight=optim.pos_weight,
    )


def make_optimizer(
    parts: list[tuple[nn.Module, float]], optim: OptimConfig, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The optimiser over what trains in each part, whose learning rate is a share of the configured one.

    Norms and biases are not decayed.
    """
    groups = [
        {
            "params": [p for p in part.parameters() if p.requires_grad and (p.ndim > 1) == decays],
            "weight_decay": optim.weight_decay if decays else 0.0,
            "lr": optim.lr * share,
        }
        for part, share in parts
        for decays in (True, False)
    ]
    optimizer: torch.optim.Optimizer
    if optim.optimiser == "sgd":
        optimizer = torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, nesterov=optim.momentum > 0)
    else:
        kind = torch.optim.AdamW if optim.optimiser == "adamw" else torch.optim.Adam
        optimizer = kind(groups, lr=optim.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: lr_ratio(
            step,
            steps=steps,
            warmup_steps=optim.warmup_steps,
            final_ratio=optim.final_lr_ratio,
            schedule=optim.schedule,
        ),
    )
    return optimizer, schedule
