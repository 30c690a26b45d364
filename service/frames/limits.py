"""How much one request may ask for, and the checks that say no before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import Busy, TooLarge

__all__ = ["Limits", "MemoryBudget", "PixelMeter"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of one request; the settings of the same names say what they are for."""

    max_body_bytes: int
    max_frames: int
    max_pixels: int
    max_side: int
    max_request_pixels: int

    def check_frames(self, count: int) -> None:
        """Refuse more frames than one request may have.

        Raises:
            TooLarge: There are more.
        """
        if count > self.max_frames:
            raise TooLarge(
                f"expected at most {self.max_frames} frames in one request, got {count}; send them in several requests"
            )

    def check_bytes(self, count: int) -> None:
        """Refuse a body of more bytes than one request may have.

        Raises:
            TooLarge: There are more.
        """
        if count > self.max_body_bytes:
            raise TooLarge(
                f"expected a body of at most {self.max_body_bytes} bytes, got {count} or more; "
                "send fewer or smaller frames, or compress them"
            )


class PixelMeter:
    """Counts the pixels of one request, frame by frame, from their headers."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pixels = 0

    def admit(self, width: int, height: int, frame: int) -> None:
        """Admit one more frame.

        Raises:
            TooLarge: The frame, or all of the request's frames together, have too many pixels.
        """
        limits = self._limits
        if max(width, height) > limits.max_side or width * height > limits.max_pixels:
            raise TooLarge(
                f"expected at most {limits.max_pixels} pixels and no side over {limits.max_side}, "
                f"got {width}x{height}; the model sees 64x64, so send a smaller picture",
                frame=frame,
            )
        self._pixels += width * height
        if self._pixels > limits.max_request_pixels:
            raise TooLarge(
                f"expected at most {limits.max_request_pixels} pixels in all frames of a request, got "
                f"{self._pixels} up to this one; send the frames in several requests",
                frame=frame,
            )


class MemoryBudget:
    """Bytes of bodies and answers that all requests together may hold. Used from the event loop only."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def reserve(self, count: int) -> None:
        """Take so many bytes.

        Raises:
            Busy: They are not there now.
        """
        if self.held_bytes + count > self._limit_bytes:
            raise Busy(
                f"expected at most {self._limit_bytes} bytes in all requests at once, this one would go over; "
                "come again later or send smaller frames",
                reason="memory",
            )
        self.held_bytes += count

    def release(self, count: int) -> None:
        """Give so many bytes back."""
        self.held_bytes -= count
