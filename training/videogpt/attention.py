"""Multi-head attention, as both halves of VideoGPT use it, and the axial block of the VQ-VAE.

Yan et al. 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers", section 3.1; axial attention after
Huang et al. 2019 and Ho et al. 2019.

Axis letters: B batch, N heads, L queries, S keys, D features, C channels, T time, H height, W width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional


class KeysValues(NamedTuple):
    """What queries look at."""

    keys: Tensor
    """[B, N, S, d_k]."""
    values: Tensor
    """[B, N, S, d_v]."""


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention from sequences of one width to sequences of another.

    Args:
        dim_q: Features of the queries, and of the result.
        dim_kv: Features of what they look at.
        heads: The number N of heads; keys have dim_q // N features each, values dim_kv // N.
        n_layers: Depth of the residual stream that the result is added to; it scales the initial output projection.
        dropout: Share of the attention weights dropped in training.
    """

    def __init__(self, dim_q: int, dim_kv: int, heads: int, *, n_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        d_k, d_v = dim_q // heads, dim_kv // heads
        self.w_qs = nn.Linear(dim_q, heads * d_k, bias=False)
        self.w_ks = nn.Linear(dim_kv, heads * d_k, bias=False)
        self.w_vs = nn.Linear(dim_kv, heads * d_v, bias=False)
        self.fc = nn.Linear(heads * d_v, dim_q)
        nn.init.normal_(self.w_qs.weight, std=dim_q**-0.5)
        nn.init.normal_(self.w_ks.weight, std=dim_kv**-0.5)
        nn.init.normal_(self.w_vs.weight, std=dim_kv**-0.5)
        nn.init.normal_(self.fc.weight, std=(dim_q * n_layers) ** -0.5)

    def keys_values(self, x: Tensor) -> KeysValues:
        """Project what is looked at: [B, S, dim_kv] -> keys and values of every head."""
        return KeysValues(self._split(self.w_ks(x)), self._split(self.w_vs(x)))

    def attend(self, x: Tensor, seen: KeysValues, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Let queries [B, L, dim_q] look at what was projected before -> [B, L, dim_q].

        Args:
            x: What the queries are made from.
            seen: From `keys_values`; sampling grows it token by token.
            mask: Bool [L, S], true where a query may look.
            causal: Queries look at no later position; not together with `mask`.
        """
        queries = self._split(self.w_qs(x))  # [B, N, L, d_k]
        mixed = functional.scaled_dot_product_attention(
            queries,
            seen.keys,
            seen.values,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        y: Tensor = self.fc(mixed.transpose(1, 2).flatten(2))  # [B, N, L, d_v] -> [B, L, N * d_v] -> [B, L, dim_q]
        return y

    def forward(self, x: Tensor, seen: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Queries [B, L, dim_q] look at a sequence [B, S, dim_kv] -> [B, L, dim_q]."""
        return self.attend(x, self.keys_values(seen), mask=mask, causal=causal)

    def _split(self, x: Tensor) -> Tensor:
        """[B, L, N * d] -> [B, N, L, d]."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Drop the causal mask that published models with full attention store: it follows from the shape."""
        state_dict.pop(f"{prefix}attn.mask", None)
        super()._load_from_state_dict(state_dict, prefix, *args)


class AxialBlock(nn.Module):
    """The sum of three attentions, each along one axis of a clip, with the other axes as batch."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn_w = MultiHeadAttention(dim, dim, heads)
        self.attn_h = MultiHeadAttention(dim, dim, heads)
        self.attn_t = MultiHeadAttention(dim, dim, heads)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> the same shape."""
        x = x.movedim(1, -1)  # [B, T, H, W, C]
        y = _along(x, -2, self.attn_w) + _along(x, -3, self.attn_h) + _along(x, -4, self.attn_t)
        return y.movedim(-1, 1)


def _along(x: Tensor, axis: int, attention: MultiHeadAttention) -> Tensor:
    """Self-attention of [B, T, H, W, C] along one axis -> the same shape."""
    lines = x.movedim(axis, -2)  # [B, the two other axes, L, C]
    sequences = lines.flatten(0, -3)
    y: Tensor = attention(sequences, sequences)
    return y.view(lines.shape).movedim(-2, axis)
