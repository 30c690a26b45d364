"""`robomask export`: turn a run folder into a verified ONNX bundle in a model repository."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import CliApp, CliPositionalArg

from export.commands.evaluate import select
from export.pack import pack
from export.to_onnx import ExportError
from service.contract import BundleInvalid
from training.data.readers import DatasetError, read_frames
from training.run import RunError


class ExportConfig(BaseModel):
    """Export a finished run to ONNX, check it against PyTorch, and publish it as the model's next version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: CliPositionalArg[Path] = Field(description="a finished run folder")
    models: Path = Field(Path("models"), description="the model repository to publish into")
    name: str = Field("robot-arm", description="the model's name")
    data: Path | None = Field(None, description="labelled frames to measure the bundle on; for its card and manifest")
    split: str = Field("val", description="the part of `data` to measure on (held-out scenes only), or all")
    credit: str = Field("", description="who made the data, and its licence; stands in the card")


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(ExportConfig, cli_args=argv)
    try:
        bundle = pack(
            config.run,
            config.models,
            name=config.name,
            held_out=select(read_frames(config.data), config.split) if config.data else None,
            data_name=config.data.name if config.data else "",
            split=config.split,
            credit=config.credit,
        )
    except (DatasetError, RunError, ExportError, BundleInvalid) as error:
        print(f"robomask export: {error}", file=sys.stderr)
        return 1
    print(f"{bundle.folder}: published, sha256 {bundle.sha256}")
    for metric in bundle.manifest.metrics:
        print(f"  {metric.name:12} {metric.value:.4f} on {metric.n} frames of {metric.data} {metric.split}")
    return 0
