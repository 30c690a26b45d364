"""`golden.npz`: a few frames with the answer that the exported model gave, so that any machine can test itself."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, get_args

import numpy as np

from service.contract.manifest import Precision
from service.contract.tensors import FRAMES, PROBABILITY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Golden"]

_MAX_BYTES: Final = 64 * 1024 * 1024
_UNREADABLE: Final = (KeyError, TypeError, OSError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Golden:
    """Frames and the probabilities expected for them.

    Attributes:
        frames: uint8 [K,64,64,3] RGB, K >= 1.
        probability: float32 [K,64,64], 0..1.
        tolerance: Largest absolute difference in probability that still counts as the same answer.
        tolerances: The same for precisions that need one of their own.

    Raises:
        ValueError: An array of the wrong type or shape, a probability or a tolerance outside 0..1.
    """

    frames: NDArray[np.uint8]
    probability: NDArray[np.float32]
    tolerance: float
    tolerances: Mapping[Precision, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        k = len(self.frames) if self.frames.ndim else 0
        for array, spec in ((self.frames, FRAMES), (self.probability, PROBABILITY)):
            if k < 1 or array.dtype != spec.dtype or array.shape != (k, *spec.shape[1:]):
                raise ValueError(f"expected {spec}, got {array.dtype} {list(array.shape)}")
        if not (self.probability.min() >= 0 and self.probability.max() <= 1):
            raise ValueError("expected probabilities of 0..1, got others")
        for tolerance in (self.tolerance, *self.tolerances.values()):
            if not 0 <= tolerance < 1:
                raise ValueError(f"expected tolerances of at least 0 and below 1, got {tolerance}")

    def allowed(self, precision: Precision) -> float:
        """The largest absolute difference that this precision may show."""
        return self.tolerances.get(precision, self.tolerance)

    def first(self) -> Golden:
        """The first frame alone, in memory of its own."""
        return replace(self, frames=self.frames[:1].copy(), probability=self.probability[:1].copy())

    def to_bytes(self) -> bytes:
        """The content of `golden.npz`."""
        arrays: dict[str, Any] = {"frames": self.frames, "probability": self.probability, "tolerance": self.tolerance}
        arrays |= {f"tolerance_{precision}": value for precision, value in self.tolerances.items()}
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Golden:
        """Read `golden.npz`.

        Raises:
            ValueError: Not such a file, or one that unpacks to more than 64 MiB; nothing in it is ever unpickled.
        """
        try:
            unpacked = sum(member.file_size for member in zipfile.ZipFile(io.BytesIO(content)).infolist())
            if unpacked > _MAX_BYTES:
                raise ValueError(f"expected at most {_MAX_BYTES} bytes unpacked, got {unpacked}")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return cls(
                    frames=arrays["frames"],
                    probability=arrays["probability"],
                    tolerance=float(arrays["tolerance"]),
                    tolerances={
                        precision: float(arrays[f"tolerance_{precision}"])
                        for precision in get_args(Precision)
                        if f"tolerance_{precision}" in arrays
                    },
                )
        except _UNREADABLE as error:
            raise ValueError(
                f"expected the arrays frames, probability and tolerance in an .npz file, got {error}"
            ) from error
