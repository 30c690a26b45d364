"""Everything `robomask retrain` can be told: what `robomask train` takes, and how the result goes into service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from export.succession import TOLERANCE
from retrain.gate import check_gate
from service.client.admin import SHARES, gate_of
from service.contract import Precision
from training.config import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

HowTo = Literal["shadow", "canary", "activate", "watch"]


class RetrainConfig(TrainConfig):
    """Train on from the version in service, compare with it, publish what is no worse, and see it into service.

    The same command goes on where an earlier one stopped.
    """

    model_config = SettingsConfigDict(cli_prog_name="robomask retrain")

    models: Path = Field(Path("models"), description="the model repository, whose newest version is the one in service")
    name: str | None = Field(
        None, description="the model's name; by default that of the only model there, or robot-arm"
    )
    precisions: tuple[Precision, ...] = Field(
        ("fp32", "fp16", "int8"), description="what to publish, as in fp32,int8; fp32 always is"
    )
    calibration: Path | None = Field(
        None, description="frames to calibrate int8 on; by default what the run was trained on"
    )
    credit: str = Field("", description="who made the data, and its licence; stands in the card")
    gate_data: Path | None = Field(
        None,
        description="labelled frames to compare both models on: those marked val, or all if none are; by default what "
        "the run has held out",
    )
    gate_tolerance: float = Field(TOLERANCE, ge=0, le=1, description="how much lower the new model's mean IoU may be")
    url: str | None = Field(
        None, description="a service that serves the repository, http://host:port; without it publishing is the end"
    )
    rollout: HowTo = Field(
        "shadow",
        description="what to have the service do, for which ROBOMASK_ADMIN_TOKEN has to be set to its own; watch: "
        "nothing, it finds the version by itself (its --poll-s), only wait until it serves",
    )
    share: float | None = Field(
        None,
        gt=0,
        le=1,
        description=f"share of streams; by default {SHARES['shadow']:g} for shadow, {SHARES['canary']:g} for canary",
    )
    promote_if: str | None = Field(
        None,
        description="when shadow or canary takes over or is dropped: frames=1000,min_iou=0.8,max_latency_ratio=1.2; "
        "without it somebody decides, and nobody waits",
    )
    timeout_s: float = Field(3600, gt=0, description="longest wait for the outcome, seconds")
    every_s: float = Field(1.0, gt=0, description="seconds between two looks at the service")

    @model_validator(mode="after")
    def _can_be_published(self) -> Self:
        if self.model.encoder != "frame-encoder" or self.model.head not in {"attention-conv", "attention-skips"}:
            raise ValueError(
                "expected the encoder frame-encoder and the head attention-conv or attention-skips, which a bundle "
                f"can hold, got {self.model.encoder} and {self.model.head}"
            )
        if self.data.split == "all" and self.gate_data is None:
            raise ValueError("expected scenes held out to compare on, or gate_data; got data.split all")
        if self.promote_if and self.rollout not in {"shadow", "canary"}:
            raise ValueError(f"expected promote_if with shadow or canary, got rollout {self.rollout}")
        if self.promote_if is not None:
            check_gate(self.promote_if)
        return self

    def training(self) -> TrainConfig:
        """What it says of the training."""
        return TrainConfig.model_validate({name: getattr(self, name) for name in TrainConfig.model_fields})

    def told(self) -> Mapping[str, Any]:
        """What decides which weights come out, as JSON; one folder belongs to one of these."""
        return _decisive(self.training())

    def told_before(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """What an earlier attempt was told, with defaults for what nobody could tell it yet.

        Raises:
            ValidationError: It was told what this version does not know.
        """
        return _decisive(TrainConfig.model_validate({**settings, "out": self.out}))

    def gate(self) -> dict[str, Any]:
        """What decides, beside the weights, whether they are found worse, as JSON."""
        return self.model_dump(mode="json", include={"gate_tolerance", "gate_data", "precisions", "calibration"})

    def trial(self) -> dict[str, Any]:
        """How the service is told to try the version, as JSON."""
        return {"rollout": self.rollout, "share": self.streams(), "promote_if": gate_of(self.promote_if or "")}

    def streams(self) -> float:
        """Share of streams for the version on trial, 0..1."""
        if self.share is not None:
            return self.share
        return SHARES["canary" if self.rollout == "canary" else "shadow"]


def _decisive(training: TrainConfig) -> Mapping[str, Any]:
    return training.model_dump(mode="json", exclude={"out": True, "log": True, "machine": {"threads"}})
