"""`/v2` as clients other than Triton's see it, and what it says no to."""

import gzip
import json
import random
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from service_kit import Running, golden_frames, red_probability, serving

Check = Callable[..., dict[str, Any]]
FRAMES = golden_frames()[:1]
INFER = "/v2/models/tiny/infer"


def request_for(data: Any = None, **changes: Any) -> dict[str, Any]:
    """A request in JSON; arguments change its input, or with a leading `_` the request itself."""
    given = {"name": "frames", "datatype": "UINT8", "shape": [1, 64, 64, 3]}
    given["data"] = FRAMES.ravel().tolist() if data is None else data
    own = {key[1:]: changes.pop(key) for key in list(changes) if key.startswith("_")}
    given |= changes
    return {"inputs": [{key: value for key, value in given.items() if value is not Ellipsis}]} | own


def post(service: Running, document: Any, tail: bytes | None = None, **headers: str) -> httpx.Response:
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    if tail is not None:
        headers = {"Inference-Header-Content-Length": str(len(head))} | headers
    return service.client.post(INFER, content=head + (tail or b""), headers=headers)


def test_health_is_what_kserves_client_reads(service: Running) -> None:
    # It takes `live` and `ready` out of the body, and a model's readiness from the status.
    for path, body in {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2/models/tiny/ready": {"name": "tiny", "ready": True},
        "/v2/models/tiny/versions/1/ready": {"name": "tiny", "ready": True},
    }.items():
        response = service.client.get(path)
        assert response.is_success
        assert response.json() == body
        assert service.client.head(path).is_success
    assert service.client.get("/v2/models/other/ready").status_code == 404


def test_a_service_that_stops_is_live_and_not_ready(repository: Path) -> None:
    with serving(repository) as running:
        running.models.drain()
        assert running.client.get("/v2/health/live").json() == {"live": True}
        for path in ("/v2/health/ready", "/v2/models/tiny/ready"):
            response = running.client.get(path)
            assert response.status_code == 503
            assert response.headers["Retry-After"]
            assert "stopping" in response.json()["error"]


def test_metadata_is_what_kserve_writes_of_a_model(service: Running) -> None:
    model = service.client.get("/v2/models/tiny").json()
    assert model.keys() == {"name", "versions", "platform", "inputs", "outputs"}
    assert all(tensor.keys() == {"name", "datatype", "shape"} for tensor in model["inputs"] + model["outputs"])
    assert service.client.get("/v2").json().keys() == {"name", "version", "extensions"}


@pytest.mark.parametrize("data", [FRAMES.tolist(), FRAMES.ravel().tolist(), FRAMES.reshape(64, -1).tolist()])
def test_json_may_be_nested_or_flat(service: Running, data: Any) -> None:
    response = post(service, request_for(data, _id="seven", _outputs=[{"name": "probability"}]))
    body = response.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("tiny", "1", "seven")
    (output,) = body["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP32", [1, 64, 64])
    assert np.allclose(np.reshape(output["data"], (1, 64, 64)), red_probability(FRAMES), atol=1e-5)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Model-Version"] == "1"
    assert "infer" in response.headers["Server-Timing"]


def test_without_an_id_none_is_answered_and_without_outputs_all_are(service: Running) -> None:
    body = post(service, request_for()).json()
    assert "id" not in body
    assert [(output["name"], len(output["data"])) for output in body["outputs"]] == [
        ("probability", 64 * 64),
        ("latents", 16 * 16 * 240),
    ]


def test_null_is_as_good_as_left_out(service: Running) -> None:
    outputs = [{"name": "probability", "parameters": None}]
    document = request_for(_id=None, _parameters=None, _outputs=outputs, parameters=None)
    (output,) = post(service, document).json()["outputs"]
    assert np.allclose(np.reshape(output["data"], (1, 64, 64)), red_probability(FRAMES), atol=1e-5)
    assert len(post(service, request_for(_outputs=None)).json()["outputs"]) == 2
    behind = binary()
    behind["inputs"][0]["data"] = None
    assert post(service, behind, FRAMES.tobytes()).status_code == 200


def test_a_body_that_is_nothing_but_frames_is_answered_in_bytes(service: Running) -> None:
    frames = golden_frames()
    response = post(service, b"", frames.tobytes())
    length = int(response.headers["Inference-Header-Content-Length"])
    outputs = json.loads(response.content[:length])["outputs"]
    assert [output["shape"] for output in outputs] == [[3, 64, 64], [3, 16, 16, 240]]
    size = outputs[0]["parameters"]["binary_data_size"]
    probability = np.frombuffer(response.content[length : length + size], "<f4").reshape(3, 64, 64)
    assert np.allclose(probability, red_probability(frames), atol=1e-5)


