"""Everything a pretraining run can be told; each field is also a flag of `robomask pretrain vqvae` or `... prior`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from training.config import Config, MachineConfig, Trackers
from training.pretrain.presets import PRIOR_PRESETS, VQVAE_PRESETS, Preset, merged
from training.videogpt.prior import PriorConfig
from training.videogpt.resnet import LATENT_DIM, LAYERS
from training.videogpt.vqvae import VQVAEConfig

PresetName = Literal["bair", "cpu"]


class ClipDataConfig(Config):
    """Which clips to learn from."""

    clips: tuple[Path, ...] = Field(
        min_length=1, description="data sets of clips (BAIR TFRecords, .npz, videos, or folders of one of these)"
    )
    shares: tuple[float, ...] = Field((), description="weight of each data set among the samples; equal if not given")
    val_fraction: float = Field(
        0.05, gt=0, lt=1, description="share of scenes held out of data sets that do not mark their own"
    )
    val_clips: int = Field(32, gt=0, description="held-out clips of each data set to validate on, at most")
    workers: int = Field(0, ge=0, description="processes that read clips, for each training process")

    @model_validator(mode="after")
    def _one_share_each(self) -> Self:
        if self.shares and (len(self.shares) != len(self.clips) or min(self.shares) <= 0):
            raise ValueError(f"expected one positive share for each of {len(self.clips)} data sets, got {self.shares}")
        return self


class ClipAugmentConfig(Config):
    """How strongly, and in which share of the samples, clips are varied; the published models saw none of it."""

    mirror: float = Field(0, ge=0, le=1, description="share of clips mirrored left to right")
    crop_px: float = Field(0, ge=0, lt=32, description="most pixels cut off each axis before enlarging again")
    colour: float = Field(0, ge=0, le=1, description="share with other exposure, contrast, white balance, saturation")
    noise: float = Field(0, ge=0, le=1, description="share with sensor noise")
    noise_sigma: float = Field(6, ge=1, description="its largest standard deviation, grey levels")


class AdamConfig(Config):
    """Adam, with warm-up and cosine decay where they are asked for."""

    lr: float = Field(3e-4, gt=0, description="peak learning rate")
    warmup_steps: int = Field(0, ge=0)
    final_lr_ratio: float = Field(1.0, ge=0, le=1, description="last learning rate, share of the peak; 1: constant")
    clip_norm: float = Field(1.0, gt=0, description="largest gradient norm")


class LogConfig(Trackers):
    """What a run tells while it runs; TensorBoard files are always written."""

    every_steps: int = Field(10, gt=0, description="steps between two points of a curve")
    pictures_every: int = Field(5, gt=0, description="epochs between two sets of pictures")
    temperature: float = Field(1.0, gt=0, description="of sampled futures in pictures; below 1: likelier codes")
    picture_clips: int = Field(4, gt=0, description="held-out clips in a picture")


class PretrainConfig(Config):
    """What both kinds of run share.

    Groups have default factories, not default values: the command line fills a group that it is given in part from a
    default value, and the preset would then find every number of the group given.
    """

    PRESETS: ClassVar[dict[str, Preset]] = {}

    out: Path = Field(description="the run folder; an unfinished run found there is resumed")
    preset: PresetName = Field("bair", description="published sizes, or ones for two CPU cores; flags go before it")
    data: ClipDataConfig
    augment: ClipAugmentConfig = Field(default_factory=ClipAugmentConfig)
    optim: AdamConfig = Field(default_factory=AdamConfig)
    machine: MachineConfig = Field(default_factory=MachineConfig)
    log: LogConfig = Field(default_factory=LogConfig)
    init: Path | None = Field(
        None, description="weights to start from: a run folder, its .safetensors, or a published checkpoint"
    )
    keep: Literal["best", "last"] = Field("best", description="which weights the run ends with: by validation loss")
    epochs: int = Field(200, gt=0, description="epochs of `steps_per_epoch` steps; each ends in a checkpoint")
    steps_per_epoch: int = Field(1000, gt=0)
    batch_size: int = Field(16, gt=0, description="clips a step, for each process")
    seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return merged(cls.PRESETS.get(given.get("preset", "bair"), {}), given)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.epochs * self.steps_per_epoch


class VQVAESize(Config):
    """The numbers of a VQ-VAE; see `VQVAEConfig`."""

    embedding_dim: int = 256
    n_codes: int = 2048
    n_hiddens: int = 240
    n_res_layers: int = 4
    downsample: tuple[int, int, int] = Field((4, 2, 2), description="pixels for each code: time, height, width")
    sequence_length: int = Field(16, description="frames of a clip")
    resolution: int = Field(64, description="height and width of its frames")

    def build(self) -> VQVAEConfig:
        """The model's own configuration.

        Raises:
            ValueError: Numbers that make no VQ-VAE.
        """
        return VQVAEConfig(**self.model_dump())


class PriorSize(Config):
    """The numbers of a prior; see `PriorConfig`. The frame encoder has its full width, whatever the preset."""

    n_cond_frames: int = Field(1, ge=0, description="frames the clip is conditioned on")
    hidden_dim: int = 576
    heads: int = 4
    layers: int = 8
    dropout: float = Field(0.2, ge=0, lt=1)
    attn_type: Literal["full", "sparse"] = "sparse"
    attn_dropout: float = Field(0.3, ge=0, lt=1, description="full attention only")
    resnet_layers: tuple[int, int, int, int] = Field(
        LAYERS, description="residual blocks of the encoder's groups; other counts do not fit public weights"
    )
    resnet_dim: int = LATENT_DIM
    recompute: bool = Field(default=True, description="trade time for memory")

    def build(self, vqvae: VQVAEConfig) -> PriorConfig:
        """The model's own configuration, for the codes of a VQ-VAE.

        Raises:
            ValueError: Numbers that make no prior.
        """
        return PriorConfig(vqvae=vqvae, **self.model_dump())


class VQVAERunConfig(PretrainConfig):
    """One run of `robomask pretrain vqvae`."""

    model_config = SettingsConfigDict(cli_prog_name="robomask pretrain vqvae")

    PRESETS: ClassVar[dict[str, Preset]] = VQVAE_PRESETS

    model: VQVAESize = Field(default_factory=VQVAESize)


class PriorRunConfig(PretrainConfig):
    """One run of `robomask pretrain prior`."""

    model_config = SettingsConfigDict(cli_prog_name="robomask pretrain prior")

    PRESETS: ClassVar[dict[str, Preset]] = PRIOR_PRESETS

    vqvae: Path | None = Field(
        None, description="the VQ-VAE whose codes to model: a run folder or a published checkpoint; `init` has its own"
    )
    model: PriorSize = Field(default_factory=PriorSize)
    start: Literal["published", "aligned"] = Field(
        "published", description="first weights: aligned, tokens look at the frame where they are; not with `init`"
    )
    encoder: Literal["collapsed", "published", "frozen"] = Field(
        "collapsed",
        description="form in which the frame encoder trains; with one frame the first two learn the same; frozen: it "
        "stays as it is",
    )
    frame_encoder: Path | None = Field(
        None, description="frame encoder to start from: a run folder, a .safetensors, or a published checkpoint"
    )

    @model_validator(mode="after")
    def _one_vqvae(self) -> Self:
        if (self.vqvae is None) == (self.init is None):
            raise ValueError("expected either vqvae or init, which holds a VQ-VAE of its own; got both or neither")
        return self

    @model_validator(mode="after")
    def _encoder_of_something(self) -> Self:
        if self.frame_encoder is not None and not self.model.n_cond_frames:
            raise ValueError("frame_encoder: a prior that sees no frames has none; set model.n_cond_frames")
        if self.encoder == "frozen" and self.frame_encoder is None and self.init is None:
            raise ValueError("encoder=frozen: expected frame_encoder or init, or random weights would stay random")
        return self
