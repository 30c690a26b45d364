"""Runs on a GPU: batches of a few fixed sizes, in memory that is bound once, so that a run is a copy, a graph, a copy.

The memory of a bucket never moves. That is what a CUDA graph needs (it replays kernels with the addresses that they
were recorded with), and it spares every run its allocations. Nothing here is special to CUDA but the names of devices,
so that the tests run the same code on the CPU.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from service.contract import FRAMES, LATENTS, PROBABILITY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from service.contract import TensorSpec

__all__ = ["Buckets", "bucket_sizes"]


def bucket_sizes(max_batch: int) -> list[int]:
    """The batch sizes that are run: powers of two, and the largest.

    >>> bucket_sizes(12)
    [1, 2, 4, 8, 12]
    """
    return [*(1 << power for power in range(max_batch.bit_length()) if 1 << power < max_batch), max_batch]


class Buckets:
    """Runs a session in batches of fixed sizes; smaller ones are filled up, and what fills them is thrown away.

    Args:
        session: The session.
        device: Where its tensors live: `cuda`, or `cpu` in tests.
        max_batch: The largest batch.
        graphs: Whether the session records CUDA graphs; each size gets one.
        pin: Locks an array in host memory, so that its copies to the device need no detour.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        device: str,
        max_batch: int,
        *,
        graphs: bool,
        pin: Callable[[NDArray[np.generic]], None] = lambda _: None,
    ) -> None:
        self._lock = threading.Lock()
        self._buckets = [
            _Bucket(session, device, size, graph=number if graphs else None, pin=pin)
            for number, size in enumerate(bucket_sizes(max_batch), start=1)
        ]

    @property
    def sizes(self) -> Sequence[int]:
        """The sizes, ascending."""
        return [bucket.size for bucket in self._buckets]

    def record(self) -> None:
        """Run every size twice: once to find its memory and its kernels, once to record its graph."""
        for size in self.sizes:
            for _ in range(2):
                self(np.zeros((size, *map(int, FRAMES.shape[1:])), np.uint8), latents=False)

    def __call__(self, frames: NDArray[np.uint8], *, latents: bool) -> list[NDArray[np.float32]]:
        """Frames uint8 [N,64,64,3] -> probability and, if asked for, latents. One thread at a time has the device."""
        largest = self._buckets[-1].size
        parts = []
        for start in range(0, len(frames), largest):
            part = frames[start : start + largest]
            bucket = next(bucket for bucket in self._buckets if bucket.size >= len(part))
            with self._lock:
                parts.append(bucket.run(part, latents=latents))
        return parts[0] if len(parts) == 1 else [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


class _Bucket:
    """One batch size: its frames on the host, its tensors on the device, and what binds them."""

    def __init__(
        self,
        session: ort.InferenceSession,
        device: str,
        size: int,
        *,
        graph: int | None,
        pin: Callable[[NDArray[np.generic]], None],
    ) -> None:
        self.size = size
        self._session = session
        self._options = ort.RunOptions()
        if graph is not None:
            self._options.add_run_config_entry("gpu_graph_id", str(graph))
        self._frames: NDArray[np.uint8] = np.zeros((size, *map(int, FRAMES.shape[1:])), np.uint8)
        pin(self._frames)
        self._input = ort.OrtValue.ortvalue_from_numpy(self._frames, device, 0)
        self._outputs = {spec.name: _allocate(spec, size, device) for spec in (PROBABILITY, LATENTS)}
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(FRAMES.name, self._input)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def run(self, frames: NDArray[np.uint8], *, latents: bool) -> list[NDArray[np.float32]]:
        """Run 1 to `size` frames; latents stay on the device unless they are asked for."""
        self._frames[: len(frames)] = frames
        self._input.update_inplace(self._frames)
        self._session.run_with_iobinding(self._binding, self._options)
        self._binding.synchronize_outputs()
        wanted = [PROBABILITY, LATENTS] if latents else [PROBABILITY]
        return [np.array(self._outputs[spec.name].numpy()[: len(frames)]) for spec in wanted]


def _allocate(spec: TensorSpec, size: int, device: str) -> ort.OrtValue:
    shape = [size, *map(int, spec.shape[1:])]
    return ort.OrtValue.ortvalue_from_shape_and_type(shape, np.dtype(spec.dtype).type, device, 0)
