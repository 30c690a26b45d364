"""What stands between clients and replicas: something like a Kubernetes Service, and a real HAProxy as an ingress.

Neither decides which replicas it may use: it is told, as kube-proxy and ingress controllers are.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from service.bench.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ["Balancer", "HAProxy", "ServiceLike"]


class Balancer(Protocol):
    """Takes connections on a port of its own and leads them to replicas on this machine."""

    port: int

    async def __aenter__(self) -> Self:
        """Start, with no replica."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""

    async def put_in(self, replica: int) -> None:
        """Use the replica of this port from now on."""

    async def take_out(self, replica: int) -> None:
        """Give the replica of this port nothing new."""

    def notes(self) -> str:
        """What there is to tell in the end."""


class ServiceLike:
    """Chooses a replica for each connection, in turn, and stays out of it from then on; so does kube-proxy.

    What is sent on a connection is passed on as it comes, and nothing is ever sent twice. Only if a replica refuses the
    connection, before a byte has gone to it, the next one is tried; kube-proxy leaves that to the client.
    """

    port: int

    def __init__(self) -> None:
        self._replicas: list[int] = []
        self._turn = itertools.count()
        self._connections = self._refused = 0

    async def __aenter__(self) -> Self:
        """Start, with no replica."""
        self._server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._server.close()

    async def put_in(self, replica: int) -> None:
        """Use the replica of this port from now on."""
        self._replicas.append(replica)

    async def take_out(self, replica: int) -> None:
        """Choose the replica of this port no more; connections that it has go on."""
        self._replicas.remove(replica)

    def notes(self) -> str:
        """What there is to tell in the end."""
        return f"{self._connections} connections, {self._refused} times refused by a replica and led to another"

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            for _ in range(max(1, len(self._replicas))):
                replica = self._replicas[next(self._turn) % len(self._replicas)]
                try:
                    back_reader, back_writer = await asyncio.open_connection("127.0.0.1", replica)
                except ConnectionRefusedError:
                    self._refused += 1
                    continue
                await asyncio.gather(_pass_on(reader, back_writer), _pass_on(back_reader, writer))
                return
        finally:
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until one side ends; then end the other."""
    try:
        with contextlib.suppress(ConnectionError):  # closing tells the other direction
            while some := await reader.read(65_536):
                writer.write(some)
                await writer.drain()
    finally:
        writer.close()


_HAPROXY = """
global
    stats socket {folder}/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option redispatch 1
    retries 3
    retry-on conn-failure
frontend clients
    bind 127.0.0.1:{port}
    default_backend replicas
backend replicas
    balance roundrobin
"""


class HAProxy:
    """A real HAProxy, which has to be on the path: chooses a replica for each request, and keeps connections to them.

    It sends a request again only if the connection was not made (`retry-on conn-failure`); that is its default.

    Args:
        replicas: Ports of all replicas that there may be.
    """

    def __init__(self, replicas: Sequence[int]) -> None:
        self.port = free_port()
        self._known = replicas
        self._folder = tempfile.TemporaryDirectory()

    async def __aenter__(self) -> Self:
        """Start, with no replica."""
        program = shutil.which("haproxy")
        if program is None:
            raise SystemExit("expected haproxy on the path, found none: install it, or use --balancer service")
        servers = "".join(f"    server at{port} 127.0.0.1:{port} disabled\n" for port in self._known)
        config = Path(self._folder.name, "haproxy.cfg")
        content = _HAPROXY.format(folder=self._folder.name, port=self.port) + servers
        await asyncio.to_thread(config.write_text, content, "utf-8")
        self._process = await asyncio.create_subprocess_exec(program, "-q", "-db", "-f", config)
        while await self._say("show info") is None:
            if self._process.returncode is not None:
                raise SystemExit("expected haproxy to start, it ended; its own message says why")
            await asyncio.sleep(0.02)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._process.kill()
        await self._process.wait()
        self._folder.cleanup()

    async def put_in(self, replica: int) -> None:
        """Use the replica of this port from now on."""
        await self._say(f"set server replicas/at{replica} state ready")

    async def take_out(self, replica: int) -> None:
        """Send the replica of this port no new request."""
        await self._say(f"set server replicas/at{replica} state drain")

    def notes(self) -> str:
        """What there is to tell in the end."""
        return "balanced by haproxy, each request on its own"

    async def _say(self, command: str) -> str | None:
        try:
            reader, writer = await asyncio.open_unix_connection(Path(self._folder.name, "admin.sock"))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        writer.write(f"{command}\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        return answer
