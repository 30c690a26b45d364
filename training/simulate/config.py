"""Everything a simulation can be told; each field is also a flag of `robomask simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from training.config import Config


class SimulateConfig(Config):
    """Clips of a simulated robot-pushing bin with exact masks, or a comparison of them with real frames."""

    model_config = SettingsConfigDict(cli_prog_name="robomask simulate")

    out: Path | None = Field(None, description="folder for the shards (.npz); those found there are kept")
    clips: int = Field(1000, gt=0, description="clips in all; each is a scene of its own")
    frames: int = Field(16, gt=0, description="frames a clip: 16 for video, few for variety in masks")
    stride: int = Field(1, gt=0, description="steps of the arm between two frames: 1 for video, 4 or more for variety")
    seed: int = Field(0, ge=0, description="clip i of seed s is the same on every run of one version")
    shard_clips: int = Field(50, gt=0, description="clips a shard")
    supersample: int = Field(4, ge=1, le=8, description="rendered at 64 times this, then averaged down")
    processes: int = Field(0, ge=0, description="0: one a core")
    compare: Path | None = Field(None, description="real labelled frames to hold the simulated ones against")
    picture: Path | None = Field(None, description="where to write the comparison's picture")

    @model_validator(mode="after")
    def _has_a_purpose(self) -> Self:
        if self.out is None and self.compare is None:
            raise ValueError("expected --out FOLDER to write clips to, or --compare DATA, got neither")
        if self.picture is not None and self.compare is None:
            raise ValueError("expected --compare DATA with --picture, got none")
        return self
