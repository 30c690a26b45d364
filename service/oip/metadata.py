"""What the protocol says of the server, its model, and how they do: as objects that REST sends and gRPC converts.

Source: KServe, "Open Inference Protocol" (V2), metadata; Triton, model configuration and statistics extensions.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from service.contract import INPUTS, OUTPUTS
from service.oip.tensors import DATATYPES, dimensions
from service.telemetry.by_version import VersionCounts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.contract import TensorSpec
    from service.telemetry.metrics import Metrics
    from service.versions.note import ModelNote

__all__ = ["EXTENSIONS", "model_config", "model_metadata", "model_statistics", "server_metadata"]

EXTENSIONS: Final = ("binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics")
_PLATFORM: Final = "onnxruntime_onnx"
_NS: Final = 1e9


def server_metadata() -> dict[str, Any]:
    """Name, version and extensions of the server."""
    return {"name": "robomask", "version": _own_version(), "extensions": list(EXTENSIONS)}


def model_metadata(model: ModelNote) -> dict[str, Any]:
    """Names, datatypes and shapes of the model's tensors; -1 is the number of frames."""

    def tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [{"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": dimensions(spec)} for spec in specs]

    return {
        "name": model.name,
        "versions": [str(model.version)],
        "platform": _PLATFORM,
        "inputs": tensors(INPUTS),
        "outputs": tensors(OUTPUTS),
    }


def model_config(model: ModelNote, max_frames: int) -> dict[str, Any]:
    """The part of Triton's model configuration that has a meaning here; load generators read it.

    The first axis is the batch's, so it is not among the dimensions; a request may have `max_frames` of them.
    """

    def tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [
            {"name": spec.name, "data_type": f"TYPE_{DATATYPES[spec.dtype]}", "dims": dimensions(spec)[1:]}
            for spec in specs
        ]

    return {
        "name": model.name,
        "platform": _PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": max_frames,
        "input": tensors(INPUTS),
        "output": tensors(OUTPUTS),
    }


def model_statistics(model: ModelNote, metrics: Metrics, *, alone: bool) -> dict[str, Any]:
    """Triton's statistics: of all requests that were answered since the start, those to `/segment` too.

    Args:
        model: Which version.
        metrics: Where they are counted.
        alone: Whether the version was asked for; if not, there is an entry for every version that has answered.
    """
    versions = [model.version] if alone else sorted({model.version, *metrics.by_version})
    none = VersionCounts()
    return {"model_stats": [_of_version(model.name, one, metrics.by_version.get(one, none)) for one in versions]}


def _of_version(name: str, version: int, counts: VersionCounts) -> dict[str, Any]:
    def duration(*stages: str) -> dict[str, int]:
        seconds = sum(counts.stages_s.get(stage, 0.0) for stage in stages)
        return {"count": counts.requests, "ns": int(seconds * _NS)}

    statistics = {
        "success": duration("decode", "queue", "infer", "encode"),
        "fail": {"count": counts.failed, "ns": int(counts.failed_s * _NS)},
        "queue": duration("queue"),
        "compute_input": duration("decode"),
        "compute_infer": duration("infer"),
        "compute_output": duration("encode"),
    }
    return {
        "name": name,
        "version": str(version),
        "inference_count": counts.frames,
        "execution_count": round(counts.runs),
        "inference_stats": statistics,
    }


def _own_version() -> str:
    try:
        return metadata.version("robomask")
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"
