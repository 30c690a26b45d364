"""The protocol's model repository: what is there, and what is put into and taken out of service.

Source: Triton, "Model Repository Extension".
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

from service.errors import ModelFixed, ParameterInvalid, quoted
from service.oip.protocol import read_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.admin import AdminGate
    from service.models import ModelList, Models

__all__ = ["Control", "FixedModel", "Repository"]

_STATES: Final = {"serving": "READY", "available": "UNAVAILABLE", "refused": "UNAVAILABLE"}


class Control(Protocol):
    """What can change which version serves. Returns when it is done."""

    async def load(self, name: str, version: int | None) -> None:
        """Put a version of a model into service, by default the newest.

        Raises:
            ModelUnknown: There is no such model or version.
            ModelFixed: It cannot be put into service.
        """

    async def unload(self, name: str) -> None:
        """Take a model out of service.

        Raises:
            ModelUnknown: There is no such model.
            ModelFixed: It has to stay.
        """


class FixedModel:
    """Control of a service that keeps the version that it started with: loading that one again changes nothing."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def load(self, name: str, version: int | None) -> None:
        """See `Control`."""
        serving = self._models.slot(name).note
        if version not in {None, serving.version}:
            raise ModelFixed(
                f"expected version {serving.version}, which {serving.name} serves, got {version}; this service keeps "
                f"the version that it started with, so start it anew with --version {version}"
            )

    async def unload(self, name: str) -> None:
        """See `Control`."""
        serving = self._models.slot(name).note
        raise ModelFixed(
            f"expected {serving.name} to stay in service as the only model, got a request to unload it; "
            "stop the service instead"
        )


class Repository:
    """Answers requests to the repository, from whoever may make them.

    Args:
        models: The models and their states.
        control: Changes which of them serve.
        gate: Says who may.
    """

    def __init__(self, models: Models, control: Control, gate: AdminGate) -> None:
        self._models = models
        self._control = control
        self._gate = gate

    async def index(self, *, ready_only: bool) -> list[dict[str, str]]:
        """Every version on disk and in service, newest first."""
        listing = await asyncio.to_thread(self._models.listing)
        entries = _entries(listing)
        return [entry for entry in entries if entry["state"] == "READY"] if ready_only else entries

    async def load(self, name: str, parameters: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Put a model into service; the parameter `version` names which.

        Raises:
            BadRequest: It may not or cannot be.
        """
        self._gate.check(headers)
        for parameter in parameters:
            if parameter != "version":
                raise ParameterInvalid(
                    f"expected no parameter but version, got {quoted(parameter)}; what a model is stands in its bundle "
                    "and is not changed by a request"
                )
        await self._control.load(name, read_version(parameters.get("version")))

    async def unload(self, name: str, headers: Mapping[str, str]) -> None:
        """Take a model out of service. `unload_dependents` means nothing here, as no model depends on another.

        Raises:
            BadRequest: It may not or cannot be.
        """
        self._gate.check(headers)
        await self._control.unload(name)


def _entries(listing: ModelList) -> list[dict[str, str]]:
    reasons = {"available": "not in service"}
    return [
        {
            "name": listing.name,
            "version": str(version.version),
            "state": _STATES[version.state],
            "reason": version.reason or reasons.get(version.state, ""),
        }
        for version in listing.versions
    ]
