"""gRPC as clients other than Triton's see it: codes, deadlines, cancellation, health, streams that stay open."""

import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import pytest
from codec_threads import stages_of
from service_kit import Running, golden_frames, serving

from service.oip.schema import Schema, read_schema

FRAMES = golden_frames()[:1]


@pytest.fixture(scope="module")
def schema() -> Schema:
    return read_schema("open_inference.proto")


@pytest.fixture(scope="module")
def health() -> Schema:
    return read_schema("health.proto")


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Running]:
    with serving(repository, max_frames=8, grpc_port=0, queue_limit=16) as running:
        yield running


@pytest.fixture
def channel(server: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


def caller(channel: grpc.Channel, schema: Schema, name: str) -> Callable[..., Any]:
    """A unary method that takes bytes or a message."""
    (method,) = (method for method in schema.methods if method.name == name)
    return channel.unary_unary(
        f"/{schema.service}/{name}",
        request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
        response_deserializer=method.response.FromString,
    )


def request_for(schema: Schema, frames: np.ndarray = FRAMES, **changes: Any) -> Any:
    request = schema.messages["ModelInferRequest"](model_name="tiny", **changes)
    request.inputs.add(name="frames", datatype="UINT8", shape=frames.shape)
    request.raw_input_contents.append(frames.tobytes())
    request.outputs.add(name="probability")
    return request


def test_bytes_that_are_no_message_are_the_clients_fault(channel: grpc.Channel, schema: Schema) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        caller(channel, schema, "ModelInfer")(b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "inference.ModelInferRequest" in caught.value.details()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda r: r.ClearField("inputs"), "one input"),
        (lambda r: r.inputs.add(name="frames"), "got 2"),
        (lambda r: r.ClearField("raw_input_contents"), "0 raw tensors and no contents"),
        (lambda r: r.raw_input_contents.append(b""), "2 raw tensors"),
        (lambda r: r.inputs[0].contents.uint_contents.append(1), "1 raw tensors and its contents"),
        (lambda r: r.inputs[0].shape.append(1), "[N,64,64,3]"),
        (lambda r: r.inputs[0].ClearField("shape"), "[N,64,64,3]"),
        (lambda r: r.inputs[0].shape.__setitem__(0, -(2**63)), "N from 1"),
        (lambda r: r.inputs[0].shape.__setitem__(0, 2), "24576 bytes"),
        (lambda r: r.inputs[0].parameters["shared_memory_region"], "shared_memory_region"),
        (lambda r: r.outputs[0].parameters["classification"], "classification"),
        (lambda r: setattr(r.parameters["timeout"], "int64_param", -5), "microseconds"),
        (lambda r: setattr(r.parameters["timeout"], "string_param", "soon"), "microseconds"),
        (lambda r: r.ClearField("raw_input_contents") or r.inputs[0].contents.SetInParent(), "got none"),
        (lambda r: r.ClearField("raw_input_contents") or r.inputs[0].contents.int_contents.append(1), "int_contents"),
        (
            lambda r: r.ClearField("raw_input_contents") or r.inputs[0].contents.uint_contents.extend([256] * 12288),
            "0 to 255",
        ),
    ],
)
def test_what_is_wrong_is_said(
    channel: grpc.Channel, schema: Schema, edit: Callable[[Any], object], words: str
) -> None:
    request = request_for(schema)
    edit(request)
    infer = caller(channel, schema, "ModelInfer")
    with pytest.raises(grpc.RpcError) as caught:
        infer(request, metadata=(("x-request-id", "mine"),))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()
    assert dict(caught.value.trailing_metadata())["x-request-id"] == "mine"
    assert infer(request_for(schema)).outputs[0].name == "probability"


def test_no_mutation_of_a_message_is_the_services_fault(channel: grpc.Channel, schema: Schema) -> None:
    dice = random.Random(5)  # noqa: S311 - the same mutations every time
    infer, whole = caller(channel, schema, "ModelInfer"), request_for(schema, id="a")
    whole.parameters["timeout"].int64_param = 9_000_000
    seed = whole.SerializeToString()
    reach = seed.index(FRAMES.tobytes()[:32])
    for _ in range(300):
        data = bytearray(seed)
        for _ in range(dice.randint(1, 3)):
            at = dice.choice([dice.randrange(reach), dice.randrange(len(seed) - 40, len(seed))])
            data[at : at + dice.choice([0, 1, 1, 3])] = dice.randbytes(dice.choice([0, 1, 1, 2]))
        code = infer.future(bytes(data)).code()  # waits
        assert code not in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}, bytes(data)
    assert infer(whole).id == "a"


