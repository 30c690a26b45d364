"""`robomask export`: turn a run folder into a verified ONNX bundle in a model repository."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliApp, CliPositionalArg, SettingsConfigDict

from export.commands.evaluate import select
from export.pack import DEFAULT_NAME, pack
from export.predecessor import find_predecessor
from export.registry import register, require_registry
from export.succession import TOLERANCE, Gate, WorseModel, sentence
from export.to_onnx import ExportError
from service.contract import MANIFEST, Bundle, BundleInvalid, Precision, open_bundle
from training.config import Config
from training.data.readers import read_frames

WORSE = 3
"""Exit status of an export that was refused because the model in service is better."""


class ExportConfig(Config):
    """Export a finished run to ONNX in several precisions, check each, and publish them as the model's next version.

    A bundle can be exported once more, to give it precisions that it has not.
    """

    model_config = SettingsConfigDict(cli_prog_name="robomask export")

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
    gate: str | None = Field(
        None,
        description="the model in service: a bundle, a model repository (its newest version) or http://host:port. Both "
        "are measured on frames that neither has learned from, and a worse one is refused: exit status 3",
    )
    gate_data: Path | None = Field(
        None,
        description="labelled frames to compare on: those marked val, or all if none are; by default what the run has "
        "held out",
    )
    gate_tolerance: float = Field(TOLERANCE, ge=0, le=1, description="how much lower the new model's mean IoU may be")
    mlflow: str = Field("off", description="MLflow's store to register the bundle in, or off; needs robomask[mlflow]")


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(ExportConfig, cli_args=argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("export").setLevel(logging.INFO)
    try:
        if config.mlflow != "off":
            require_registry(config.mlflow, "mlflow")
        data = read_frames(config.data) if config.data else None
        gate = read_gate(config)
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
            gate=gate,
        )
    except WorseModel as error:
        print(f"robomask export: {error}", file=sys.stderr)
        return WORSE
    except (ValueError, OSError, ExportError, BundleInvalid) as error:  # of data, runs, services and packages
        print(f"robomask export: {error}", file=sys.stderr)
        return 1
    _tell(bundle, gated=gate is not None)
    if config.mlflow == "off":
        return 0
    try:
        registered = register(bundle, config.mlflow, config.source)
    except ValueError as error:
        print(f"robomask export: {error}", file=sys.stderr)
        return 1
    print(f"  {config.mlflow}: registered as version {registered} of {bundle.manifest.name}")
    return 0


def _tell(bundle: Bundle, *, gated: bool) -> None:
    print(f"{bundle.folder}: published, sha256 {bundle.sha256}")
    for metric in bundle.manifest.metrics:
        print(
            f"  {metric.precision or '':5} {metric.name:14} {metric.value:.4f} on {metric.n} frames of "
            f"{metric.data} {metric.split or ''}"
        )
    if gated and bundle.manifest.comparison is not None:
        print(f"  gate: {sentence(bundle.manifest.comparison)}")


def read_gate(config: ExportConfig) -> Gate | None:
    """What the new model is held against; None where nothing is asked for, or nothing is in service yet.

    Raises:
        EvaluationError: There is no such place.
        BundleInvalid: What is there is not what it says.
        DatasetError: Frames that cannot be read.
    """
    if config.gate is None:
        return None
    name = config.name
    if name is None and (config.source / MANIFEST).is_file():
        name = open_bundle(config.source).manifest.name
    predecessor = find_predecessor(config.gate, name or DEFAULT_NAME)
    if predecessor is None:
        print(f"{config.gate}: no version of {name or DEFAULT_NAME} yet, nothing to compare with", file=sys.stderr)
        return None
    data = read_frames(config.gate_data) if config.gate_data else None
    return Gate(predecessor, config.gate_tolerance, data, config.gate_data)
