"""The transformer over codes: causal self-attention, and attention to the features of conditioning frames.

Yan et al. 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers", https://arxiv.org/abs/2104.10157,
section 3.2; layout and parameter names of the public PyTorch version (`attn_stack.*`).

Axis letters: B batch, T, H, W the grid of codes, L = T*H*W tokens in raster order (W fastest), D features,
S positions of the frame features, F their features, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.videogpt.attention import KeysValues, MultiHeadAttention
from training.videogpt.layers import GELU2, BroadcastPositions, RightShift, Triple, layer_norm
from training.videogpt.sparsity import token_mask

AttentionType = Literal["full", "sparse"]


class Condition(NamedTuple):
    """What clips are conditioned on."""

    frames: Tensor | None
    """Features of the conditioning frames [B, S, F]."""
    classes: Tensor | None
    """One-hot classes [B, K]."""


@dataclass(slots=True)
class LayerMemory:
    """What one layer keeps while a clip is sampled token by token."""

    tokens: KeysValues
    """Keys and values of all L tokens; those not yet reached are zero."""
    frames: KeysValues | None
    """Those of the conditioning frames, which never change."""

    def add(self, index: int, token: KeysValues) -> KeysValues:
        """Write the keys and values of the token at `index`; return those of all tokens up to it."""
        self.tokens.keys[:, :, index : index + 1] = token.keys
        self.tokens.values[:, :, index : index + 1] = token.values
        return KeysValues(self.tokens.keys[:, :, : index + 1], self.tokens.values[:, :, : index + 1])


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The numbers of one transformer layer."""

    dim: int
    heads: int
    n_layers: int
    """Depth of the whole stack."""
    dropout: float
    attn_dropout: float
    """Dropout of self-attention weights."""
    frames_dim: int | None
    """Features F of the conditioning frames, if there are any."""
    n_classes: int | None


class TransformerLayer(nn.Module):
    """Self-attention, attention to frames and a two-layer perceptron, each normalised before and added after."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        dim, heads, depth = shape.dim, shape.heads, shape.n_layers
        self.pre_attn_norm = layer_norm(dim, shape.n_classes)
        self.attn = MultiHeadAttention(dim, dim, heads, n_layers=depth, dropout=shape.attn_dropout)
        self.sees_frames = shape.frames_dim is not None
        if shape.frames_dim is not None:
            self.pre_enc_norm = layer_norm(dim, shape.n_classes)
            self.enc_attn = MultiHeadAttention(dim, shape.frames_dim, heads, n_layers=depth)
        self.pre_fc_norm = layer_norm(dim, shape.n_classes)
        self.fc_block = nn.Sequential(nn.Linear(dim, 4 * dim), GELU2(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, condition: Condition, mask: Tensor | None) -> Tensor:
        """All tokens at once: [B, L, D] -> the same shape; without a mask, each sees every token up to itself."""
        normed = self.pre_attn_norm(x, condition.classes)
        x = x + self.dropout(self.attn(normed, normed, mask=mask, causal=mask is None))
        return self._after_self_attention(x, condition, self._project_frames(condition))

    def step(self, x: Tensor, condition: Condition, memory: LayerMemory, index: int, mask: Tensor | None) -> Tensor:
        """The token at `index` alone: [B, 1, D] -> the same shape; `mask` [1, index + 1] is its row."""
        normed = self.pre_attn_norm(x, condition.classes)
        past = memory.add(index, self.attn.keys_values(normed))
        x = x + self.dropout(self.attn.attend(normed, past, mask=mask))
        return self._after_self_attention(x, condition, memory.frames)

    def memory(self, batch_size: int, length: int, condition: Condition) -> LayerMemory:
        """Empty memory for `length` tokens, and the projected frames."""
        # without biases, the keys and values of nothing are zeros, of the dtype that those of tokens will have
        blank = self.attn.keys_values(self.attn.w_qs.weight.new_zeros(batch_size, length, self.attn.w_qs.in_features))
        return LayerMemory(blank, self._project_frames(condition))

    def _project_frames(self, condition: Condition) -> KeysValues | None:
        """Keys and values of the frame features, if the layer sees any.

        Raises:
            ValueError: It does, and there are none.
        """
        if not self.sees_frames:
            return None
        if condition.frames is None:
            raise ValueError("this model is conditioned on frames: expected them with every clip, got none")
        return self.enc_attn.keys_values(condition.frames)

    def _after_self_attention(self, x: Tensor, condition: Condition, frames: KeysValues | None) -> Tensor:
        """The other two parts: [B, L, D] -> the same shape."""
        if frames is not None:
            x = x + self.dropout(self.enc_attn.attend(self.pre_enc_norm(x, condition.classes), frames))
        y: Tensor = x + self.dropout(self.fc_block(self.pre_fc_norm(x, condition.classes)))
        return y


class AttentionStack(nn.Module):
    """Layers over a grid of tokens in raster order, each position seeing only tokens before it.

    Args:
        grid: T, H, W.
        layer: The numbers of each layer.
        attn_type: Full causal self-attention, or strided sparse without dropout of its weights.
        recompute: In training, keep no activations inside layers and compute them again for the gradient: the values
            are the same, the memory of deep stacks over thousands of tokens is not.
    """

    mask: Tensor | None

    def __init__(self, grid: Triple, layer: LayerShape, attn_type: AttentionType, *, recompute: bool = True) -> None:
        super().__init__()
        self.grid = grid
        self.recompute = recompute
        self.right_shift = RightShift(layer.dim)
        self.pos_embd = BroadcastPositions(grid, layer.dim)
        self.attn_nets = nn.ModuleList(TransformerLayer(layer) for _ in range(layer.n_layers))
        # [L, L] for the whole stack; it follows from the grid, so state dicts do without it
        self.register_buffer("mask", token_mask(grid) if attn_type == "sparse" else None, persistent=False)

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        """[B, T, H, W, D] -> the same shape; position i has seen tokens 0..i-1."""
        h = self.pos_embd(self.right_shift(x)).flatten(1, 3)  # [B, L, D]
        for layer in self.attn_nets:
            if self.training and self.recompute:
                h = checkpoint(layer, h, condition, self.mask, use_reentrant=False)
            else:
                h = layer(h, condition, self.mask)
        tokens: Tensor = h.view_as(x)
        return tokens

    def memories(self, batch_size: int, condition: Condition) -> list[LayerMemory]:
        """Empty memory of every layer."""
        return [layer.memory(batch_size, math.prod(self.grid), condition) for layer in self._layers()]

    def step(self, x: Tensor | None, condition: Condition, memories: list[LayerMemory], index: int) -> Tensor:
        """Position `index` alone: the token before it [B, 1, D], none before the first, -> [B, 1, D]."""
        if x is None:
            x = self.right_shift.sos.expand(len(memories[0].tokens.keys), 1, -1)
        h = x + self.pos_embd.at(index)
        row = None if self.mask is None else self.mask[index : index + 1, : index + 1]
        for layer, memory in zip(self._layers(), memories, strict=True):
            h = layer.step(h, condition, memory, index, row)
        return h

    def _layers(self) -> list[TransformerLayer]:
        """The layers with their type, which a module list forgets."""
        return [layer for layer in self.attn_nets if isinstance(layer, TransformerLayer)]
