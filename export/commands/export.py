"""`robomask export`: turn a run folder into a verified ONNX bundle in a model repository."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import CliApp, CliPositionalArg

from export.commands.evaluate import select
from export.pack import pack
from export.to_onnx import ExportError
from service.contract import BundleInvalid, Precision
from training.data.readers import DatasetError, read_frames
from training.run import RunError


class ExportConfig(BaseModel):
    """Export a finished run to ONNX in several precisions, check each, and publish them as the model's next version.

    A bundle can be exported once more, to give it precisions that it has not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: CliPositionalArg[Path] = Field(description="a finished run folder, or a bundle")
    models: Path = Field(Path("models"), description="the model repository to publish into")
    name: str | None = Field(None, description="the model's name; by default the bundle's own, or robot-arm")
    precisions: tuple[Precision, ...] = Field(
        ("fp32", "fp16", "int8"), description="what to publish, as in fp32,int8; fp32 always is"
    )
    calibration: Path | None = Field(
        None,
        description="frames to calibrate int8 on; by default what the run was trained on, or what `data` marks 'train'",
    )
    data: Path | None = Field(None, description="labelled frames to measure the bundle on; for its card and manifest")
    split: str = Field("val", description="the part of `data` to measure on (held-out scenes only), or all")
    credit: str = Field("", description="who made the data, and its licence; stands in the card")


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(ExportConfig, cli_args=argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("export").setLevel(logging.INFO)
    try:
        data = read_frames(config.data) if config.data else None
        bundle = pack(
            config.source,
            config.models,
            name=config.name,
            precisions=config.precisions,
            calibration=read_frames(config.calibration) if config.calibration else None,
            data=data,
            held_out=select(data, config.split) if data else None,
            data_name=config.data.name if config.data else "",
            split=config.split,
            credit=config.credit,
        )
    except (DatasetError, RunError, ExportError, BundleInvalid) as error:
        print(f"robomask export: {error}", file=sys.stderr)
        return 1
    print(f"{bundle.folder}: published, sha256 {bundle.sha256}")
    for metric in bundle.manifest.metrics:
        print(
            f"  {metric.precision or '':5} {metric.name:14} {metric.value:.4f} on {metric.n} frames of "
            f"{metric.data} {metric.split or ''}"
        )
    return 0
