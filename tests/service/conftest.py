"""A tiny model in a repository, served; and the one shape that every error has."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from service_kit import Running, golden_frames, png, publish_tiny, serving


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the tiny model, version 1."""
    folder = tmp_path_factory.mktemp("models")
    publish_tiny(folder)
    return folder


@pytest.fixture(scope="session")
def service(repository: Path) -> Iterator[Running]:
    """The tiny model, served with small limits."""
    with serving(repository, max_body_bytes=40_000_000, max_frames=8) as running:
        yield running


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The tiny model, served with the limits that it has by itself, for one module's tests."""
    folder = tmp_path_factory.mktemp("models")
    publish_tiny(folder)
    with serving(folder) as one:
        yield one


@pytest.fixture
def assert_problem(service: Running) -> Callable[..., dict[str, Any]]:
    """Check the shape of an error, and that the service goes on; returns the body."""

    def check(response: httpx.Response, status: int, code: str, *words: str) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert response.headers["Content-Type"] == "application/problem+json"
        body = response.json()
        assert body.keys() - {"frame"} == {"type", "title", "status", "detail", "error", "request_id"}
        assert body["type"] == f"urn:robomask:problem:{code}"
        assert body["status"] == status
        assert body["detail"] == body["error"]
        assert body["request_id"] == response.headers["X-Request-Id"]
        assert "expected" in body["detail"]
        for word in words:
            assert word in body["detail"]
        assert service.segment(png(golden_frames()[0])).status_code == 200
        return body

    return check
