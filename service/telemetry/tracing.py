"""Traces by OpenTelemetry: a span for each request, and one inside it for each of its stages. Off unless asked for.

A request's spans are made when it is over, from times that were noted on its way. What is not sampled costs only the
decision. This module loads OpenTelemetry and is imported only where traces are switched on; how they are sampled,
sent and named is set by OpenTelemetry's own variables (`OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, ...).

Source: W3C, "Trace Context"; OpenTelemetry, "Semantic conventions for HTTP spans".
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.call import Call

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["Stage", "Tracing", "open_tracing", "stages_of"]

_CONTEXT: Final = frozenset({b"traceparent", b"tracestate"})
_LAST_EXPORT_S: Final = 3.0
"""How long the last spans may take to go out when the service stops; a collector that is gone must not hold it up."""
_PATH: Final = "/v1/traces"


class _Noted(dict[str, float]):
    """Seconds by stage, and when each was noted, in seconds of `time.perf_counter`."""

    __slots__ = ("at_s",)

    def __init__(self) -> None:
        super().__init__()
        self.at_s: dict[str, float] = {}

    def __setitem__(self, stage: str, seconds: float) -> None:
        super().__setitem__(stage, seconds)
        self.at_s[stage] = time.perf_counter()


@dataclass(slots=True)
class _TracedCall(Call):
    """A call that knows when its stages were, and which trace it belongs to."""

    context: dict[str, str] = field(default_factory=dict)
    stages_s: dict[str, float] = field(default_factory=_Noted)


class Stage(NamedTuple):
    """A stage of a request, in seconds of `time.perf_counter`."""

    name: str
    started_s: float
    ended_s: float


class Tracing:
    """Makes the spans of requests.

    Args:
        exporter: Where they go, in batches, from a thread of its own.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        own = Resource({"service.name": "robomask", "service.version": metadata.version("robomask")})
        self._provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("robomask")
        self._propagator = TraceContextTextMapPropagator()

    def call(self, request_id: str, headers: Iterable[tuple[bytes, bytes]]) -> Call:
        """A call that belongs to the trace that its headers name, names in lower case; or else to one of its own."""
        named = {name: value for name, value in headers if name in _CONTEXT}
        return _TracedCall(
            request_id, context={name.decode(): value.decode("latin-1") for name, value in named.items()}
        )

    def record(self, call: Call, name: str, status: int, attributes: Mapping[str, str | int]) -> None:
        """Make the spans of a call that is over.

        Args:
            call: The call, as made by `call`.
            name: The span's name.
            status: As HTTP has it; from 500 on the span is marked as an error.
            attributes: More of what it says.
        """
        ended_s = time.perf_counter()
        epoch_ns = time.time_ns() - int(ended_s * 1e9)  # of `time.perf_counter`, by the wall clock as it is now

        def at(seconds: float) -> int:
            return epoch_ns + int(seconds * 1e9)

        parent = self._propagator.extract(call.context if isinstance(call, _TracedCall) else {})
        span = self._tracer.start_span(
            name,
            parent,
            SpanKind.SERVER,
            {"robomask.request_id": call.request_id, **attributes},
            start_time=at(call.arrived_s),
        )
        if span.is_recording():
            if call.slot is not None:
                note = call.slot.note
                span.set_attributes(
                    {
                        "robomask.model.name": note.name,
                        "robomask.model.version": note.version,
                        "robomask.frames": call.frames,
                    }
                )
            if call.problem is not None:
                span.set_attribute("error.type", call.problem)
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            inside = set_span_in_context(span)
            for stage in stages_of(call):
                child = self._tracer.start_span(stage.name, inside, start_time=at(stage.started_s))
                child.end(at(stage.ended_s))
        span.end(at(ended_s))

    def close(self) -> None:
        """Send what is left, within reason."""
        last = threading.Thread(target=self._provider.shutdown, name="robomask-traces", daemon=True)
        last.start()
        last.join(_LAST_EXPORT_S)


def stages_of(call: Call) -> list[Stage]:
    """When the stages of a call were: receive (its body), decode, queue, infer, encode, as far as it came."""
    if not isinstance(call.stages_s, _Noted) or "decode" not in call.stages_s:
        return []
    took_s, noted_s = call.stages_s, call.stages_s.at_s
    decoded_s = noted_s["decode"]
    stages = [
        Stage("receive", call.arrived_s, decoded_s - took_s["decode"]),
        Stage("decode", decoded_s - took_s["decode"], decoded_s),
    ]
    if "infer" in took_s:  # noted together, when the event loop heard of it
        started_s = decoded_s + took_s["queue"]
        stages += [Stage("queue", decoded_s, started_s), Stage("infer", started_s, started_s + took_s["infer"])]
    if "encode" in took_s:
        stages.append(Stage("encode", noted_s["encode"] - took_s["encode"], noted_s["encode"]))
    return stages


def open_tracing(endpoint: str | None) -> Tracing:
    """Traces that go to a collector, by OTLP over HTTP.

    Args:
        endpoint: The collector's address, such as http://collector:4318; None for what OpenTelemetry's own variables
            say.
    """
    exporter = OTLPSpanExporter() if endpoint is None else OTLPSpanExporter(endpoint.rstrip("/") + _PATH)
    return Tracing(exporter)
