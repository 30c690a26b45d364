"""Everything a finetuning run can be told, readable in a minute; each field is also a flag of `robomask train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator
from pydantic_settings import SettingsConfigDict

from training.schedule import Schedule


class Config(BaseModel):
    """Frozen, and unknown keys are errors."""

    # By this prefix nothing is read from the environment, where a plain `seed` or `url` may mean anything.
    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="ROBOMASK_OPTION_")


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
    val: Path | None = Field(
        None,
        description="another labelled data set to measure on, in place of `split`: its frames marked val, or all of it "
        "if none are; `train` is then learnt from as a whole",
    )
    val_fraction: float = Field(0.2, gt=0, lt=1, description="share of frames held out by a seeded split")
    folds: int | None = Field(None, ge=2, description="cross-validation in place of `split`: groups of scenes")
    fold: int = Field(0, ge=0, description="which of the groups to hold out, from 0")
    fold_seed: int = Field(0, ge=0, description="which scenes go together; one division for runs of any `seed`")
    noise: bool = Field(
        default=False, description="control: every pixel's colour drawn from all pixels of its data set, masks kept"
    )

    @property
    def files(self) -> tuple[Path, ...]:
        """All data sets: those to learn from, then the one to measure on if it is another."""
        return self.train if self.val is None else (*self.train, self.val)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.shares and (len(self.shares) != len(self.train) or min(self.shares) <= 0):
            raise ValueError(f"expected one positive share for each of {len(self.train)} data sets, got {self.shares}")
        if self.folds is not None and self.split != "proposed":
            raise ValueError("expected either split or folds, got both")
        if self.val is not None and (self.folds is not None or self.split != "proposed"):
            raise ValueError("expected either val, which leaves nothing to split, or split or folds; got both")
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
    blank: float = Field(
        0.0, ge=0, le=1, description="share replaced by what a camera gives that sees nothing, without any robot"
    )


EncoderName = Literal["frame-encoder", "transformer", "none"]
HeadName = Literal["linear", "conv", "heavy-conv", "fc-conv", "attention-conv", "attention-skips", "unet"]
LatentsName = Literal["expected", "hidden", "sampled"]


class ModelConfig(Config):
    """The network: an encoder of single frames and a head on its latents."""

    encoder: EncoderName = Field(
        "frame-encoder",
        description="frame-encoder: VideoGPT's 3D ResNet, one frame at a time; transformer: VideoGPT's prior, always "
        "frozen, from `pretrained`; none: pixels",
    )
    head: HeadName = Field(
        "attention-conv",
        description="linear: a probe; conv: fully connected, then two small convolutions; heavy-conv: fully connected, "
        "then a U-Net; fc-conv: fully connected, then the decoder of attention-conv; attention-conv: 8-head "
        "self-attention, then the decoder; attention-skips: the same with a decoder that also sees the frame encoder's "
        "finer levels; unet: the baseline, for encoder none",
    )
    frozen: bool = Field(default=False, description="leave the encoder's weights as they are")
    frozen_groups: tuple[Literal[1, 2, 3, 4], ...] = Field(
        (), description="leave those of some of the frame encoder's four groups of residual blocks as they are"
    )
    latents: LatentsName = Field(
        "expected",
        description="of the transformer; expected: embeddings of the codes it expects; hidden: its hidden states; "
        "sampled: numbers of codes drawn one by one, as the paper's code did",
    )
    draw: int = Field(0, ge=0, description="which draw of the sampled codes")
    width: int = Field(24, gt=0, description="channels of the U-Net's first level; they double at each of four more")
    layers: tuple[int, int, int, int] = Field(
        (3, 4, 6, 3), description="residual blocks of the encoder's groups; other counts do not fit public weights"
    )
    init: Path | None = Field(
        None,
        description="a run folder or a bundle (models/NAME/VERSION) whose weights, encoder and head, to start from",
    )
    pretrained: Path | None = Field(
        None,
        description="the encoder's weights to start from: a run folder of `robomask pretrain prior`, its "
        ".safetensors, a published checkpoint, or a bundle (models/NAME/VERSION); the head starts at random",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.init and self.pretrained:
            raise ValueError("expected either init, which has an encoder of its own, or pretrained; got both")
        if self.head == "attention-skips" and self.encoder != "frame-encoder":
            raise ValueError(f"expected encoder frame-encoder for head attention-skips, got encoder {self.encoder}")
        if (self.encoder == "none") != (self.head == "unet"):
            raise ValueError(
                f"expected encoder none and head unet together, got encoder {self.encoder} and head {self.head}"
            )
        if self.frozen_groups and self.encoder != "frame-encoder":
            raise ValueError(f"expected encoder frame-encoder for frozen_groups, got encoder {self.encoder}")
        if self.encoder == "none" and (self.pretrained or self.frozen):
            raise ValueError("encoder none has no weights: expected neither pretrained nor frozen")
        if self.encoder == "transformer" and not (self.pretrained or self.init):
            raise ValueError("expected pretrained, a run folder of `robomask pretrain prior`, for encoder transformer")
        return self


class OptimConfig(Config):
    """The optimiser, its schedule, and the loss: a weighted sum of Jaccard, Dice and cross-entropy."""

    optimiser: Literal["adamw", "adam", "sgd"] = Field(
        "adamw", description="adam: decay is part of the gradient; sgd: with Nesterov momentum"
    )
    lr: float = Field(6e-4, gt=0, description="peak learning rate, per step of one batch")
    encoder_lr_ratio: float = Field(1.0, gt=0, description="the encoder's learning rate as a share of `lr`")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(0.02, ge=0, description="norms and biases are not decayed")
    schedule: Schedule = Field("cosine", description="after the warm-up, down to `final_lr_ratio`, or constant")
    warmup_steps: int = Field(150, ge=0)
    final_lr_ratio: float = Field(
        0.01, ge=0, le=1, description="learning rate at the last step, as a share of the peak"
    )
    clip_norm: float = Field(1.0, gt=0, description="largest gradient norm")
    ema_decay: float = Field(0.998, ge=0, lt=1, description="per-step decay of the weight average that is evaluated")
    jaccard_weight: float = Field(1.0, ge=0, description="weight of the Jaccard loss")
    dice_weight: float = Field(0.0, ge=0, description="weight of the Dice loss")
    bce_weight: float = Field(0.5, ge=0, description="weight of the cross-entropy")
    pos_weight: float = Field(2.0, gt=0, description="weight of robot pixels in the cross-entropy")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.jaccard_weight + self.dice_weight + self.bce_weight == 0:
            raise ValueError("expected a positive jaccard_weight, dice_weight or bce_weight, all are 0")
        if self.schedule == "exponential" and self.final_lr_ratio == 0:
            raise ValueError("an exponential schedule never reaches 0: expected a positive final_lr_ratio")
        return self


class MachineConfig(Config):
    """Where a run runs. The same command, started on every node, runs on many."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = Field(
        -1, ge=-1, description="processes a node, each with a device; -1: all GPUs, or one CPU process"
    )
    nodes: int = Field(1, gt=0)
    precision: Literal["auto", "bf16-mixed", "32-true"] = Field(
        "auto",
        description="arithmetic of the training step; auto: bfloat16 where the device computes in it, else float32",
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 leaves PyTorch's choice")


class Trackers(Config):
    """Who is told how a run goes; TensorBoard files are always written."""

    wandb: Literal["off", "online", "offline"] = Field("off", description="Weights & Biases beside TensorBoard")
    mlflow: str = Field(
        "off",
        description="MLflow beside TensorBoard: off, or a store such as sqlite:///mlflow.db or http://host:5000; "
        "needs robomask[mlflow]",
    )


class TrainConfig(Config):
    """One finetuning run."""

    model_config = SettingsConfigDict(
        cli_prog_name="robomask train",
        cli_shortcuts={"machine.precision": "precision", "machine.threads": "threads", "model.init": "init"},
    )

    out: Path = Field(description="the run folder; an unfinished run found there is resumed")
    data: DataConfig
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    log: Trackers = Trackers()
    epochs: int = Field(60, gt=0, description="epochs of `steps_per_epoch` steps; each ends in a checkpoint")
    steps_per_epoch: int = Field(50, gt=0)
    batch_size: int = Field(16, gt=0, description="frames a step, for each process")
    seed: int = Field(0, ge=0)
    machine: MachineConfig = MachineConfig()

    @model_validator(mode="before")
    @classmethod
    def _gather_machine(cls, given: Any) -> Any:
        """Records of older runs have precision and threads beside the other numbers."""
        if not isinstance(given, dict) or not (moved := {"precision", "threads"} & given.keys()):
            return given
        machine = given.get("machine", {})
        inner = machine.model_dump() if isinstance(machine, MachineConfig) else machine
        rest = {name: value for name, value in given.items() if name not in moved}
        return {**rest, "machine": {**{name: given[name] for name in moved}, **inner}}

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.epochs * self.steps_per_epoch