def test_a_message_beyond_every_valid_request_is_refused(channel: grpc.Channel, schema: Schema) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        caller(channel, schema, "ModelInfer")(bytes(2_000_000))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_method_that_is_not_there(channel: grpc.Channel, schema: Schema) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{schema.service}/TraceSetting")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


class _Held:
    """A model that runs when it is told to, in place of the one in service."""

    def __init__(self, running: Running) -> None:
        self._engine = running.models.slot().engine
        run_time = stages_of(running).scheduler._run_time(self._engine)
        for _ in range(20):  # of a quick one, a frame is run on the event loop, and several leave a core to that
            run_time.add(1, 0.02, time.perf_counter())
        self._run = self._engine.run
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()

    def __enter__(self) -> Self:
        def run(frames: np.ndarray, latents: bool) -> Any:
            self.entered.release()
            assert self.go.wait(60)
            return self._run(frames, latents)

        self._engine.run = run  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        del self._engine.run


def gauge(running: Running, name: str) -> float:
    lines = running.client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_a_full_queue_says_when_to_come_again_and_a_cancelled_call_leaves_it(
    server: Running, channel: grpc.Channel, schema: Schema
) -> None:
    infer = caller(channel, schema, "ModelInfer")
    with _Held(server) as held:
        running = infer.future(request_for(schema, np.repeat(FRAMES, 2, axis=0)))
        for _ in range(2):  # a frame for each worker
            held.entered.acquire()
        eight = np.repeat(FRAMES, 8, axis=0)
        waiting = [infer.future(request_for(schema, eight)) for _ in range(2)]
        while gauge(server, "robomask_queue_depth") < 16:
            pass
        with pytest.raises(grpc.RpcError) as caught:
            infer(request_for(schema))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        told = dict(caught.value.trailing_metadata())
        assert int(told["grpc-retry-pushback-ms"]) == 1000 * int(told["retry-after"]) > 0
        assert told["robomask-error"] == "busy"
        waiting[0].cancel()
        while gauge(server, "robomask_queue_depth") > 8:
            pass
        with pytest.raises(grpc.RpcError) as caught:
            infer(request_for(schema), timeout=0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        timed = request_for(schema)
        timed.parameters["timeout"].int64_param = 10_000
        with pytest.raises(grpc.RpcError, match="within 10 ms") as caught:
            infer(timed)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        while gauge(server, "robomask_queue_depth") > 8:
            pass
        held.go.set()
        assert [len(call.result(30).raw_output_contents) for call in (running, waiting[1])] == [1, 1]
    assert gauge(server, "robomask_queue_depth") == 0


def test_of_frames_of_a_stream_only_the_newest_is_answered(
    server: Running, channel: grpc.Channel, schema: Schema
) -> None:
    infer = caller(channel, schema, "ModelInfer")
    begun_s = time.time() - 10

    def send(number: int) -> Any:
        told = (("x-stream-id", "arm"), ("x-captured-at", f"{begun_s + number}"))
        return infer.future(request_for(schema), metadata=told)

    with _Held(server) as held:
        running = [infer.future(request_for(schema)) for _ in range(2)]
        for _ in running:
            held.entered.acquire()
        older = send(1)
        while gauge(server, "robomask_queue_depth") < 1:
            pass
        newer = send(2)
        for overtaken in (older, send(0)):
            with pytest.raises(grpc.RpcError) as caught:
                overtaken.result(30)
            assert caught.value.code() is grpc.StatusCode.ABORTED
        held.go.set()
        assert [len(call.result(30).raw_output_contents) for call in (*running, newer)] == [1, 1, 1]
    with pytest.raises(grpc.RpcError) as caught:
        send(1).result(30)
    assert dict(caught.value.trailing_metadata())["robomask-error"] == "superseded"


def outcome(running: Running, name: str) -> float:
    return gauge(running, f'robomask_frames_total{{outcome="{name}"}}')


def test_a_call_that_grpc_ends_at_its_deadline_is_late(repository: Path, schema: Schema) -> None:
    """It waits to be decoded, where nothing but gRPC itself looks at the clock."""
    with (
        serving(repository, max_frames=128, grpc_port=0) as running,
        grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel,
    ):
        codec = running._server.config.app.express._segment._pipeline.stages._codec  # type: ignore[union-attr]
        go, held = threading.Event(), threading.Barrier(3)
        for _ in range(2):
            codec.submit(lambda: (held.wait(60), go.wait(60)))
        held.wait(60)
        try:
            with pytest.raises(grpc.RpcError) as caught:
                caller(channel, schema, "ModelInfer")(request_for(schema, np.repeat(FRAMES, 100, axis=0)), timeout=0.2)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            route = f'method="POST",route="/{schema.service}/ModelInfer"'
            while gauge(running, f'robomask_requests_total{{{route},status="504"}}') < 1:
                pass
        finally:
            go.set()
        assert outcome(running, "late") == gauge(running, "robomask_deadline_missed_total") == 1
        assert outcome(running, "abandoned") == 0


def test_what_is_turned_away_before_it_is_read_is_counted_with_frames_alone(
    server: Running, channel: grpc.Channel, schema: Schema
) -> None:
    infer, old = caller(channel, schema, "ModelInfer"), time.time() - 10
    before = {name: outcome(server, name) for name in ("late", "refused")}
    with pytest.raises(grpc.RpcError):
        infer(request_for(schema), metadata=(("x-captured-at", f"{old:.3f}"), ("x-max-age-ms", "100")))
    with pytest.raises(grpc.RpcError):
        infer(b"\xff\xff\xff")
    other = request_for(schema)
    other.model_name = "other"
    with pytest.raises(grpc.RpcError):
        infer(other)
    with pytest.raises(grpc.RpcError):
        caller(channel, schema, "ModelMetadata")(b"\xff\xff\xff")
    assert {name: outcome(server, name) - count for name, count in before.items()} == {"late": 1, "refused": 2}


def test_health_follows_readiness_and_streams_end_when_the_service_does(
    repository: Path, schema: Schema, health: Schema
) -> None:
    with (
        serving(repository, grpc_port=0) as running,
        grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel,
    ):
        request, response = health.messages["HealthCheckRequest"], health.messages["HealthCheckResponse"]
        check = caller(channel, health, "Check")
        for service in ("", schema.service):
            assert check(request(service=service)) == response(status="SERVING")
        with pytest.raises(grpc.RpcError) as caught:
            check(request(service="other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watched = channel.unary_stream(
            f"/{health.service}/Watch",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )(request())
        assert next(watched) == response(status="SERVING")
        talking = threading.Event()
        stream = channel.stream_stream(f"/{schema.service}/ModelStreamInfer")(
            _one_then_silence(request_for(schema), talking)
        )
        answer = schema.messages["ModelStreamInferResponse"]
        assert answer.FromString(next(stream)).infer_response.model_name == "tiny"
        running.models.drain()
        assert next(watched) == response(status="NOT_SERVING")
        assert check(request()) == response(status="NOT_SERVING")
        assert caller(channel, schema, "ServerLive")(b"").live
        assert not caller(channel, schema, "ServerReady")(b"").ready
        assert not caller(channel, schema, "ModelReady")(schema.messages["ModelReadyRequest"](name="tiny")).ready
        server_ends = threading.Thread(target=lambda: (list(watched), list(stream)))
        server_ends.start()
        running.stop()
        server_ends.join(15)  # less than the grace that calls in flight are given
        assert not server_ends.is_alive()
        talking.set()


def _one_then_silence(request: Any, over: threading.Event) -> Iterator[bytes]:
    yield request.SerializeToString()
    over.wait(60)


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", *arguments, "--port", "0"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_port_that_is_taken_stops_the_start_with_a_reason(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = serve("--models", str(repository), "--grpc-port", str(port))
    assert ended.returncode == 1
    assert f"expected to listen for gRPC on 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_grpc_is_not_imported_where_it_is_off() -> None:
    script = "import sys, service.commands.serve; sys.exit('grpc' in sys.modules or 'google.protobuf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_where_grpc_is_not_installed_switching_it_on_says_what_to_install(repository: Path) -> None:
    script = (
        "import sys; sys.modules['grpc'] = None; from service.commands.serve import main;"
        f"sys.exit(main(['--models', {str(repository)!r}, '--port', '0', '--grpc-port', '0']))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "install robomask[serve,grpc]" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_calls_that_last_leave_room_for_others(repository: Path, schema: Schema, health: Schema) -> None:
    with (
        serving(repository, grpc_port=0) as running,
        grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel,
    ):
        watch = channel.unary_stream(f"/{health.service}/Watch")
        watching = [watch(b"") for _ in range(64)]
        assert all(map(next, watching))
        with pytest.raises(grpc.RpcError) as caught:
            next(watch(b""))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "at most 64" in caught.value.details()
        assert {"x-request-id", "grpc-retry-pushback-ms"} <= {key for key, _ in caught.value.trailing_metadata()}
        assert 'robomask_shed_total{reason="streams"} 1.0' in running.client.get("/metrics").text
        assert caller(channel, schema, "ServerReady")(b"").ready
        watching[0].cancel()
        while True:
            another = watch(b"")
            try:
                assert next(another)
            except grpc.RpcError:
                continue
            break
