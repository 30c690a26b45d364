"""The VQ-VAE: clips to a small grid of codes, and back.

Yan et al. 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers", https://arxiv.org/abs/2104.10157,
section 3.1; layout and parameter names of the public PyTorch version, which differs from the one of the paper.

Axis letters: B batch, C channels, D embedding; T, H, W time, height and width of a clip, T', H', W' of its codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from training.videogpt.attention import AxialBlock
from training.videogpt.codebook import Codebook, Quantised
from training.videogpt.layers import SamePadConv3d, SamePadConvTranspose3d, Triple

DATA_VARIANCE = 0.06
"""Variance of the pixels of the data it was first trained on; the reconstruction loss is measured in it."""

HEADS = 2
"""Heads of the axial attentions."""


@dataclass(frozen=True, slots=True)
class VQVAEConfig:
    """The numbers of a VQ-VAE; the defaults are those of the public `bair_stride4x2x2`."""

    embedding_dim: int = 256
    n_codes: int = 2048
    n_hiddens: int = 240
    n_res_layers: int = 4
    downsample: Triple = (4, 2, 2)
    """Pixels for each code along time, height and width."""
    sequence_length: int = 16
    """Frames in the clips of a prior over these codes; the VQ-VAE itself takes any clip that `downsample` divides."""
    resolution: int = 64
    """Height and width of their frames."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ValueError: Strides that halvings cannot make, or that do not divide the clip.
        """
        if len(self.downsample) != 3 or any(s < 1 or s.bit_count() != 1 for s in self.downsample):
            raise ValueError(f"downsample: expected three powers of two, got {self.downsample}")
        if max(self.downsample) < 4:
            raise ValueError(f"downsample: the layout starts at a stride of 4 on some axis, got {self.downsample}")
        if any(size % s for size, s in zip(self.clip_shape, self.downsample, strict=True)):
            raise ValueError(f"downsample: {self.downsample} does not divide a clip of {self.clip_shape}")
        if self.n_hiddens % HEADS:
            raise ValueError(f"n_hiddens: expected a multiple of {HEADS}, got {self.n_hiddens}")

    @property
    def clip_shape(self) -> Triple:
        """T, H, W of the clips of a prior."""
        return self.sequence_length, self.resolution, self.resolution

    @property
    def latent_shape(self) -> Triple:
        """T', H', W' of their codes."""
        t, h, w = (size // s for size, s in zip(self.clip_shape, self.downsample, strict=True))
        return t, h, w


class VQVAEOutput(NamedTuple):
    """A clip after its way through the codes, and how it fared."""

    recon: Tensor
    """[B, 3, T, H, W], nominally in [-0.5, 0.5], not clamped."""
    quantised: Quantised
    recon_loss: Tensor
    """Scalar: mean squared error in units of the data's variance."""

    @property
    def loss(self) -> Tensor:
        """What training minimises."""
        return self.recon_loss + self.quantised.commitment_loss


def conv_strides(downsample: Triple) -> list[Triple]:
    """Stride of each strided convolution: every one halves the axes that still need it.

    >>> conv_strides((4, 2, 2))
    [(2, 2, 2), (2, 1, 1)]
    """
    halvings = [s.bit_length() - 1 for s in downsample]
    strides = []
    for level in range(max(halvings)):
        t, h, w = (2 if n > level else 1 for n in halvings)
        strides.append((t, h, w))
    return strides


class AttentionResidualBlock(nn.Module):
    """A bottleneck of convolutions and an axial attention beside an identity: [B, C, T, H, W] -> the same shape."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.BatchNorm3d(dim),
            nn.ReLU(),
            SamePadConv3d(dim, dim // 2, 3, bias=False),
            nn.BatchNorm3d(dim // 2),
            nn.ReLU(),
            SamePadConv3d(dim // 2, dim, 1, bias=False),
            nn.BatchNorm3d(dim),
            nn.ReLU(),
            AxialBlock(dim, HEADS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's result to its input."""
        y: Tensor = x + self.block(x)
        return y


def residual_stack(dim: int, n_layers: int) -> nn.Sequential:
    """Residual blocks, then the normalisation and ReLU that the last of them leaves out."""
    blocks = [AttentionResidualBlock(dim) for _ in range(n_layers)]
    return nn.Sequential(*blocks, nn.BatchNorm3d(dim), nn.ReLU())


class Encoder(nn.Module):
    """[B, 3, T, H, W] -> [B, C, T', H', W']."""

    def __init__(self, dim: int, n_res_layers: int, downsample: Triple) -> None:
        super().__init__()
        strides = conv_strides(downsample)
        inputs = [3] + [dim] * (len(strides) - 1)
        self.convs = nn.ModuleList(SamePadConv3d(c, dim, 4, s) for c, s in zip(inputs, strides, strict=True))
        self.conv_last = SamePadConv3d(dim, dim, 3)
        self.res_stack = residual_stack(dim, n_res_layers)

    def forward(self, x: Tensor) -> Tensor:
        """Halve, then refine."""
        for conv in self.convs:
            x = functional.relu(conv(x))
        y: Tensor = self.res_stack(self.conv_last(x))
        return y


class Decoder(nn.Module):
    """[B, C, T', H', W'] -> [B, 3, T, H, W]; it doubles axes in the encoder's order, not in the mirrored one."""

    def __init__(self, dim: int, n_res_layers: int, downsample: Triple) -> None:
        super().__init__()
        strides = conv_strides(downsample)
        outputs = [dim] * (len(strides) - 1) + [3]
        self.res_stack = residual_stack(dim, n_res_layers)
        self.convts = nn.ModuleList(SamePadConvTranspose3d(dim, c, 4, s) for c, s in zip(outputs, strides, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Refine, then double."""
        x = self.res_stack(x)
        for i, convt in enumerate(self.convts):
            x = convt(x if i == 0 else functional.relu(x))
        return x


class VQVAE(nn.Module):
    """Encoder, codebook and decoder over clips [B, 3, T, H, W] in [-0.5, 0.5]."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.n_hiddens, config.n_res_layers, config.downsample)
        self.decoder = Decoder(config.n_hiddens, config.n_res_layers, config.downsample)
        self.pre_vq_conv = SamePadConv3d(config.n_hiddens, config.embedding_dim, 1)
        self.post_vq_conv = SamePadConv3d(config.embedding_dim, config.n_hiddens, 1)
        self.codebook = Codebook(config.n_codes, config.embedding_dim)

    def latents(self, video: Tensor) -> Tensor:
        """What the codebook quantises: [B, 3, T, H, W] -> [B, D, T', H', W'].

        Raises:
            ValueError: A clip that the strides do not divide.
        """
        if video.ndim != 5 or any(size % s for size, s in zip(video.shape[2:], self.config.downsample, strict=True)):
            expected = " x ".join(f"multiple of {s}" for s in self.config.downsample)
            raise ValueError(f"clips: expected [B, 3, T, H, W] with T x H x W a {expected}, got {list(video.shape)}")
        z: Tensor = self.pre_vq_conv(self.encoder(video))
        return z

    def encode(self, video: Tensor) -> Tensor:
        """Codes of clips: int64 [B, T', H', W']. The codebook stays as it is, in training too."""
        z = self.latents(video).detach().movedim(1, -1)  # [B, T', H', W', D]
        return self.codebook.nearest(z.flatten(0, -2)).view(z.shape[:-1])

    def decode(self, codes: Tensor) -> Tensor:
        """Clips of codes: int64 [B, T', H', W'] -> [B, 3, T, H, W], not clamped."""
        return self._decode_embeddings(self.codebook.lookup(codes).movedim(-1, 1))

    def forward(self, video: Tensor) -> VQVAEOutput:
        """Encode, quantise (in training the codebook follows) and decode."""
        quantised = self.codebook(self.latents(video))
        recon = self._decode_embeddings(quantised.embeddings)
        return VQVAEOutput(recon, quantised, functional.mse_loss(recon, video) / DATA_VARIANCE)

    def _decode_embeddings(self, embeddings: Tensor) -> Tensor:
        """[B, D, T', H', W'] -> [B, 3, T, H, W]."""
        recon: Tensor = self.decoder(self.post_vq_conv(embeddings))
        return recon
