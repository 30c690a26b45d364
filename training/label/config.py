"""Everything `robomask label` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from training.config import Config


class LabelConfig(Config):
    """Propose masks for clips from motion alone, or by trained models; write them for correction, measure them."""

    model_config = SettingsConfigDict(cli_prog_name="robomask label")

    clips: Path = Field(description="clips as for `robomask pretrain`: .npz, videos, TFRecords, or a folder of these")
    out: Path | None = Field(None, description="a new folder for frames as PNG and `annotations.json` (COCO)")
    evaluate: Path | None = Field(
        None,
        description="labels of some of the frames, which are found by their pixels, or by scene and time",
    )
    models: tuple[Path, ...] = Field(
        (), description="run folders or bundles whose masks to propose, in place of what motion says"
    )
    split: str | None = Field(None, description="only tracks that the data set marks so (train, val); otherwise all")
    picture: Path | None = Field(None, description="a picture of proposals beside their labels; needs `evaluate`")
    every: int = Field(1, gt=0, description="write every nth frame of a clip; all frames are learnt from")
    polygons: bool = Field(
        default=False, description="write outlines, for tools that read no run lengths; holes in a mask are filled"
    )
    max_frames: int = Field(
        5000, gt=0, description="most frames to read; whole tracks, in order; how many are left out is said"
    )
    rounds: int = Field(5, gt=0, description="how often to learn before the cut")
    colour: float = Field(0.8, ge=0, description="weight of the robot's colours, learnt from what moves")
    motion: float = Field(0.6, ge=0, description="weight of the distance from the background")
    place: float = Field(0.9, ge=0, description="weight of where the robot tends to be")
    smooth: float = Field(4.0, ge=0, description="how much neighbours want to agree")

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if self.out is None and self.evaluate is None:
            raise ValueError("expected out, evaluate or both: nothing to do")
        if self.picture is not None and self.evaluate is None:
            raise ValueError("picture shows proposals beside labels: expected evaluate with it")
        return self
