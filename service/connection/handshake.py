"""Websockets that do not come about: whoever asks for one in a way that cannot be read is answered, and let go.

uvicorn hands a head that its parser of HTTP has read to a library that reads it again and takes less: no bodies,
shorter lines, fewer headers. What that says of a head it refuses is never sent, and the connection never closed; what
it says of one it reads is plain text.
"""

from __future__ import annotations

import email.utils
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.server import ServerProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.connection.messages import Reply

__all__ = ["HandshakeProtocol"]


class HandshakeProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol for websockets, in which every handshake ends: with a websocket, or an answer and a close.

    Args:
        *args: uvicorn's.
        refuse: The answer to a handshake of which a status and a sentence say why it has failed.
        **kwargs: uvicorn's.
    """

    def __init__(self, *args: Any, refuse: Callable[[int, str], Reply], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Handshake(refuse, max_size=self.config.ws_max_size, logger=self.logger)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client. The first are a whole head: HTTP's parser has seen its end."""
        super().data_received(data)
        if not self.handshake_initiated and not self.close_sent:
            self._turn_away()

    async def send(self, message: Any) -> None:
        """Send a message; an answer in place of a websocket ends the handshake as well."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True  # uvicorn takes it for a fault of the application

    def _turn_away(self) -> None:
        """Answer a head that cannot be read, and hang up."""
        answer = self.conn.data_to_send()
        if not any(answer):
            reason = self.conn.handshake_exc
            why = reason if reason is None else reason.__cause__ or reason
            answer = [self.conn.reject(HTTPStatus.BAD_REQUEST, f"{why}").serialize()]
        self.handshake_complete = self.close_sent = True
        self.transport.write(b"".join(answer))
        self.transport.close()


class _Handshake(ServerProtocol):
    """The library's own, with answers of this service's shape."""

    def __init__(self, refuse: Callable[[int, str], Reply], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._refuse = refuse

    def reject(self, status: HTTPStatus | int, text: str) -> Response:
        reply = self._refuse(int(status), text.partition("\n")[0].removesuffix("."))
        headers = Headers([("Date", email.utils.formatdate(usegmt=True)), ("Connection", "close")])
        headers.update((name.decode(), value.decode()) for name, value in reply.headers)
        return Response(reply.status, HTTPStatus(reply.status).phrase, headers, reply.content)
