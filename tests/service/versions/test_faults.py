"""A model that fails on everything is found out by its golden frame; one that fails on some frames is not."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from service_kit import ADMIN, TOKEN, Running, golden_frames, png, publish_tiny, serving

from service.errors import NotReady
from service.oip.schema import read_schema

FRAME = png(golden_frames()[1])
WHITE = png(np.full((64, 64, 3), 255, np.uint8))
HEALTH = ("/readyz", "/v2/health/ready", "/v2/models/tiny/ready")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A repository with two versions."""
    for _ in range(2):
        publish_tiny(tmp_path)
    return tmp_path


@contextmanager
def broken(running: Running, at_fault: Callable[[np.ndarray], bool]) -> Iterator[None]:
    """Have the runtime of the model in service fail on some frames, as that of a GPU does."""
    assert running.models.lineup.serving is not None
    engine = running.models.lineup.serving.engine
    works = engine._runner

    def runs(frames: np.ndarray, *, latents: bool) -> list[np.ndarray]:
        if at_fault(frames):
            raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")
        return works(frames, latents=latents)

    engine._runner = runs
    try:
        yield
    finally:
        engine._runner = works


def until_ready(running: Running, *, ready: bool) -> httpx.Response:
    """Ask until it is, or is not; the test's own time limit ends that."""
    while (answer := running.client.get("/readyz")).is_success != ready:
        pass
    return answer


def test_a_model_that_fails_on_everything_is_not_ready_until_its_golden_frame_comes_out_right(two: Path) -> None:
    with serving(two) as running:
        assert running.segment(FRAME).status_code == 200
        with broken(running, lambda _: True):
            assert [running.segment(FRAME).status_code for _ in range(3)] == [500] * 3
            problem = until_ready(running, ready=False)
            assert problem.status_code == 503
            assert problem.headers["Retry-After"]
            assert problem.json()["type"] == "urn:robomask:problem:not-ready"
            assert "expected version 2 of tiny to answer its golden frame" in problem.json()["detail"]
            assert [running.client.get(path).status_code for path in HEALTH] == [503] * 3
            assert running.client.get("/livez").status_code == 200
            assert running.client.get("/models").json()["ready"] is False
            with pytest.raises(NotReady) as caught:
                running.models.check_ready()
            assert caught.value.reason == "faulty"
        until_ready(running, ready=True)
        assert [running.client.get(path).status_code for path in HEALTH] == [200] * 3
        assert running.segment(FRAME).status_code == 200


def test_grpc_says_so_too(two: Path) -> None:
    health = read_schema("health.proto")
    with serving(two, grpc_port=0) as running, grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        response = health.messages["HealthCheckResponse"]
        ask = channel.unary_unary(f"/{health.service}/Check", response_deserializer=response.FromString)
        assert ask(b"") == response(status="SERVING")
        with broken(running, lambda _: True):
            for _ in range(3):
                running.segment(FRAME)
            until_ready(running, ready=False)
            assert ask(b"") == response(status="NOT_SERVING")


def test_frames_that_fail_make_no_model_unready_that_answers_its_golden_frame(two: Path) -> None:
    looked = threading.Event()

    def at_fault(frames: np.ndarray) -> bool:
        if (frames == golden_frames()[0]).all():
            looked.set()
        return bool((frames == 255).all())

    with serving(two) as running, broken(running, at_fault):
        for _ in range(2):
            assert [running.segment(WHITE).status_code for _ in range(2)] == [500] * 2
            assert running.segment(FRAME).status_code == 200
        assert not looked.is_set()  # never three in a row
        assert [running.segment(WHITE).status_code for _ in range(3)] == [500] * 3
        assert looked.wait(60)
        assert running.client.get("/readyz").status_code == 200
        assert running.segment(FRAME).status_code == 200


def test_another_version_that_serves_is_ready(two: Path) -> None:
    with serving(two, admin_token=TOKEN, vet_s=0) as running, broken(running, lambda _: True):
        for _ in range(3):
            running.segment(FRAME)
        until_ready(running, ready=False)
        assert running.client.post("/models/1/activate", headers=ADMIN).status_code == 200
        assert running.client.get("/readyz").json()["model"]["version"] == 1
        assert running.segment(FRAME).status_code == 200
