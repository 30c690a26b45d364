"""Servers of a few lines, for what the service itself does not do: keep silent, hang up, redirect, go away."""

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from websockets.sync.server import ServerConnection, serve

BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nserver-timing: queue;dur=9\r\n\r\n"
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nserver-timing: infer;dur=1.5\r\n\r\nok"


class SmallServer:
    """Gives the same answer to every request, or a few in turn.

    Args:
        answers: The answers; with None it hangs up, with b"" it says nothing.
        host: Where to listen.
        connections: With one more than these it goes away, and all of them with it.
        takes: After so many it takes no more, and goes on with those that it has.
    """

    def __init__(self, answers: Sequence[bytes | None], host: str, connections: int, takes: int) -> None:
        self._answers = itertools.cycle(answers)
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._connections = connections
        self._takes = takes
        self._taken: list[socket.socket] = []
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self.heads: list[bytes] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Go away."""
        for each in (self._listener, *self._taken):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._taken) <= self._connections:
                connection, _ = self._listener.accept()
                self._taken.append(connection)
                if len(self._taken) == self._takes:
                    self._listener.close()
                if len(self._taken) <= self._connections:
                    threading.Thread(target=self._talk, args=(connection,), daemon=True).start()
        if len(self._taken) > self._connections:
            self.close()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as source:
            while head := _head(source):
                self.heads.append(head)
                lengths = [line[15:] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
                source.read(int(lengths[0]) if lengths else 0)
                answer = next(self._answers)
                if answer is None:
                    return
                connection.sendall(answer)


def _head(source: BinaryIO) -> bytes:
    """A request's head without the empty line at its end; nothing if the client has hung up."""
    lines = []
    while (line := source.readline()) not in {b"\r\n", b""}:
        lines.append(line)
    return b"".join(lines)


@contextmanager
def small_server(
    *answers: bytes | None, host: str = "127.0.0.1", connections: int = 10_000, takes: int = 10_000
) -> Iterator[SmallServer]:
    """A small server, for as long as it is needed."""
    server = SmallServer(answers, host, connections, takes)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def answering(script: Callable[[ServerConnection], None], **options: Any) -> Iterator[str]:
    """A server of websockets that does what the script says: its address. Options are those of websockets."""
    with serve(script, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http{'s' if 'ssl' in options else ''}://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()
