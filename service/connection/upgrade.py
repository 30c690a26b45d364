"""Clients that would like to go on in another protocol: who does not mean a websocket is answered in HTTP/1.1.

curl's `--http2` and some clients' first request ask for h2c, in the hope that the server speaks it. A server may go on
as if they had not asked (RFC 9110, section 7.8); the parser would take what follows the head for the other protocol.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["PlainProtocol"]

_ASKS: Final = frozenset({b"upgrade", b"http2-settings"})
"""Headers that ask for it, and what `Connection` says of them."""


class PlainProtocol(HttpToolsProtocol):
    """uvicorn's protocol, in which requests that ask for another are requests like others.

    Args:
        *args: uvicorn's.
        **kwargs: uvicorn's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._declined = False

    def on_headers_complete(self) -> None:
        """Leave a request that asks for another protocol to be read again."""
        self._declined = (
            self.parser.should_upgrade() and not self._should_upgrade() and self.parser.get_method() != b"CONNECT"
        )
        if not self._declined:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole; what has been declined ends with its head for the parser."""
        if not self._declined:
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response(f"got one that cannot be read: {error}")
        except httptools.HttpParserUpgrade as stop:
            if self._declined:
                self._read_again(data[stop.args[0] :])
            elif self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._unsupported_upgrade_warning()

    def _read_again(self, rest: bytes) -> None:
        """Read the head without what asks for another protocol, then what has come behind it."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            told = value
            if name == b"connection":
                options = [option.strip() for option in value.split(b",")]
                told = b", ".join(option for option in options if option.lower() not in _ASKS)
            if name not in _ASKS and (told or not value):
                lines.append(name + b": " + told)
        self._declined = False
        self.parser = httptools.HttpRequestParser(self)
        with suppress(AttributeError):  # as uvicorn sets its own
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        PlainProtocol.data_received(self, b"\r\n".join([*lines, b"", rest]))
