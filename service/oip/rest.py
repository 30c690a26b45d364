"""`/v2`: the Open Inference Protocol over REST, with Triton's extensions that have a meaning here.

Source: KServe, "Open Inference Protocol" (V2), REST; Triton, extensions "Binary Tensor Data", "Model Repository",
"Model Configuration" and "Statistics".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotations of its endpoints
from starlette.responses import JSONResponse, Response

from service.connection.messages import content_length, first_values
from service.errors import BodyMalformed, RobomaskError
from service.oip.infer import check_encoding
from service.oip.json_tensors import Written, parse_object, read_header_length, read_inference, write_inference
from service.oip.metadata import model_config, model_metadata, model_statistics, server_metadata
from service.scheduling.freshness import STREAM, read_freshness, wall_at
from service.web.body import CancelledWithClient, read_body, read_short
from service.web.middleware import call_of
from service.web.openapi import ERRORS
from service.web.segment import notes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.engine import Prediction
    from service.oip.protocol import OpenInference
    from service.oip.tensors import Inference
    from service.stages import Stages

__all__ = ["open_inference_router"]

_HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_QUICK_JSON_BYTES: Final = 16 * 1024
_QUICK_BYTES: Final = 1024 * 1024
_OF_MODEL: Final = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


def open_inference_router(protocol: OpenInference, body_timeout_s: float) -> APIRouter:
    """The protocol's routes.

    Args:
        protocol: Answers them.
        body_timeout_s: Seconds within which a body has to arrive.
    """
    router = APIRouter(tags=["open inference"], responses=ERRORS)
    _add_state(router, protocol)
    _add_inference(router, protocol, body_timeout_s)
    _add_repository(router, protocol, body_timeout_s)
    return router


def _add_inference(router: APIRouter, protocol: OpenInference, body_timeout_s: float) -> None:
    """The route that answers with tensors."""
    stages = protocol.tensors.stages

    async def infer(request: Request) -> Response:
        """Give the model frames as tensors and get its tensors back."""
        try:
            return await answer_tensors(request)
        except RobomaskError as error:
            stages.unanswered(call_of(request), error)
            raise

    async def answer_tensors(request: Request) -> Response:
        call = call_of(request)
        headers = request.headers
        encoding = check_encoding(headers.get("content-encoding"))
        named = headers.get(STREAM.decode())
        call.stream = named.encode("latin-1") if named else request.scope.get("client") or call.request_id
        slot = protocol.slot(request.path_params["model"], request.path_params.get("version"), call.stream)
        call.slot = slot
        call.freshness = read_freshness(first_values(headers.raw), call.arrived_s, wall_at)
        stages.enter(call)
        packed = await _read_body(request, stages, body_timeout_s)

        def read() -> Inference:
            return read_inference(body, header_length, stages.limits)

        def write(inference: Inference, prediction: Prediction) -> Written:
            return write_inference(slot.note, inference, prediction)

        with CancelledWithClient(request.receive, call):
            body = await protocol.tensors.inflate(packed, encoding, call)
            header_length = read_header_length(headers.get(_HEADER_LENGTH), len(body))
            json_bytes = len(body) if header_length is None else header_length
            quick = json_bytes <= _QUICK_JSON_BYTES and len(body) <= _QUICK_BYTES
            answer = await protocol.tensors.infer(slot, read, write, call=call, quick=quick)
        response = Response(answer.content, media_type="application/json")
        if answer.header_length is not None:
            response = Response(answer.content, media_type="application/octet-stream")
            response.headers[_HEADER_LENGTH] = str(answer.header_length)
        response.raw_headers += notes(call)
        return response

    for path in _OF_MODEL:
        _add(router, "POST", f"{path}/infer", infer, body=_INFER_BODY)


def _add_repository(router: APIRouter, protocol: OpenInference, body_timeout_s: float) -> None:
    """The routes of the model repository."""
    stages = protocol.tensors.stages

    async def read_object(request: Request) -> dict[str, Any]:
        """The JSON object of a request, which may leave it out."""
        body = await read_short(request, body_timeout_s)
        return parse_object(body, stages.limits) if body.strip() else {}

    async def index(request: Request) -> Response:
        """The versions in the repository, and which of them are in service."""
        document = await read_object(request)
        return JSONResponse(await protocol.repository.index(ready_only=document.get("ready") is True))

    async def load(request: Request) -> Response:
        """Put a model into service; needs the admin token."""
        protocol.repository.check(request.headers)
        document = await read_object(request)
        parameters = document.get("parameters", {})
        if not isinstance(parameters, dict):
            raise BodyMalformed(f"expected `parameters` as an object, got {type(parameters).__name__}")
        await protocol.repository.load(request.path_params["model"], parameters, request.headers)
        return JSONResponse({})

    async def unload(request: Request) -> Response:
        """Take a model out of service; needs the admin token."""
        protocol.repository.check(request.headers)
        await read_object(request)
        await protocol.repository.unload(request.path_params["model"], request.headers)
        return JSONResponse({})

    _add(router, "POST", "/v2/repository/index", index)
    _add(router, "POST", "/v2/repository/models/{model}/load", load)
    _add(router, "POST", "/v2/repository/models/{model}/unload", unload)


async def _read_body(request: Request, stages: Stages, limit_s: float) -> bytes:
    length = content_length(first_values(request.headers.raw))
    return await read_body(request.receive, length, stages, call_of(request), limit_s)


def _add_state(router: APIRouter, protocol: OpenInference) -> None:
    """The routes that only tell."""

    async def metadata(_: Request) -> Response:
        """Name, version and extensions of the server."""
        return JSONResponse(server_metadata())

    async def live(_: Request) -> Response:
        """Whether the process answers at all."""
        return JSONResponse({"live": True})

    async def ready(_: Request) -> Response:
        """Whether to send requests here."""
        protocol.models.check_ready()
        return JSONResponse({"ready": True})

    async def about_model(request: Request) -> Response:
        """Names, datatypes and shapes of the model's tensors."""
        slot = protocol.slot(request.path_params["model"], request.path_params.get("version"))
        return JSONResponse(model_metadata(slot.note))

    async def model_ready(request: Request) -> Response:
        """Whether the model answers."""
        slot = protocol.slot(request.path_params["model"], request.path_params.get("version"))
        protocol.models.check_ready()
        return JSONResponse({"name": slot.note.name, "ready": True})

    async def config(request: Request) -> Response:
        """The model's configuration, as far as it has a meaning here."""
        slot = protocol.slot(request.path_params["model"], request.path_params.get("version"))
        return JSONResponse(model_config(slot.note, protocol.tensors.stages.limits.max_frames))

    async def statistics(request: Request) -> Response:
        """Counts and times of all requests since the start."""
        version = request.path_params.get("version")
        slot = protocol.slot(request.path_params["model"], version)
        return JSONResponse(model_statistics(slot.note, protocol.metrics, alone=version is not None))

    async def all_statistics(_: Request) -> Response:
        """Counts and times of all requests since the start."""
        return JSONResponse(model_statistics(protocol.models.slot().note, protocol.metrics, alone=False))

    _add(router, "GET", "/v2", metadata)
    _add(router, "GET", "/v2/health/live", live)
    _add(router, "GET", "/v2/health/ready", ready)
    _add(router, "GET", "/v2/models/stats", all_statistics)
    for path in _OF_MODEL:
        _add(router, "GET", path, about_model)
        _add(router, "GET", f"{path}/ready", model_ready)
        _add(router, "GET", f"{path}/config", config)
        _add(router, "GET", f"{path}/stats", statistics)


def _add(
    router: APIRouter,
    method: str,
    path: str,
    endpoint: Callable[[Request], Awaitable[Response]],
    body: dict[str, Any] | None = None,
) -> None:
    """Route a method, and HEAD along with GET, and describe what is read by hand."""
    described: dict[str, Any] = {
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", path)
        ]
    }
    if method == "POST":
        described["requestBody"] = body or {
            "required": False,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    router.add_api_route(path, endpoint, methods=[method], openapi_extra=described)
    if method == "GET":
        router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


_INFER_BODY: Final[dict[str, Any]] = {
    "required": True,
    "description": (
        "One input, `frames` UINT8 [N,64,64,3], as numbers in the JSON or as bytes behind it, then with the header "
        "Inference-Header-Content-Length. With no `outputs` all are answered, latents too: 240 KiB a frame as bytes, "
        "more than 1 MB as JSON; name `probability` if that is all you need."
    ),
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["inputs"],
                "properties": {
                    "id": {"type": "string"},
                    "parameters": {"type": "object"},
                    "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "object"}},
                    "outputs": {"type": "array", "items": {"type": "object"}},
                },
            }
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
