"""Every setting: an environment variable `ROBOMASK_*` and a flag of `robomask serve` alike."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.contract import Precision
from service.engine.gpu_options import GpuOptions
from service.frames.limits import Limits
from service.machine.cores import usable_cores
from service.versions.trial import Gate, read_gate

__all__ = ["Settings", "unknown_variables"]

_PREFIX = "ROBOMASK_"
_MIB = 1024 * 1024


class Settings(BaseSettings):
    """Serve a bundle over HTTP. Each option is also an environment variable: --max-frames is ROBOMASK_MAX_FRAMES."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=_PREFIX,
        cli_prog_name="robomask serve",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        extra="forbid",
        frozen=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="Port to listen on; 0 for any free one.")
    models: str = Field(
        "models",
        description="Model repository: <models>/<model>/<version>/ are bundles. A folder, or a URL that fsspec opens, "
        "such as s3://bucket/models, with robomask[remote].",
    )
    cache: Path = Field(
        Path("~/.cache/robomask"), description="Folder for copies of what comes from a repository behind a URL."
    )
    model: str | None = Field(None, description="Model to serve; by default the only one in the repository.")
    version: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Version to serve; by default the newest that passes its self-test."
    )
    precision: Precision | None = Field(
        None,
        description="fp32, fp16 or int8; by default fp16 on a GPU and int8 on a CPU that is fast at it, if the bundle "
        "has them, or fp32. The log and /models say which, and why.",
    )
    provider: Literal["auto", "cuda", "tensorrt", "cpu"] = Field(
        "auto",
        description="Device: cuda and tensorrt fail without a GPU, auto takes CUDA if it works and says what it took.",
    )
    gpu_mem_limit: Annotated[int, Field(ge=64 * _MIB)] | None = Field(
        None, description="Most bytes of the GPU's memory for the model's arena; by default as much as it asks for."
    )
    gpu_graphs: bool = Field(True, description="Record CUDA graphs, one for each batch size: less work per run.")
    engine_cache: Path | None = Field(
        None,
        description="Folder in which TensorRT keeps compiled engines; without it each start takes minutes.",
    )
    poll_s: Annotated[float, Field(ge=0, le=86_400)] = Field(
        0.0, description="Seconds between looks for a version newer than the one in service; 0 for never."
    )
    keep_previous: bool = Field(
        True, description="Keep the version that served before open, for going back to it at once."
    )
    vet_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        60.0,
        description="Seconds of processor time for a version to be opened and tested in a process of its own before "
        "this one opens it; 0 for no such process.",
    )
    promote_if: str | None = Field(
        None,
        description="Gate for versions found by polling or SIGHUP: tried in shadow first, then promoted or rejected; "
        "such as frames=500,min_iou=0.9,max_latency_ratio=1.2,max_error_rate=0.",
    )
    shadow_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Share of streams that such a shadow trial looks at."
    )
    audit_log: Path | None = Field(
        None, description="File to which every change of the models is added as a line of JSON; by default none."
    )
    admin_token: SecretStr | None = Field(
        None,
        description="Token that changing the models needs (Authorization: Bearer ...); by default those routes are "
        "closed. Set it in the environment: a command line can be read by others.",
    )
    sample_to: Path | None = Field(
        None,
        description="Folder into which hard frames are saved, 64x64 as the model saw them, with the masks it proposed; "
        "by default none are. They show what cameras see: mind who may read them.",
    )
    sample_per_day: Annotated[int, Field(ge=1, le=100_000)] = Field(
        200, description="Most frames saved in a day (UTC)."
    )
    sample_total: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        5000, description="Most frames saved in all, those of earlier runs included."
    )
    sample_confidence: Annotated[float, Field(ge=0, le=1)] = Field(
        0.6, description="Confidence below which a frame is hard."
    )
    sample_iou: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5,
        description="IoU with the stream's last mask, or in a trial with the other model's, below which it is hard.",
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default_factory=usable_cores, description="Threads that run the model; by default one for each usable core."
    )
    codec_threads: Annotated[int, Field(ge=1, le=256)] = Field(
        default_factory=usable_cores, description="Threads that decode frames and encode masks; by default the same."
    )
    intra_op_threads: Annotated[int, Field(ge=1, le=256)] = Field(
        1, description="Threads inside one run of the model; 1 is best for throughput when there are several workers."
    )
    alone_threads: Annotated[int, Field(ge=1, le=256)] = Field(
        default_factory=usable_cores,
        description="Threads inside one run, on a CPU, while frames come one at a time; by default one for each usable "
        "core. More than --intra-op-threads opens the model a second time when that happens.",
    )
    max_batch: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None,
        description="Most frames in one run of the model; by default 1 on a CPU, where more gain nothing (8 if a frame "
        "takes less than a millisecond), or 32.",
    )
    queue_limit: Annotated[int, Field(ge=1, le=100_000)] = Field(
        256,
        description="Most frames that wait for the model, unless they are of one request, and most requests that wait "
        "to be decoded: a bound on memory, whatever the bound on time says.",
    )
    queue_limit_ms: Annotated[int, Field(ge=1, le=3_600_000)] = Field(
        5000,
        description="Longest expected wait for the model, or to be decoded, in ms; beyond it requests get 503.",
    )
    stream_credits: Annotated[int, Field(ge=2, le=64)] = Field(
        4, description="Frames that a client of /stream may have in flight."
    )
    stream_idle_s: Annotated[float, Field(gt=0)] = Field(
        60.0, description="Seconds without a frame after which a connection to /stream is closed."
    )
    stream_limit: Annotated[int, Field(ge=0, le=100_000)] = Field(
        256, description="Most connections to /stream at one time."
    )
    max_body_bytes: Annotated[int, Field(ge=1)] = Field(64 * _MIB, description="Most bytes in a request's body.")
    max_frames: Annotated[int, Field(ge=1, le=4096)] = Field(64, description="Most frames in one request.")
    max_pixels: Annotated[int, Field(ge=1, le=150_000_000)] = Field(
        25_000_000, description="Most pixels in one frame, read from its header before it is decoded."
    )
    max_side: Annotated[int, Field(ge=1, le=65_535)] = Field(
        16_384, description="Longest side of a frame in pixels, read from its header before it is decoded."
    )
    max_request_pixels: Annotated[int, Field(ge=1)] = Field(
        64_000_000, description="Most pixels in all frames of one request together."
    )
    max_inflight_bytes: Annotated[int, Field(ge=1)] = Field(
        1024 * _MIB, description="Most bytes of bodies and answers that all requests together hold at one time."
    )
    body_timeout_s: Annotated[float, Field(gt=0)] = Field(
        30.0,
        description="Seconds within which a request's head has to arrive, and its body, and in which a client has to "
        "take something of its answer.",
    )
    keep_alive_s: Annotated[int, Field(ge=1)] = Field(75, description="Seconds that an idle connection stays open.")
    shutdown_s: Annotated[int, Field(ge=0)] = Field(
        20, description="Seconds that requests in flight are given to finish when the service is told to stop."
    )
    grpc_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Port for the Open Inference Protocol over gRPC; 0 for any free one, by default off."
    )
    otlp_endpoint: str | None = Field(
        None,
        description="OpenTelemetry collector (OTLP over HTTP) to which traces go, such as http://collector:4318; by "
        "default what OTEL_EXPORTER_OTLP_ENDPOINT says, or none. Needs robomask[otel].",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged; each request is one line at info."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="Form of log lines; auto is text on a terminal and json elsewhere."
    )

    @field_validator("port", "grpc_port", mode="before")
    @classmethod
    def _ignore_service_link(cls, value: Any, info: ValidationInfo) -> Any:
        # Kubernetes sets ROBOMASK_PORT=tcp://10.0.0.1:8000 in every pod beside a Service that is named robomask,
        # and ROBOMASK_GRPC_PORT beside one that is named robomask-grpc.
        return cls.model_fields[str(info.field_name)].default if str(value).startswith("tcp://") else value

    @field_validator("models", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @field_validator("cache")
    @classmethod
    def _at_home(cls, value: Path) -> Path:
        return value.expanduser()

    @field_validator("promote_if")
    @classmethod
    def _is_a_gate(cls, value: str | None) -> str | None:
        if value is not None:
            read_gate(value)
        return value

    @field_validator("admin_token")
    @classmethod
    def _is_a_token(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value is not None and value.get_secret_value().strip() else None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.max_inflight_bytes < self.max_body_bytes:
            raise ValueError(
                f"expected max_inflight_bytes to be at least max_body_bytes ({self.max_body_bytes}), "
                f"got {self.max_inflight_bytes}"
            )
        return self

    def gpu(self) -> GpuOptions:
        """How a GPU is used."""
        return GpuOptions(self.gpu_mem_limit, self.engine_cache, self.gpu_graphs)

    def gate(self) -> Gate | None:
        """The gate of versions that are found."""
        return None if self.promote_if is None else read_gate(self.promote_if)

    def limits(self) -> Limits:
        """What one request may ask for."""
        return Limits(
            max_body_bytes=self.max_body_bytes,
            max_frames=self.max_frames,
            max_pixels=self.max_pixels,
            max_side=self.max_side,
            max_request_pixels=self.max_request_pixels,
        )


def unknown_variables() -> list[str]:
    """Environment variables that look like settings but are none: misspelt, most likely."""
    known = {f"{_PREFIX}{name}".upper() for name in Settings.model_fields}
    links = (f"{_PREFIX}SERVICE_", f"{_PREFIX}PORT_")  # Kubernetes' own, see above
    return sorted(
        name
        for name in map(str.upper, os.environ)
        if name.startswith(_PREFIX) and name not in known and not name.startswith(links)
    )
