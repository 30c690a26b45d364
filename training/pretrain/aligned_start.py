"""A start for short runs: tokens look at the frame where they are from the first step on.

A prior as published starts with position embeddings of standard deviation 0.01, under frame features a hundred times
as strong. Which place of the frame a code belongs to has to be found by chance, and until it is, the frame helps
nobody: in some hundred steps the frame encoder learns to say the same everywhere. Long runs come to it, short ones do
not. Here positions start as waves strong enough to be seen, the same for tokens and frame, and keys are projected as
queries are, so that attention falls on what is near. It is a start and nothing else: every parameter keeps its place
and its name, and trains as before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from training.videogpt.transformer import TransformerLayer

if TYPE_CHECKING:
    from training.videogpt.layers import BroadcastPositions
    from training.videogpt.prior import Prior

TOKEN_AMPLITUDE = 1.0
FRAME_AMPLITUDE = 3.0
"""Of waves over the frame, whose untrained features have a mean of 1.5 and vary by 0.4 between places."""


@torch.no_grad()
def start_aligned(prior: Prior) -> None:
    """Set an untrained prior's positions, token projection, queries and keys, in place."""
    _set_waves(prior.attn_stack.pos_embd, TOKEN_AMPLITUDE)
    # tokens of unit strength, whatever the width of the codebook, beside positions of unit strength
    nn.init.normal_(prior.fc_in.weight, std=prior.fc_in.in_features**-0.5)
    if prior.config.n_cond_frames:
        _set_waves(prior.cond_pos_embd, FRAME_AMPLITUDE)
    for layer in prior.attn_stack.attn_nets:
        if not isinstance(layer, TransformerLayer):
            continue
        layer.attn.w_ks.weight.copy_(layer.attn.w_qs.weight)
        # shares of the features differ unless both widths are the same; then waves would meet the wrong ones
        if layer.sees_frames and layer.enc_attn.w_ks.weight.shape == layer.enc_attn.w_qs.weight.shape:
            layer.enc_attn.w_ks.weight.copy_(layer.enc_attn.w_qs.weight)


def waves(size: int, features: int) -> Tensor:
    """Sines, then cosines, of each place 0..size-1: [size, features], each in [-1, 1].

    Frequencies lie evenly between 0 and a quarter turn a place, so the dot product of two places falls to zero two
    places on and stays small from there.
    """
    half = features // 2
    frequencies = (torch.arange(half) + 0.5) / half * math.pi / 2
    turns = torch.arange(size)[:, None] * frequencies
    spare = torch.zeros(size, features - 2 * half)
    return torch.cat([turns.sin(), turns.cos(), spare], dim=1)


def _set_waves(positions: BroadcastPositions, amplitude: float) -> None:
    for embedding in positions.emb.values():
        embedding.copy_(amplitude * waves(*embedding.shape))
