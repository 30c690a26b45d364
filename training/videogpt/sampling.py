"""Sampling: a prior's codes, one by one in raster order, and the clips they stand for.

Yan et al. 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers", section 3.2. The public
version has neither temperature nor truncation; a temperature of 1 is its.

Axis letters: B batch, T, H, W the grid of codes, L = T*H*W, K codes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from training.videogpt.prior import Prior


class Samples(NamedTuple):
    """Sampled clips."""

    video: Tensor
    """[B, 3, frames, height, width] in [0, 1]."""
    codes: Tensor
    """int64 [B, T, H, W]. All are sampled, also those of the frames that were given."""


class CodeByCode:
    """Runs a prior over one position at a time, keeping what earlier positions left for later ones.

    Args:
        prior: In eval mode.
        batch_size: B.
        frames: Conditioning frames [B, 3, n_cond_frames, height, width] in [-0.5, 0.5], if it is conditioned on any.
        labels: Classes int64 [B], if it is conditioned on any.

    Raises:
        ValueError: The prior is in training mode, or the conditions do not suit it.
    """

    @torch.no_grad()
    def __init__(
        self, prior: Prior, batch_size: int, frames: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        if prior.training:
            raise ValueError("a prior in training mode drops activations at random: call eval() before sampling")
        for name, given in (("frames", frames), ("labels", labels)):
            if given is not None and len(given) != batch_size:
                raise ValueError(f"{name}: expected one for each of {batch_size} clips, got {len(given)}")
        self.prior = prior
        self.length = math.prod(prior.config.vqvae.latent_shape)
        self._condition = prior.condition(frames, labels)
        self._memories = prior.attn_stack.memories(batch_size, self._condition)
        self._index = 0

    @torch.no_grad()
    def step(self, code: Tensor | None) -> Tensor:
        """Logits [B, K] of the next code, given the one before it, int64 [B]; nothing comes before the first.

        Raises:
            ValueError: No code where one is needed, or the reverse, or all positions are done.
        """
        if self._index == self.length:
            raise ValueError(f"all {self.length} positions of the clip are done")
        if (code is None) != (self._index == 0):
            raise ValueError("expected no code before the first position and one before each other")
        token = None if code is None else self.prior.embed(code[:, None])  # [B, 1, D]
        hidden = self.prior.attn_stack.step(token, self._condition, self._memories, self._index)
        logits: Tensor = self.prior.fc_out(self.prior.norm(hidden, self._condition.classes))
        self._index += 1
        return logits[:, 0]


@torch.no_grad()
def sample(
    prior: Prior,
    batch_size: int,
    *,
    frames: Tensor | None = None,
    labels: Tensor | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Samples:
    """Sample clips; arguments as for `CodeByCode`.

    Logits are divided by `temperature`: below 1, likely codes become likelier still.

    One `torch.multinomial` of B draws for each position is all the randomness there is: the same `generator`, or
    without one the same global seed, gives the same clips.

    Raises:
        ValueError: A temperature that is not above 0, or what `CodeByCode` refuses.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number above 0, got {temperature}")
    walk = CodeByCode(prior, batch_size, frames, labels)
    drawn: list[Tensor] = []
    for _ in range(walk.length):
        logits = walk.step(drawn[-1] if drawn else None)
        probabilities = torch.softmax(logits.float() / temperature, dim=-1)
        drawn.append(torch.multinomial(probabilities, 1, generator=generator)[:, 0])
    codes = torch.stack(drawn, dim=1).view(batch_size, *prior.config.vqvae.latent_shape)
    return Samples(prior.decode(codes).clamp(-0.5, 0.5) + 0.5, codes)
