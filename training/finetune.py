"""Finetuning: the Lightning module that trains an encoder and a head on frames with masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from torch import Tensor

from training.losses import jaccard_loss, weighted_bce_loss
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
        # Channels last: what the norms read, and the faster layout for convolutions.
        self.segmenter: Segmenter = segmenter.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # not in torch's stubs
        self.optim = optim
        self.steps = steps
        self._predicted: list[np.ndarray] = []
        self._truth: list[np.ndarray] = []

    def forward(self, frames: Tensor) -> Segmentation:
        """Segment frames uint8 [B, 64, 64, 3]."""
        segmentation: Segmentation = self.segmenter(frames)
        return segmentation

    def loss(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Jaccard loss plus weighted cross-entropy, in float32."""
        logits, target = logits.float(), masks.float()
        bce = weighted_bce_loss(logits, target, self.optim.pos_weight)
        return jaccard_loss(logits, target) + self.optim.bce_weight * bce

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One batch of augmented frames."""
        frames, masks = batch
        loss = self.loss(self(frames).logits, masks)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """One batch of frames as they are."""
        frames, masks = batch
        logits = self(frames).logits.float()
        self.log("val_loss", self.loss(logits, masks), on_epoch=True, batch_size=len(frames))
        self._predicted.append((logits > 0).cpu().numpy())
        self._truth.append(masks.cpu().numpy())

    def on_validation_epoch_end(self) -> None:
        """Score the whole validation set at once: a mean of batch means would weigh images unequally."""
        result = score(np.concatenate(self._predicted), np.concatenate(self._truth))
        self.log("val_iou", result.mean, prog_bar=True)
        self.log("val_iou_p5", result.p5)
        self._predicted, self._truth = [], []

    def configure_optimizers(self) -> Any:
        """AdamW; norms and biases are not decayed."""
        ratio = self.optim.encoder_lr_ratio
        parts: list[tuple[torch.nn.Module, float]] = (
            [(self.segmenter, 1.0)] if ratio == 1 else [(self.segmenter.encoder, ratio), (self.segmenter.head, 1.0)]
        )
        groups = [
            {
                "params": [p for p in part.parameters() if p.requires_grad and (p.ndim > 1) == decays],
                "weight_decay": self.optim.weight_decay if decays else 0.0,
                "lr": self.optim.lr * share,
            }
            for part, share in parts
            for decays in (True, False)
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.optim.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: lr_ratio(
                step,
                steps=self.steps,
                warmup_steps=self.optim.warmup_steps,
                final_ratio=self.optim.final_lr_ratio,
            ),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
