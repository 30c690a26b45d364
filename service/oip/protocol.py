"""The Open Inference Protocol as the rest of the service sees it: one object that REST and gRPC are built on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.oip.numbers import read_version

if TYPE_CHECKING:
    from collections.abc import Hashable

    from service.oip.infer import Tensors
    from service.oip.repository import Repository
    from service.telemetry.metrics import Metrics
    from service.versions.models import Models, Slot

__all__ = ["OpenInference"]


@dataclass(frozen=True, slots=True)
class OpenInference:
    """What requests of the protocol are answered with.

    Attributes:
        models: Which model is in service.
        tensors: Answers requests for inference.
        repository: Answers requests to the model repository.
        metrics: Where requests are counted.
    """

    models: Models
    tensors: Tensors
    repository: Repository
    metrics: Metrics

    def slot(self, name: str, version: str | None, stream: Hashable = None) -> Slot:
        """The slot that serves a model by its name and, if one is given, its version as the protocol writes it.

        Args:
            name: The model.
            version: Its version; empty or None for the one in service.
            stream: Whose frames are to be answered, if any are; in a canary trial that decides.

        Raises:
            NotReady: The model is still loading.
            ModelUnknown: It is not in service.
        """
        return self.models.slot(name, read_version(version or None), stream)