def binary(**changes: Any) -> dict[str, Any]:
    return request_for(**({"data": ..., "parameters": {"binary_data_size": FRAMES.nbytes}} | changes))


@pytest.mark.parametrize(
    ("document", "tail", "status", "code", "words"),
    [
        (b"", None, 400, "body-missing", "no bytes"),
        (b"{", None, 400, "body-malformed", "no JSON"),
        (b"[" * 4000, None, 400, "body-malformed", "no JSON"),
        (b"\xff\xfe", None, 400, "body-malformed", "no JSON"),
        (b"[1]", None, 400, "body-malformed", "list of 1"),
        ({}, None, 400, "tensor-invalid", "`inputs`"),
        ({"inputs": []}, None, 400, "tensor-invalid", "list of 0"),
        ({"inputs": ["frames"]}, None, 400, "tensor-invalid", "one object"),
        ({"inputs": [1, 2]}, None, 400, "tensor-invalid", "list of 2"),
        (request_for(name=7), None, 400, "tensor-invalid", "got 7"),
        (request_for(datatype="FP32"), None, 400, "tensor-invalid", "'FP32'"),
        (request_for(datatype=...), None, 400, "tensor-invalid", "None"),
        (request_for(shape=[64, 64, 3]), None, 400, "tensor-invalid", "[N,64,64,3]"),
        (request_for(shape=[-1, 64, 64, 3]), None, 400, "tensor-invalid", "N from 1"),
        (request_for(shape=[0, 64, 64, 3]), None, 400, "tensor-invalid", "N from 1"),
        (request_for(shape=[True, 64, 64, 3]), None, 400, "tensor-invalid", "True"),
        (request_for(shape=[1.0, 64, 64, 3]), None, 400, "tensor-invalid", "1.0"),
        (request_for(shape="1,64,64,3"), None, 400, "tensor-invalid", "1,64,64,3"),
        (request_for(shape=[10**30, 64, 64, 3]), None, 413, "too-large", "at most 8 frames"),
        (request_for(shape=[9, 64, 64, 3]), None, 413, "too-large", "at most 8 frames"),
        (request_for([0] * 12287), None, 400, "tensor-invalid", "got 12287"),
        (request_for([0] * 12287 + [256]), None, 400, "tensor-invalid", "0 to 255"),
        (request_for([0] * 12287 + [-1]), None, 400, "tensor-invalid", "0 to 255"),
        (request_for([0] * 12287 + [10**40]), None, 400, "tensor-invalid", "0 to 255"),
        (request_for([0] * 12287 + [0.5]), None, 400, "tensor-invalid", "float"),
        (request_for([0] * 12287 + ["0"]), None, 400, "tensor-invalid", "str"),
        (request_for([0] * 12287 + [None]), None, 400, "tensor-invalid", "NoneType"),
        (request_for([0] * 12287 + [True]), None, 400, "tensor-invalid", "bool"),
        (request_for([[0] * 12287, 0]), None, 400, "tensor-invalid", "list"),
        (request_for([[[[[0]]]]]), None, 400, "tensor-invalid", "list"),
        (request_for([]), None, 400, "tensor-invalid", "0 to 255"),
        (request_for("AAAA"), None, 400, "tensor-invalid", "str"),
        (request_for({}), None, 400, "tensor-invalid", "dict"),
        (request_for(...), None, 400, "tensor-invalid", "none"),
        (request_for([0] * 110_000), None, 413, "too-large", "98304 numbers"),
        (request_for(_id=7), None, 400, "body-malformed", "`id`"),
        (request_for(_parameters=[]), None, 400, "body-malformed", "`parameters`"),
        (request_for(parameters="x"), None, 400, "body-malformed", "`parameters`"),
        (request_for(parameters={"shared_memory_region": "x"}), None, 422, "parameter-invalid", "shared_memory"),
        (request_for(_parameters={"binary_data_output": 1}), None, 400, "body-malformed", "true or false"),
        (request_for(_parameters={"timeout": -1}), None, 422, "parameter-invalid", "microseconds"),
        (request_for(_parameters={"timeout": 1e400}), None, 422, "parameter-invalid", "microseconds"),
        (request_for(_parameters={"timeout": 1 << 64}), None, 422, "parameter-invalid", "microseconds"),
        (request_for(_parameters={"timeout": "1"}), None, 422, "parameter-invalid", "microseconds"),
        (request_for(_outputs={}), None, 400, "tensor-invalid", "`outputs`"),
        (request_for(_outputs=[1]), None, 400, "tensor-invalid", "`outputs`"),
        (request_for(_outputs=[{}]), None, 400, "tensor-invalid", "probability, latents"),
        (request_for(_outputs=[{"name": []}]), None, 400, "tensor-invalid", "probability, latents"),
        (
            request_for(_outputs=[{"name": "probability", "parameters": {"classification": 3}}]),
            None,
            422,
            "parameter-invalid",
            "classification",
        ),
        (binary(), None, 400, "body-malformed", "Inference-Header-Content-Length"),
        (binary(), b"", 400, "body-malformed", "to be 0"),
        (binary(), FRAMES.tobytes() + b"x", 400, "body-malformed", "12289"),
        (binary(parameters={"binary_data_size": 12289}), FRAMES.tobytes() + b"x", 400, "tensor-invalid", "12288 bytes"),
        (binary(parameters={"binary_data_size": -1}), FRAMES.tobytes(), 400, "body-malformed", "-1"),
        (binary(parameters={"binary_data_size": 12288.0}), FRAMES.tobytes(), 400, "body-malformed", "12288.0"),
        (binary(data=[1]), FRAMES.tobytes(), 400, "body-malformed", "got both"),
        (request_for(), FRAMES.tobytes(), 400, "body-malformed", "`binary_data_size`"),
        (b"", b"x" * 100, 400, "tensor-invalid", "12288 bytes"),
        (b"", b"x" * 12288 * 9, 413, "too-large", "at most 8 frames"),
    ],
)
def test_what_is_wrong_is_said(
    service: Running, assert_problem: Check, *, document: Any, tail: bytes | None, status: int, code: str, words: str
) -> None:
    assert_problem(post(service, document, tail), status, code, words)


