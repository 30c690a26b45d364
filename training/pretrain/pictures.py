"""Pictures of pretraining: held-out clips beside what the models make of them, as PNG strips and GIFs.

Axis letters: B clips, T frames, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from training.pictures import panel
from training.pretrain.prior_module import TrainPrior, codes_and_frames
from training.pretrain.vqvae_module import TrainVQVAE, normalise_clips
from training.videogpt.sampling import sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import lightning
    from torch import Tensor

    from training.pretrain.clip_data import ClipData
    from training.pretrain.config import LogConfig
    from training.videogpt.prior import Prior

STRIP_COLUMNS = 8
GIF_MS = 160
"""Time of one frame."""


class ClipPictures(Callback):
    """Every few epochs, and at the end, draws held-out clips and what the model makes of them.

    A VQ-VAE: clip, reconstruction. A prior: clip, reconstruction, a sampled future (the whole clip is sampled, given
    its first frame).
    """

    def __init__(self, folder: Path, config: LogConfig, seed: int) -> None:
        self._folder = folder
        self._config = config
        self._seed = seed

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Draw, if it is time to; one process is enough."""
        epoch = trainer.current_epoch + 1
        if not trainer.is_global_zero or (epoch % self._config.pictures_every and epoch != trainer.max_epochs):
            return
        data: ClipData = trainer.datamodule  # type: ignore[attr-defined] # set by fit, missing in its class
        clips_u8 = data.some_held_out(self._config.picture_clips)
        training = module.training
        module.eval()
        with torch.no_grad():
            rows = self._rows(module, clips_u8.to(module.device))
        module.train(training)
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"step-{trainer.global_step:07d}"
        strip = strips(rows)
        strip.save(self._folder / f"{name}.png")
        save_gif(rows, self._folder / f"{name}.gif")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("held_out", np.asarray(strip), trainer.global_step, dataformats="HWC")

    def _rows(self, module: lightning.LightningModule, clips_u8: Tensor) -> list[np.ndarray]:
        """Kinds of clips, uint8 [B, T, H, W, 3] each."""
        if isinstance(module, TrainVQVAE):
            return [clips_u8.cpu().numpy(), pixels(module.vqvae(normalise_clips(clips_u8)).recon)]
        if isinstance(module, TrainPrior):
            return prior_rows(module.prior, clips_u8, temperature=self._config.temperature, seed=self._seed)
        raise TypeError(f"expected a VQ-VAE or a prior in training, got {type(module).__name__}")


@torch.no_grad()
def prior_rows(prior: Prior, clips_u8: Tensor, *, temperature: float, seed: int) -> list[np.ndarray]:
    """Clips, what their codes keep, and futures sampled from their first frames alone: uint8 [B, T, H, W, 3] each."""
    codes, frames = codes_and_frames(prior, clips_u8)
    generator = torch.Generator(codes.device).manual_seed(seed)
    drawn = sample(prior, len(codes), frames=frames, temperature=temperature, generator=generator)
    return [clips_u8.cpu().numpy(), pixels(prior.decode(codes)), pixels(drawn.video - 0.5)]


def pixels(video: Tensor) -> np.ndarray:
    """Clips [B, 3, T, H, W] in about [-0.5, 0.5] -> uint8 [B, T, H, W, 3]."""
    grey_levels = (video.float().clamp(-0.5, 0.5) + 0.5) * 255
    array: np.ndarray = grey_levels.round().to(torch.uint8).movedim(1, -1).cpu().numpy()
    return array


def strips(kinds: Sequence[np.ndarray]) -> Image.Image:
    """Lay frames at equal distances out in rows: for each clip one row of each kind [B, T, H, W, 3]."""
    times = np.linspace(0, kinds[0].shape[1] - 1, min(STRIP_COLUMNS, kinds[0].shape[1])).round().astype(int)
    return panel([[kind[clip, t] for t in times] for clip in range(len(kinds[0])) for kind in kinds])


def save_gif(kinds: Sequence[np.ndarray], file: Path, scale: int = 2) -> None:
    """Play all clips at once: clips side by side, kinds [B, T, H, W, 3] beneath each other, enlarged `scale` times."""
    sheets = [panel([list(kind[:, t]) for kind in kinds], scale) for t in range(kinds[0].shape[1])]
    # few pixels are of a toy's colour: the palette has to hold what is rare too
    sheets = [sheet.quantize(256, Image.Quantize.MAXCOVERAGE) for sheet in sheets]
    sheets[0].save(file, save_all=True, append_images=sheets[1:], duration=GIF_MS, loop=0)
