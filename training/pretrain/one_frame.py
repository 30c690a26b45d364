"""Trains the prior's frame encoder in its 2D form, and gives back the published 3D one.

With one conditioning frame only the middle temporal slice of each kernel ever meets data: the outer ones get no
gradient, and Adam without weight decay leaves them as they were. So they can be put aside while the 2D form trains,
and put back afterwards: weights and losses are those of training in 3D, a third of the parameters is left to hold and
to share out. `python -m training.pretrain.bench_encoder` prints what a step of either form costs on this machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from training.videogpt.configuration import frame_encoder_shape
from training.videogpt.resnet import CollapsedFrameEncoder, FrameEncoder, collapse, expand

if TYPE_CHECKING:
    from training.videogpt.prior import Prior


class OneFrameEncoder(nn.Module):
    """Stands in for a `FrameEncoder` over clips of one frame: [B, 3, 1, H, W] -> [B, 1, H/4, W/4, dim].

    The slices it does not use travel with its state dict, but no optimiser and no other process sees them.
    """

    def __init__(self, published: FrameEncoder) -> None:
        super().__init__()
        state = published.state_dict()
        layers, dim, width = frame_encoder_shape({name: tuple(tensor.shape) for name, tensor in state.items()})
        self.collapsed = CollapsedFrameEncoder(layers, dim, width_multiplier=width)
        self.collapsed.load_state_dict(collapse(state))
        self.collapsed.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # not in torch's stubs
        self._outer = _outer_slices(state)

    def forward(self, frames: Tensor) -> Tensor:
        """Encode one frame of each clip.

        Raises:
            ValueError: Clips of another length.
        """
        if frames.shape[2] != 1:
            raise ValueError(
                f"a collapsed encoder sees one frame at a time: expected [B,3,1,H,W], {list(frames.shape)}"
            )
        latents: Tensor = self.collapsed(frames[:, :, 0])
        return latents[:, None]

    def published_state(self) -> dict[str, Tensor]:
        """Parameters of the `FrameEncoder` that training in 3D would have given, on the CPU."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.collapsed.state_dict().items()}
        outer = {name: torch.stack([a, torch.zeros_like(a), b], dim=2) for name, (a, b) in self._outer.items()}
        blank = {name: t[:, :, None] for name, t in state.items() if t.ndim == 4 and name not in outer}
        return expand(state, {**blank, **outer})

    def get_extra_state(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The unused slices, for checkpoints."""
        return self._outer

    def set_extra_state(self, state: Any) -> None:
        """Take them back."""
        self._outer = cast("dict[str, tuple[Tensor, Tensor]]", state)


def _outer_slices(published: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """First and last temporal slice of every kernel of three."""
    return {
        name: (kernel[:, :, 0].detach().cpu().clone(), kernel[:, :, 2].detach().cpu().clone())
        for name, kernel in published.items()
        if kernel.ndim == 5 and kernel.shape[2] == 3
    }


def train_collapsed(prior: Prior) -> None:
    """Swap a prior's frame encoder for its 2D form, in place.

    Raises:
        ValueError: The prior sees more than one frame, or none.
    """
    if prior.config.n_cond_frames != 1:
        raise ValueError(
            f"only an encoder of one frame collapses; this prior sees {prior.config.n_cond_frames}: "
            "train it in its published form"
        )
    prior.resnet = cast("FrameEncoder", OneFrameEncoder(prior.resnet))


def published_state(prior: Prior) -> dict[str, Tensor]:
    """The whole prior's state in the published layout, whichever form its frame encoder is in; on the CPU."""
    encoder: nn.Module | None = prior.resnet if prior.config.n_cond_frames else None
    state = {name: tensor for name, tensor in prior.state_dict().items() if isinstance(tensor, Tensor)}
    if isinstance(encoder, OneFrameEncoder):
        state = {name: tensor for name, tensor in state.items() if not name.startswith("resnet.")}
        state |= {f"resnet.{name}": tensor for name, tensor in encoder.published_state().items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
