"""How a GPU is used: what settings say and engines read, without ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ANY_GPU", "GpuOptions"]


@dataclass(frozen=True)
class GpuOptions:
    """How a GPU is used.

    Attributes:
        mem_limit_bytes: Most memory of the device that ONNX Runtime's arena takes; None for all that is free.
        engine_cache: Where TensorRT keeps what it has compiled, which takes minutes; None to compile at every start.
        graphs: Whether to record CUDA graphs.
    """

    mem_limit_bytes: int | None = None
    engine_cache: Path | None = None
    graphs: bool = True


ANY_GPU: Final = GpuOptions()
