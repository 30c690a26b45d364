"""Before an engine may serve: does it answer as it did when it was exported, and has everything happened once?"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import numpy as np

from service.contract import FRAME_SIZE, LATENTS, BundleInvalid
from service.errors import ModelFault
from service.machine.background import at_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.contract import Golden
    from service.engine.running import Engine
    from service.machine.background import Pace

__all__ = ["self_test", "warm_up"]


def self_test(engine: Engine, golden: Golden, pace: Pace = at_once) -> float:
    """Run the golden frames, all at once and one alone; returns the largest difference found.

    Args:
        engine: What is tested.
        golden: Frames and what is expected for them.
        pace: How each run is done.

    Raises:
        BundleInvalid: The answers differ by more than the bundle allows.
    """
    allowed = golden.allowed(engine.precision)
    try:
        together = pace(lambda: engine.run(golden.frames, latents=True))
        alone = pace(lambda: engine.run(golden.frames[:1], latents=False))
    except ModelFault as error:
        raise BundleInvalid(f"expected the golden frames to run, got: {error}") from error
    if together.latents is None or together.latents.shape != (len(golden.frames), *LATENTS.shape[1:]):
        raise BundleInvalid(f"expected {LATENTS}, the model gave {getattr(together.latents, 'shape', None)}")
    difference = max(
        float(np.abs(together.probability - golden.probability).max()),
        float(np.abs(alone.probability - golden.probability[:1]).max()),
    )
    if difference > allowed:
        raise BundleInvalid(
            f"expected probabilities within {allowed:g} of the golden ones, got a difference of {difference:.4g}: "
            f"the {engine.precision} model on {engine.provider} does not answer as it did when it was exported"
        )
    return difference


def warm_up(engine: Engine, batch_sizes: Sequence[int], pace: Pace = at_once) -> float:
    """Run every batch size twice, so that no client pays for what happens at a first time; returns the seconds."""
    started = time.perf_counter()
    for size in batch_sizes:
        frames = np.zeros((size, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
        for latents in (False, True):
            pace(functools.partial(engine.run, frames, latents))
    return time.perf_counter() - started
