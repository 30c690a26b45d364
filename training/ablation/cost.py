"""What a network costs for each frame: parameters, multiply-accumulates, milliseconds."""

from __future__ import annotations

import copy
import statistics
import time
from typing import TYPE_CHECKING

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from training.segmenter import Segmenter

RUNS = 7


def cost(segmenter: Segmenter) -> dict[str, float]:
    """Measure one frame at a time on this machine, in float32.

    Returns:
        `parameters` and `trained` of them; `mac`, multiply-accumulates of matrix products and convolutions; `ms`, the
        median of a few runs.
    """
    frame = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    parameters = sum(p.numel() for p in segmenter.parameters())
    counted = copy.deepcopy(segmenter).train()  # evaluation takes fused kernels that the counter does not know
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        counted(frame)
    segmenter.eval()
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(RUNS):
            start = time.perf_counter()
            segmenter(frame)
            times.append(time.perf_counter() - start)
    return {
        "parameters": parameters,
        "trained": sum(p.numel() for p in segmenter.parameters() if p.requires_grad),
        "mac": counter.get_total_flops() // 2,
        "ms": round(statistics.median(times[1:]) * 1e3, 2),
    }
