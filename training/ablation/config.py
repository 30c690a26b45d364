"""Everything `robomask ablate` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from training.ablation.rows import BY_NAME, ROWS, Row
from training.config import AugmentConfig, Config, OptimConfig
from training.videogpt.resnet import LAYERS


class Rates(Config):
    """Peak learning rates; heads differ too much for one."""

    linear: float = Field(1e-2, gt=0)
    conv: float = Field(1e-2, gt=0)
    heavy_conv: float = Field(3e-3, gt=0)
    fc_conv: float = Field(3e-3, gt=0)
    attention_conv: float = Field(1e-3, gt=0)
    finetuned: float = Field(6e-4, gt=0, description="encoder and head together")
    unet: float = Field(3e-3, gt=0)


class Budget(Config):
    """How long rows train."""

    head_steps: int = Field(800, gt=0, description="steps of a head on cached latents")
    first_head_steps: int = Field(
        400, ge=0, description="the same before a pretrained encoder is finetuned with it: Kumar et al. 2022"
    )
    epochs: int = Field(20, gt=0, description="epochs of a network that trains as a whole")
    steps_per_epoch: int = Field(50, gt=0)
    batch_size: int = Field(16, gt=0)

    def of(self, row: Row) -> dict[str, int]:
        """What of it a row depends on: results of the others stay when the rest is changed."""
        apart = {"epochs", "steps_per_epoch"} if row.frozen else {"head_steps"}
        return self.model_dump(exclude=apart if row.head_first else apart | {"first_head_steps"})


class AblateConfig(Config):
    """One run of the study: rows, times folds of scenes, times seeds."""

    model_config = SettingsConfigDict(cli_prog_name="robomask ablate")

    out: Path = Field(description="the folder of results; what is there with these settings is not done again")
    data: Path = Field(description="a labelled data set with scenes")
    pretrained: Path | None = Field(
        None,
        description="a folder such as pretrained/, a run folder of `robomask pretrain prior` or a published checkpoint "
        "(bair_gpt)",
    )
    rows: tuple[str, ...] = Field(tuple(row.name for row in ROWS), min_length=1, description="which rows")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    folds: int = Field(5, ge=2, description="groups of scenes, each held out once")
    fold_seed: int = Field(0, ge=0)
    copies: int = Field(4, ge=0, description="augmented copies of each frame whose latents are cached")
    sampled_copies: int = Field(
        0, ge=0, description="the same for sampled codes, which take long; a draw for each seed"
    )
    layers: tuple[int, int, int, int] = Field(LAYERS, description="of a frame encoder without pretrained weights")
    width: int = Field(24, gt=0, description="channels of the U-Net's first level")
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = Field(OptimConfig(warmup_steps=50, ema_decay=0.99), description="its lr gives way to `rates`")
    rates: Rates = Rates()
    budget: Budget = Budget()
    pictures: int = Field(8, gt=0, description="columns of the picture")
    threads: int = Field(0, ge=0, description="CPU threads; 0 leaves PyTorch's choice")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        unknown = [name for name in self.rows if name not in BY_NAME]
        if unknown:
            raise ValueError(f"expected rows of {list(BY_NAME)}, got {unknown}")
        for told, given in (("rows", self.rows), ("seeds", self.seeds)):
            if len(set(given)) < len(given):  # its cells would count more than once
                raise ValueError(f"expected {told} that differ, got {' '.join(map(str, given))}: name each once")
        lacking = [name for name in self.rows if BY_NAME[name].pretrained]
        if lacking and self.pretrained is None:
            raise ValueError(f"rows {lacking} need pretrained weights: give --pretrained, or others with --rows")
        return self
