"""The model's inputs and outputs: what every bundle's graph offers and every caller may rely on."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["FRAMES", "FRAME_SIZE", "INPUTS", "LATENTS", "OUTPUTS", "PROBABILITY", "TensorSpec"]

FRAME_SIZE: Final = 64
"""Height and width of the model's frames and masks, in pixels."""


class TensorSpec(BaseModel):
    """Name, element type and shape of a tensor; an axis given by name ("N", the frames of a batch) is dynamic."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        """As people write it: `frames uint8 [N,64,64,3]`."""
        return f"{self.name} {self.dtype} [{','.join(map(str, self.shape))}]"


FRAMES: Final = TensorSpec(name="frames", dtype="uint8", shape=("N", FRAME_SIZE, FRAME_SIZE, 3))
"""RGB, 0..255; normalisation is inside the graph."""

PROBABILITY: Final = TensorSpec(name="probability", dtype="float32", shape=("N", FRAME_SIZE, FRAME_SIZE))
"""How likely each pixel is robot, 0..1; the sigmoid is inside the graph."""

LATENTS: Final = TensorSpec(name="latents", dtype="float32", shape=("N", 16, 16, 240))
"""Features of the VideoGPT frame encoder, one vector for every 4x4 pixels."""

INPUTS: Final = (FRAMES,)
OUTPUTS: Final = (PROBABILITY, LATENTS)
