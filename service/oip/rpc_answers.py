"""What each method of the protocol's gRPC service answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import json_format

from service.errors import ModelUnknown, NotReady
from service.oip.metadata import model_config, model_metadata, model_statistics, server_metadata
from service.oip.rpc_tensors import parameter_values, read_inference, write_inference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from service.call import Call
    from service.engine import Prediction
    from service.oip.protocol import OpenInference
    from service.oip.schema import Schema
    from service.oip.tensors import Inference

__all__ = ["Answers", "Inquiry"]

_QUICK_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class Inquiry:
    """What surrounds a message.

    Attributes:
        call: What is known of it.
        headers: The metadata that came with it, names in lower case.
        left_s: Seconds until gRPC's own deadline for it, if it has one.
        own_id: The client's own name for it; empty for none.
    """

    call: Call
    headers: Mapping[str, str]
    left_s: float | None
    own_id: str = ""


class Answers:
    """Answers of the service `inference.GRPCInferenceService`.

    Args:
        protocol: What answers.
        schema: The service's messages.
    """

    def __init__(self, protocol: OpenInference, schema: Schema) -> None:
        self._protocol = protocol
        self._messages = schema.messages

    def by_method(self) -> dict[str, Callable[[Any, Inquiry], Awaitable[Any]]]:
        """What answers a message of each method."""
        return {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.infer,
            "ModelStreamInfer": self.infer_in_stream,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "RepositoryIndex": self.index,
            "RepositoryModelLoad": self.load,
            "RepositoryModelUnload": self.unload,
        }

    async def server_live(self, _: Any, __: Inquiry) -> Any:
        """Whether the process answers at all."""
        return self._messages["ServerLiveResponse"](live=True)

    async def server_ready(self, _: Any, __: Inquiry) -> Any:
        """Whether to send requests here."""
        return self._messages["ServerReadyResponse"](ready=self._is_ready())

    async def model_ready(self, request: Any, _: Inquiry) -> Any:
        """Whether a model answers; one that is not there does not, which is no error."""
        try:
            self._protocol.slot(request.name, request.version)
        except (ModelUnknown, NotReady):
            return self._messages["ModelReadyResponse"](ready=False)
        return self._messages["ModelReadyResponse"](ready=self._is_ready())

    async def server_metadata(self, _: Any, __: Inquiry) -> Any:
        """Name, version and extensions of the server."""
        return self._message("ServerMetadataResponse", server_metadata())

    async def model_metadata(self, request: Any, _: Inquiry) -> Any:
        """Names, datatypes and shapes of the model's tensors."""
        slot = self._protocol.slot(request.name, request.version)
        return self._message("ModelMetadataResponse", model_metadata(slot.note))

    async def model_config(self, request: Any, _: Inquiry) -> Any:
        """The model's configuration, as far as it has a meaning here."""
        slot = self._protocol.slot(request.name, request.version)
        config = model_config(slot.note, self._protocol.tensors.stages.limits.max_frames)
        return self._message("ModelConfigResponse", {"config": config})

    async def model_statistics(self, request: Any, _: Inquiry) -> Any:
        """Counts and times of all requests since the start."""
        protocol = self._protocol
        slot = protocol.slot(request.name, request.version) if request.name else protocol.models.slot()
        statistics = model_statistics(slot.note, protocol.metrics, alone=bool(request.version))
        return self._message("ModelStatisticsResponse", statistics)

    async def infer(self, request: Any, inquiry: Inquiry) -> Any:
        """Give the model frames as tensors and get its tensors back."""
        slot = self._protocol.slot(request.model_name, request.model_version, inquiry.call.stream)
        tensors = self._protocol.tensors
        tensors.stages.enter(inquiry.call)

        def read() -> Inference:
            return read_inference(request, tensors.stages.limits)

        def write(inference: Inference, prediction: Prediction) -> Any:
            kind = self._messages["ModelInferResponse"]
            return write_inference(kind, slot.note, request, inference, prediction)

        return await tensors.infer(
            slot,
            read,
            write,
            call=inquiry.call,
            quick=request.ByteSize() <= _QUICK_BYTES,
        )

    async def infer_in_stream(self, request: Any, inquiry: Inquiry) -> Any:
        """The same, as a message of a stream."""
        return self._messages["ModelStreamInferResponse"](infer_response=await self.infer(request, inquiry))

    async def index(self, request: Any, _: Inquiry) -> Any:
        """The versions in the repository, and which of them are in service."""
        entries = await self._protocol.repository.index(ready_only=request.ready)
        return self._message("RepositoryIndexResponse", {"models": entries})

    async def load(self, request: Any, inquiry: Inquiry) -> Any:
        """Put a model into service; needs the admin token."""
        parameters = parameter_values(request.parameters)
        await self._protocol.repository.load(request.model_name, parameters, inquiry.headers)
        return self._messages["RepositoryModelLoadResponse"]()

    async def unload(self, request: Any, inquiry: Inquiry) -> Any:
        """Take a model out of service; needs the admin token."""
        await self._protocol.repository.unload(request.model_name, inquiry.headers)
        return self._messages["RepositoryModelUnloadResponse"]()

    def _is_ready(self) -> bool:
        try:
            self._protocol.models.check_ready()
        except NotReady:
            return False
        return True

    def _message(self, kind: str, content: dict[str, Any]) -> Any:
        return json_format.ParseDict(content, self._messages[kind]())
