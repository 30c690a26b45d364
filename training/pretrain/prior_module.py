"""The Lightning module that trains a prior, and with it its frame encoder, on the codes of a frozen VQ-VAE.

Axis letters: B batch, T', H', W' the grid of codes; K codes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import lightning
import torch
from torch import Tensor
from torch.nn import functional

from training.pretrain.steps import adam
from training.pretrain.vqvae_module import UsageCount, normalise_clips

if TYPE_CHECKING:
    from training.pretrain.config import AdamConfig
    from training.videogpt.prior import Prior
    from training.videogpt.vqvae import VQVAE


class TrainPrior(lightning.LightningModule):
    """Optimises a prior; validates by nats per token on held-out clips.

    What it logs for held-out clips: `val_loss`, nats per token; the same for the first grid of codes, which the
    conditioning frame shows, and for the last, which it does not; `val_unigram`, the entropy of the codes alone (a
    prior that is not below it has learnt no more than how frequent each code is); and `val_uniform`, ln K, where a new
    prior starts.
    """

    plots: ClassVar[dict[str, tuple[str, ...]]] = {
        "nats per token": ("train_loss", "val_loss", "val_first_grid", "val_last_grid", "val_unigram", "val_uniform")
    }

    def __init__(self, prior: Prior, optim: AdamConfig, steps: int) -> None:
        super().__init__()
        self.prior = prior
        self.optim = optim
        self.steps = steps
        self._usage = UsageCount(prior.config.vqvae.n_codes)

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """One batch of clips."""
        loss: Tensor = self.prior(*codes_and_frames(self.prior, batch)).loss
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Tensor, _: int) -> None:
        """One batch of held-out clips."""
        codes, frames = codes_and_frames(self.prior, batch)
        nats = code_nats(self.prior, codes, frames)
        values = {"val_loss": nats.mean(), "val_first_grid": nats[:, 0].mean(), "val_last_grid": nats[:, -1].mean()}
        self.log_dict(values, batch_size=len(batch), sync_dist=True, prog_bar=True)
        self._usage.add(codes)

    def on_validation_epoch_end(self) -> None:
        """Entropy of the held-out codes, all together."""
        self.log("val_unigram", self._usage.take_entropy_nats(self), rank_zero_only=True)
        self.log("val_uniform", math.log(self.prior.config.vqvae.n_codes), rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        """Adam over everything but the VQ-VAE."""
        return adam(self.prior.parameters(), self.optim, self.steps)


def codes_and_frames(prior: Prior, clips_u8: Tensor) -> tuple[Tensor, Tensor | None]:
    """Of clips uint8 [B, T, H, W, 3]: codes int64 [B, T', H', W'], conditioning frames float32 [B, 3, n, H, W]."""
    video = normalise_clips(clips_u8)
    n = prior.config.n_cond_frames
    return exact_codes(prior.vqvae, video), video[:, :, :n] if n else None


def code_nats(prior: Prior, codes: Tensor, frames: Tensor | None) -> Tensor:
    """What each code of a clip costs the prior, nats: float32 [B, T', H', W'], as `codes`."""
    logits = prior(codes, frames).logits.float()
    return functional.cross_entropy(logits.flatten(0, -2), codes.flatten(), reduction="none").view(codes.shape)


@torch.no_grad()
def exact_codes(vqvae: VQVAE, video: Tensor) -> Tensor:
    """Codes of clips [B, 3, T, H, W], int64 [B, T', H', W'], in float32 whatever autocast does around it.

    The nearest of many codes is a matter of small differences, which bfloat16 does not keep.
    """
    with torch.autocast(video.device.type, enabled=False):
        return vqvae.encode(video)
