"""What is scheduled: a model, frames for it, and what comes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from service.engine import Prediction
    from service.scheduling.estimate import RunTime
    from service.scheduling.freshness import Freshness
    from service.scheduling.promise import Promise

__all__ = ["Done", "Job", "Model"]


class Model(Protocol):
    """What can be scheduled; any number of threads may run it at once."""

    @property
    def max_batch(self) -> int:
        """Most frames in one run."""

    @property
    def max_quick(self) -> int:
        """Most frames in one run if they are so quick that handing them over costs as much as running them."""

    def alone(self) -> Model | None:
        """The same model, quicker for one frame at a time and slower for many, if there is one."""

    def run(self, frames: NDArray[np.uint8], latents: bool) -> Prediction:
        """Frames [N,64,64,3] -> what the model says of them."""


class Done(NamedTuple):
    """A job's prediction, when it ran, in seconds of `time.perf_counter`, and how many jobs ran in one with it."""

    prediction: Prediction
    started_s: float
    ended_s: float
    jobs: int = 1


@dataclass(slots=True, eq=False)
class Job:
    """Frames of one request that run together, and where their result is told.

    Attributes:
        model: What runs them.
        frames: uint8 [N,64,64,3].
        latents: Whether latents are wanted.
        promise: Where the result is told.
        run_time: What the model is known to take.
        freshness: How long they are worth an answer.
        due_s: When the model has to be done with them, `time.perf_counter`.
        submitted_s: When they came.
        place_s: Where they stand in the queue: the one with the least is next.
        cost_s: What running them was expected to take when they came.
    """

    model: Model
    frames: NDArray[np.uint8]
    latents: bool
    promise: Promise[Done]
    run_time: RunTime
    freshness: Freshness
    due_s: float
    submitted_s: float
    place_s: float = 0.0
    cost_s: float = field(default=0.0, init=False)
