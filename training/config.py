"""Everything a finetuning run can be told, readable in a minute; each field is also a flag of `robomask train`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Config(BaseModel):
    """Frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(Config):
    """Which labelled frames to learn from, and which scenes to hold out."""

    train: tuple[Path, ...] = Field(
        min_length=1, description="labelled data sets (.npz, folder of shards, COCO folder)"
    )
    shares: tuple[float, ...] = Field(
        (), description="weight of each data set among the samples; if not given, each frame weighs the same"
    )
    split: Literal["proposed", "seeded", "all"] = Field(
        "proposed",
        description="proposed: the data sets' own train/val marks, unmarked frames train; seeded: scenes drawn by "
        "`seed`; all: hold out none. Beside data sets with marks, those without any only train",
    )
    val_fraction: float = Field(0.2, gt=0, lt=1, description="share of frames held out by a seeded split")
    folds: int | None = Field(None, ge=2, description="cross-validation in place of `split`: groups of scenes")
    fold: int = Field(0, ge=0, description="which of the groups to hold out, from 0")
    fold_seed: int = Field(0, ge=0, description="which scenes go together; one division for runs of any `seed`")
    noise: bool = Field(
        default=False, description="control: every pixel's colour drawn from all pixels of its data set, masks kept"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.shares and (len(self.shares) != len(self.train) or min(self.shares) <= 0):
            raise ValueError(f"expected one positive share for each of {len(self.train)} data sets, got {self.shares}")
        if self.folds is not None and self.split != "proposed":
            raise ValueError("expected either split or folds, got both")
        if self.fold >= (self.folds or 1):
            raise ValueError(f"expected a fold below folds={self.folds}, got {self.fold}")
        return self


class AugmentConfig(Config):
    """How strongly, and in which share of the samples, frames are varied."""

    mirror: float = Field(0.5, ge=0, le=1, description="share of samples mirrored left to right")
    turn_deg: float = Field(8, ge=0, description="largest turn, degrees")
    scale_log: float = Field(0.22, ge=0, description="largest change of scale, natural log")
    stretch_log: float = Field(0.08, ge=0, description="largest change of aspect, natural log")
    shift_px: float = Field(7, ge=0, description="largest shift, pixels")
    occlude: float = Field(0.25, ge=0, le=1, description="share with something laid over the scene")
    colour: float = Field(0.8, ge=0, le=1, description="share with other exposure, white balance, contrast, gamma")
    blur: float = Field(0.3, ge=0, le=1, description="share blurred")
    noise: float = Field(0.3, ge=0, le=1, description="share with sensor noise")
    compress: float = Field(0.35, ge=0, le=1, description="share compressed (JPEG, palette)")
    black_edge: float = Field(0.7, ge=0, le=1, description="share with BAIR's black first row and column")
    stamp: float = Field(0.12, ge=0, le=1, description="share with a time stamp painted over it")


class ModelConfig(Config):
    """The network."""

    encoder: Literal["frame-encoder"] = Field("frame-encoder", description="VideoGPT's 3D ResNet, one frame at a time")
    head: Literal["attention-conv"] = Field("attention-conv", description="8-head self-attention, then convolutions")
    layers: tuple[int, int, int, int] = Field(
        (3, 4, 6, 3), description="residual blocks of the encoder's groups; other counts do not fit public weights"
    )
    init: Path | None = Field(None, description="a run folder whose weights, encoder and head, to start from")
    pretrained: Path | None = Field(
        None,
        description="the encoder's weights to start from: a run folder of `robomask pretrain prior`, its "
        ".safetensors, or a published checkpoint; the head starts at random",
    )

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.init and self.pretrained:
            raise ValueError("expected either init, which has an encoder of its own, or pretrained; got both")
        return self


class OptimConfig(Config):
    """AdamW with warm-up and cosine decay."""

    lr: float = Field(6e-4, gt=0, description="peak learning rate, per step of one batch")
    encoder_lr_ratio: float = Field(1.0, gt=0, description="the encoder's learning rate as a share of `lr`")
    weight_decay: float = Field(0.02, ge=0)
    warmup_steps: int = Field(150, ge=0)
    final_lr_ratio: float = Field(
        0.01, ge=0, le=1, description="learning rate at the last step, as a share of the peak"
    )
    clip_norm: float = Field(1.0, gt=0, description="largest gradient norm")
    ema_decay: float = Field(0.998, ge=0, lt=1, description="per-step decay of the weight average that is evaluated")
    bce_weight: float = Field(0.5, ge=0, description="weight of the cross-entropy beside the Jaccard loss")
    pos_weight: float = Field(2.0, gt=0, description="weight of robot pixels in the cross-entropy")


class TrainConfig(Config):
    """One finetuning run."""

    out: Path = Field(description="the run folder; an unfinished run found there is resumed")
    data: DataConfig
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    epochs: int = Field(60, gt=0, description="epochs of `steps_per_epoch` steps; each ends in a checkpoint")
    steps_per_epoch: int = Field(50, gt=0)
    batch_size: int = Field(16, gt=0)
    seed: int = Field(0, ge=0)
    precision: Literal["bf16-mixed", "32-true"] = Field("bf16-mixed", description="arithmetic of the training step")
    threads: int = Field(0, ge=0, description="CPU threads; 0 leaves PyTorch's choice")

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.epochs * self.steps_per_epoch
