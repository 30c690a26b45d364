"""The codebook: vector quantisation with a codebook that follows its vectors by moving averages.

Yan et al. 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers", section 3.1; van den Oord et al. 2017,
"Neural Discrete Representation Learning", appendix A.1 (moving averages); Dhariwal et al. 2020, "Jukebox", section 3.1
(restarts of codes that nothing uses).

Everything here is float32, whatever autocast does around it: the averages are of many small steps.

Axis letters: B batch, D embedding, T time, H height, W width, M = B*T*H*W vectors, K codes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

DECAY = 0.99
"""What the moving averages keep at each step."""

SMOOTHING = 1e-7
"""Laplace smoothing of the code counts."""

COMMITMENT = 0.25
"""Weight of the loss that draws vectors to their codes."""

RESTART_BELOW = 1.0
"""Codes that fewer vectors use, on the moving average, restart at a random vector."""


class Quantised(NamedTuple):
    """Vectors and the codes that stand for them."""

    codes: Tensor
    """int64 [B, T, H, W]."""
    embeddings: Tensor
    """[B, D, T, H, W]: the codes' embeddings; gradients pass straight through to the vectors."""
    commitment_loss: Tensor
    """Scalar: weighted mean squared distance of vectors to their codes."""
    perplexity: Tensor
    """Scalar in 1..K: how many codes this batch uses, in effect."""


class Codebook(nn.Module):
    """K embeddings of D features, initialised from the first vectors they see in training.

    No optimiser moves the embeddings: they are buffers. Loading a state dict counts as initialisation.
    """

    embeddings: Tensor
    N: Tensor
    z_avg: Tensor

    def __init__(self, n_codes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.randn(n_codes, dim))
        self.register_buffer("N", torch.zeros(n_codes))  # moving average of how many vectors use each code
        self.register_buffer("z_avg", self.embeddings.clone())  # moving average of their sum
        self._need_init = True

    def nearest(self, vectors: Tensor) -> Tensor:
        """Code of each vector: [M, D] -> int64 [M]; the first of equally near ones."""
        squared = (
            vectors.square().sum(1, keepdim=True) - 2 * vectors @ self.embeddings.T + self.embeddings.square().sum(1)
        )  # [M, K]
        return squared.argmin(1)

    def lookup(self, codes: Tensor) -> Tensor:
        """Embeddings of codes: int64 [...] -> [..., D]."""
        return functional.embedding(codes, self.embeddings)

    def forward(self, z: Tensor) -> Quantised:
        """Quantise [B, D, T, H, W]; in training, let the codebook follow afterwards."""
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            last = z.movedim(1, -1)  # [B, T, H, W, D]
            vectors = last.detach().reshape(-1, z.shape[1])
            if self.training and self._need_init:
                self.initialise(vectors)
            flat_codes = self.nearest(vectors)
            codes = flat_codes.view(last.shape[:-1])
            embeddings = self.lookup(codes).movedim(-1, 1)
            if self.training:
                self.follow(vectors, flat_codes)
            return Quantised(
                codes=codes,
                embeddings=(embeddings - z).detach() + z,
                commitment_loss=COMMITMENT * functional.mse_loss(z, embeddings),
                perplexity=self._perplexity(flat_codes),
            )

    @torch.no_grad()
    def initialise(self, vectors: Tensor) -> None:
        """Put every code on a random vector of [M, D]."""
        self._need_init = False
        rows = self._random_rows(vectors)
        self.embeddings.copy_(rows)
        self.z_avg.copy_(rows)
        self.N.fill_(1)

    @torch.no_grad()
    def follow(self, vectors: Tensor, codes: Tensor) -> None:
        """Move the codebook towards the vectors [M, D] that use it, and restart the codes that none does.

        A restart moves the embedding only: unless vectors come to it, the next step takes it back to its average.
        """
        counts = torch.zeros_like(self.N).index_add_(0, codes, torch.ones_like(vectors[:, 0]))
        sums = torch.zeros_like(self.z_avg).index_add_(0, codes, vectors)
        if _is_distributed():
            distributed.all_reduce(counts)
            distributed.all_reduce(sums)
        self.N.mul_(DECAY).add_(counts, alpha=1 - DECAY)
        self.z_avg.mul_(DECAY).add_(sums, alpha=1 - DECAY)
        total = self.N.sum()
        smoothed = (self.N + SMOOTHING) / (total + len(self.N) * SMOOTHING) * total
        followed = self.z_avg / smoothed[:, None]
        unused = self.N < RESTART_BELOW
        self.embeddings.copy_(torch.where(unused[:, None], self._random_rows(vectors), followed))

    def _random_rows(self, vectors: Tensor) -> Tensor:
        """K of the vectors [M, D] in random order, the same on every process; few vectors repeat, with some noise."""
        n_codes, dim = self.embeddings.shape
        if len(vectors) < n_codes:
            vectors = vectors.repeat(-(-n_codes // len(vectors)), 1)
            vectors = vectors + torch.randn_like(vectors) * (0.01 / dim**0.5)
        order = torch.randperm(len(vectors), device=vectors.device)[:n_codes]
        rows = vectors[order]
        if _is_distributed():
            distributed.broadcast(rows, 0)
        return rows

    def _perplexity(self, codes: Tensor) -> Tensor:
        """Exponential of the entropy of the codes [M] in use."""
        share = torch.zeros_like(self.N).index_add_(0, codes, torch.ones_like(codes, dtype=self.N.dtype)) / len(codes)
        return torch.exp(-(share * torch.log(share + 1e-10)).sum())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load, and never again take the next vectors for the first ones: that would wipe what was loaded."""
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._need_init = False


def _is_distributed() -> bool:
    """Whether there are other processes to agree with."""
    return distributed.is_available() and distributed.is_initialized()
