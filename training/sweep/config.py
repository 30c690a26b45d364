"""Everything `robomask sweep` can be told: what `robomask train` takes, and which of it to search over."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from training.config import Config, MachineConfig, TrainConfig
from training.schedule import Schedule

Loss = Literal["jaccard", "dice", "bce", "jaccard+bce", "dice+bce", "jaccard+dice"]
Interval = tuple[float, float]


class Space(Config):
    """What trials draw from; two equal ends, or a single choice, hold a setting fixed."""

    lr: Interval = Field((1e-5, 5e-3), description="peak learning rate, drawn by its logarithm")
    encoder_lr_ratio: Interval = Field((0.1, 1.0), description="by its logarithm")
    weight_decay: Interval = Field((1e-4, 0.2), description="by its logarithm")
    pos_weight: Interval = Field((1.0, 4.0), description="of robot pixels in the cross-entropy")
    loss: tuple[Loss, ...] = Field(("jaccard", "dice", "bce", "jaccard+bce", "dice+bce", "jaccard+dice"), min_length=1)
    optimiser: tuple[Literal["adamw", "adam", "sgd"], ...] = Field(("adamw", "adam", "sgd"), min_length=1)
    schedule: tuple[Schedule, ...] = Field(("cosine", "exponential", "constant"), min_length=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in ("lr", "encoder_lr_ratio", "weight_decay", "pos_weight"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: expected two positive numbers, the lower first, got {low}, {high}")
        return self


class SweepConfig(TrainConfig):
    """A search; settings of `robomask train` that `space` does not name are those of every trial."""

    model_config = SettingsConfigDict(cli_prog_name="robomask sweep")

    machine: MachineConfig = MachineConfig(devices=1)  # a trial to a process; more of them are more sweeps
    trials: int = Field(30, gt=0, description="trials in all, those of earlier starts included")
    space: Space = Space()
    startup_trials: int = Field(5, ge=0, description="trials before any is cut short")
    warmup_epochs: int = Field(5, ge=0, description="epochs that every trial gets")

    @model_validator(mode="after")
    def _something_to_compare(self) -> Self:
        if self.data.split == "all" and self.data.folds is None:
            raise ValueError("a search compares trials on scenes held out: expected another data.split than all")
        return self
