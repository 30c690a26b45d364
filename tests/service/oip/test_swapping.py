"""The protocol's model repository changes what serves, and its requests take part in trials as all others do."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from google.protobuf import json_format
from service_kit import BIAS, WEIGHTS, Running, golden_frames, publish_tiny, serving, tiny_onnx
from tritonclient.utils import InferenceServerException

from service.contract import Golden

FRAMES = golden_frames()
TOKEN = "open sesame"  # noqa: S105 - of these tests only
ADMIN = {"authorization": f"Bearer {TOKEN}"}
BIASES = {"1": BIAS, "2": BIAS + 2}


def probability(version: str) -> np.ndarray:
    logits = FRAMES.astype(np.float32) / 255 @ WEIGHTS + BIASES[version]
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A service of the first of two versions that differ."""
    for version, bias in BIASES.items():
        golden = Golden(FRAMES, probability(version), tolerance=1e-4)
        publish_tiny(tmp_path, precisions={"fp32": tiny_onnx(bias=bias)}, golden=golden)
    with serving(tmp_path, version=1, grpc_port=0, admin_token=TOKEN, keep_previous=False) as service:
        yield service


@pytest.fixture(params=["http", "grpc"])
def client(running: Running, request: pytest.FixtureRequest) -> Iterator[Any]:
    port, module = (running.port, triton_http) if request.param == "http" else (running.grpc_port, triton_grpc)
    with module.InferenceServerClient(f"127.0.0.1:{port}") as opened:
        yield opened


def answered(client: Any, **options: Any) -> str:
    """The version that says it answers; it has to answer as that version does."""
    module = triton_http if isinstance(client, triton_http.InferenceServerClient) else triton_grpc
    given = module.InferInput("frames", list(FRAMES.shape), "UINT8")
    given.set_data_from_numpy(FRAMES)
    wanted = [module.InferRequestedOutput("probability")]
    result = client.infer("tiny", [given], outputs=wanted, **options)
    response = result.get_response()
    version = str(response["model_version"] if isinstance(response, dict) else response.model_version)
    assert np.allclose(result.as_numpy("probability"), probability(version), atol=1e-4)
    return version


def index(running: Running) -> dict[str, tuple[str, str]]:
    entries = running.client.post("/v2/repository/index").json()
    return {entry["version"]: (entry["state"], entry["reason"]) for entry in entries}


def attempt(running: Running, mode: str, share: float = 1.0) -> dict[str, Any]:
    response = running.client.post(f"/models/{mode}", headers=ADMIN, json={"version": 2, "share": share})
    assert response.status_code == 200
    return dict(response.json())


def test_loading_without_a_version_takes_the_newest_and_with_one_that_one(running: Running, client: Any) -> None:
    assert answered(client) == "1"
    assert index(running) == {"2": ("UNAVAILABLE", "not open"), "1": ("READY", "")}
    client.load_model("tiny", headers=ADMIN)
    assert answered(client) == "2"
    assert index(running) == {"2": ("READY", ""), "1": ("UNAVAILABLE", "not open")}
    load = "/v2/repository/models/tiny/load"
    assert running.client.post(load, headers=ADMIN, json={"parameters": {"version": "1"}}).status_code == 200
    assert answered(client) == "1"
    assert [event["by"] for event in running.client.get("/models").json()["events"]] == ["protocol", "protocol"]


def test_what_was_replaced_is_gone_though_the_connection_stays_open(running: Running, client: Any) -> None:
    assert answered(client) == "1"
    assert running.models.lineup.serving is not None
    old = weakref.ref(running.models.lineup.serving.engine)
    client.load_model("tiny", headers=ADMIN)
    assert old() is None


def test_a_stream_that_stays_open_holds_no_model(running: Running) -> None:
    given = triton_grpc.InferInput("frames", list(FRAMES.shape), "UINT8")
    given.set_data_from_numpy(FRAMES)
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{running.grpc_port}") as client:
        answers: list[Any] = []
        client.start_stream(lambda result, error: answers.append((result, error)))
        client.async_stream_infer("tiny", [given])
        while not answers:
            running.client.get("/livez")
        assert running.models.lineup.serving is not None
        old = weakref.ref(running.models.lineup.serving.engine)
        client.load_model("tiny", headers=ADMIN)
        assert old() is None


def test_unloading_closes_what_does_not_serve_and_nothing_else(running: Running, client: Any) -> None:
    attempt(running, "shadow")
    assert index(running) == {"2": ("READY", ""), "1": ("READY", "")}
    assert answered(client, model_version="2") == "2"
    client.unload_model("tiny", headers=ADMIN)
    assert index(running) == {"2": ("UNAVAILABLE", "not open"), "1": ("READY", "")}
    with pytest.raises(InferenceServerException, match="has to stay"):
        client.unload_model("tiny", headers=ADMIN)
    assert answered(client) == "1"


def test_a_version_that_is_refused_leaves_the_other_in_service(running: Running, client: Any, tmp_path: Path) -> None:
    publish_tiny(tmp_path, precisions={"fp32": tiny_onnx(bias=0.0)})
    with pytest.raises(InferenceServerException, match="does not answer as it did"):
        client.load_model("tiny", headers=ADMIN)
    assert answered(client) == "1"
    state, reason = index(running)["3"]
    assert state == "UNAVAILABLE"
    assert "does not answer as it did" in reason


def test_a_canary_answers_its_share_of_streams_and_both_are_counted(running: Running, client: Any) -> None:
    attempt(running, "canary")
    assert answered(client, headers={"x-stream-id": "camera"}) == "2"
    assert answered(client) == "2"
    assert answered(client, model_version="1") == "1"
    metrics = running.client.get("/metrics").text
    assert f'robomask_model_frames_total{{version="2"}} {2.0 * len(FRAMES)}' in metrics
    assert f'robomask_model_frames_total{{version="1"}} {float(len(FRAMES))}' in metrics


def test_a_shadow_sees_what_was_answered(running: Running, client: Any) -> None:
    attempt(running, "shadow")
    assert answered(client) == "1"
    while (trial := running.client.get("/models").json()["trial"])["compared"] < len(FRAMES):
        pass
    assert trial["compared"] == len(FRAMES)


class Counts(NamedTuple):
    """What the statistics say of a version."""

    frames: int
    runs: int
    requests: int


def test_statistics_are_those_of_a_version(running: Running, client: Any) -> None:
    def counts(version: str = "") -> dict[str, Counts]:
        given = client.get_inference_statistics("tiny", version)
        if isinstance(client, triton_grpc.InferenceServerClient):
            given = json_format.MessageToDict(given, preserving_proto_field_name=True)
        return {
            one["version"]: Counts(
                *(int(one[key]) for key in ("inference_count", "execution_count")),
                int(one["inference_stats"]["success"]["count"]),
            )
            for one in given["model_stats"]
        }

    attempt(running, "shadow")
    for _ in range(2):
        assert answered(client) == "1"
    assert answered(client, model_version="2") == "2"
    old, new = counts("1")["1"], counts("2")["2"]
    assert (old.frames, old.requests) == (2 * len(FRAMES), 2)
    assert (new.frames, new.requests) == (len(FRAMES), 1)
    assert f"robomask_batch_size_count {old.runs + new.runs}.0" in running.client.get("/metrics").text
    assert counts() == {"1": old, "2": new}
