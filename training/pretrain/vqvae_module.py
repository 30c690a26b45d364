"""The Lightning module that trains a VQ-VAE on clips.

Axis letters: B batch, T frames, H height, W width; K codes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import lightning
import torch
from torch import Tensor

from training.pretrain.steps import adam
from training.videogpt.vqvae import DATA_VARIANCE

if TYPE_CHECKING:
    from training.pretrain.config import AdamConfig
    from training.videogpt.vqvae import VQVAE, VQVAEOutput


def normalise_clips(clips_u8: Tensor) -> Tensor:
    """Clips uint8 [B, T, H, W, 3] -> float32 [B, 3, T, H, W] in [-0.5, 0.5]."""
    return clips_u8.movedim(-1, 1).float() / 255 - 0.5


class TrainVQVAE(lightning.LightningModule):
    """Optimises a VQ-VAE; validates by its loss on held-out clips.

    What it logs: `loss` (reconstruction and commitment), `recon` (mean squared error over the data's variance),
    `psnr_db`, `commitment`, and `perplexity`, how many codes are in use in effect: in a batch while training, over all
    held-out clips when validating.
    """

    plots: ClassVar[dict[str, tuple[str, ...]]] = {
        "loss": ("train_loss", "val_loss"),
        "reconstruction error": ("train_recon", "val_recon"),
        "PSNR (dB)": ("val_psnr_db",),
        "commitment": ("val_commitment",),
        "codes in use": ("train_perplexity", "val_perplexity"),
    }

    def __init__(self, vqvae: VQVAE, optim: AdamConfig, steps: int) -> None:
        super().__init__()
        # The layout in which 3D convolutions, norms and channel-last attention all work without copies.
        self.vqvae: VQVAE = vqvae.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload] # not in torch's stubs
        self.optim = optim
        self.steps = steps
        self._usage = UsageCount(vqvae.config.n_codes)

    def forward(self, clips_u8: Tensor) -> VQVAEOutput:
        """Encode and decode clips uint8 [B, T, H, W, 3]."""
        out: VQVAEOutput = self.vqvae(normalise_clips(clips_u8))
        return out

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """One batch of clips."""
        out: VQVAEOutput = self(batch)
        self.log("train_loss", out.loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train_recon", out.recon_loss, on_step=True, on_epoch=True)
        self.log("train_perplexity", out.quantised.perplexity, on_step=True, on_epoch=True, prog_bar=True)
        return out.loss

    def validation_step(self, batch: Tensor, _: int) -> None:
        """One batch of held-out clips."""
        out = self(batch)
        error = (out.recon.float().clamp(-0.5, 0.5) - normalise_clips(batch)).square().mean()
        values = {
            "val_loss": out.recon_loss + out.quantised.commitment_loss,
            "val_recon": error / DATA_VARIANCE,
            "val_psnr_db": -10 * torch.log10(error),
            "val_commitment": out.quantised.commitment_loss,
        }
        self.log_dict(values, batch_size=len(batch), sync_dist=True, prog_bar=True)
        self._usage.add(out.quantised.codes)

    def on_validation_epoch_end(self) -> None:
        """Count the codes of all held-out clips together: batches alone would use fewer."""
        self.log("val_perplexity", math.exp(self._usage.take_entropy_nats(self)), rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        """Adam; the codebook follows by moving averages."""
        return adam(self.vqvae.parameters(), self.optim, self.steps)


class UsageCount:
    """How often each of K codes occurred on held-out clips."""

    def __init__(self, n_codes: int) -> None:
        self._counts = torch.zeros(n_codes)

    def add(self, codes: Tensor) -> None:
        """Count codes int64 of any shape."""
        self._counts += torch.bincount(codes.flatten().cpu(), minlength=len(self._counts))

    def take_entropy_nats(self, module: lightning.LightningModule) -> float:
        """Entropy of the codes that all processes counted, in nats; counting begins anew."""
        gathered = module.all_gather(self._counts.to(module.device))
        if not isinstance(gathered, Tensor):
            raise TypeError(f"expected one tensor of counts, got {type(gathered).__name__}")
        self._counts = torch.zeros_like(self._counts)
        return entropy_nats(gathered.reshape(-1, len(self._counts)).sum(0))


def entropy_nats(counts: Tensor) -> float:
    """Entropy of a distribution given by counts.

    >>> round(entropy_nats(torch.tensor([2.0, 2.0, 0.0])), 4)
    0.6931
    """
    share = (counts.double() / counts.double().sum()).cpu()
    return float(-torch.xlogy(share, share).sum())
