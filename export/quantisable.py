"""The network in a form whose every heavy operation has an 8-bit kernel; its answers are the network's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.graph import Served
from training.heads import AttentionConvHead, AttentionSkipsHead
from training.segmenter import normalise

if TYPE_CHECKING:
    from training.heads import ConvDecoder, LatentAttention, SkipLevel
    from training.segmenter import Segmenter
    from training.videogpt.resnet import Levels


class QuantisableGraph(nn.Module):
    """`ServingGraph` with its head rewritten: attention as plain products, transposed convolutions as sub-pixel ones.

    ONNX Runtime has no 8-bit kernel for a transposed convolution. One of 3x3 taps and stride 2 is the same as four
    small convolutions, one for each pixel of a cell of 2x2, and a rearrangement of memory.

    Raises:
        TypeError: The head is not the one that this knows to rewrite.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        head = segmenter.head
        if not isinstance(head, (AttentionConvHead, AttentionSkipsHead)):
            raise TypeError(f"expected the head AttentionConvHead or AttentionSkipsHead, got {type(head).__name__}")
        self.encoder = segmenter.encoder
        self.attention = PlainAttention(head.attention)
        self.decoder = PlainDecoder(head.decoder) if isinstance(head, AttentionConvHead) else PlainSkips(head)

    def forward(self, frames: Tensor) -> Served:
        """Frames uint8 [N, 64, 64, 3], RGB."""
        levels: Levels = self.encoder.levels(normalise(frames))  # type: ignore[operator] # a frame encoder
        logits: Tensor = self.decoder(self.attention(levels.latents).movedim(-1, 1), levels)
        return Served(torch.sigmoid(logits), levels.latents)


class PlainDecoder(nn.Module):
    """The decoder without skips."""

    def __init__(self, decoder: ConvDecoder) -> None:
        super().__init__()
        forms = {nn.ConvTranspose2d: SubPixelConv, nn.Conv2d: PlaneConv}
        self.layers = nn.Sequential(*(forms[type(x)](x) for x in decoder.layers if type(x) in forms))

    def forward(self, x: Tensor, _: Levels) -> Tensor:
        """[B, C, 16, 16] -> logits [B, 64, 64]."""
        logits: Tensor = self.layers(x)
        return logits


class PlainSkips(nn.Module):
    """The decoder with skips."""

    def __init__(self, head: AttentionSkipsHead) -> None:
        super().__init__()
        self.middle, self.fine = PlainSkipLevel(head.middle), PlainSkipLevel(head.fine)
        self.out = PlaneConv(head.out)

    def forward(self, x: Tensor, levels: Levels) -> Tensor:
        """[B, C, 16, 16] and the encoder's levels -> logits [B, 64, 64]."""
        logits: Tensor = self.out(self.fine(self.middle(x, levels.middle), levels.fine))
        return logits


class PlainSkipLevel(nn.Module):
    """One doubling of the decoder with skips."""

    def __init__(self, level: SkipLevel) -> None:
        super().__init__()
        self.enlarge, self.lateral, self.mix = SubPixelConv(level.enlarge), level.lateral, level.mix

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """[B, C_in, H, W] and [B, C_skip, 2H, 2W] -> [B, C_out, 2H, 2W]."""
        return torch.relu(self.mix(self.enlarge(x) + self.lateral(skip)))


class PlainAttention(nn.Module):
    """The head's attention, written out: two products with weights, two of activations with each other."""

    def __init__(self, attention: LatentAttention) -> None:
        super().__init__()
        inner = attention.attention
        self.norm = attention.norm
        self.heads = inner.num_heads
        scale = torch.ones(3, inner.embed_dim)
        scale[0] = inner.head_dim**-0.5  # the queries' scale, part of the weights
        self.into = _linear(inner.in_proj_weight * scale.view(-1, 1), inner.in_proj_bias * scale.view(-1))
        self.out = _linear(inner.out_proj.weight, inner.out_proj.bias)

    def forward(self, latents: Tensor) -> Tensor:
        """[B, H, W, C] -> the same shape."""
        _, height, width, channels = latents.shape
        split = self.into(self.norm(latents)).reshape(-1, height * width, 3, self.heads, channels // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4).unbind()  # each [B, heads, H*W, C/heads]
        weights = torch.softmax(queries @ keys.transpose(-1, -2), -1)
        mixed = (weights @ values).transpose(1, 2).reshape(-1, height, width, channels)
        y: Tensor = latents + self.out(mixed)
        return y


class SubPixelConv(nn.Module):
    """A transposed convolution of 3x3 taps, stride 2, padding 1 and output padding 1, and a ReLU, as convolutions.

    Each cell of 2x2 output pixels sees four input pixels. Output row 2i sees input row i through tap 1; row 2i+1 sees
    row i through tap 2 and row i+1 through tap 0; columns likewise. So the four pixels of a cell are convolutions of
    1x1, 1x2, 2x1 and 2x2 taps, as many products as the transposed one has.

    Raises:
        TypeError: A transposed convolution of another kind.
    """

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        shape = (layer.kernel_size, layer.stride, layer.padding, layer.output_padding)
        if shape != ((3, 3), (2, 2), (1, 1), (1, 1)):
            raise TypeError(f"expected 3x3 taps, stride 2, padding 1 and output padding 1, got {shape}")
        taps = layer.weight.detach().transpose(0, 1)  # [C_out, C_in, 3, 3]
        rows = ([1], [2, 0])  # taps that an even and an odd row see, from the upper input row to the lower
        self.channels = layer.out_channels
        self.pixels = nn.ModuleList(_conv(taps[:, :, r][..., c], layer.bias) for r in rows for c in rows)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, 2H, 2W]."""
        height, width = x.shape[2:]
        pixels = [
            torch.relu(conv(functional.pad(x, (0, right, 0, down))))
            for conv, (down, right) in zip(self.pixels, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True)
        ]
        # Channels last, so that what moves are runs of 2 * C_out neighbours.
        cells = torch.cat(pixels, 1).movedim(1, -1).reshape(-1, height, width, 2, 2 * self.channels).transpose(2, 3)
        return cells.reshape(-1, 2 * height, 2 * width, self.channels).movedim(-1, 1)


class PlaneConv(nn.Module):
    """A 3x3 convolution to one channel as a product with 9 columns, and a sum of 9 shifted planes.

    Kernels for convolutions compute at least 16 channels.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        if (layer.out_channels, layer.kernel_size, layer.padding, layer.stride) != (1, (3, 3), (1, 1), (1, 1)):
            raise TypeError(f"expected a 3x3 convolution to one channel, got {layer}")
        # Summing overlapping patches mirrors the taps.
        self.planes = _linear(layer.weight.detach()[0].flip(1, 2).flatten(1).T, torch.zeros(9))
        self.bias = nn.Parameter(torch.zeros(1) if layer.bias is None else layer.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, H, W]."""
        size = x.shape[2:]
        planes = (x.movedim(1, -1).flatten(1, 2) @ self.planes.weight.T).transpose(1, 2)  # [B, 9, H*W]
        return functional.fold(planes, size, 3, padding=1)[:, 0] + self.bias


def _conv(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    c_out, c_in, height, width = weight.shape
    layer = nn.Conv2d(c_in, c_out, (height, width))
    layer.weight = nn.Parameter(weight.clone())
    layer.bias = nn.Parameter(torch.zeros(c_out) if bias is None else bias.detach().clone())
    return layer


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight.detach().clone())
    layer.bias = nn.Parameter(bias.detach().clone())
    return layer
