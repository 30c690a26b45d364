"""3x3 convolutions by Winograd's filtering."""

import pytest
import torch
from torch import nn

from training import winograd

SHAPES = [(1, 1, 4, 4, 1), (2, 3, 4, 8, 5), (3, 5, 12, 4, 2), (5, 64, 64, 32, 6)]
"""Batch, channels, height, width, channels of the output; the last takes several chunks, the last one smaller."""


def drawn(shape: tuple[int, int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures and kernels."""
    torch.manual_seed(0)
    batch, c_in, height, width, c_out = shape
    return torch.randn(batch, c_in, height, width), torch.randn(c_out, c_in, 3, 3)


def assert_close(found: torch.Tensor, exact: torch.Tensor) -> None:
    """To 2e-5 of the spread, at every single place."""
    torch.testing.assert_close(found, exact.float(), atol=2e-5 * float(exact.std()), rtol=0)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_convolves(shape: tuple[int, int, int, int, int], layout: torch.memory_format) -> None:
    x, kernel = drawn(shape)
    expected = nn.functional.conv2d(x.double(), kernel.double(), padding=1)
    assert_close(winograd.convolve(x.to(memory_format=layout), kernel), expected)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", SHAPES)
def test_its_gradients_are_those_of_the_convolution(
    shape: tuple[int, int, int, int, int], layout: torch.memory_format
) -> None:
    x, kernel = drawn(shape)
    exact = x.double().requires_grad_(), kernel.double().requires_grad_()
    out = nn.functional.conv2d(*exact, padding=1)
    grad = torch.randn(out.shape)
    expected = torch.autograd.grad(out, exact, grad.double())
    found = winograd.gradients(
        x.to(memory_format=layout), kernel, grad.to(memory_format=layout), of_input=True, of_kernel=True
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours is not None
        assert_close(ours, theirs)


def test_only_the_gradients_that_are_wanted_are_computed() -> None:
    x, kernel = drawn(SHAPES[1])
    grad = torch.randn(2, 5, 4, 8)
    both = winograd.gradients(x, kernel, grad, of_input=True, of_kernel=True)
    of_input, nothing = winograd.gradients(x, kernel, grad, of_input=True, of_kernel=False)
    assert nothing is None
    torch.testing.assert_close(of_input, both[0])
    nothing, of_kernel = winograd.gradients(x, kernel, grad, of_input=False, of_kernel=True)
    assert nothing is None
    torch.testing.assert_close(of_kernel, both[1])


def test_it_is_nearly_as_exact_as_summing_directly() -> None:
    """What the choice of points is for: the usual ones are two and a half times worse."""
    torch.manual_seed(0)
    x, kernel = torch.rand(2, 256, 16, 16), torch.randn(256, 256, 3, 3) / 48
    exact = nn.functional.conv2d(x.double(), kernel.double(), padding=1)
    error = (winograd.convolve(x, kernel) - exact).square().mean().sqrt() / exact.std()
    assert error < 1.5e-6
