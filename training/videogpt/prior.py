"""The prior: a distribution over a clip's codes, given its first frames, its class, or nothing.

Yan et al. 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers", https://arxiv.org/abs/2104.10157,
section 3.2; layout and parameter names of the public PyTorch version (`bair_gpt`). The prior owns a copy of the
VQ-VAE whose codes it models; that copy never trains.

Axis letters: B batch, T, H, W the grid of codes, D features, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.videogpt.layers import BroadcastPositions, Triple, layer_norm
from training.videogpt.resnet import LATENT_DIM, LAYERS, STRIDE, FrameEncoder
from training.videogpt.sparsity import block_grid
from training.videogpt.transformer import AttentionStack, AttentionType, Condition, LayerShape
from training.videogpt.vqvae import VQVAE, VQVAEConfig


@dataclass(frozen=True, slots=True)
class PriorConfig:
    """The numbers of a prior; the defaults are those of the public `bair_gpt`."""

    vqvae: VQVAEConfig = field(default_factory=VQVAEConfig)
    n_cond_frames: int = 1
    """Frames it is conditioned on; with 0 there is no frame encoder."""
    class_cond_dim: int | None = None
    """Classes it is conditioned on, if any."""
    hidden_dim: int = 576
    heads: int = 4
    layers: int = 8
    dropout: float = 0.2
    attn_type: AttentionType = "sparse"
    attn_dropout: float = 0.3
    """Dropout of full self-attention's weights; sparse attention has none."""
    resnet_layers: tuple[int, ...] = LAYERS
    """Residual blocks in each group of the frame encoder."""
    resnet_dim: int = LATENT_DIM
    recompute: bool = True
    """Trade time for memory in training; changes no value."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ValueError: An unknown kind of attention, no layers, or numbers that do not divide as they must.
        """
        if self.attn_type not in ("full", "sparse"):
            raise ValueError(f"attn_type: expected full or sparse, got {self.attn_type}")
        if min(self.heads, self.layers) < 1 or self.n_cond_frames < 0:
            raise ValueError(
                "a prior has layers, heads and no negative number of frames: "
                f"got layers={self.layers}, heads={self.heads}, n_cond_frames={self.n_cond_frames}"
            )
        if self.hidden_dim % 3 or self.resnet_dim % 3:
            raise ValueError(
                "three axes share the features: expected multiples of 3, "
                f"got hidden_dim={self.hidden_dim}, resnet_dim={self.resnet_dim}"
            )
        if self.attn_type == "sparse":
            block_grid(self.vqvae.latent_shape)

    @property
    def frame_grid(self) -> Triple:
        """T, H, W of the features of the conditioning frames."""
        t, h, w = STRIDE
        return self.n_cond_frames // t, self.vqvae.resolution // h, self.vqvae.resolution // w


class PriorOutput(NamedTuple):
    """What the prior thinks of given codes."""

    loss: Tensor
    """Scalar: mean cross-entropy of the codes, in nats; ln K before training."""
    logits: Tensor
    """[B, T, H, W, K]: of each code, given the codes before it in raster order."""
    hidden: Tensor
    """[B, T, H, W, D]: what the logits are made from."""


class Prior(nn.Module):
    """Autoregressive transformer over the codes of a frozen VQ-VAE."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.vqvae = VQVAE(config.vqvae).requires_grad_(False).eval()
        if config.n_cond_frames:
            self.resnet = FrameEncoder(config.resnet_layers, config.resnet_dim)
            self.cond_pos_embd = BroadcastPositions(config.frame_grid, config.resnet_dim)
        self.fc_in = nn.Linear(config.vqvae.embedding_dim, config.hidden_dim, bias=False)
        self.attn_stack = AttentionStack(
            config.vqvae.latent_shape,
            LayerShape(
                dim=config.hidden_dim,
                heads=config.heads,
                n_layers=config.layers,
                dropout=config.dropout,
                attn_dropout=config.attn_dropout if config.attn_type == "full" else 0.0,
                frames_dim=config.resnet_dim if config.n_cond_frames else None,
                n_classes=config.class_cond_dim,
            ),
            config.attn_type,
            recompute=config.recompute,
        )
        self.norm = layer_norm(config.hidden_dim, config.class_cond_dim)
        self.fc_out = nn.Linear(config.hidden_dim, config.vqvae.n_codes, bias=False)
        nn.init.normal_(self.fc_in.weight, std=0.02)
        nn.init.zeros_(self.fc_out.weight)

    def train(self, mode: bool = True) -> Self:
        """Switch everything but the VQ-VAE, whose statistics and codebook must stay as they are."""
        super().train(mode)
        self.vqvae.eval()
        return self

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """Codes of clips: [B, 3, frames, height, width] in [-0.5, 0.5] -> int64 [B, T, H, W]."""
        return self.vqvae.encode(video)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Clips of codes: int64 [B, T, H, W] -> [B, 3, frames, height, width], not clamped."""
        return self.vqvae.decode(codes)

    def condition(self, frames: Tensor | None = None, labels: Tensor | None = None) -> Condition:
        """Make ready what the clips are conditioned on.

        Args:
            frames: The first frames of each clip [B, 3, n_cond_frames, height, width] in [-0.5, 0.5].
            labels: The class of each clip, int64 [B].

        Raises:
            ValueError: Something the model is conditioned on is missing, or there is something it is not.
        """
        config = self.config
        if (frames is not None) != bool(config.n_cond_frames):
            got = "none" if frames is None else list(frames.shape)
            raise ValueError(f"frames: this model is conditioned on {config.n_cond_frames} of them, got {got}")
        if (labels is not None) != (config.class_cond_dim is not None):
            got = "none" if labels is None else list(labels.shape)
            raise ValueError(f"labels: this model is conditioned on {config.class_cond_dim or 'no'} classes, got {got}")
        features = None if frames is None else self.frame_features(frames).flatten(1, 3)
        classes = None
        if labels is not None and config.class_cond_dim is not None:
            classes = functional.one_hot(labels, config.class_cond_dim).to(self.fc_in.weight.dtype)
        return Condition(features, classes)

    def frame_features(self, frames: Tensor) -> Tensor:
        """Frames [B, 3, n_cond_frames, height, width] -> what tokens look at [B, T, H, W, features]."""
        features: Tensor = self.cond_pos_embd(self.resnet(frames))
        return features

    def embed(self, codes: Tensor) -> Tensor:
        """Tokens of codes, not a table of its own but the projected codebook: int64 [...] -> [..., D]."""
        tokens: Tensor = self.fc_in(self.vqvae.codebook.lookup(codes))
        return tokens

    def forward(self, codes: Tensor, frames: Tensor | None = None, labels: Tensor | None = None) -> PriorOutput:
        """Predict every code int64 [B, T, H, W] from those before it; see `condition` for the other two."""
        condition = self.condition(frames, labels)
        hidden = self.norm(self.attn_stack(self.embed(codes), condition), condition.classes)
        logits = self.fc_out(hidden)
        loss = functional.cross_entropy(logits.flatten(0, -2).float(), codes.flatten())
        return PriorOutput(loss, logits, hidden)
