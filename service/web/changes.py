"""The routes that change what is in service: activate, roll back, shadow, canary. They need the admin token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotations of its endpoints
from starlette.responses import Response

from service.errors import ParameterInvalid, quoted
from service.versions.listing import ModelList
from service.versions.trial import Gate
from service.web.body import read_short
from service.web.openapi import ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.versions.control import Control
    from service.versions.models import Models
    from service.versions.trial import Mode
    from service.web.admin import AdminGate

__all__ = ["Attempt", "CanaryAttempt", "change_router"]


class Attempt(BaseModel):
    """Body of `/models/shadow`.

    Attributes:
        version: The version to try.
        share: Share of streams that it gets; 0 ends its trial.
        promote_if: When it takes over or is dropped by itself; without it, somebody decides.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    version: Annotated[int, Field(ge=1, le=9_999_999_999)]
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    promote_if: Gate | None = None


class CanaryAttempt(Attempt):
    """Body of `/models/canary`: who does not say for how many streams does not mean all of them."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.1


def change_router(control: Control, models: Models, gate: AdminGate, body_timeout_s: float) -> APIRouter:
    """The routes; each answers with `/models` as it is then.

    Args:
        control: Makes the changes.
        models: Say how things are then.
        gate: Says who may make them.
        body_timeout_s: Seconds within which a body has to arrive.
    """
    router = APIRouter(tags=["models"], responses=ERRORS)

    async def listing() -> Response:
        now = await asyncio.to_thread(models.listing)
        return Response(now.model_dump_json(exclude_none=True), media_type="application/json")

    async def attempt(request: Request, mode: Mode, body: type[Attempt]) -> Response:
        gate.check(request.headers)
        wanted = await _read_attempt(request, body, body_timeout_s)
        await control.attempt(mode, wanted.version, wanted.share, wanted.promote_if)
        return await listing()

    @_post(router, "/models/{version}/activate")
    async def activate(request: Request, version: str) -> Response:
        """Put a version into service. It answers when that has been done, or says why it was refused."""
        gate.check(request.headers)
        await control.activate(_read_version(version))
        return await listing()

    @_post(router, "/models/rollback")
    async def rollback(request: Request) -> Response:
        """Go back to the version that served before, at once if it is still open."""
        gate.check(request.headers)
        await control.rollback()
        return await listing()

    @_post(router, "/models/shadow", body=Attempt)
    async def shadow(request: Request) -> Response:
        """Let a version run a share of streams again, off the way to the answer, and compare."""
        return await attempt(request, "shadow", Attempt)

    @_post(router, "/models/canary", body=CanaryAttempt)
    async def canary(request: Request) -> Response:
        """Let a version answer a share of streams, and compare."""
        return await attempt(request, "canary", CanaryAttempt)

    return router


def _post(router: APIRouter, path: str, body: type[BaseModel] | None = None) -> Callable[[Any], Any]:
    extra: dict[str, Any] = {"security": [{"admin": []}]}
    if body is not None:
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
        inner = schema.pop("$defs", {})
        for choice in schema["properties"]["promote_if"]["anyOf"]:  # the description has no other place for it
            choice.update(inner.get(str(choice.pop("$ref", "")).rsplit("/", 1)[-1], {}))
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return router.post(path, response_model=ModelList, openapi_extra=extra)


def _read_version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) >= 1):
        raise ParameterInvalid(f"expected a version as a whole number from 1 on, got {quoted(text)}")
    return int(text)


async def _read_attempt(request: Request, body: type[Attempt], body_timeout_s: float) -> Attempt:
    content = await read_short(request, body_timeout_s)
    try:
        return body.model_validate_json(content)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        said = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in faults)
        raise ParameterInvalid(
            'expected a body such as {"version": 2, "share": 0.1, "promote_if": {"frames": 1000, "min_iou": 0.9}}, '
            f"got another: {said[:500]}"
        ) from error
