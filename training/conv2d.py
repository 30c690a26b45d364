"""A 2D convolution whose gradients are computed otherwise where that is quicker.

On CPUs with AVX2 but no AVX-512, oneDNN takes more than twice as long for the gradient of a 3x3 kernel as for the
forward pass, and half as long again for that of its input. The same sums as a few matrix products, and as a forward
convolution with the mirrored kernel, run at the speed of the forward pass: the collapsed frame encoder trains about
twice as fast as the published one instead of 1.8 times:

    python -m training.pretrain.bench_encoder --part encoder --precision 32-true
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx


_MANY_CHANNELS = 64
"""With fewer the products are too thin: the U-Net with 24 is slower for them."""


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with the same parameters, outputs and gradients to rounding."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002 # torch's name
        if bias is None and self._is_plain_3x3() and product_pays(input, weight):
            out: Tensor = _Conv3x3.apply(input, weight)  # type: ignore[no-untyped-call] # not in torch's stubs
            return out
        plain: Tensor = super()._conv_forward(input, weight, bias)
        return plain

    def _is_plain_3x3(self) -> bool:
        shape = (self.kernel_size, self.stride, self.padding, self.dilation, self.groups, self.padding_mode)
        return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")


def product_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether `weight` [O,C,3,3] is to learn from `x` [B,C,H,W], and matrix products are quicker at it here.

    That is on a CPU with AVX2 alone, in float32, with channels last in memory and many of them.
    """
    return (
        torch.is_grad_enabled()
        and weight.requires_grad
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.ndim == 4
        and min(weight.shape[:2]) >= _MANY_CHANNELS
        and x.is_contiguous(memory_format=torch.channels_last)
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
    )


def kernel_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Gradient of a 3x3 kernel, stride 1, padding 1.

    Args:
        x: [B,C,H,W], what was convolved; quick if its channels are last in memory.
        grad: [B,O,H,W], gradient of the convolution's output.

    Returns:
        [O,C,3,3].
    """
    batch, c_in, height, width = x.shape
    c_out = grad.shape[1]
    pixels = x.permute(0, 2, 3, 1)
    grads = grad.permute(0, 2, 3, 1).reshape(batch, height * width, c_out)
    # Of every pixel the one to its left, itself and the one to its right; a row of zeros above and below.
    rows = x.new_zeros(height + 2, width, 3, c_in)
    left, middle, right = rows[1:-1, 1:, 0], rows[1:-1, :, 1], rows[1:-1, :-1, 2]
    taps = x.new_zeros(3, 3 * c_in, c_out)
    for image, of_output in zip(pixels, grads, strict=True):  # one at a time stays in the cache
        left.copy_(image[:, :-1])
        middle.copy_(image)
        right.copy_(image[:, 1:])
        for tap in range(3):
            taps[tap].addmm_(rows[tap : tap + height].view(-1, 3 * c_in).t(), of_output)
    return taps.view(3, 3, c_in, c_out).permute(3, 2, 0, 1)


class _Conv3x3(torch.autograd.Function):
    """Convolution with a 3x3 kernel, stride 1, padding 1."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_input = of_weight = None
        if ctx.needs_input_grad[0]:
            # every input pixel hears from the outputs around it: a forward pass through the mirrored kernel
            of_input = F.conv2d(grads[0], weight.flip(2, 3).transpose(0, 1), padding=1)
        if ctx.needs_input_grad[1]:
            of_weight = kernel_gradient(x, grads[0])
        return of_input, of_weight
