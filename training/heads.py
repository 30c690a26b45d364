"""Heads that turn latents into a mask; Maier and Mohankumar, "Video Prediction Models as General Visual Encoders"."""

from __future__ import annotations

from torch import Tensor, nn

from training.videogpt.resnet import LATENT_DIM


class LatentAttention(nn.Module):
    """Self-attention over the 16x16 latents, pre-normalised and residual: [B, 16, 16, C] -> the same shape.

    The paper names 8 heads and no more; the residual path and the norm are ours, so that the convolutions still see
    the encoder's own features where attention adds nothing.
    """

    def __init__(self, dim: int = LATENT_DIM, heads: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, latents: Tensor) -> Tensor:
        """Let every latent look at all others of its frame."""
        tokens = self.norm(latents).flatten(1, 2)  # [B, 256, C]
        mixed: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return latents + mixed.view_as(latents)


class ConvDecoder(nn.Module):
    """Two transposed 3x3 convolutions that double the resolution, then a 3x3 convolution to one channel."""

    def __init__(self, dim: int = LATENT_DIM) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(dim, 128, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 32, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 1, 3, padding=1),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """[B, 16, 16, C] -> logits [B, 64, 64]."""
        logits: Tensor = self.layers(latents.movedim(-1, 1))
        return logits[:, 0]


class AttentionConvHead(nn.Module):
    """The paper's best head: attention first, then the light convolutional decoder."""

    def __init__(self, dim: int = LATENT_DIM, heads: int = 8) -> None:
        super().__init__()
        self.attention = LatentAttention(dim, heads)
        self.decoder = ConvDecoder(dim)

    def forward(self, latents: Tensor) -> Tensor:
        """[B, 16, 16, C] -> logits [B, 64, 64]."""
        logits: Tensor = self.decoder(self.attention(latents))
        return logits
