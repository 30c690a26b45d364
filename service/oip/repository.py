"""The protocol's model repository: what is there, and what is put into and taken out of service.

Source: Triton, "Model Repository Extension".
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

from service.errors import ParameterInvalid, quoted
from service.oip.numbers import read_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.versions.models import ModelList, Models
    from service.web.admin import AdminGate

__all__ = ["Control", "Repository"]

_CLOSED: Final = {"available": "not open", "refused": "refused"}
"""States of versions that no request is answered by, and why; all others are open and answer who names them."""


class Control(Protocol):
    """What can change which version serves. Returns when it is done."""

    async def load(self, name: str, version: int | None) -> None:
        """Put a version of a model into service, by default the newest.

        Raises:
            ModelUnknown: There is no such model or version.
            ModelFixed: It cannot be put into service.
        """

    async def unload(self, name: str) -> None:
        """Close what is open of a model and does not serve: what served before, and what is on trial.

        Raises:
            ModelUnknown: There is no such model.
            ModelFixed: Nothing is open but what serves, and that has to stay.
        """


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

    def check(self, headers: Mapping[str, str]) -> None:
        """Say no to who may not change models, before what else they say is looked at.

        Raises:
            BadRequest: They have no token, or a wrong one, or models are closed to changes.
        """
        self._gate.check(headers)

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
        """Close the versions of a model that are open and do not serve.

        `unload_dependents` means nothing here, as no model depends on another.

        Raises:
            BadRequest: It may not or cannot be.
        """
        self._gate.check(headers)
        await self._control.unload(name)


def _entries(listing: ModelList) -> list[dict[str, str]]:
    return [
        {
            "name": listing.name,
            "version": str(version.version),
            "state": "UNAVAILABLE" if version.state in _CLOSED else "READY",
            "reason": version.reason or _CLOSED.get(version.state, ""),
        }
        for version in listing.versions
    ]
