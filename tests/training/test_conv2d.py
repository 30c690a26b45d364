"""The convolution that trains by Winograd's filtering where that is quicker."""

import pytest
import torch
from torch import Tensor, nn

from training.conv2d import Conv2d, winograd_pays


def pair(c_in: int, c_out: int, stride: int = 1) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Our layer and torch's with the same weights."""
    ours = Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
    theirs = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 4), (8, 6)])
def test_outputs_and_gradients_are_those_of_torch(
    layout: torch.memory_format, stride: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")  # on every processor
    frames = torch.randn(3, 64, *size).to(memory_format=layout)
    results = []
    for conv in pair(64, 65, stride):
        x = frames.clone().requires_grad_()
        out = conv(x)
        out.square().mean().backward()
        results.append((out.detach(), x.grad, conv.weight.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_low_precision_and_sizes_that_tiles_do_not_fill_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    x, weight = torch.randn(1, 64, 8, 8).to(memory_format=torch.channels_last), torch.randn(64, 64, 3, 3)
    weight.requires_grad_()
    assert winograd_pays(x, weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd_pays(x, weight)
    assert not winograd_pays(x.double(), weight)
    assert not winograd_pays(x[:, :, :6], weight)
    with torch.no_grad():
        assert not winograd_pays(x, weight)


def test_a_graph_that_is_exported_has_plain_convolutions_for_any_number_of_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    conv = Conv2d(64, 64, 3, padding=1, bias=False)

    class Last(nn.Module):
        """Channels are last in memory, as in the frame encoder."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = conv

        def forward(self, frames: Tensor) -> Tensor:
            """[N, H, W, C] -> [N, O, H, W]."""
            out: Tensor = self.conv(frames.permute(0, 3, 1, 2))
            return out

    n = torch.export.Dim("n", min=1, max=8)
    graph = torch.export.export(Last(), (torch.randn(2, 8, 8, 64),), dynamic_shapes=({0: n},))
    frames = torch.randn(5, 8, 8, 64)
    torch.testing.assert_close(graph.module()(frames), conv(frames.permute(0, 3, 1, 2)))
