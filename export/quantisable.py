"""The network in a form whose every heavy operation has an 8-bit kernel; its answers are the network's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.graph import Served
from training.heads import AttentionConvHead
from training.segmenter import normalise

if TYPE_CHECKING:
    from training.heads import LatentAttention
    from training.segmenter import Segmenter


class QuantisableGraph(nn.Module):
    """`ServingGraph` with its head rewritten: attention as plain products, transposed convolutions as sub-pixel ones.

    ONNX Runtime has no 8-bit kernel for a transposed convolution. One of 3x3 taps and stride 2 is the same as a
    convolution of 2x2 taps that gives the four pixels of each cell as channels, and a rearrangement of memory.

    Raises:
        TypeError: The head is not the one that this knows to rewrite.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        head = segmenter.head
        if not isinstance(head, AttentionConvHead):
            raise TypeError(f"expected the head AttentionConvHead, got {type(head).__name__}")
        self.encoder = segmenter.encoder
        self.attention = PlainAttention(head.attention)
        layers = list(head.decoder.layers)
        doublings = [SubPixelConv(layer) for layer in layers if isinstance(layer, nn.ConvTranspose2d)]
        self.decoder = nn.Sequential(*doublings, layers[-1])

    def forward(self, frames: Tensor) -> Served:
        """Frames uint8 [N, 64, 64, 3], RGB."""
        latents: Tensor = self.encoder(normalise(frames))
        logits: Tensor = self.decoder(self.attention(latents).movedim(-1, 1))
        return Served(torch.sigmoid(logits[:, 0]), latents)


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
    """A transposed convolution of 3x3 taps, stride 2, padding 1 and output padding 1, and a ReLU, as a convolution.

    Output row 2i sees input row i through tap 1; row 2i+1 sees row i through tap 2 and row i+1 through tap 0; columns
    likewise.
    """

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        shape = (layer.kernel_size, layer.stride, layer.padding, layer.output_padding)
        if shape != ((3, 3), (2, 2), (1, 1), (1, 1)):
            raise TypeError(f"expected 3x3 taps, stride 2, padding 1 and output padding 1, got {shape}")
        taps = layer.weight.detach().transpose(0, 1)  # [C_out, C_in, 3, 3]
        kernel = taps.new_zeros(2, 2, *taps.shape[:2], 2, 2)  # row, column in the cell; C_out, C_in; offset down, right
        for row, down, tap_y in _PHASES:
            for column, right, tap_x in _PHASES:
                kernel[row, column, :, :, down, right] = taps[:, :, tap_y, tap_x]
        self.channels = layer.out_channels
        self.weight = nn.Parameter(kernel.flatten(0, 2))
        bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
        self.bias = nn.Parameter(bias.repeat(4))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, 2H, 2W]."""
        height, width = x.shape[2:]
        cells = torch.relu(functional.conv2d(functional.pad(x, (0, 1, 0, 1)), self.weight, self.bias))
        # Channels last, so that what moves are runs of 2 * C_out neighbours.
        rows = cells.movedim(1, -1).reshape(-1, height, width, 2, 2 * self.channels).transpose(2, 3)
        return rows.reshape(-1, 2 * height, 2 * width, self.channels).movedim(-1, 1)


_PHASES = ((0, 0, 1), (1, 0, 2), (1, 1, 0))
"""Place in the cell, offset of the input, tap."""


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight.detach().clone())
    layer.bias = nn.Parameter(bias.detach().clone())
    return layer
