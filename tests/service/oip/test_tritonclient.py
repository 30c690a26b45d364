"""An unmodified `tritonclient` is answered, and with the masks of `/segment`."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from service_kit import Running, golden_frames, serving
from tritonclient.utils import InferenceServerException

FRAMES = golden_frames()
TOKEN = "open sesame"  # noqa: S105 - of these tests only


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Running]:
    with serving(repository, max_frames=8, grpc_port=0, admin_token=TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def segmented(server: Running) -> Any:
    """What `/segment` says of the frames: masks, probability, latents."""
    file = io.BytesIO()
    np.save(file, FRAMES)
    response = server.segment(
        file.getvalue(),
        "application/x-npy",
        params={"probability": "true", "latents": "true", "size": "model"},
        headers={"Accept": "application/x-npz"},
    )
    return np.load(io.BytesIO(response.content))


@pytest.fixture
def http(server: Running) -> Iterator[Any]:
    with triton_http.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.fixture
def rpc(server: Running) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        yield client


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("http" if request.param == "http" else "rpc")


def module_of(client: Any) -> Any:
    return triton_http if isinstance(client, triton_http.InferenceServerClient) else triton_grpc


def tensor(client: Any, frames: np.ndarray = FRAMES, **options: Any) -> Any:
    given = module_of(client).InferInput("frames", list(frames.shape), "UINT8")
    given.set_data_from_numpy(frames, **options)
    return given


def test_all_outputs_are_those_of_segment(client: Any, segmented: Any) -> None:
    result = client.infer("tiny", [tensor(client)], model_version="1", request_id="frame-7")
    assert np.array_equal(result.as_numpy("probability"), segmented["probability"])
    assert np.array_equal(result.as_numpy("latents"), segmented["latents"])
    assert np.array_equal(result.as_numpy("probability") >= 0.5, segmented["masks"] == segmented["masks"].max())
    response = result.get_response()
    told = response if isinstance(response, dict) else {"id": response.id, "model_name": response.model_name}
    assert (told["id"], told["model_name"]) == ("frame-7", "tiny")


def test_only_the_outputs_that_are_asked_for_are_answered(client: Any, segmented: Any) -> None:
    wanted = [module_of(client).InferRequestedOutput("probability")]
    result = client.infer("tiny", [tensor(client)], outputs=wanted)
    assert np.array_equal(result.as_numpy("probability"), segmented["probability"])
    assert result.as_numpy("latents") is None


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_every_form_over_http_gives_the_same(
    http: Any, segmented: Any, binary_in: bool, binary_out: bool, compression: str | None
) -> None:
    result = http.infer(
        "tiny",
        [tensor(http, binary_data=binary_in)],
        outputs=[
            triton_http.InferRequestedOutput("latents", binary_data=binary_out),
            triton_http.InferRequestedOutput("probability", binary_data=not binary_out),
        ],
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    assert np.array_equal(result.as_numpy("probability"), segmented["probability"])
    assert np.array_equal(result.as_numpy("latents"), segmented["latents"])
    assert [output["name"] for output in result.get_response()["outputs"]] == ["latents", "probability"]


def test_numbers_in_the_message_are_as_good_as_raw_bytes(rpc: Any, segmented: Any) -> None:
    messages = triton_grpc.service_pb2
    request = messages.ModelInferRequest(model_name="tiny")
    given = request.inputs.add(name="frames", datatype="UINT8", shape=FRAMES.shape)
    given.contents.uint_contents.extend(FRAMES.ravel().tolist())
    request.outputs.add(name="probability")
    response = rpc._client_stub.ModelInfer(request)
    probability = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(-1, 64, 64)
    assert np.array_equal(probability, segmented["probability"])


def test_it_is_live_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("other")


def as_dict(client: Any, answer: Any) -> Any:
    """A message as the JSON of REST would be: without what is empty, and with counts as numbers."""
    if module_of(client) is triton_http:
        return answer
    from google.protobuf import json_format

    return json_format.MessageToDict(answer, preserving_proto_field_name=True)


def test_metadata_names_the_tensors_of_the_contract(client: Any) -> None:
    server = as_dict(client, client.get_server_metadata())
    assert server["name"] == "robomask"
    assert "binary_tensor_data" in server["extensions"]
    model = as_dict(client, client.get_model_metadata("tiny"))
    assert (model["name"], model["versions"], model["platform"]) == ("tiny", ["1"], "onnxruntime_onnx")
    tensors = {
        t["name"]: (t["datatype"], [int(size) for size in t["shape"]]) for t in model["inputs"] + model["outputs"]
    }
    assert tensors == {
        "frames": ("UINT8", [-1, 64, 64, 3]),
        "probability": ("FP32", [-1, 64, 64]),
        "latents": ("FP32", [-1, 16, 16, 240]),
    }


def test_configuration_has_what_load_generators_read(client: Any) -> None:
    config = as_dict(client, client.get_model_config("tiny"))
    config = config.get("config", config)
    assert config["max_batch_size"] == 8
    assert config["input"][0]["data_type"] == "TYPE_UINT8"
    assert [int(size) for size in config["output"][1]["dims"]] == [16, 16, 240]


def test_statistics_count_up(client: Any) -> None:
    def runs() -> int:
        (model,) = as_dict(client, client.get_inference_statistics("tiny"))["model_stats"]
        assert int(model["inference_stats"]["queue"]["count"]) == int(model["inference_stats"]["success"]["count"])
        return int(model["inference_count"])

    client.infer("tiny", [tensor(client)])
    before = runs()
    client.infer("tiny", [tensor(client)])
    assert runs() == before + len(FRAMES)
    assert as_dict(client, client.get_inference_statistics())["model_stats"]


def test_statistics_count_what_has_no_answer(client: Any) -> None:
    def failures() -> int:
        (model,) = as_dict(client, client.get_inference_statistics("tiny"))["model_stats"]
        fail = model["inference_stats"].get("fail", {})
        return int(fail.get("count", 0))

    before = failures()
    with pytest.raises(InferenceServerException, match="within 0 ms"):
        client.infer("tiny", [tensor(client)], timeout=1)
    assert failures() == before + 1


def test_the_repository_lists_versions_and_loads_what_serves(client: Any) -> None:
    index = as_dict(client, client.get_model_repository_index())
    entries = index if isinstance(index, list) else index["models"]
    assert [(entry["name"], entry["version"], entry["state"]) for entry in entries] == [("tiny", "1", "READY")]
    admin = {"authorization": f"Bearer {TOKEN}"}
    client.load_model("tiny", headers=admin)
    for act, words in (
        (lambda: client.load_model("tiny"), "admin token"),
        (lambda: client.load_model("tiny", headers={"authorization": "Bearer wrong"}), "got another"),
        (lambda: client.load_model("other", headers=admin), "'other'"),
        (lambda: client.load_model("tiny", config="{}", headers=admin), "'config'"),
        (lambda: client.unload_model("tiny", headers=admin), "has to stay"),
    ):
        with pytest.raises(InferenceServerException, match=words):
            act()


@pytest.mark.parametrize(
    ("change", "words", "code"),
    [
        ({"model_name": "other"}, "'other'", "404 NOT_FOUND"),
        ({"model_version": "7"}, "version 7", "404 NOT_FOUND"),
        ({"model_version": "latest"}, "'latest'", "404 NOT_FOUND"),
        ({"frames": FRAMES[:, :32]}, r"\[N,64,64,3\]", "400 INVALID_ARGUMENT"),
        ({"frames": FRAMES[:0]}, "N from 1", "400 INVALID_ARGUMENT"),
        ({"frames": FRAMES.astype(np.float32)}, "'FP32'", "400 INVALID_ARGUMENT"),
        ({"frames": np.zeros((9, 64, 64, 3), np.uint8)}, "at most 8 frames", "413 RESOURCE_EXHAUSTED"),
        ({"name": "image"}, "'image'", "400 INVALID_ARGUMENT"),
        ({"outputs": ["mask"]}, "probability, latents", "400 INVALID_ARGUMENT"),
        ({"outputs": ["latents", "latents"]}, "twice", "400 INVALID_ARGUMENT"),
        ({"timeout": 1}, "within 0 ms", "504 DEADLINE_EXCEEDED"),
    ],
)
def test_what_is_wrong_is_said(client: Any, change: dict[str, Any], words: str, code: str) -> None:
    module, change = module_of(client), dict(change)
    frames = change.pop("frames", FRAMES)
    kind = "FP32" if frames.dtype == np.float32 else "UINT8"
    given = module.InferInput(change.pop("name", "frames"), list(frames.shape), kind)
    given.set_data_from_numpy(frames)
    outputs = [module.InferRequestedOutput(name) for name in change.pop("outputs", [])]
    with pytest.raises(InferenceServerException, match=words) as caught:
        client.infer(change.pop("model_name", "tiny"), [given], outputs=outputs or None, **change)
    assert caught.value.status().removeprefix("StatusCode.") in code.split()


def test_a_stream_is_answered_in_order_and_outlives_a_bad_request(rpc: Any, segmented: Any) -> None:
    answers: list[tuple[Any, Any]] = []
    whole = threading.Event()

    def collect(result: Any, error: Any) -> None:
        answers.append((result, error))
        if len(answers) == 6:
            whole.set()

    rpc.start_stream(collect)
    for index in range(6):
        rpc.async_stream_infer("other" if index == 2 else "tiny", [tensor(rpc)], request_id=str(index))
    assert whole.wait(30)
    rpc.stop_stream()
    assert "'other'" in str(answers.pop(2)[1])
    assert [result.get_response().id for result, _ in answers] == ["0", "1", "3", "4", "5"]
    for result, _ in answers:
        assert np.array_equal(result.as_numpy("probability"), segmented["probability"])


def test_every_call_is_counted_by_route_and_status(server: Running, client: Any) -> None:
    client.infer("tiny", [tensor(client)])
    text = server.client.get("/metrics").text
    route = (
        "/v2/models/{model}/infer" if module_of(client) is triton_http else "/inference.GRPCInferenceService/ModelInfer"
    )
    assert f'robomask_requests_total{{method="POST",route="{route}",status="200"}}' in text
