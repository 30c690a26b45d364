"""Whom to measure: an address, and the requests it is sent."""

from __future__ import annotations

import http.client
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service.bench.errors import BenchError
from service.bench.payloads import Payload, draw_frame
from service.bench.wire import authority, request_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Target", "probe", "segment_target", "v2_target"]


@dataclass(frozen=True)
class Target:
    """A server and what it is sent.

    Attributes:
        host: Name or address.
        port: Port.
        path: Path and query.
        headers: Sent with every request.
        bodies: Sent in turn.
    """

    host: str
    port: int
    path: str
    headers: Mapping[str, str]
    bodies: Sequence[bytes]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port

    @property
    def authority(self) -> str:
        """Host and port, as a URL has them."""
        return authority(self.host, self.port)

    def requests(self, extra: Mapping[str, str], streams: int = 0) -> list[bytes]:
        """The requests, ready to be sent.

        Args:
            extra: More headers.
            streams: For so many streams one each, with an `X-Stream-Id` of its own; several each, but all of them
                equally many, where there are more bodies. So streams that send in turn keep their names.
        """
        headers = [{"X-Stream-Id": f"robot-{index}"} for index in range(streams)] or [{}]
        count = len(headers) * math.ceil(len(self.bodies) / len(headers))
        return [
            request_bytes(
                self.authority,
                self.path,
                {**self.headers, **extra, **headers[index % len(headers)]},
                self.bodies[index % len(self.bodies)],
            )
            for index in range(count)
        ]


def segment_target(url: str, payloads: Sequence[Payload], accept: str) -> Target:
    """`POST /segment`; a URL without a path gets this one.

    Raises:
        BenchError: No address, or payloads that need different ones.
    """
    host, port, path = _parts(url)
    if len({(payload.content_type, payload.query) for payload in payloads}) != 1:
        raise BenchError("expected payloads of one kind in one run, got several; run it once for each")
    query = payloads[0].query
    path = path if path != "/" else "/segment"
    headers = {"Content-Type": payloads[0].content_type, "Accept": accept}
    return Target(
        host,
        port,
        path + (("&" if "?" in path else "?") + query if query else ""),
        headers,
        [payload.content for payload in payloads],
    )


def v2_target(url: str, model: str, tensor: str, output: str) -> Target:
    """`POST /v2/models/{model}/infer` with one 64x64 frame as a binary tensor uint8 [1,64,64,3], and one back.

    A path in the URL is where a gateway has put the server, and stays before `/v2`, unless it is the whole route.

    Source: Open Inference Protocol, binary tensor data extension.
    """
    host, port, path = _parts(url)
    pixels = draw_frame(64, 64).tobytes()
    declared = {"binary_data_size": len(pixels)}
    header = json.dumps(
        {
            "inputs": [{"name": tensor, "datatype": "UINT8", "shape": [1, 64, 64, 3], "parameters": declared}],
            "outputs": [{"name": output, "parameters": {"binary_data": True}}],
        },
        separators=(",", ":"),
    ).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(header))}
    return Target(host, port, _infer_route(path, model), headers, [header + pixels])


def probe(target: Target, timeout_s: float = 10.0) -> bytes:
    """Send every body once; returns the last answer.

    Raises:
        BenchError: Nobody answers, or an answer is no success.
    """
    connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout_s)
    content = b""
    try:
        for body in target.bodies:
            connection.request("POST", target.path, body, dict(target.headers))
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                said = _redirection(response) or content[:300].decode("utf-8", "replace")
                raise BenchError(
                    f"expected status 200 from {target.authority}{target.path}, got {response.status}: {said}"
                )
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(
            f"expected a server at {target.authority}, got no answer ({error}); start it, or use --serve"
        ) from error
    finally:
        connection.close()
    return content


def _redirection(response: http.client.HTTPResponse) -> str:
    """Where an answer sends its reader on to; redirections are not followed, as each would be measured too."""
    location = response.getheader("Location")
    return f"it redirects to {location}; aim --url at where that leads" if location else ""


def _infer_route(path: str, model: str) -> str:
    prefix, mark, query = path.partition("?")
    prefix = prefix.rstrip("/")
    route = prefix if prefix.endswith("/infer") else f"{prefix.removesuffix('/v2')}/v2/models/{model}/infer"
    return route + mark + query


def _parts(url: str) -> tuple[str, int, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError:  # a port that is none
        host = None
    if not host or parts.scheme != "http":
        raise BenchError(f"expected an address http://host:port, got {url!r}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return host, port, path
