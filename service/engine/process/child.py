"""The process that runs the model: `python -m service.engine.process.child FOLDER PRECISION IN_BLOCKS CHANNEL MEMORY`.

It ends when the one that has begun it does, or closes the channel, and not by the signals that tell a whole group of
processes to stop: requests that have begun are answered first.
"""

from __future__ import annotations

import contextlib
import mmap
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from service.contract import BundleInvalid, open_bundle
from service.engine.checks import self_test
from service.engine.opening import open_quick
from service.engine.process.shared import ANSWER, ASK, READY, Places
from service.errors import ModelFault
from service.machine.allocator import keep_freed_memory

if TYPE_CHECKING:
    from service.contract import Precision
    from service.engine.running import Engine


def serve(engine: Engine, channel: socket.socket, places: Places) -> None:
    """Run what is asked for until nobody can ask any more.

    Args:
        engine: Runs it.
        channel: Where it is asked for, message by message.
        places: Where the frames are, and the predictions are put.
    """
    while message := channel.recv(ASK.size):
        place, count, latents = ASK.unpack(message)
        began_s = time.perf_counter()
        try:
            places.put(place, engine.run(places.frames(place, count), bool(latents)))
        except ModelFault:  # whoever asked runs it again, and finds out more
            went_well = False
        else:
            went_well = True
        channel.send(ANSWER.pack(place, count, went_well, began_s, time.perf_counter()))


def main(folder: Path, precision: Precision, *, in_blocks: bool, channel: socket.socket, memory: int) -> int:
    """Open the model, say so, and serve."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep_freed_memory()
    try:
        bundle = open_bundle(folder)
        engine = open_quick(bundle, precision, in_blocks=in_blocks)
        self_test(engine, bundle.golden())
    except BundleInvalid as error:
        channel.send(f"{error}".encode()[:1000])
        return 1
    with contextlib.suppress(ConnectionError):  # nobody waits any more
        channel.send(READY)
        serve(engine, channel, Places(mmap.mmap(memory, Places.size())))
    return 0


if __name__ == "__main__":
    asked_for = sys.argv[1:]
    sys.exit(
        main(
            Path(asked_for[0]),
            cast("Precision", asked_for[1]),
            in_blocks=asked_for[2] == "1",
            channel=socket.socket(fileno=int(asked_for[3])),
            memory=int(asked_for[4]),
        )
    )
