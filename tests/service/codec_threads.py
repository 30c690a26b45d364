"""The threads of a running service that decode and encode."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service_kit import Running

from service.stages import Stages


def stages_of(running: Running) -> Stages:
    """What every way to its model shares."""
    stages: Stages = running._server.config.app.express._segment._pipeline.stages  # type: ignore[union-attr]
    return stages


@contextmanager
def codec_held(running: Running) -> Iterator[None]:
    """Let no thread come to what waits to be decoded or written."""
    codec = stages_of(running)._codec
    go, held = threading.Event(), threading.Barrier(3)
    for _ in range(2):
        codec.submit(lambda: (held.wait(60), go.wait(60)))
    held.wait(60)
    try:
        yield
    finally:
        go.set()
