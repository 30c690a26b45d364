"""What `robomask segment` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg, SettingsConfigDict

from service.arguments import Arguments
from service.contract import Precision
from service.frames.geometry import Fit
from service.machine.cores import usable_cores

__all__ = ["SegmentConfig"]


class SegmentConfig(Arguments):
    """Segment pictures, folders and videos; the same command again goes on where it was interrupted."""

    model_config = SettingsConfigDict(cli_prog_name="robomask segment")

    inputs: CliPositionalArg[tuple[Path, ...]] = Field(min_length=1, description="pictures, videos, or folders of them")
    out: Path = Field(description="folder for the results")
    url: str | None = Field(None, description="http://host:port of a service; by default none is needed")
    engine: Literal["local", "ray"] = Field(
        "local",
        description="what segments without --url: this process, or a Ray cluster, whose nodes have inputs, models and "
        "results at the same paths",
    )
    actors: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="with --engine ray: processes that segment, each on a CPU; by default one for every CPU",
    )
    gpus: Annotated[float, Field(ge=0)] = Field(
        0, description="with --engine ray: GPUs for each of them; 0.25 for four on one GPU"
    )
    models: Path = Field(Path("models"), description="without --url: model repository, <models>/<model>/<version>/")
    model: str | None = Field(None, description="model; by default the only one")
    version: Annotated[int, Field(ge=1)] | None = Field(
        None, description="its version; by default the newest, with --url the one in service"
    )
    precision: Precision | None = Field(
        None, description="without --url: fp32, fp16 or int8; by default as the service chooses"
    )
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="from which probability a pixel is robot; by default the model's own"
    )
    fit: Fit = Field("stretch", description="how a frame that is not square becomes 64x64")
    masks: bool = Field(True, description="write each mask as PNG, 0 or 255, to masks/")
    overlays: bool = Field(False, description="write each frame with its mask over it, as PNG, to overlays/")
    frames: bool = Field(False, description="write each frame of a video as PNG, to video-frames/: --coco lists them")
    coco: bool = Field(False, description="write the masks of all pictures as one COCO file, annotations.coco.json")
    every: int = Field(1, ge=1, description="of a video take every n-th frame")
    jobs: int = Field(default_factory=lambda: 2 * usable_cores(), ge=1, le=256, description="frames in work at a time")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not (self.masks or self.overlays or self.coco):
            raise ValueError("expected something to write, --masks, --overlays or --coco, got none")
        if self.engine != "ray" and (self.actors is not None or self.gpus):
            raise ValueError("expected actors and gpus only with --engine ray")
        if self.precision is not None and self.url is not None:
            raise ValueError("expected either --url or --precision, which the service at that URL has chosen; got both")
        if self.engine == "ray" and self.url is not None:
            raise ValueError("expected either --url or --engine ray, which needs no service; got both")
        return self
