"""Frames in, probabilities and latents out, whatever the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

from service.contract import FRAME_SIZE, INPUTS, LATENTS, PROBABILITY
from service.errors import ModelFault
from service.frames.masks import judge_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnxruntime as ort
    from numpy.typing import NDArray

    from service.contract import Precision
    from service.engine.alone import Alone
    from service.engine.choice import Provider
    from service.frames.masks import Verdict

__all__ = ["Engine", "Plain", "Prediction", "Runner"]

MAX_BATCH: Final[dict[Provider, int]] = {"cpu": 1, "cuda": 32, "tensorrt": 32}
"""On a CPU a batch is no faster than its frames one by one on several cores, and those are fairer."""
_MAX_QUICK: Final = 8
"""Unless a frame takes less than handing it to another thread: then so many share the cost of that."""


class Prediction(NamedTuple):
    """What the model says of N frames.

    Attributes:
        probability: float32 [N,64,64], 0..1.
        latents: float32 [N,16,16,240], if asked for.
        threshold: From which probability a pixel is robot, by the model's own account; None if it has none.
        verdicts: What follows from that for each frame.
    """

    probability: NDArray[np.float32]
    latents: NDArray[np.float32] | None
    threshold: float | None = None
    verdicts: Sequence[Verdict] = ()


class Runner(Protocol):
    """How a session is run. Any number of threads may do so at once; arrays that are returned are the caller's."""

    def __call__(self, frames: NDArray[np.uint8], *, latents: bool) -> list[NDArray[np.float32]]:
        """Frames uint8 [N,64,64,3] -> probability and, if asked for, latents."""


class Plain:
    """Runs a session with memory that ONNX Runtime finds by itself."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session

    def __call__(self, frames: NDArray[np.uint8], *, latents: bool) -> list[NDArray[np.float32]]:
        """Frames uint8 [N,64,64,3] -> probability and, if asked for, latents."""
        names = [PROBABILITY.name, LATENTS.name] if latents else [PROBABILITY.name]
        outputs: list[NDArray[np.float32]] = self._session.run(names, {INPUTS[0].name: frames})
        return outputs


class Engine:
    """A model on a device. Any number of threads may run it at once.

    Attributes:
        provider: The device that runs it.
        precision: Which of the bundle's models it is.
        reason: Why it is this device and this precision, for people.
        max_batch: Most frames in one run.
        max_quick: Most frames in one run if they are quick ones.
        threshold: From which probability a pixel is robot, if the model says so.
    """

    def __init__(
        self,
        runner: Runner,
        provider: Provider,
        precision: Precision,
        max_batch: int | None = None,
        reason: str = "",
        alone: Alone | None = None,
        threshold: float | None = None,
    ) -> None:
        self._runner = runner
        self.max_batch = max_batch or MAX_BATCH[provider]
        self.max_quick = max_batch or max(_MAX_QUICK, self.max_batch)
        self.provider: Provider = provider
        self.precision: Precision = precision
        self.reason = reason
        self.threshold = threshold
        self._alone = alone

    def alone(self) -> Engine | None:
        """The same model, quicker for one frame at a time and slower for many; None if it is not (yet) to be had."""
        return None if self._alone is None else self._alone.engine()

    def open_forms(self) -> list[Engine]:
        """This engine and, if it is open by now, the one for one frame at a time."""
        alone = None if self._alone is None else self._alone.opened
        return [self] if alone is None else [self, alone]

    def run(self, frames: NDArray[np.uint8], latents: bool) -> Prediction:
        """Run uint8 frames [N,64,64,3], N >= 1.

        Raises:
            ModelFault: The runtime failed, or gave something that is no probability.
        """
        try:
            outputs = self._runner(frames, latents=latents)
        except Exception as error:
            raise ModelFault(f"expected an answer for {len(frames)} frames, the runtime failed: {error}") from error
        probability = outputs[0]
        if probability.shape != (len(frames), FRAME_SIZE, FRAME_SIZE) or not np.isfinite(probability).all():
            raise ModelFault(f"expected {PROBABILITY} of finite numbers, the model gave others")
        # Judged here, all together: on the event loop, one by one, it would be a tenth of what a quick request takes.
        verdicts = () if self.threshold is None else judge_frames(probability, self.threshold)
        return Prediction(probability, outputs[1] if latents else None, self.threshold, verdicts)
