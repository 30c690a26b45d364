"""gRPC's health check: is the service ready.

Source: grpc/doc/health-checking.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from service.errors import ModelUnknown, NotReady, quoted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.oip.rpc_answers import Inquiry
    from service.oip.schema import Schema
    from service.versions.models import Models

__all__ = ["HealthAnswers"]

_LOOK_AFTER_S: Final = 1.0


class HealthAnswers:
    """Answers of the service `grpc.health.v1.Health`.

    Args:
        models: Know whether the service is ready.
        schema: The service's messages.
        service: The service that can be asked after; the empty name, the whole server, can be too.
        stopping: Set when watching has to end.
    """

    def __init__(self, models: Models, schema: Schema, service: str, stopping: asyncio.Event) -> None:
        self._models = models
        self._response = schema.messages["HealthCheckResponse"]
        self._known = {"", service}
        self._stopping = stopping

    async def check(self, request: Any, _: Inquiry) -> Any:
        """Whether to send requests here.

        Raises:
            ModelUnknown: There is no such service.
        """
        if request.service not in self._known:
            raise ModelUnknown(
                f"expected no service or one of {', '.join(sorted(self._known - {''}))}, got {quoted(request.service)}"
            )
        return self._response(status=self._status(request.service))

    async def watch(self, request: Any) -> AsyncIterator[Any]:
        """The same, now and whenever it changes."""
        told = None
        while not self._stopping.is_set():
            if (status := self._status(request.service)) != told:
                yield self._response(status=status)
                told = status
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _LOOK_AFTER_S)

    def _status(self, service: str) -> str:
        if service not in self._known:
            return "SERVICE_UNKNOWN"
        try:
            self._models.check_ready()
        except NotReady:
            return "NOT_SERVING"
        return "SERVING"
