"""A 2D convolution that trains by Winograd's filtering where that is quicker.

On CPUs with AVX2 but no AVX-512, oneDNN takes more than twice as long for the gradient of a 3x3 kernel as for the
forward pass, and knows no algorithm that saves multiplications. With one the collapsed frame encoder trains 2.5 times
as fast as the published one, without it 1.8 times:

    python -m training.pretrain.bench_encoder --part encoder --precision 32-true
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training import winograd

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx


_MANY_CHANNELS = 64
"""With fewer the products are too thin: the U-Net with 24 is slower for them."""


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with the same parameters, outputs and gradients to rounding."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002 # torch's name
        if bias is None and self._is_plain_3x3() and winograd_pays(input, weight):
            out: Tensor = _Conv3x3.apply(input, weight)  # type: ignore[no-untyped-call] # not in torch's stubs
            return out
        plain: Tensor = super()._conv_forward(input, weight, bias)
        return plain

    def _is_plain_3x3(self) -> bool:
        shape = (self.kernel_size, self.stride, self.padding, self.dilation, self.groups, self.padding_mode)
        return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")


def winograd_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether `weight` [O,C,3,3] is to learn from `x` [B,C,H,W], and Winograd's filtering is quicker at it here.

    That is on a CPU with AVX2 alone, in float32, with channels last in memory and many of them.
    """
    return (
        torch.is_grad_enabled()
        and not torch.compiler.is_compiling()  # what is traced is to run elsewhere, on any number of frames
        and weight.requires_grad
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.ndim == 4
        and x.shape[2] % winograd.TILE == x.shape[3] % winograd.TILE == 0
        and min(weight.shape[:2]) >= _MANY_CHANNELS
        and x.is_contiguous(memory_format=torch.channels_last)
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
    )


class _Conv3x3(torch.autograd.Function):
    """Convolution with a 3x3 kernel, stride 1, padding 1."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return winograd.convolve(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_input, of_kernel = ctx.needs_input_grad
        return winograd.gradients(x, weight, grads[0], of_input=of_input, of_kernel=of_kernel)
