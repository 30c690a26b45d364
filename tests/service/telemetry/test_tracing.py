"""Spans as a collector gets them, over OTLP, from a real service."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from service_kit import golden_frames, png, serving
from websockets.sync.client import connect

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
ROOT = Path(__file__).parents[3]


class Collector:
    """Takes what is exported to it."""

    def __init__(self) -> None:
        self.resource: dict[str, Any] = {}
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                for group in request.resource_spans:
                    collector.resource |= values(group.resource)
                    collector.spans += [span for scope in group.scope_spans for span in scope.spans]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def requests(self, name: str) -> list[tuple[Any, dict[str, Any]]]:
        """Each span of this name, and those inside it by theirs."""
        return [
            (span, {child.name: child for child in self.spans if child.parent_span_id == span.span_id})
            for span in self.spans
            if span.name == name
        ]


def values(span: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def test_a_request_is_a_span_with_its_stages_inside_in_their_order(repository: Path, collector: Collector) -> None:
    with serving(repository, otlp_endpoint=collector.address) as service:
        answer = service.segment(png(golden_frames()[0]), headers={"X-Request-Id": "robot-7"})
        service.client.get("/livez")
    (span, stages), *others = collector.requests("POST /segment")
    assert not others
    assert list(stages) == ["receive", "decode", "queue", "infer", "encode"]
    times = [(stage.start_time_unix_nano, stage.end_time_unix_nano) for stage in stages.values()]
    flat = [span.start_time_unix_nano, *(moment for pair in times for moment in pair), span.end_time_unix_nano]
    assert flat == sorted(flat)
    assert not span.parent_span_id
    said = values(span)
    assert said["robomask.request_id"] == answer.headers["X-Request-Id"] == "robot-7"
    assert said["http.response.status_code"] == 200
    assert (said["robomask.model.name"], said["robomask.model.version"], said["robomask.frames"]) == ("tiny", 1, 1)
    assert collector.resource["service.name"] == "robomask"
    assert {span.name for span in collector.spans} == {"POST /segment", *stages}


def test_a_request_belongs_to_the_trace_that_it_names(repository: Path, collector: Collector) -> None:
    frame = png(golden_frames()[0])
    with serving(repository, otlp_endpoint=collector.address) as service:
        service.segment(frame, headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
        service.segment(frame, headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
        service.segment(frame, headers={"traceparent": "no such thing"})
        with connect(
            f"ws://127.0.0.1:{service.port}/stream", additional_headers={"traceparent": f"00-{TRACE}-{CALLER}-01"}
        ) as stream:
            stream.recv()
            stream.send(frame)
            stream.recv()
    ours = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    assert {span.name for span in ours if span.parent_span_id.hex() == CALLER} == {"POST /segment", "frame of /stream"}
    assert len(collector.requests("POST /segment")) == 2, "what the caller does not sample is not sampled here"


def test_a_request_that_is_refused_says_why(repository: Path, collector: Collector) -> None:
    with serving(repository, otlp_endpoint=collector.address) as service:
        service.segment(b"no picture")
        service.client.get("/nowhere")
    (refused, stages), (lost, _) = *collector.requests("POST /segment"), *collector.requests("GET other")
    assert not stages
    assert values(refused)["http.response.status_code"] == 400
    assert values(refused)["error.type"] == "frame-undecodable"
    assert values(lost)["http.response.status_code"] == 404


def test_calls_over_grpc_are_traced(repository: Path, collector: Collector) -> None:
    client = pytest.importorskip("tritonclient.grpc")
    with serving(repository, otlp_endpoint=collector.address, grpc_port=0) as service:
        tensor = client.InferInput("frames", [1, 64, 64, 3], "UINT8")
        tensor.set_data_from_numpy(golden_frames()[:1])
        with client.InferenceServerClient(f"127.0.0.1:{service.grpc_port}") as triton:
            triton.infer("tiny", [tensor], headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
    ((span, stages),) = collector.requests("inference.GRPCInferenceService/ModelInfer")
    assert span.trace_id.hex() == TRACE
    assert list(stages) == ["receive", "decode", "queue", "infer", "encode"]


def test_a_collector_that_is_gone_holds_nothing_up(repository: Path) -> None:
    with serving(repository, otlp_endpoint="http://127.0.0.1:9") as service:
        assert service.segment(png(golden_frames()[0])).status_code == 200


@pytest.mark.parametrize("address", ["", "http://127.0.0.1:9"])
def test_opentelemetry_is_loaded_only_where_its_variable_names_a_collector(repository: Path, address: str) -> None:
    program = (
        "import sys; from service.app import create_app, create_models; from service.settings import Settings\n"
        f"settings = Settings(models={str(repository)!r})\n"
        "create_app(settings, create_models(settings), print)\n"
        "print('opentelemetry.sdk' in sys.modules)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OTEL_EXPORTER_OTLP_ENDPOINT": address}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(bool(address))
