"""The other side of the process that runs a model: begins it, hands it batches, and hears what has come of them."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import socket
import subprocess
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Final, Protocol

from service.contract import BundleInvalid
from service.engine.process.shared import ANSWER, ASK, PLACES, READY, Places

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from service.contract import Bundle, Precision
    from service.engine.running import Prediction

__all__ = ["Landed", "ModelProcess"]

_log = logging.getLogger(__name__)

_OPENS_S: Final = 60.0
_ENDS_S: Final = 5.0


class Landed(Protocol):
    """Told what has come of a batch."""

    def __call__(self, prediction: Prediction | None, began_s: float, ended_s: float, /) -> None:
        """Called from the event loop: with what the model says, or with None if it has failed.

        Args:
            prediction: What it says.
            began_s: When the run began, `time.perf_counter`.
            ended_s: When it ended.
        """


class ModelProcess:
    """A model of a bundle, open in a process of its own that runs batches in the order in which they come. Linux only.

    Once it is open it is used from the thread of one event loop. The process ends with this object.

    Args:
        bundle: The bundle.
        precision: Which of its models.
        in_blocks: How its channels are laid out, see `open_session`.

    Raises:
        BundleInvalid: It cannot be opened any more, or does not answer as it should.
        OSError: There can be no such process here.
    """

    def __init__(self, bundle: Bundle, precision: Precision, *, in_blocks: bool) -> None:
        self._threshold = bundle.manifest.threshold
        memory = os.memfd_create("robomask")
        try:
            os.ftruncate(memory, Places.size())
            self._places = Places(mmap.mmap(memory, Places.size()))
            own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with other:
                process = _begin(bundle, precision, other.fileno(), memory, in_blocks=in_blocks)
        finally:
            os.close(memory)
        self._ends = _Ends(own, process)
        self._end = weakref.finalize(self, self._ends.close)
        self._free = list(range(PLACES))
        self._landed: dict[int, tuple[Landed, bool]] = {}
        self.is_open = True
        self._hear_first(bundle)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._ends.process.pid

    @property
    def has_place(self) -> bool:
        """Whether it takes another batch now."""
        return bool(self._free)

    def launch(
        self, loop: asyncio.AbstractEventLoop, parts: Sequence[NDArray[np.uint8]], *, latents: bool, landed: Landed
    ) -> bool:
        """Have a batch run, for which there has to be a place; whether it is going to be told what has come of it.

        Args:
            loop: The event loop that runs, always the same.
            parts: Frames, each part [N,64,64,3], together at most `MOST_FRAMES`.
            latents: Whether latents are wanted.
            landed: Told what has come of it; not if the process is gone.
        """
        if not self.is_open:
            return False
        if self._ends.loop is None:
            self._listen(loop)
        place = self._free[-1]
        count = self._places.put_frames(place, parts)
        try:
            self._ends.channel.send(ASK.pack(place, count, latents))
        except OSError:
            self.is_open = False
            return False
        self._free.pop()
        self._landed[place] = landed, latents
        return True

    def _hear_first(self, bundle: Bundle) -> None:
        """Wait until the model is open."""
        self._ends.channel.settimeout(_OPENS_S)
        try:
            said = self._ends.channel.recv(4096)
        except TimeoutError:
            said = f"it was not open within {_OPENS_S:g} s".encode()
        if said != READY:
            self._end()
            why = said.decode("utf-8", "replace") or "it has ended"
            raise BundleInvalid(f"{bundle.folder}: expected to open the model in a process of its own, but {why}")
        self._ends.channel.setblocking(False)
        manifest = bundle.manifest
        _log.info(
            "model %s version %d: where there is much to do, frames are run in a process of its own, number %d",
            *(manifest.name, manifest.version, self.pid),
        )

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear of what has been run; the event loop does not keep the process for that."""
        own = weakref.ref(self)

        def hear() -> None:
            process = own()
            if process is not None:
                process.hear()

        self._ends.loop = loop
        loop.add_reader(self._ends.channel, hear)

    def hear(self) -> None:
        """Something has been said: called by the event loop."""
        with contextlib.suppress(BlockingIOError):
            try:
                message = self._ends.channel.recv(ANSWER.size)
            except ConnectionError:
                message = b""
            if not message:
                self._lose()
                return
            place, count, went_well, began_s, ended_s = ANSWER.unpack(message)
            landed, latents = self._landed.pop(place)
            prediction = None
            if went_well:
                prediction = self._places.prediction(place, count, self._threshold, latents=latents)
            self._free.append(place)
            landed(prediction, began_s, ended_s)

    def _lose(self) -> None:
        """The process has ended by itself."""
        self.is_open = False
        if self._ends.loop is not None:
            self._ends.loop.remove_reader(self._ends.channel)
        _log.warning("the process of a model has ended; its frames are run by the threads of this one")
        lost, self._landed = self._landed, {}
        for landed, _ in lost.values():
            landed(None, 0.0, 0.0)


class _Ends:
    """What has to be ended, and where."""

    def __init__(self, channel: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self.channel = channel
        self.process = process
        self.loop: asyncio.AbstractEventLoop | None = None

    def close(self) -> None:
        """From any thread, and as the interpreter ends."""
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed
                self.loop.call_soon_threadsafe(self._close_in_loop)
                return
        self._close()

    def _close_in_loop(self) -> None:
        if self.loop is not None:
            self.loop.remove_reader(self.channel)
        threading.Thread(target=self._close, name="robomask-process", daemon=True).start()

    def _close(self) -> None:
        self.channel.close()  # which ends it
        try:
            self.process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _begin(
    bundle: Bundle, precision: Precision, channel: int, memory: int, *, in_blocks: bool
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "service.engine.process.child", str(bundle.folder.absolute()), precision]
    command += [str(int(in_blocks)), str(channel), str(memory)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(  # noqa: S603 - this very program
        command, stdin=subprocess.DEVNULL, pass_fds=(channel, memory), env=environment
    )
