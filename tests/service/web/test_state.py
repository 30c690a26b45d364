"""What the service says of itself: alive, ready, what it serves, how it is doing."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from service_kit import Running, golden_frames, png, publish_tiny, serving
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from service.errors import RobomaskError
from service.web.problems import STATUS

Check = Callable[..., dict[str, Any]]


def samples(running: Running) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = running.client.get("/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_service_that_has_loaded_is_live_and_ready(service: Running) -> None:
    assert service.client.get("/livez").json() == {"live": True}
    ready = service.client.get("/readyz").json()
    assert ready["ready"] is True
    assert ready["model"]["name"] == "tiny"
    assert service.client.head("/livez").status_code == 200
    assert service.client.head("/readyz").content == b""


def test_models_are_listed_with_state_device_and_metrics(service: Running) -> None:
    listing = service.client.get("/models").json()
    (version,) = listing["versions"]
    assert (listing["name"], listing["ready"]) == ("tiny", True)
    assert (version["version"], version["state"], version["provider"], version["precision"]) == (
        1,
        "serving",
        "cpu",
        "fp32",
    )
    assert version["metrics"][0]["data"] == "drawn"
    assert len(version["sha256"]) == 64


def test_a_service_that_is_stopping_is_not_ready_but_still_answers(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with serving(tmp_path) as running:
        running.models.drain()
        response = running.client.get("/readyz")
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        assert response.json()["type"] == "urn:robomask:problem:not-ready"
        assert "stopping" in response.json()["detail"]
        assert running.client.get("/livez").status_code == 200
        assert running.segment(png(golden_frames()[0])).status_code == 200


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/ready", "/v2/models/tiny/ready"])
def test_a_probe_that_is_told_no_is_no_request_that_was_turned_away(repository: Path, path: str) -> None:
    with serving(repository) as running:
        before = {key: value for key, value in samples(running).items() if key[0] == "robomask_shed_total"}
        running.models.drain()
        assert running.client.get(path).status_code == 503
        assert running.client.head(path).status_code == 503
        after = {key: value for key, value in samples(running).items() if key[0] == "robomask_shed_total"}
        assert after == before


def test_metrics_count_requests_frames_stages_and_masks(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with serving(tmp_path, max_batch=1) as running:
        red = png(np.full((8, 8, 3), (255, 0, 0), np.uint8))
        running.segment(red)
        running.client.post("/segment", files=[("frame", ("a", red)), ("frame", ("b", red))])
        running.segment(b"rubbish")
        running.client.get("/nowhere/at/all")
        running.client.get("/segment")
        found = samples(running)

    def value(name: str, /, **labels: str) -> float:
        return found.get((name, tuple(sorted(labels.items()))), 0.0)

    assert value("robomask_requests_total", route="/segment", method="POST", status="200") == 2
    assert value("robomask_requests_total", route="/segment", method="POST", status="400") == 1
    assert value("robomask_requests_total", route="/segment", method="GET", status="405") == 1
    assert value("robomask_requests_total", route="other", method="GET", status="404") == 1
    assert value("robomask_frames_total", outcome="ok") == 3
    assert value("robomask_frames_total", outcome="refused") == 1
    for stage in ("decode", "queue", "infer", "encode"):
        assert value("robomask_stage_seconds_count", stage=stage) == 2
    assert value("robomask_batch_size_count") == 3
    assert value("robomask_queue_depth") == 0
    assert value("robomask_mask_area_ratio_sum") == 3
    assert value("robomask_mask_confidence_count") == 3
    assert value("robomask_model_info", name="tiny", version="1", precision="fp32", provider="cpu") == 1
    assert value("robomask_model_load_seconds") > 0


def test_the_example_is_a_golden_frame(service: Running) -> None:
    response = service.client.get("/example.png")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(response.content))), golden_frames()[0])
    assert service.segment(response.content).status_code == 200


def test_pages_load_nothing_from_elsewhere(service: Running) -> None:
    for path in ("/", "/docs"):
        response = service.client.get(path)
        assert response.headers["Content-Type"].startswith("text/html")
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        outside = re.findall(r"(?:src|href|url\()\s*=?\s*[\"']?(https?:)?//", response.text)
        assert outside == []


def test_the_description_names_every_parameter_form_and_error(service: Running) -> None:
    document = service.client.get("/openapi.json").json()
    operation = document["paths"]["/segment"]["post"]
    names = {place: [p["name"] for p in operation["parameters"] if p["in"] == place] for place in ("query", "header")}
    assert names["query"] == [
        "threshold", "latents", "latents_dtype", "probability", "size", "fit", "model", "version", "width", "height",
    ]  # fmt: skip
    assert names["header"] == ["X-Deadline-Ms", "X-Captured-At", "X-Max-Age-Ms", "X-Stream-Id", "X-Request-Id"]
    assert "4429 for a frame without a credit" in " ".join(document["info"]["description"].split())
    assert set(operation["responses"]["200"]["content"]) == {
        "application/json", "image/png", "application/x-npy", "application/x-npz",
    }  # fmt: skip
    assert set(operation["responses"]["4XX"]["content"]) == {"application/problem+json"}
    assert "multipart/form-data" in operation["requestBody"]["content"]


def test_a_plain_request_for_streams_is_told_what_to_do(service: Running) -> None:
    answer = service.client.get("/stream")
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert answer.json()["type"] == "urn:robomask:problem:websocket-expected"


@pytest.mark.parametrize("path", ["/segment", "/nope", "/"])
def test_a_websocket_where_there_is_none_is_refused_like_any_request(service: Running, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://127.0.0.1:{service.port}{path}", open_timeout=20):
        pass
    answer = refused.value.response
    assert answer.status_code == 404
    problem = json.loads(answer.body)
    assert problem["type"] == "urn:robomask:problem:not-found"
    assert problem["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/segment?weight=1", {}),
        ("/segment", {"Accept": "image/tiff"}),
        ("/segment", {"Content-Type": "text/plain"}),
        ("/segment", {"Content-Encoding": "gzip"}),
    ],
)
def test_errors_name_the_model_and_the_time_too(service: Running, path: str, headers: dict[str, str]) -> None:
    answer = service.client.post(path, content=b"no frame", headers=headers)
    assert 400 <= answer.status_code < 500
    assert {"x-request-id", "x-model-name", "x-model-version", "x-model-sha256", "server-timing"} <= set(answer.headers)


def test_an_error_about_a_model_that_is_not_there_names_none(service: Running) -> None:
    answer = service.client.post("/segment?model=nobody", content=b"no frame")
    assert answer.status_code == 404
    assert "x-model-name" not in answer.headers


def test_every_error_has_a_status_and_a_code_of_its_own() -> None:
    def tree(kind: type[RobomaskError]) -> list[type[RobomaskError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in tree(child))]

    answered = [kind for kind in tree(RobomaskError) if kind in STATUS]
    assert len({kind.code for kind in answered}) == len(answered) == len(STATUS)
    leaves = {kind for kind in tree(RobomaskError) if not kind.__subclasses__()}
    assert {kind.__name__ for kind in leaves - set(STATUS)} == {"ProviderMissing"}