@pytest.mark.parametrize("length", ["-1", "1e3", "", "٣", "99999999", "9" * 5000, "0x10", "1 2"])
def test_a_header_length_that_is_none(service: Running, assert_problem: Check, length: str) -> None:
    headers = [("Inference-Header-Content-Length", length.encode())]
    response = service.client.post(INFER, content=json.dumps(binary()).encode() + FRAMES.tobytes(), headers=headers)
    assert_problem(response, 400, "body-malformed", "Inference-Header-Content-Length")


@pytest.mark.parametrize(
    ("encoding", "body", "status", "words"),
    [
        ("br", b"x", 415, "'br'"),
        ("gzip, gzip", b"x", 415, "'gzip, gzip'"),
        ("gzip", b"no gzip", 400, "cannot be unpacked"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-4], 400, "only a part"),
        ("gzip", gzip.compress(b"{}", mtime=0) * 2, 400, "more behind"),
        ("deflate", zlib.compress(b"{}")[:-1], 400, "only a part"),
        ("gzip", gzip.compress(bytes(60_000_000), mtime=0), 413, "40000000 bytes"),
        ("gzip", gzip.compress(b"", mtime=0), 400, "no bytes"),
    ],
)
def test_compressed_bodies_are_bounded(
    service: Running, assert_problem: Check, *, encoding: str, body: bytes, status: int, words: str
) -> None:
    response = service.client.post(INFER, content=body, headers={"Content-Encoding": encoding})
    code = {415: "media-type-unsupported", 413: "too-large"}.get(status) or response.json()["type"].split(":")[-1]
    assert_problem(response, status, code, words)


@pytest.mark.parametrize("version", ["0", "-1", "x", "01x", "9" * 400, "2"])
def test_a_version_that_is_not_in_service(service: Running, assert_problem: Check, version: str) -> None:
    for path in (f"/v2/models/tiny/versions/{version}", f"/v2/models/tiny/versions/{version}/config"):
        assert_problem(service.client.get(path), 404, "model-unknown", "expected")


def test_changing_models_is_closed_without_a_token(service: Running, assert_problem: Check) -> None:
    for act in ("load", "unload"):
        response = service.client.post(f"/v2/repository/models/tiny/{act}", headers={"Authorization": "Bearer x"})
        assert_problem(response, 403, "admin-closed", "ROBOMASK_ADMIN_TOKEN")


def test_the_admin_token_opens_and_another_does_not(repository: Path) -> None:
    with serving(repository, admin_token="geheim-ü") as running:  # noqa: S106 - of this test only

        def load(authorization: str | None, **options: Any) -> httpx.Response:
            headers = [] if authorization is None else [("Authorization", authorization.encode())]
            return running.client.post("/v2/repository/models/tiny/load", headers=headers, **options)

        for authorization in (None, "", "Bearer", "Bearer x", "Basic geheim-ü", "geheim-ü", "Bearer geheim-ü2"):
            response = load(authorization)
            assert response.status_code == 401, authorization
            assert response.headers["WWW-Authenticate"] == "Bearer"
        for right in ("Bearer geheim-ü", "bearer  geheim-ü"):
            assert load(right).status_code == 200
        for version, status in ((1, 200), ("1", 200), (2, 404), ("x", 404), (-1, 404), (True, 404)):
            assert load(right, json={"parameters": {"version": version}}).status_code == status
        assert load(right, json={"parameters": []}).status_code == 400
        assert load(right, content=b"{").status_code == 400


