"""The convolution whose weight gradient is a matrix product."""

import pytest
import torch
from torch import nn

from training.conv2d import Conv2d, kernel_gradient, product_pays


def pair(c_in: int, c_out: int, stride: int = 1) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Our layer and torch's with the same weights."""
    ours = Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
    theirs = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("stride", [1, 2])
def test_outputs_and_gradients_are_those_of_torch(
    layout: torch.memory_format, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")  # on every processor
    frames = torch.randn(3, 64, 8, 6).to(memory_format=layout)
    results = []
    for conv in pair(64, 65, stride):
        x = frames.clone().requires_grad_()
        out = conv(x)
        out.square().mean().backward()
        results.append((out.detach(), x.grad, conv.weight.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 1, 5), (2, 4, 7, 1)])
def test_the_kernel_gradient_is_right_at_the_edges(shape: tuple[int, ...]) -> None:
    x, weight = torch.randn(shape), torch.randn(6, shape[1], 3, 3, requires_grad=True)
    out = nn.functional.conv2d(x, weight, padding=1)
    grad = torch.randn_like(out)
    (expected,) = torch.autograd.grad(out, weight, grad)
    torch.testing.assert_close(kernel_gradient(x, grad), expected)


def test_gradients_in_low_precision_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    x, weight = torch.randn(1, 64, 8, 8).to(memory_format=torch.channels_last), torch.randn(64, 64, 3, 3)
    weight.requires_grad_()
    assert product_pays(x, weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not product_pays(x, weight)
    assert not product_pays(x.double(), weight)
    with torch.no_grad():
        assert not product_pays(x, weight)
