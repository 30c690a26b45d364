"""The Open Inference Protocol over gRPC, in the event loop of the service. Imported only where it is switched on.

Source: KServe, "Open Inference Protocol" (V2), gRPC; Triton's extensions to it; grpc/doc/health-checking.md.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from typing import TYPE_CHECKING, Any, Final, Self

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from service.call import Call
from service.errors import BodyMalformed, Busy, RobomaskError, StartFailed
from service.oip.rpc_answers import Answers, Inquiry
from service.oip.rpc_codes import code_of, trailers
from service.oip.rpc_health import HealthAnswers
from service.oip.schema import read_schema
from service.oip.tensors import FRAME_BYTES
from service.scheduling.freshness import STREAM, read_freshness, wall_at
from service.scheduling.places import Places
from service.telemetry.logs import fields
from service.web.middleware import choose_request_id, new_request_id
from service.web.problems import status_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from service.oip.protocol import OpenInference
    from service.oip.schema import Method, Schema
    from service.scheduling.freshness import Freshness
    from service.telemetry.logs import RequestLog
    from service.telemetry.tracing import Tracing

__all__ = ["RpcServer"]

_log = logging.getLogger("service.request")

_BRING_FRAMES: Final = frozenset({"ModelInfer", "ModelStreamInfer"})
_OK: Final = 200
_CLIENT_GONE: Final = 499
_MAX_CALLS: Final = 512
_MAX_STREAMS: Final = 256
_MAX_WATCHERS: Final = 64
"""Calls that last as long as their client likes must leave room for others."""
_HEAD_BYTES: Final = 64 * 1024


class RpcServer:
    """A gRPC server that runs; made by `start`.

    Attributes:
        port: The port that it listens on.
    """

    def __init__(self, server: grpc.aio.Server, port: int, stopping: asyncio.Event) -> None:
        self._server = server
        self._stopping = stopping
        self.port = port

    @classmethod
    async def start(
        cls, protocol: OpenInference, log: RequestLog, host: str, port: int, tracing: Tracing | None = None
    ) -> Self:
        """Listen on a port, 0 for any free one.

        Raises:
            StartFailed: The port cannot be had.
        """
        limits = protocol.tensors.stages.limits
        # A number of typed contents takes two bytes at most; more than this cannot be a request that is answered.
        most_bytes = min(limits.max_body_bytes, 2 * FRAME_BYTES * limits.max_frames) + _HEAD_BYTES
        server = grpc.aio.server(
            maximum_concurrent_rpcs=_MAX_CALLS,
            options=[
                ("grpc.max_receive_message_length", most_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # a port that is taken is an error, not shared
                ("grpc.keepalive_time_ms", 30_000),  # a client that is gone without a word must not hold its stream
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ],
        )
        stopping = asyncio.Event()
        inference, health = read_schema("open_inference.proto"), read_schema("health.proto")
        watch = HealthAnswers(protocol.models, health, inference.service, stopping)
        calls = _Calls(protocol, log, stopping, tracing)
        server.add_generic_rpc_handlers(
            (
                calls.handlers(inference, Answers(protocol, inference).by_method()),
                calls.handlers(health, {"Check": watch.check, "Watch": watch.watch}),
            )
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError as error:
            raise StartFailed(
                f"expected to listen for gRPC on {address}, it cannot be had: {error}; choose another --grpc-port"
            ) from error
        await server.start()
        logging.getLogger(__name__).info("gRPC listens on %s port %d", host, bound)
        return cls(server, bound, stopping)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, end streams, and give calls in flight so long to finish."""
        self._stopping.set()
        await self._server.stop(grace_s)


