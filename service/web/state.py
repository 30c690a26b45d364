"""The routes that tell about the service: is it alive and ready, what does it serve, how is it doing; and its pages."""

from __future__ import annotations

import io
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastapi import APIRouter
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import HTMLResponse, JSONResponse, Response

from service.versions.listing import ModelList
from service.web.openapi import ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.telemetry.metrics import Metrics
    from service.versions.models import Models

__all__ = ["page_router", "state_router"]

_Endpoint = TypeVar("_Endpoint", bound="Callable[..., Any]")

_PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def state_router(models: Models, metrics: Metrics) -> APIRouter:
    """Liveness, readiness, metrics, models, and a frame to try."""
    router = APIRouter()

    @_read(router, "/livez", tags=["state"])
    async def livez() -> JSONResponse:
        """Whether the process answers at all; says nothing of the model."""
        return JSONResponse({"live": True})

    @_read(router, "/readyz", responses=ERRORS, tags=["state"])
    async def readyz() -> JSONResponse:
        """Whether to send requests here: the model in service has answered its golden frames right."""
        return JSONResponse({"ready": True, "model": models.check_ready().note.model_dump()})

    @_read(router, "/metrics", tags=["state"])
    async def metrics_page() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @_read(router, "/models", response_model=ModelList, tags=["models"])
    def list_models() -> Response:
        """The versions in the repository, and which of them serves, on which device."""
        return Response(models.listing().model_dump_json(exclude_none=True), media_type="application/json")

    @_read(router, "/example.png", responses=ERRORS, tags=["frames"])
    def example() -> Response:
        """A frame to try: the first of the bundle's golden ones."""
        file = io.BytesIO()
        Image.fromarray(models.slot().example).save(file, "PNG")
        return Response(file.getvalue(), media_type="image/png")

    return router


def page_router() -> APIRouter:
    """The pages for people; each is one file that loads nothing from elsewhere."""
    router = APIRouter(include_in_schema=False)
    pages = resources.files("service").joinpath("pages")
    index, docs = (pages.joinpath(name).read_text("utf-8") for name in ("index.html", "docs.html"))

    @_read(router, "/")
    async def index_page() -> HTMLResponse:
        return HTMLResponse(index, headers=_PAGE_HEADERS)

    @_read(router, "/docs")
    async def docs_page() -> HTMLResponse:
        return HTMLResponse(docs, headers=_PAGE_HEADERS)

    return router


def _read(router: APIRouter, path: str, **options: Any) -> Callable[[_Endpoint], _Endpoint]:
    """Route GET and HEAD; the description lists GET only, as no two operations may have one name."""

    def add(endpoint: _Endpoint) -> _Endpoint:
        router.add_api_route(path, endpoint, methods=["GET"], **options)
        router.add_api_route(path, endpoint, methods=["HEAD"], **options | {"include_in_schema": False})
        return endpoint

    return add
