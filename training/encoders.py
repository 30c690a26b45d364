"""Encoders of single frames beside the frame encoder itself: the whole prior, and none.

All take frames [B, 3, 64, 64] in [-0.5, 0.5] and give latents [B, H, W, D], channel last.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor, nn

from training.heads import LatentGrid
from training.videogpt.sampling import CodeByCode

if TYPE_CHECKING:
    from training.config import LatentsName
    from training.videogpt.prior import Prior


class Pixels(nn.Module):
    """No encoder: the latents are the frame."""

    grid = LatentGrid(64, 64, 3)

    def forward(self, frames: Tensor) -> Tensor:
        """[B, 3, 64, 64] -> [B, 64, 64, 3]."""
        return frames.movedim(1, -1)


class PriorEncoder(nn.Module):
    """What VideoGPT's prior, transformer included, makes of a frame. It never trains.

    `expected` and `hidden` are deterministic, in one pass: the prior is conditioned on the frame, and reads the codes
    of a clip in which that frame stands still. At each position of the grid, [T, H, W], it says what it expects there
    instead: the mean embedding of the codes it considers, or its last hidden state.

    `sampled` is what the paper's code used: a clip's codes drawn one by one, their numbers read as magnitudes (here
    scaled to [0, 1)). A frame's draw depends on its pixels and `draw` alone, not on the batch that it is in.

    Raises:
        ValueError: A prior that is not conditioned on exactly one frame of 64x64, and nothing else.
    """

    def __init__(self, prior: Prior, latents: LatentsName, draw: int = 0) -> None:
        super().__init__()
        config = prior.config
        if config.n_cond_frames != 1 or config.class_cond_dim is not None or config.vqvae.resolution != 64:
            raise ValueError(
                f"expected a prior conditioned on one frame of 64x64, got one on {config.n_cond_frames} frames of "
                f"{config.vqvae.resolution}x{config.vqvae.resolution} and {config.class_cond_dim or 'no'} classes"
            )
        self.prior = prior.eval().requires_grad_(requires_grad=False)
        self.latents = latents
        self.draw = draw
        steps, height, width = config.vqvae.latent_shape
        each = {"expected": config.vqvae.embedding_dim, "hidden": config.hidden_dim, "sampled": 1}[latents]
        self.grid = LatentGrid(height, width, steps * each, steps, codes=latents == "sampled")

    def train(self, mode: bool = True) -> Self:
        """Stay as it is, whatever is asked: its dropout is for training it."""
        self.training = mode
        return self

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """[B, 3, 64, 64] -> [B, H, W, T*D], time the slower of the last axis."""
        if self.latents == "sampled":
            grid = self._sampled(frames)[..., None]
        else:
            length = self.prior.config.vqvae.sequence_length
            codes = self.prior.encode(frames[:, :, None].expand(-1, -1, length, -1, -1).contiguous())
            output = self.prior(codes, frames[:, :, None])
            grid = output.hidden
            if self.latents == "expected":
                grid = torch.softmax(output.logits.float(), -1) @ self.prior.vqvae.codebook.embeddings
        return grid.movedim(1, 3).flatten(3)  # [B, T, H, W, D] -> [B, H, W, T*D]

    def _sampled(self, frames: Tensor) -> Tensor:
        """Codes [B, T, H, W] in [0, 1), drawn by inverting their distribution at uniform numbers."""
        walk = CodeByCode(self.prior, len(frames), frames[:, :, None])
        uniform = np.stack([self._uniform(frame, walk.length) for frame in frames.detach().cpu().numpy()])
        level = torch.from_numpy(uniform).to(frames.device)  # [B, L]
        drawn: list[Tensor] = []
        for position in range(walk.length):
            logits = walk.step(drawn[-1] if drawn else None)
            below = torch.softmax(logits.double(), -1).cumsum(-1)
            code = torch.searchsorted(below, level[:, position, None] * below[:, -1:], right=True)[:, 0]
            drawn.append(code.clamp(max=logits.shape[-1] - 1))
        codes = torch.stack(drawn, 1).view(len(frames), *self.prior.config.vqvae.latent_shape)
        return codes.float() / self.prior.config.vqvae.n_codes

    def _uniform(self, frame: np.ndarray, n: int) -> np.ndarray:
        return np.random.default_rng([self.draw, zlib.crc32(frame.astype(np.float32).tobytes())]).random(n)
