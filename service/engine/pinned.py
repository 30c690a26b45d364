"""Page-locked host memory, through the CUDA runtime that ONNX Runtime has loaded already."""

from __future__ import annotations

import ctypes
import logging
import weakref
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["pinner"]

_log = logging.getLogger(__name__)

_RUNTIMES: Final = ("libcudart.so.13", "libcudart.so.12", "libcudart.so")


def pinner() -> Callable[[NDArray[np.generic]], None]:
    """A function that locks an array in memory for as long as it lives.

    It does nothing where it cannot: copies are then somewhat slower and otherwise the same.
    """
    runtime = _runtime()
    if runtime is None:
        _log.info("no CUDA runtime library found: copies to the GPU go through pageable memory")
        return lambda _: None

    def pin(array: NDArray[np.generic]) -> None:
        address = ctypes.c_void_p(array.ctypes.data)
        status = runtime.cudaHostRegister(address, ctypes.c_size_t(array.nbytes), ctypes.c_uint(0))
        if status == 0:
            weakref.finalize(array, runtime.cudaHostUnregister, address)
        else:
            _log.info("cudaHostRegister gave %d: copies to the GPU go through pageable memory", status)

    return pin


def _runtime() -> Any | None:
    for name in _RUNTIMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
