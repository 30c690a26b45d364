"""When a trial is decided, looked at before hours of training: the service would refuse it only after them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.client.admin import gate_of


class Gate(BaseModel):
    """The bounds as a service takes them, which says what they mean; it reads the numbers itself."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    frames: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    min_iou: Annotated[float, Field(ge=0, le=1)] | None = None
    max_latency_ratio: Annotated[float, Field(gt=0)] | None = None
    max_error_rate: Annotated[float, Field(ge=0, le=1)] = 0.0


def check_gate(text: str) -> None:
    """Check a gate as people write it.

    >>> check_gate("frames=1000, min_iou=0.9")

    Raises:
        ValueError: A service would refuse it, or there is nothing in it.
    """
    bounds = gate_of(text)
    try:
        Gate.model_validate(bounds)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors(include_url=False))
    else:
        faults = "" if bounds else "no bound at all"
    if faults:
        raise ValueError(
            "expected promote_if of frames=N, min_iou=R, max_latency_ratio=R, max_error_rate=R, some of them, got "
            f"{text!r}: {faults}"
        )
