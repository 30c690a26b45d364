"""What becomes of connections while the event loop is busy, and while the service stops; real sockets."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop
from service_kit import publish_tiny

from service.app import create_models
from service.settings import Settings
from service.web.server import Server, refuse_new_connections, waiting_connections

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    try:
        made = socket.create_server(("", 0), family=request.param)
    except OSError as error:
        pytest.skip(f"no such network here: {error}")
    with made:
        made.settimeout(10)
        yield made


def knock(listener: socket.socket, wait_s: float) -> socket.socket:
    loopback = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
    return socket.create_connection((loopback, listener.getsockname()[1]), timeout=wait_s)


def test_who_waits_to_be_accepted_is_counted(listener: socket.socket) -> None:
    assert waiting_connections(listener.fileno()) == 0
    with knock(listener, 10), knock(listener, 10):
        assert waiting_connections(listener.fileno()) == 2
        listener.accept()[0].close()
        assert waiting_connections(listener.fileno()) == 1


def test_who_is_in_is_still_heard_and_who_knocks_is_not_let_in(listener: socket.socket) -> None:
    with knock(listener, 10) as early:
        refuse_new_connections(listener.fileno())
        with pytest.raises(TimeoutError):
            knock(listener, 0.3)
        early.sendall(b"frame")
        with listener.accept()[0] as accepted:
            accepted.settimeout(10)
            assert accepted.recv(5) == b"frame"


def test_who_is_half_in_is_let_in_whole(listener: socket.socket) -> None:
    """With deferred accept the kernel ends a handshake when the first bytes of the request come."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    with knock(listener, 10) as client:
        refuse_new_connections(listener.fileno())
        assert waiting_connections(listener.fileno()) == 0
        client.sendall(b"frame")
        with listener.accept()[0] as accepted:
            accepted.settimeout(10)
            assert accepted.recv(5) == b"frame"


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application that nobody asks."""


def test_several_connections_are_accepted_in_one_turn_of_the_event_loop(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    config = uvicorn.Config(nothing, port=0, lifespan="off", log_config=None)
    server = Server(config, create_models(Settings(models=str(tmp_path))))

    async def scenario() -> None:
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        address = server.servers[0].sockets[0].getsockname()
        clients = [socket.create_connection(address, timeout=20) for _ in range(8)]  # the loop is busy here
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(server.server_state.connections) == len(clients)
        for client in clients:
            client.close()
        server.force_exit = True
        await server.shutdown()

    uvloop.run(scenario())
