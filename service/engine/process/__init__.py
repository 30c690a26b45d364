"""A quick model in a process of its own: the event loop has the interpreter for itself, the model another core."""

from service.engine.process.parent import Landed, ModelProcess
from service.engine.process.shared import MOST_FRAMES

__all__ = ["MOST_FRAMES", "Landed", "ModelProcess"]
