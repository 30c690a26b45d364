"""Which layout of channels a quick model runs in: found by running it, as ONNX Runtime does not know.

It lays channels out in blocks as wide as the processor's registers wherever it can. Where a layer has fewer channels
than that, it computes what nobody asks for, and what runs in between has to be laid out anew.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

from service.contract import FRAMES, PROBABILITY
from service.machine.background import at_once

if TYPE_CHECKING:
    import onnxruntime as ort

    from service.machine.background import Pace

__all__ = ["Laid", "Opens", "quicker_layout"]

_QUICK_S: Final = 0.001
"""A model that takes longer for a frame is not opened a second time: the start would take too long."""
_HELD_UP_S: Final = 0.01
"""How much longer a run may seem to take while another thread has the interpreter, or where it is the very first."""
_LOOKS: Final = 8
_FRAMES: Final = 8
_RUNS: Final = 12


class Opens(Protocol):
    """Opens sessions of one model."""

    def __call__(self, *, in_blocks: bool) -> ort.InferenceSession:
        """In the usual layout, or in the other."""


class Laid(NamedTuple):
    """A session, whether its channels are laid out in blocks, and whether its model is a quick one."""

    session: ort.InferenceSession
    in_blocks: bool
    is_quick: bool


def quicker_layout(open_in: Opens, pace: Pace = at_once) -> Laid:
    """The session in the layout in which a model is quicker, if it is a quick model; or in the usual one.

    Args:
        open_in: Opens them, at its own pace.
        pace: How each run is done.
    """
    usual = open_in(in_blocks=True)
    if not _is_quick(usual, pace):
        return Laid(usual, in_blocks=True, is_quick=False)
    sessions = [usual, open_in(in_blocks=False)]
    # In turns, and the best of each: what else the machine does comes and goes.
    times = [[pace(functools.partial(_run_s, each, _FRAMES)) for each in sessions] for _ in range(_RUNS)]
    best = int(np.min(times, axis=0).argmin())
    return Laid(sessions[best], in_blocks=best == 0, is_quick=True)


def _is_quick(session: ort.InferenceSession, pace: Pace) -> bool:
    """Whether one of a few runs is quick; none of them may take so long that the model cannot be."""
    try:
        for _ in range(_LOOKS):
            run_s = pace(functools.partial(_run_s, session, 1))
            if run_s < _QUICK_S:
                return True
            if run_s > _QUICK_S + _HELD_UP_S:
                return False
    except Exception:  # noqa: BLE001 - it is said by whoever tests what it answers
        return False
    return False


def _run_s(session: ort.InferenceSession, count: int) -> float:
    """What a run of so many frames takes."""
    frames = np.zeros((count, *map(int, FRAMES.shape[1:])), np.uint8)
    started_s = time.perf_counter()
    session.run([PROBABILITY.name], {FRAMES.name: frames})
    return time.perf_counter() - started_s