@dataclasses.dataclass(frozen=True)
class _Calls:
    """What surrounds every call: an id, a deadline, a line in the log, a count, and an answer to every error."""

    protocol: OpenInference
    log: RequestLog
    stopping: asyncio.Event
    tracing: Tracing | None
    streams: Places = dataclasses.field(default_factory=lambda: Places(_MAX_STREAMS, "streams"))
    watchers: Places = dataclasses.field(default_factory=lambda: Places(_MAX_WATCHERS, "calls that watch"))

    def handlers(self, schema: Schema, answers: Mapping[str, Any]) -> grpc.GenericRpcHandler:
        """Handlers of a service's methods, given what answers each.

        They are given bytes, not messages, so that what is no message is answered here.
        """
        made = {}
        for method in schema.methods:
            route, answer = f"/{schema.service}/{method.name}", answers[method.name]
            if method.streams_in:
                made[method.name] = grpc.stream_stream_rpc_method_handler(self._stream(method, route, answer))
            elif method.streams_out:
                made[method.name] = grpc.unary_stream_rpc_method_handler(self._watch(method, answer))
            else:
                made[method.name] = grpc.unary_unary_rpc_method_handler(self._unary(method, route, answer))
        return grpc.method_handlers_generic_handler(schema.service, made)

    def _unary(self, method: Method, route: str, answer: Callable[[Any, Inquiry], Awaitable[Any]]) -> Any:
        async def serve(data: bytes, context: Any) -> bytes:
            inquiry = _inquiry(context, self.tracing)
            context.set_trailing_metadata((("x-request-id", inquiry.call.request_id),))
            result = await self._answered(method, route, answer, data, inquiry)
            if not isinstance(result, RobomaskError):
                return bytes(result.SerializeToString())
            await context.abort(code_of(result), str(result), trailers(result, inquiry.call.request_id))
            raise result  # never: aborting raises

        return serve

    def _stream(self, method: Method, route: str, answer: Callable[[Any, Inquiry], Awaitable[Any]]) -> Any:
        """One request after the other, answered in their order; one that fails does not end the stream."""

        async def serve(_: Any, context: Any) -> None:
            try:
                with self.streams.taken():
                    await answer_each(context)
            except Busy as error:
                await self._refuse(context, error)

        async def answer_each(context: Any) -> None:
            while (data := await self._next(context)) is not None:
                inquiry = _inquiry(context, self.tracing)
                result = await self._answered(method, route, answer, data, inquiry)
                if isinstance(result, RobomaskError):
                    result = method.response(error_message=str(result), infer_response={"id": inquiry.own_id})
                await context.write(result.SerializeToString())

        return serve

    async def _next(self, context: Any) -> bytes | None:
        """The stream's next message; None when there are no more, or the service stops."""
        reading, stopping = asyncio.ensure_future(context.read()), asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return None
            data = reading.result()
            return None if data is grpc.aio.EOF else bytes(data)
        finally:
            reading.cancel()
            stopping.cancel()

    async def _refuse(self, context: Any, error: RobomaskError) -> None:
        """End a call that has not come to a message."""
        self.protocol.metrics.count_failure(error)
        await context.abort(code_of(error), str(error), trailers(error, new_request_id()))

    def _watch(self, method: Method, answers: Callable[[Any], Any]) -> Any:
        async def serve(data: bytes, context: Any) -> None:
            try:
                request = _parsed(method, data)
                with self.watchers.taken():
                    async for response in answers(request):
                        await context.write(response.SerializeToString())
            except RobomaskError as error:
                await self._refuse(context, error)

        return serve

    async def _answered(
        self,
        method: Method,
        route: str,
        answer: Callable[[Any, Inquiry], Awaitable[Any]],
        data: bytes,
        inquiry: Inquiry,
    ) -> Any:
        """The answer to one message, or the error that it met."""
        call, status = inquiry.call, _CLIENT_GONE
        try:
            request = _parsed(method, data)
            inquiry.own_id = getattr(request, "id", "")
            call.freshness = _freshness(inquiry)
            self.protocol.tensors.stages.reserve(call, len(data))
            result = await answer(request, inquiry)
            status = _OK
        except RobomaskError as error:
            result, status = error, self._failed(method, call, error)
        except Exception:  # noqa: BLE001 - nothing that a client sends may end in silence
            _log.exception("a fault of this service", extra=fields(request_id=call.request_id))
            result = RobomaskError(f"expected to answer, but the service failed; its log says why: {call.request_id}")
            status = self._failed(method, call, result)
        except asyncio.CancelledError:
            if call.freshness.due_s <= time.perf_counter():  # gRPC itself gave up on it
                status = self._failed(method, call, call.freshness.missed("gRPC ended the call"))
            raise
        finally:
            self.protocol.tensors.stages.release(call)
            self._account(route, call, status)
        return result

    def _failed(self, method: Method, call: Call, error: RobomaskError) -> int:
        """Count a call that ended in an error; the HTTP status that it would have had."""
        call.problem = error.code
        self.protocol.metrics.count_failure(error)
        if method.name in _BRING_FRAMES:
            self.protocol.tensors.stages.unanswered(call, error)
        return status_of(error)

    def _account(self, route: str, call: Call, status: int) -> None:
        """Count the call under the HTTP status that it would have had, so that one rule sees the errors of both."""
        self.protocol.metrics.requests.labels(route, "POST", str(status)).inc()
        if self.log.enabled(logging.INFO):
            self.log.add(logging.INFO, call, "gRPC", route, status)
        if self.tracing is not None:
            self.tracing.record(call, route[1:], status, {"rpc.system": "grpc", "rpc.method": route[1:]})
        call.slot = None  # a stream remembers its last message, which must not keep a model open


def _inquiry(context: Any, tracing: Tracing | None) -> Inquiry:
    headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    named = headers.get(STREAM.decode(), "").encode("latin-1", "replace")
    request_id = choose_request_id(headers.get("x-request-id", "").encode())
    encoded = ((name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items())
    call = Call(request_id) if tracing is None else tracing.call(request_id, encoded)
    call.stream = named or context.peer()
    return Inquiry(call, headers, context.time_remaining())


def _freshness(inquiry: Inquiry) -> Freshness:
    """How long the answer is wanted: by gRPC's own deadline, or by what metadata of the names of HTTP's headers say."""
    headers = {name.encode(): value.encode("latin-1", "replace") for name, value in inquiry.headers.items()}
    arrived_s, left_s = inquiry.call.arrived_s, inquiry.left_s
    freshness = read_freshness(headers, arrived_s, wall_at)
    if left_s is None or arrived_s + left_s >= freshness.due_s:
        return freshness
    return freshness._replace(due_s=arrived_s + left_s, by_age=False)


def _parsed(method: Method, data: bytes) -> Any:
    try:
        return method.request.FromString(data)
    except DecodeError as error:
        name = method.request.DESCRIPTOR.full_name
        raise BodyMalformed(f"expected a message {name}, got {len(data)} bytes that are none: {error}") from error