def test_the_index_takes_a_body_or_none(service: Running, assert_problem: Check) -> None:
    path = "/v2/repository/index"
    whole = service.client.post(path).json()
    assert whole == service.client.post(path, json={"ready": True}).json()
    assert whole == [{"name": "tiny", "version": "1", "state": "READY", "reason": ""}]
    assert_problem(service.client.post(path, content=b"{"), 400, "body-malformed", "JSON")


def test_routes_that_are_not_there_have_errors_that_triton_reads(service: Running, assert_problem: Check) -> None:
    assert_problem(service.client.get("/v2/systemsharedmemory/status"), 404, "not-found")
    assert_problem(service.client.get(INFER), 405, "method-not-allowed", "POST")


def test_no_mutation_of_a_request_is_the_services_fault(service: Running) -> None:
    dice = random.Random(11)  # noqa: S311 - the same mutations every time
    head = json.dumps(binary(_id="a", _outputs=[{"name": "probability"}], _parameters={"timeout": 9_000_000})).encode()
    seeds = [head + FRAMES.tobytes(), json.dumps(request_for(_outputs=[{"name": "probability"}])).encode()]
    words = [
        b"null",
        b"-1",
        b"1e999",
        b"[]",
        b"{}",
        b'""',
        b"9" * 40,
        b"true",
        b"\x00",
        b"\xc3",
        b"[[",
        b"NaN",
        b'"\\ud800"',
    ]
    for attempt in range(240):
        body = bytearray(seeds[attempt % 2])
        reach = len(head) if attempt % 2 == 0 else min(len(body), 200)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(reach)
            body[at : at + dice.choice([0, 1, 1, 4])] = dice.choice([*words, dice.randbytes(1)])
        length = dice.choice([len(head), len(head) + len(body) - len(seeds[0]), dice.randrange(len(body) + 2)])
        headers = {"Inference-Header-Content-Length": str(length)} if attempt % 2 == 0 else {}
        response = service.client.post(INFER, content=bytes(body), headers=headers)
        assert response.status_code < 500, (response.text, bytes(body[:400]))
        assert response.is_success or response.json()["error"]
    assert post(service, request_for()).is_success


def test_the_headers_of_segment_that_say_how_long_an_answer_is_wanted_count(
    service: Running, assert_problem: Check
) -> None:
    assert_problem(post(service, request_for(), **{"X-Deadline-Ms": "0.001"}), 504, "deadline-missed", "within 0 ms")
    assert_problem(post(service, request_for(), **{"X-Deadline-Ms": "soon"}), 422, "parameter-invalid", "soon")
    assert post(service, request_for(_parameters={"timeout": 1 << 62}), **{"X-Stream-Id": "arm"}).is_success


def test_of_frames_of_a_stream_that_wait_to_be_read_only_the_newest_is(repository: Path, assert_problem: Check) -> None:
    many = np.repeat(FRAMES, 100, axis=0)
    wanted = [{"name": "probability", "parameters": {"binary_data": True}}]
    document = binary(shape=list(many.shape), parameters={"binary_data_size": many.nbytes}, _outputs=wanted)
    head = json.dumps(document).encode()
    pool = ThreadPoolExecutor(3)

    def send(number: int, encoding: str) -> Future[httpx.Response]:
        body = head + many.tobytes()
        told = {
            "Inference-Header-Content-Length": str(len(head)),
            "X-Stream-Id": "arm",
            "X-Captured-At": f"{begun_s + number}",
            "Content-Encoding": encoding,
        }
        content = gzip.compress(body) if encoding == "gzip" else body
        return pool.submit(running.client.post, INFER, content=content, headers=told)

    with serving(repository, max_frames=128) as running:
        begun_s = time.time() - 10
        stages = running._server.config.app.express._segment._pipeline.stages  # type: ignore[union-attr]
        go, held = threading.Event(), threading.Barrier(3)
        for _ in range(2):
            stages._codec.submit(lambda: (held.wait(60), go.wait(60)))
        held.wait(60)
        try:
            older = send(1, "gzip")
            while not stages.decoding._inside:
                assert not older.done()
            newer = send(2, "identity")
            assert_problem(older.result(60), 409, "superseded", "newest frame of its stream")
            assert_problem(send(1, "identity").result(60), 409, "superseded")
        finally:
            go.set()
        assert newer.result(60).is_success
        assert_problem(send(1, "gzip").result(60), 409, "superseded")
